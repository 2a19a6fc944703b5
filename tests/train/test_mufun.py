"""MuFun's two stages with Whisper tiny.en's real layers: what trains, and what waits."""

import json
from dataclasses import replace

import pytest
import soundfile
import torch
import toys

from tiny_audio.data.examples import SourceConfig
from tiny_audio.model.checkpoint import load
from tiny_audio.model.encoder import features, load_encoder
from tiny_audio.presets import preset
from tiny_audio.train.experiments import mufun_small
from tiny_audio.train.run import train

STEPS = 2


def manifest(folder):
    """Four clips: three of one file, one of two."""
    rows = []
    for number, clip in enumerate(toys.clips(16_000, 9_000, 20_000, 12_000)):
        soundfile.write(folder / f"{number}.flac", clip.clamp(-1, 1).numpy(), 16_000)
        rows.append({"audio": f"{number}.flac", "text": "fast", "prompt": "How fast is it?"})
    rows[3] |= {"audio": ["3.flac", "0.flac"], "prompt": "Which is faster, <audio> or <audio>?"}
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "one.jsonl").write_text(json.dumps(rows[0]) + "\n")
    return path


@pytest.mark.slow
def test_the_connector_warms_up_alone_and_then_everything_trains(tmp_path):
    path, given = manifest(tmp_path), mufun_small()
    short = {
        name: replace(stage, minutes=0.0, steps=STEPS, warmup_steps=1)
        for name, stage in given.stages.items()
    }
    data = replace(
        given.data,
        sources={"music": SourceConfig(path=str(path))},
        validation={"held_out": SourceConfig(path=str(tmp_path / "one.jsonl"))},
    )
    output, frames = str(tmp_path / "run"), str(tmp_path / "frames")
    chosen = {"output": output, "frames": frames, "precision": "fp32", "log_every": 1}
    folder = train(replace(given, data=data, stages=short, **chosen))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    stages = [row["stage"] for row in rows if row["kind"] == "train"]
    assert stages == ["warm_up"] * STEPS + ["full"] * STEPS
    model, fresh = load(folder / "model"), preset("mufun_small").build()
    for part in ("audio_tower", "language_model"):  # in the second stage only, but both
        pairs = zip(
            getattr(model, part).parameters(), getattr(fresh, part).parameters(), strict=True
        )
        assert any(not torch.equal(a, b) for a, b in pairs), part
    assert model.config.encoder.layers == (0, 1, 2, 3, 4)


def test_states_are_normalised_one_by_one_and_nothing_else_changes():
    config = toys.encoder_config("whisper", layers=(0, 1, 2), pool=(5, 1))
    plain = load_encoder(replace(config, pool=(1, 1)))
    normed = load_encoder(replace(config, pool=(1, 1), layer_norm=True))
    clips = toys.clips(9_000, 16_000)
    (states, lengths), (found, same) = (e(features(config, clips)) for e in (plain, normed))
    assert torch.equal(lengths, same)
    for one, other in zip(states.split(32, -1), found.split(32, -1), strict=True):
        expected = torch.nn.functional.layer_norm(one[0, : lengths[0]], (32,))
        torch.testing.assert_close(other[0, : lengths[0]], expected)
    assert not found[0, lengths[0] :].any()
    pooled, _ = load_encoder(replace(config, layer_norm=True))(features(config, clips))
    torch.testing.assert_close(pooled[1, 0], found[1, :5].mean(0))


def test_a_layer_norm_that_is_off_changes_no_key_of_frames_made_before_there_was_one():
    from tiny_audio.model.config import fingerprint
    from tiny_audio.model.identity import encoder_key

    encoder = load_encoder(toys.encoder_config("whisper"))
    before = encoder.config.to_dict()
    del before["source"], before["layer_norm"]
    notes = ("_name_or_path", "transformers_version", "architectures", "dtype")
    unusual = encoder.config.hf.to_diff_dict()
    before["architecture"] = {k: v for k, v in unusual.items() if k not in notes}
    assert encoder_key(encoder)["config"] == fingerprint(before)
    other = load_encoder(replace(encoder.config, layer_norm=True))
    assert encoder_key(other) != encoder_key(encoder)
