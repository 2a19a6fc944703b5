"""Reading rows of clips from disk, without judging them: manifests, folders, tar shards, corpora.

A row has its place, its fields as they are stored, and its sound or the reason why it has none.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from tiny_audio.data.cache import Clip
from tiny_audio.data.fields import AUDIO, channel_of, column_in, refuse_fields, times_of
from tiny_audio.data.manifest import Unusable, parsed, read_rows, string_in
from tiny_audio.data.sounds import CorpusSound, FileSound, Stored, TarSound
from tiny_audio.data.stretches import PartSound
from tiny_audio.data.tables import READERS, read_table
from tiny_audio.model.errors import ConfigError

SUFFIXES = tuple(
    ".wav .flac .mp3 .ogg .opus .oga .m4a .mp4 .aac .webm .aiff .aif .au .caf .sph .w64".split()
)
EXPECTED = (
    "Expected a manifest (.jsonl, .json, .csv or .tsv), tar shards that are not compressed, a "
    "corpus made by this library, a folder with manifest.jsonl or with a .txt beside every audio "
    "file, or hf:ID."
)
# Tables that a folder is known by; "metadata" is what the Hub's folders of audio have.
TABLES = [f"{name}{suffix}" for name in ("manifest", "metadata") for suffix in READERS]


@dataclass(frozen=True)
class Row:
    """One row. `sound` is an `Unusable` when the row has no audio, or is no row at all."""

    where: str
    sound: Stored | Unusable
    fields: dict[str, Any] = field(default_factory=dict)
    more: tuple[Stored, ...] = ()  # the other clips of a question about several clips


def local_rows(given: str, audio: str, text: str) -> Iterator[Row]:
    """Return the rows of a path: of a manifest, tar shards, a corpus or a folder of pairs."""
    path = Path(given).expanduser()
    if path.is_dir():
        return _rows_in(path, audio, text)
    if path.is_file() and path.suffix.lower() in READERS:
        return manifest_rows(path, audio, text)
    shards = [path] if path.is_file() else [Path(name) for name in sorted(glob(str(path)))]
    if shards and all(shard.suffix == ".tar" for shard in shards):
        return tar_rows(shards, text)
    raise ConfigError(f"{given!r} {'is no source' if shards else 'does not exist'}. {EXPECTED}")


def _rows_in(folder: Path, audio: str, text: str) -> Iterator[Row]:
    if any(folder.glob("shard-*.jsonl")):
        return corpus_rows(folder)
    for name in TABLES:
        if (folder / name).is_file():
            return manifest_rows(folder / name, audio, text)
    if shards := sorted(folder.glob("*.tar")):
        return tar_rows(shards, text)
    named = sorted(str(path) for path in folder.glob("*.*") if path.suffix.lower() in READERS)
    pairs = not named or any(folder.rglob("*.txt"))
    if pairs and any(is_audio(path.name) for path in folder.rglob("*")):
        return folder_rows(folder, text)
    hint = f" Did you mean {named[0]}?" if named else ""
    if (folder / "wav.scp").is_file():
        hint = " Kaldi's wav.scp is not read: write a manifest with audio, start, end and text."
    raise ConfigError(f"The folder {str(folder)!r} holds no source. {EXPECTED}{hint}")


def manifest_rows(path: Path, audio: str, text: str) -> Iterator[Row]:
    """Yield the rows of a manifest or table; its column `audio` names a file, relative to it."""
    for where, row in read_table(path, audio, text):
        if isinstance(row, Unusable):
            yield Row(where, row)
        else:
            yield _files_of(where, row, audio, path)


def _files_of(where: str, row: dict[str, Any], audio: str, table: Path) -> Row:
    """Return a row of one file, or of several where its audio is a list of names."""
    column = column_in(row, AUDIO, audio)
    if not isinstance(names := row.get(column), list) or not names:
        return Row(where, _file_of(row, audio, table), row)
    found = [_file_of({**row, column: name}, audio, table) for name in names]
    if wrong := [one for one in found if isinstance(one, Unusable)]:
        return Row(where, wrong[0], row)
    sounds = [one for one in found if not isinstance(one, Unusable)]
    return Row(where, sounds[0], row, tuple(sounds[1:]))


def _file_of(row: dict[str, Any], audio: str, table: Path) -> Stored | Unusable:
    try:
        refuse_fields(row)
        name = string_in(row, column_in(row, AUDIO, audio))
        path = table.parent / name
        beside = table.parent / "clips" / name  # Common Voice's layout
        if table.suffix.lower() == ".tsv" and not path.is_file() and beside.is_file():
            path = beside
        return part_of(FileSound(str(path)), row)
    except Unusable as reason:
        return reason


def part_of(sound: Stored, row: dict[str, Any]) -> Stored:
    """Return the part of a sound that its row speaks of; `Unusable` when that cannot be known."""
    stretch, channel = times_of(row).stretch, channel_of(row)
    if stretch is None and channel is None:
        return sound
    start_s, end_s = stretch or (0.0, None)
    return PartSound(sound, start_s, end_s, channel)


def folder_rows(folder: Path, text: str) -> Iterator[Row]:
    """Yield audio files, at any depth, each with a same-named .txt beside it."""
    files = sorted(path for path in folder.rglob("*") if is_audio(path.name))
    spoken = {path.with_suffix(".txt") for path in files}
    for path in files:
        transcript = path.with_suffix(".txt")
        found = read_text(transcript.read_bytes(), text) if transcript.is_file() else {}
        yield _row(str(path), FileSound(str(path)), found)
    for path in sorted(set(folder.rglob("*.txt")) - spoken):
        yield Row(str(path), Unusable("no audio"))


def _row(where: str, sound: Stored, fields: dict[str, Any] | Unusable) -> Row:
    """Make a row; fields that cannot be read make all of it unusable."""
    return Row(where, fields) if isinstance(fields, Unusable) else Row(where, sound, fields)


def is_audio(name: str) -> bool:
    """Tell whether a name ends like an audio file's; the content is seen when it is opened."""
    return name.lower().endswith(SUFFIXES)


