"""A manifest transcribed in parts, by any number of processes, into one folder.

    job.json            which clips, which model, what was asked: another job is refused
    I-of-N/texts.jsonl  a line for every clip of this shard, written when it is done
    transcripts.jsonl   all of them in the manifest's order, once none is missing
    report.json         how they ended, and why some failed

A clip that has a line is done, whoever wrote it: a command that is repeated goes on, also with
another number of shards. Nothing in a line depends on how clips were shared out.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import soundfile

from tiny_audio.data.fields import AUDIO, NO_TEXT
from tiny_audio.data.manifest import Unusable, string_in
from tiny_audio.data.rows import Row, local_rows
from tiny_audio.data.sounds import FileSound, Stored
from tiny_audio.evaluate.clips import place
from tiny_audio.evaluate.predictions import mend
from tiny_audio.files import (
    UNFINISHED,
    differences,
    held,
    json_line,
    read_json,
    write_first_json,
    write_json,
    write_text,
)
from tiny_audio.infer.jobs import Failed
from tiny_audio.infer.results import Transcript
from tiny_audio.infer.transcriber import Request, Transcriber
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.checkpoint import checkpoint_folder
from tiny_audio.model.errors import ConfigError, TinyAudioError
from tiny_audio.presets import shipped

HEADS = ("ctc", "tokens")
FORMAT = "tiny-audio shards 1"
JOB, TEXTS, ALL, REPORT = "job.json", "texts.jsonl", "transcripts.jsonl", "report.json"
CURE = "Delete the folder, or name another one with --out."
SEVERAL = Unusable("several sounds in one row: write one row a sound")
Line = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Every `of`-th clip, from the `number`-th on (from 1)."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read a text such as "2/8"."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ConfigError(f"--shard {text!r} is no I/N with I from 1 to N, as in --shard 2/8.")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"


class RowError(TinyAudioError):
    """A row names no sound; `reason` is what is wrong with it, to count by."""

    def __init__(self, where: str, reason: Unusable) -> None:
        super().__init__(f"{where}: {reason}. Mend the manifest.")
        self.reason = str(reason)


@dataclass(frozen=True)
class Clip:
    """One row of the manifest; `sound` is an `Unusable` where it names none. `prompt` is asked
    instead of what the request asks.
    """

    id: str
    sound: Stored | Unusable
    prompt: str = ""

    def source(self) -> Any:
        """Return a path, or the bytes of a file for a stretch of one or a member of an archive."""
        if isinstance(self.sound, Unusable):
            raise RowError(self.id, self.sound)
        if type(self.sound) is FileSound:
            return Path(self.sound.name)
        file = io.BytesIO()
        soundfile.write(file, self.sound.samples(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
        return file.getvalue()


def clips_of(manifest: Path) -> list[Clip]:
    """Return all rows, in order; raise `ConfigError` if two have the same id. A row needs no text
    yet, and one without an id is called by its place, however the manifest was named.
    """
    clips, seen = list[Clip](), dict[str, str]()
    for row in local_rows(str(manifest), AUDIO, NO_TEXT):
        given = row.fields.get("id")
        id_ = place(row.where, str(manifest)) if given in (None, "") else str(given)
        if id_ in seen:
            raise ConfigError(f"{row.where} has the id {id_!r}, which {seen[id_]} has too.")
        seen[id_] = row.where
        clips.append(_clip(id_, row))
    if not clips:
        raise ConfigError(f"{manifest} names no clips.")
    return clips


def _clip(id_: str, row: Row) -> Clip:
    """Return the clip of a row; a prompt that is no text makes it unusable."""
    try:
        prompt = "" if row.fields.get("prompt") is None else string_in(row.fields, "prompt")
    except Unusable as reason:
        return Clip(id_, reason)
    return Clip(id_, SEVERAL if row.more else row.sound, prompt)


class Work:
    """A job's folder: what is done, what is to do, and what came of it."""

    def __init__(
        self,
        manifest: Path,
        folder: Path,
        model: str,
        request: Request,
        aligner: Path | None = None,
    ):
        self.folder, self.clips = folder, clips_of(manifest)
        self.job = {
            "format": FORMAT,
            "clips_sha256": _sha256(c.id + str(c.sound) + c.prompt for c in self.clips),
            "model": model,
            "model_sha256": model_key(model),
            "aligner_sha256": None if aligner is None else folder_key(aligner),
            "request": json.loads(json.dumps(asdict(request))),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self._settle()

    def _settle(self) -> None:
        """Take a new folder; refuse that of another job, and say what differs."""
        path = self.folder / JOB
        if not path.is_file():
            # Another process may begin at this moment: what it writes is not of somebody else.
            others = [one for one in self.folder.iterdir() if one.suffix != UNFINISHED]
            if others and not path.is_file():
                raise ConfigError(f"{self.folder} holds other files. {CURE}")
            write_first_json(path, self.job)
        found = read_json(path, CURE)
        same = {key: found.get(key) for key in self.job}
        if other := [_short(one) for one in differences(same, self.job)]:
            raise ConfigError(f"{self.folder} is of another job ({'; '.join(other)}). {CURE}")

    def done(self) -> dict[str, Line]:
        """Return the lines that are written, by the clip's id; of two lines the later counts."""
        found = dict[str, Line]()
        for path in sorted(self.folder.glob(f"*/{TEXTS}")):
            written = path.read_bytes()
            for line in written[: written.rfind(b"\n") + 1].splitlines():
                row = json.loads(line)
                found[row["id"]] = row
        return found

    def waiting(self, shard: Shard, retry: bool = False) -> list[Clip]:
        """Return the clips of a shard that are not done; with `retry` also those that failed."""
        done = self.done()
        ready = {id_ for id_, line in done.items() if not (retry and line["outcome"] == "error")}
        own = self.clips[shard.number - 1 :: shard.of]
        return [clip for clip in own if clip.id not in ready]

    def write(self, name: str, lines: Iterable[Line], tell: Callable[[Line], None]) -> None:
        """Keep every line as it comes; only one process at a time writes under one name."""
        with held(self.folder / name):
            path = self.folder / name / TEXTS
            mend(path)
            with path.open("a", encoding="utf-8") as file:
                for line in lines:
                    file.write(json_line(line) + "\n")
                    file.flush()
                    tell(line)

    def report(self) -> dict[str, Any]:
        """Count how clips ended so far; write transcripts.jsonl and report.json once all have."""
        done = self.done()
        lines = [done[clip.id] for clip in self.clips if clip.id in done]
        failed = [line for line in lines if line["outcome"] == "error"]
        counts = {
            "clips": len(self.clips),
            "done": len(lines),
            "outcomes": dict(sorted(Counter(line["outcome"] for line in lines).items())),
            "errors": dict(sorted(Counter(line["reason"] for line in failed).items())),
            "audio_s": round(sum(line["duration_s"] for line in lines), 3),
        }
        if len(lines) == len(self.clips):
            write_text(self.folder / ALL, "".join(json_line(line) + "\n" for line in lines))
            write_json(self.folder / REPORT, counts)
        return counts


def transcribed(
    clips: Iterable[Clip], transcriber: Transcriber, request: Request
) -> Iterator[Line]:
    """Yield a line for every clip, those with one prompt together. Clips share batches, which does
    not change their texts.
    """
    for prompt, alike in by_prompt(clips, lambda clip: clip.prompt).items():
        yield from _transcribed(alike, transcriber, request, prompt)


def by_prompt(items: Iterable[T], prompt_of: Callable[[T], str]) -> dict[str, list[T]]:
    """Group by prompt, in the order in which prompts come."""
    groups = dict[str, list[T]]()
    for item in items:
        groups.setdefault(prompt_of(item), []).append(item)
    return groups


def answers(
    sources: Iterable[Any],
    transcriber: Transcriber,
    request: Request,
    prompt: str,
    sampling_rate: int | None = None,
) -> Iterator[Transcript | Failed]:
    """Transcribe sources whose rows ask `prompt`; all fail where the model cannot be asked that."""
    if not prompt:
        return transcriber.transcribe_many(sources, request, sampling_rate=sampling_rate)
    request = replace(request, prompt=prompt)
    try:
        transcriber.check(request)
    except TinyAudioError as error:
        failed = error
        return (Failed(source, failed) for source in sources)
    return transcriber.transcribe_many(sources, request, sampling_rate=sampling_rate)


def _transcribed(
    clips: Iterable[Clip], transcriber: Transcriber, request: Request, prompt: str
) -> Iterator[Line]:
    asked, failed = deque[str](), list[Line]()

    def sources() -> Iterator[Any]:
        for clip in clips:
            try:
                source = clip.source()
            except TinyAudioError as error:
                failed.append(line_of(clip.id, Failed(clip.id, error)))
                continue
            asked.append(clip.id)
            yield source

    for result in answers(sources(), transcriber, request, prompt):
        yield line_of(asked.popleft(), result)
        while failed:
            yield failed.pop()
    yield from failed


def line_of(id_: str, result: Transcript | Failed) -> Line:
    """Make the line of a clip. Nothing in it depends on the machine or the batch."""
    if isinstance(result, Failed):
        reason = getattr(result.error, "reason", type(result.error).__name__)
        problem = {"error": str(result.error), "reason": str(reason)}
        return {"id": id_, "text": None, "outcome": "error", "duration_s": 0.0, **problem}
    written = {"text": result.text, "outcome": result.outcome}
    notes = [str(note) for note in result.notes]
    return {"id": id_, **written, "duration_s": round(result.duration_s, 3), "notes": notes}


def _short(difference: str) -> str:
    """Return a difference without its values where those are hashes, which tell nobody anything."""
    name = difference.partition(":")[0]
    return name if name.endswith("sha256") else difference


def model_key(model: str) -> str:
    """Hash a checkpoint's configuration, which has the hashes of its frozen parts, and what was
    trained, heads too: cheap, whatever the size of the parts.
    """
    folder = checkpoint_folder(shipped(model))
    named = ["config.json", "trained.safetensors"]
    named += sorted(f"{head}/{path.name}" for head in HEADS for path in (folder / head).glob("*"))
    return _sha256_of_files(folder / name for name in named)


def folder_key(folder: Path) -> str:
    """Hash a folder's files, in the order of their names."""
    if not folder.is_dir():
        raise ConfigError(f"There is no CTC head: {folder} is no folder.")
    return _sha256_of_files(sorted(path for path in folder.iterdir() if path.is_file()))


def _sha256_of_files(paths: Iterable[Path]) -> str:
    return _sha256(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def _sha256(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
