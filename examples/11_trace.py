"""The whole path of one clip on one page: waveform, log-mel, frames, embeddings, tokens."""

from options import options

from tiny_audio.cli import app

args = options(__doc__, scales=False)
page = args.out / "data_trace.html"
app(["trace", args.file, "--model", args.model, "--out", str(page)], standalone_mode=False)
print(f"Open {page} in a browser.")
