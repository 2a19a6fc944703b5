"""A result handed in to somebody else's leaderboard, as files of a pull request.

    NAME/result.json, predictions.jsonl, run.json   the evaluation, which proves itself
    NAME/row.json                                   the row that it gives
    NAME/PULL_REQUEST.md                            the text to send along

Who keeps the board runs `tiny-audio leaderboard add` on the folder, which proves the result again.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict
from pathlib import Path

from tiny_audio.evaluate.evaluator import PREDICTIONS, RESULT, RUN
from tiny_audio.evaluate.leaderboard import Row, row_of
from tiny_audio.evaluate.view import percent
from tiny_audio.files import write_json, write_text
from tiny_audio.model.errors import ConfigError

ROW, REQUEST = "row.json", "PULL_REQUEST.md"


def submit(result: Path, board: Path) -> Path:
    """Write the files of a proved result into a folder of the board; returns that folder."""
    source = result.parent if result.name == RESULT else result
    row = row_of(source)
    if row.commit.endswith("-dirty"):
        raise ConfigError(
            f"{source} was made by code with uncommitted changes ({row.commit}), so "
            f"nobody else can repeat it. Commit them and evaluate again."
        )
    folder = board / f"{slug(row.system)}-{slug(row.dataset)}-{row.proof[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RESULT, PREDICTIONS, RUN):
        shutil.copyfile(source / name, folder / name)
    write_json(folder / ROW, asdict(row))
    write_text(folder / REQUEST, request(row, folder.name))
    return folder


def slug(text: str) -> str:
    """Return a text as a part of a folder's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unnamed"


def request(row: Row, name: str) -> str:
    """Write the text of a pull request: figures of the row alone, and how to check them."""
    interval = f"{percent(row.low)} to {percent(row.high)}"
    return f"""# {row.system} on {row.dataset}

{percent(row.wer)} WER ({interval}), {row.clips:,} clips of which {row.failed:,} failed,
normaliser {row.normalizer}, on {row.hardware}, {row.date[:10]}, commit {row.short_commit}.

Made by

    {row.command}

To prove it from its predictions and add it to the board:

    tiny-audio leaderboard add submissions/{name}

- [ ] The texts in predictions.jsonl may be published, and so may the paths in it.
- [ ] Nothing was trained on these clips.
"""
