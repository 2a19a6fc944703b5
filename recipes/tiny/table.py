"""The table of `tiny`'s figures, from the results in benchmarks/tiny, written into every page that
shows it: `uv run python -m recipes.tiny.table`. A test fails where a page says something else.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "tiny"
PAGES = ("README.md", "tiny_audio/presets/tiny/README.md", "benchmarks/tiny/README.md")
BEGIN, END = "<!-- recipes.tiny.table -->", "<!-- end -->"


class Column(NamedTuple):
    """A set of clips: its heading, and the end of its folders' names."""

    heading: str
    name: str


COLUMNS = (
    Column("a native speaker's telephone prompts", "native"),
    Column("25 unheard readers of speechocean762", "readers"),
    Column("the same clips in windows of half a minute", "long"),
    Column("flite's `rms`, unread sentences", "voices"),
)
ROWS = {
    "tiny": "**`tiny`, as it ships**",
    "beams": "– four beams, no CTC head",
    "greedy": "– greedily",
    "ctc": "– its character head alone, no language model",
    "whisper": "Whisper tiny.en, its own decoder",
}


def result(system: str, column: str) -> dict[str, Any] | None:
    path = RESULTS / f"{system}-{column}" / "result.json"
    return json.loads(path.read_text()) if path.is_file() else None


def cell(found: dict[str, Any] | None) -> str:
    """WER with its interval; a set that was not measured says so."""
    if found is None:
        return "not measured"
    wer = found["scores"]["wer"]
    return f"{wer['rate']:.1%} ({100 * wer['low']:.1f} to {100 * wer['high']:.1f})".replace(
        "%", " %"
    )


def size(column: Column) -> str:
    found = next((r for r in (result(system, column.name) for system in ROWS) if r), None)
    if found is None:
        return column.heading
    scores = found["scores"]
    return f"{column.heading} ({scores['clips']} clips, {scores['wer']['length']:,} words)"


def table() -> str:
    """Return the Markdown table; a system that was measured on no set has no row."""
    head = ["WER (normaliser whisper-en)", *map(size, COLUMNS)]
    rows = [
        [name, *(cell(result(system, column.name)) for column in COLUMNS)]
        for system, name in ROWS.items()
        if any(result(system, column.name) for column in COLUMNS)
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page_with_table(text: str) -> str:
    """The page with everything between the two marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    for page in PAGES:
        path = ROOT / page
        path.write_text(page_with_table(path.read_text()))
        print(f"{page}: written")


if __name__ == "__main__":
    main()