def read_text(data: bytes, column: str) -> dict[str, Any] | Unusable:
    """Return the content of a .txt, as the field that it stands for."""
    try:
        return {column: data.decode("utf-8-sig")}
    except UnicodeDecodeError:
        return Unusable("not UTF-8")


def tar_rows(paths: Sequence[Path], text: str) -> Iterator[Row]:
    """Yield the rows of WebDataset shards: KEY.flac with KEY.txt, KEY.json or both."""
    for path in paths:
        try:
            with tarfile.open(path, "r:") as archive:
                yield from _members(archive, path, text)
        except tarfile.ReadError as error:
            raise ConfigError(
                f"{path} is not a tar that can be read by position ({error}). Expected one that is "
                f"not compressed: gunzip it first; if it is cut off, fetch it again."
            ) from error


def _members(archive: tarfile.TarFile, path: Path, text: str) -> Iterator[Row]:
    """Group members whose names differ only in their ending, wherever in the tar they are."""
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    twice = set[str]()
    for member in archive:
        if not member.isdir():
            key, _, ending = member.name.rpartition(".")
            if groups.setdefault(key, {}).setdefault("." + ending.lower(), member) is not member:
                twice.add(key)
    _check_end(archive, path)
    for key, members in groups.items():
        where = f"{path}:{key}"
        sounds = [member for ending, member in members.items() if is_audio(ending)]
        if len(sounds) != 1:
            yield Row(where, Unusable("several sounds of one name" if sounds else "no audio"))
            continue
        if key in twice:
            yield Row(where, Unusable("two files of one name"))
            continue
        if any(not member.isreg() or member.issparse() for member in members.values()):
            yield Row(where, Unusable("not a file"))  # a link, or written with tar --sparse
            continue
        (audio,) = sounds
        sound = TarSound(str(path), audio.name, audio.offset_data, audio.size)
        try:
            refuse_fields(fields := _fields(archive, members, text))
            yield Row(where, part_of(sound, fields), fields)
        except Unusable as reason:
            yield Row(where, reason)


def _check_end(archive: tarfile.TarFile, path: Path) -> None:
    """Refuse a tar that ends early, without the zeros at its end."""
    with path.open("rb") as file:
        file.seek(archive.offset)
        if file.read(512).strip(b"\0"):
            raise tarfile.ReadError(f"damaged after {archive.offset:,} bytes")


def _fields(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], text: str
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for ending in (".json", ".txt"):
        if ending in members:
            data = archive.extractfile(members[ending]).read()  # type: ignore[union-attr]
            found = parsed(data) if ending == ".json" else read_text(data, text)
            if isinstance(found, Unusable):
                raise found
            before = fields.get(text)
            if before not in (None, "") and str(before).strip() != found[text].strip():
                raise Unusable(f"one {text} in .json, another in .txt")
            fields |= found
    return fields


def corpus_rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of a corpus made by this library (`cache.py`), with text and speaker."""
    for path in sorted(folder.glob("shard-*.jsonl")):
        for number, row in read_rows(path):
            where = f"{path}:{number}"
            if isinstance(row, Unusable):
                yield Row(where, row)
            else:
                yield Row(where, _clip_of(row, path, where), row)


def _clip_of(row: dict[str, Any], path: Path, where: str) -> Stored | Unusable:
    offset, num_samples = row.get("offset"), row.get("samples")
    if not isinstance(offset, int) or not isinstance(num_samples, int) or offset < 0:
        return Unusable("no samples")
    stored = path.with_suffix(".i16")
    kind, speaker = str(row.get("kind", "")), str(row.get("speaker", ""))
    clip = Clip(stored, offset, num_samples, str(row.get("text")), kind, speaker)
    return CorpusSound(where, clip)
