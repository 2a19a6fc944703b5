"""A card says what the run's files say: every number, and no other."""

import json
import re
from dataclasses import replace

import pytest
import yaml
from publish.conftest import LICENCES

from tiny_audio.model.errors import ConfigError
from tiny_audio.publish.card import Price, card
from tiny_audio.publish.facts import gather
from tiny_audio.publish.licences import licences

PRICE = Price(0.731, "two cores at Example, list of May")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def values(found):
    """All values of a tree, keys too."""
    if isinstance(found, dict):
        for key, one in found.items():
            yield key
            yield from values(one)
    elif isinstance(found, list):
        for one in found:
            yield from values(one)
    else:
        yield found


def of_the_files(trained):
    """What stands in the files of the run, of its model and of its evaluation: (numbers, texts)."""
    numbers, texts = set(), set()
    folders = (trained.run, trained.result)
    for path in (path for folder in folders for path in folder.rglob("*")):
        found = []
        if path.suffix == ".json":
            found = [json.loads(path.read_text())]
        elif path.suffix == ".jsonl":
            found = [json.loads(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".yaml":
            found = [yaml.safe_load(path.read_text())]
        for value in values(found):
            if isinstance(value, str):
                texts.add(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                numbers.add(float(value))
    return numbers, texts


def spellings(numbers):
    """Every number as it is, as a share in percent, and of seconds the minutes and hours."""
    for n in numbers:
        yield from (f"{n:,.0f}", f"{n:.2f}", f"{n:g}")
        yield from (f"{100 * n:.1f}", f"{100 * n:.0f}", f"{n / 60:.1f}", f"{n / 3600:.2f}")


def foreign(text, trained):
    """Numbers of a card that are neither in the files nor in what was typed."""
    numbers, texts = of_the_files(trained)
    seconds = sum(json.loads(p.read_text())["elapsed_s"] for p in trained.run.glob("*/done.json"))
    hours = json.loads((trained.run / "data.json").read_text())["hours"].values()
    numbers |= {seconds, sum(hours), PRICE.an_hour, PRICE.an_hour * seconds / 3600}
    words = {t for t in texts if re.search(r"\d", t)} | {one.split("=")[1] for one in LICENCES}
    words |= {t[:10] for t in words if re.match(r"\d{4}-", t)}  # of a date and time, the date
    for one in sorted(words, key=len, reverse=True):
        text = re.sub(rf"(?<![\w,.]){re.escape(one)}(?!\w|[,.]\w)", "", text)
    return set(NUMBER.findall(text)) - set(spellings(numbers))


@pytest.fixture(scope="module")
def facts(trained):
    return gather(str(trained.run), [trained.result])


@pytest.fixture(scope="module")
def text(facts):
    return card("ada/toy", facts, licences(facts, LICENCES), PRICE)


def test_no_number_of_a_card_is_foreign(text, trained):
    assert len(NUMBER.findall(text)) > 30
    assert foreign(text, trained) == set()
    assert foreign(text.replace("## Limits", "## Limits\n\nIt errs in 12.7 %."), trained)


def test_a_card_follows_its_files(facts, text):
    """Other files, other card: no figure is written into the code."""
    result, table = facts.evaluations[0]
    scores = {**result["scores"], "wer": {**result["scores"]["wer"], "rate": 0.34567}}
    other = replace(
        facts,
        evaluations=[({**result, "scores": scores}, table)],
        data={**facts.data, "hours": {"clips": 98.76}, "dropped": {"no text": 5}},
        machines=[{**facts.machines[0], "processes": 17}],
    )
    changed = card("ada/toy", other, licences(other, LICENCES), PRICE)
    for told in ("34.6 %", "98.76 hours", "5 × no text", "17 processes"):
        assert told in changed
        assert told not in text
    assert "on a machine not recorded" in card(
        "ada/toy", replace(facts, machines=[]), licences(facts, LICENCES)
    )


def test_a_card_says_what_is_not_known(trained):
    facts = gather(str(trained.run / "model"))
    text = card("ada/toy", facts, licences(facts, LICENCES[:3]))
    for told in ("None: no result of this model", "Not recorded", "is not recorded here"):
        assert told in text


def test_texts_of_others_stay_in_their_cell(facts):
    result, table = facts.evaluations[0]
    harm = "a | b\n# <script>`x`"
    first = replace(table[0], prediction=replace(table[0].prediction, ref=harm, id=""))
    text = card(
        "ada/toy",
        replace(facts, evaluations=[(result, [first, *table[1:]])]),
        licences(facts, LICENCES),
    )
    assert "a \\| b # \\<script\\>\\`x\\`" in text
    quiet = card("ada/toy", facts, licences(facts, LICENCES), texts=False)
    assert "## What it writes" in text
    assert "## What it writes" not in quiet


def test_a_licence_is_typed_or_known_and_never_guessed(facts):
    with pytest.raises(ConfigError, match=r"Not known yet: model, encoder, decoder, data\.clips"):
        licences(facts, [])
    with pytest.raises(ConfigError, match=r"no 'data\.clip'. Did you mean 'data\.clips'"):
        licences(facts, ["data.clip=mit"])
    with pytest.raises(ConfigError, match="no PART=LICENCE"):
        licences(facts, ["mit"])
    known = {
        "audio_config": {"source": "openai/whisper-small"},
        "decoder_config": {"source": "x/y"},
    }
    with pytest.raises(ConfigError, match="Not known yet: decoder"):
        licences(replace(facts, config=known, recipe={}), ["model=mit"])


def test_a_price_has_a_name():
    assert Price.of(None, "") is None
    for given in ((0.5, ""), (None, "EUR")):
        with pytest.raises(ConfigError, match="needs both"):
            Price.of(*given)
