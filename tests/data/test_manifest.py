from collections import Counter

from tiny_audio.data.manifest import read_manifest, write_manifest


def test_every_skipped_line_is_counted_by_reason(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    lines = [
        '{"audio": "a.wav", "text": "one\u2028line", "speaker": "s"}',
        "",
        "{not json",
        '["a list"]',
        '{"text": "no audio"}',
        '{"audio": "a.wav"}',
        '{"audio": "a.wav", "text": 7}',
        '{"audio": "gone.wav", "text": "two"}',
    ]
    text = "\n".join(lines).encode() + b'\n{"audio": "a.wav", "text": "caf\xe9"}\n'
    (tmp_path / "m.jsonl").write_bytes(text)
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert [row["text"] for row in manifest.rows] == ["one\u2028line"]
    assert manifest.rows[0]["audio"] == str((tmp_path / "a.wav").resolve())
    assert manifest.skipped == Counter(
        {
            "not a JSON object": 2,
            "no audio": 1,
            "no text": 1,
            "text is not a string": 1,
            "no such file": 1,
            "not UTF-8": 1,
        }
    )


def test_written_manifests_can_be_moved(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "clips").mkdir(parents=True)
    (first / "clips" / "a.flac").write_bytes(b"fLaC")
    audio = str((first / "clips" / "a.flac").resolve())
    write_manifest(first / "m.jsonl", [{"audio": audio, "text": "one"}])
    first.rename(second)
    manifest = read_manifest(second / "m.jsonl")
    assert manifest.rows == [{"audio": str((second / "clips" / "a.flac").resolve()), "text": "one"}]
