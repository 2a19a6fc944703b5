"""The result of an evaluation, `result.json`, made from the predictions and what the run was.

    format        "tiny-audio result 1"
    task          "transcription"
    system        what the system says of itself (`System.about`): name, kind, hashes, device, …
    dataset       name, split, where (filters), max_samples, dropped (rows that could not be used,
                  by reason) and clips_sha256 (of ids, references and durations)
    normalizer    id, version
    prompt        what was asked instead of the model's own instruction, or ""
    seed          of the order in which clips were drawn
    scores        clips, failed; wer and cer, each with rate, low, high (95 % interval),
                  substitutions, deletions, insertions, length (words or characters said), where a
                  clip without an answer has all of its words deleted; answered: clips, wer and cer
                  (rates) of the clips that were answered
    interval      how low and high were found: method, level, resamples, seed
    counters      errors, empty, cut_off, loop, refusal, nonspeech_answered, nonspeech_clips,
                  nonspeech_words_per_minute
    speed         audio_s (None where the length of a clip is unknown), seconds, real_time_factor
                  (seconds per second of audio, None where unknown), seconds_per_clip, hardware
                  (`provenance.hardware`)
    made          date, command, commit, versions: of the run that wrote the predictions

Everything but the predictions' own figures is None where the predictions came from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiny_audio.evaluate import metrics
from tiny_audio.evaluate.failures import counters
from tiny_audio.evaluate.metrics import Counts, Utterance
from tiny_audio.evaluate.normalize import Normalizer
from tiny_audio.evaluate.predictions import UNKNOWN_S
from tiny_audio.model.config import fingerprint

FORMAT = "tiny-audio result 1"
Result = dict[str, Any]


def make_result(
    table: Iterable[Utterance], normalizer: Normalizer, run: Mapping[str, Any] | None = None
) -> Result:
    """Make the result of scored predictions; `run` is the run.json of the run that wrote them.

    The order of the predictions does not matter.
    """
    table = sorted(table, key=lambda one: one.prediction.id)
    run = run or {}
    made = dict(run.get("made", {}))
    hardware = made.pop("hardware", None)
    predictions = [one.prediction for one in table]
    clips = ((p.id, p.ref, p.duration_s) for p in predictions)
    return {
        "format": FORMAT,
        "task": run.get("task", "transcription"),
        "system": run.get("system"),
        "dataset": {
            **run.get("dataset", {}),
            "dropped": run.get("dropped"),
            "clips_sha256": clips_hash(clips),
        },
        "normalizer": normalizer.to_dict(),
        "prompt": run.get("prompt"),
        "seed": run.get("seed"),
        "scores": scores(table),
        "interval": {
            "method": "percentile bootstrap over utterances",
            "level": metrics.LEVEL,
            "resamples": metrics.NUM_RESAMPLES,
            "seed": metrics.SEED,
        },
        "counters": counters(table),
        "speed": {**speed(table), "hardware": hardware},
        "made": made or None,
    }


def scores(table: Sequence[Utterance]) -> dict[str, Any]:
    """Return rates of the corpus, with every count that they are made of."""
    answered = [one for one in table if one.hyp is not None]
    return {
        "clips": len(table),
        "failed": len(table) - len(answered),
        "wer": _rate([one.words for one in table]),
        "cer": _rate([one.chars for one in table]),
        "answered": {
            "clips": len(answered),
            "wer": metrics.total(one.words for one in answered).rate,
            "cer": metrics.total(one.chars for one in answered).rate,
        },
    }


def _rate(counts: Sequence[Counts]) -> dict[str, Any]:
    summed, ends = metrics.total(counts), metrics.interval(counts)
    low, high = ends or (None, None)
    return {"rate": summed.rate, "low": low, "high": high, **summed._asdict()}


def speed(table: Sequence[Utterance]) -> dict[str, Any]:
    """Return the wall time of the answers against the length of their audio."""
    lengths = [one.prediction.duration_s for one in table]
    audio_s = 0.0 if UNKNOWN_S in lengths else sum(lengths)
    seconds = sum(one.prediction.seconds for one in table)
    known = audio_s > 0 and seconds > 0
    return {
        "audio_s": round(audio_s, 3) if audio_s else None,
        "seconds": round(seconds, 3),
        "real_time_factor": round(seconds / audio_s, 5) if known else None,
        "seconds_per_clip": round(seconds / len(table), 5) if known else None,
    }


def clips_hash(clips: Iterable[tuple[str, str, float]]) -> str:
    """Return a hash of the ids, references and durations, in whatever order they came."""
    return fingerprint(sorted((id_, ref, round(s, 3)) for id_, ref, s in clips))
