"""Four SwiGLU projectors side by side, counted from built modules."""

from options import options, title

from tiny_audio.scope.plan.projectors import COURSE, compare

args = options(__doc__)
NAMES = ("as in the course", "smaller hidden", "more stacking", "less stacking")


def table(encoder_dim: int, decoder_dim: int) -> None:
    print(f"{'config':<18}{'params':>13}{'frames':>8}{'ms/frame':>10}{'compression':>13}")
    for name, row in zip(NAMES, compare(COURSE, encoder_dim, decoder_dim, 3.0), strict=True):
        print(
            f"{name:<18}{row.parameters:>13,}{row.whole:>8}{row.ms_per_position:>10.1f}"
            f"{row.compression:>12.1f}x"
        )


if args.scale != "true":
    title("nano's widths: 256 to 256")
    table(256, 256)

if args.scale != "nano":
    title("true scale: 1280 to 2048")
    table(1280, 2048)
    print("gate and up have k × 1280 × 8192 weights each, so the count grows with k.")
