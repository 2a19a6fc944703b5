"""Seeded sentences of nano's domain, and cleaned spans of books for an open vocabulary.

Style: lower-case spoken words, numbers spelled out, apostrophes, no punctuation.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from recipes.nano.words import (
    ACTIONS,
    ACTIVITIES,
    ADJECTIVES,
    COLOURS,
    CURRENCIES,
    DAYS,
    DEVICES,
    EVENTS,
    FIRST_NAMES,
    LAST_NAMES,
    LETTERS,
    MEDIA,
    MONTHS,
    NOUNS,
    ONES,
    ORDINALS,
    PAST,
    PLACES,
    ROOMS,
    SUBJECTS,
    TASKS,
    TEENS,
    TENS,
    UNITS,
)

Maker = Callable[[random.Random], str]
HELD_OUT_SHARE = 40  # one sentence in 40 (of four words and more) is never trained on


def is_held_out(text: str) -> bool:
    """Tell whether a sentence is for evaluation only, by a fixed rule on the text alone."""
    return len(text.split()) >= 4 and zlib.crc32(text.encode()) % HELD_OUT_SHARE == 0


def cardinal(number: int, with_and: bool = False) -> str:
    """The number in words, up to 999,999,999."""
    if number < 20:
        return (ONES + TEENS)[number]
    if number < 100:
        rest = number % 10
        return TENS[number // 10 - 2] + (f" {ONES[rest]}" if rest else "")
    size, name = next(s for s in SCALES if number >= s[0])
    head, rest = divmod(number, size)
    joint = " and " if with_and and rest < 100 else " "
    tail = f"{joint}{cardinal(rest, with_and)}" if rest else ""
    return f"{cardinal(head, with_and)} {name}{tail}"


BOOK_HEAD = re.compile(r"(START OF|END\*? ?THE SMALL PRINT|\*END THE).*|by the U\.S\. Gov.*", re.I)
BOOK_TAIL = re.compile(r"(End of (this |the )?Project Gutenberg|\*\*\* ?END OF)", re.I)
VOLUME = ["raise", "lower", "increase", "reduce"]
SCALES = [(1_000_000, "million"), (1_000, "thousand"), (100, "hundred")]


def ordinal(number: int) -> str:
    """The ordinal in words, for example `twenty third`."""
    *head, last = cardinal(number).split()
    if last in ORDINALS:
        last = ORDINALS[last]
    else:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return " ".join([*head, last])


def _digits(rng: random.Random) -> str:
    return " ".join(rng.choice(ONES) for _ in range(rng.randint(1, 8)))


def _number(rng: random.Random) -> str:
    number = rng.randrange(10 ** rng.choice([2, 2, 3, 3, 4, 5, 6]))
    text = cardinal(number, with_and=rng.random() < 0.5)
    if rng.random() < 0.15:
        text += f" point {_digits(rng)[:20].rsplit(' ', 1)[0]}"
    return text


def _year(rng: random.Random) -> str:
    year = rng.randint(1700, 2039)
    if 2000 <= year < 2010 or rng.random() < 0.1:
        return cardinal(year, with_and=rng.random() < 0.5)
    head, tail = divmod(year, 100)
    low = "hundred" if tail == 0 else f"oh {ONES[tail]}" if tail < 10 else cardinal(tail)
    return f"{cardinal(head)} {low}"


def _date(rng: random.Random) -> str:
    month, day = rng.choice(MONTHS), ordinal(rng.randint(1, 31))
    text = rng.choice([f"{month} {day}", f"the {day} of {month}", f"{day} of {month}"])
    if rng.random() < 0.3:
        text = f"{rng.choice(DAYS)} {text}"
    if rng.random() < 0.4:
        text += f" {_year(rng)}"
    return text


def _time(rng: random.Random) -> str:
    hour, minute = cardinal(rng.randint(1, 12)), rng.randint(1, 59)
    if minute < 10 and rng.random() < 0.6:
        exact = f"{hour} oh {ONES[minute]}"
    else:
        exact = f"{hour} {cardinal(minute)}"
    day_part = rng.choice(["", " a m", " p m", " in the morning", " in the evening", " at night"])
    relation = rng.choice(["past", "to"])
    return rng.choice(
        [
            exact + day_part,
            f"{hour} o'clock{day_part[2:] if len(day_part) == 4 else day_part}".strip(),
            f"half past {hour}",
            f"quarter {relation} {hour}",
            f"{cardinal(rng.randint(1, 29))} {relation} {hour}",
        ]
    )


def _quantity(rng: random.Random) -> str:
    number = cardinal(rng.randrange(2, 10 ** rng.choice([1, 2, 2, 3, 4])))
    return rng.choice(
        [
            f"{number} {rng.choice(CURRENCIES)}",
            f"{number} {rng.choice(CURRENCIES)} and {cardinal(rng.randint(2, 99))} cents",
            f"{number} percent",
            f"{number} {rng.choice(UNITS)}",
            f"{number} point {rng.choice(ONES)} {rng.choice(UNITS)}",
        ]
    )


def _phone(rng: random.Random) -> str:
    digits = [rng.choice(ONES) for _ in range(rng.randint(6, 10))]
    if rng.random() < 0.4:
        digits = ["oh" if d == "zero" else d for d in digits]
    lead = rng.choice(["", "", "my number is ", "call ", "the code is ", "dial ", "extension "])
    return lead + " ".join(digits)


def _spelled(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return " ".join(rng.choice(LETTERS) for _ in range(rng.randint(2, 6)))
    name = rng.choice(FIRST_NAMES + LAST_NAMES + PLACES)
    return f"{name} {' '.join(name)}" if len(name) < 8 else f"my name is {name}"


def _name(rng: random.Random) -> str:
    full = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    other, place = rng.choice(FIRST_NAMES), rng.choice(PLACES)
    return rng.choice(
        [
            full,
            f"my name is {full}",
            f"call {full}",
            f"this is {full} from {place}",
            f"{rng.choice(['mister', 'doctor', 'professor', 'captain'])} {full.split()[1]}",
            f"{full} and {other}",
            f"{other} lives in {place}",
            f"send a message to {full}",
            f"{other} is {cardinal(rng.randint(3, 95))} years old",
            f"{other} and {rng.choice(FIRST_NAMES)} went to {place} on {rng.choice(DAYS)}",
        ]
    )


def _command(rng: random.Random) -> str:
    switch, room, device = rng.choice(["on", "off"]), rng.choice(ROOMS), rng.choice(DEVICES)
    noun, other = rng.choice(NOUNS), rng.choice(NOUNS)
    when = rng.choice([f"at {_time(rng)}", f"on {rng.choice(DAYS)}", "tomorrow", "today", "now"])
    amount = cardinal(rng.randint(1, 100))
    please = rng.choice(["", "", "", "please "])
    text = rng.choice(
        [
            f"turn {switch} the {device}",
            f"turn the {room} {device} {switch}",
            f"switch {switch} the {device} in the {room}",
            f"set the {room} {device} to {rng.choice([amount + ' percent', rng.choice(COLOURS)])}",
            f"set the temperature to {amount} degrees",
            f"set an alarm for {_time(rng)}",
            f"set a timer for {amount} {rng.choice(['seconds', 'minutes', 'hours'])}",
            f"remind me to {rng.choice(TASKS)} {when}",
            f"add {noun} to my {rng.choice(['shopping', 'reading', 'wish', 'packing'])} list",
            f"play {rng.choice(MEDIA)}",
            f"play {rng.choice(MEDIA)} in the {room}",
            f"{rng.choice(VOLUME)} the volume by {amount} percent",
            f"{rng.choice(ACTIONS)} the {noun}",
            f"{rng.choice(ACTIONS)} the {rng.choice(ADJECTIVES)} {noun}",
            f"{rng.choice(ACTIONS)} the {noun} and the {other}",
            f"{rng.choice(ACTIONS)} {amount} {noun}s for {rng.choice(FIRST_NAMES)}",
            f"put the {noun} {rng.choice(['on', 'under', 'near', 'behind', 'in'])} the {other}",
            f"move the {rng.choice(EVENTS)} to {rng.choice([_date(rng), _time(rng)])}",
            f"book a {rng.choice(EVENTS)} for {_date(rng)}",
            f"show me the way to {rng.choice(PLACES)}",
            f"don't forget to {rng.choice(TASKS)}",
            f"open the {room} window {when}",
        ]
    )
    return (please + text) if rng.random() < 0.9 else f"{text} please"


def _question(rng: random.Random) -> str:
    noun, adjective, place = rng.choice(NOUNS), rng.choice(ADJECTIVES), rng.choice(PLACES)
    return rng.choice(
        [
            "what time is it",
            f"what is the weather in {place}",
            f"will it {rng.choice(['rain', 'snow', 'be sunny'])} in {place} {rng.choice(DAYS)}",
            f"how far is it from {place} to {rng.choice(PLACES)}",
            f"how much is {_quantity(rng)} in {rng.choice(CURRENCIES)}",
            f"what is {cardinal(rng.randint(0, 99))} {rng.choice(['plus', 'minus', 'times'])} "
            + cardinal(rng.randint(0, 99)),
            f"where is the {noun}",
            f"where can i {rng.choice(ACTIONS)} a {adjective} {noun}",
            f"when is the next {rng.choice(EVENTS)}",
            f"who is {rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
            f"is the {noun} {adjective}",
            f"do you like {rng.choice(ACTIVITIES)}",
            f"why is the {noun} so {adjective}",
            f"can you {rng.choice(ACTIONS)} the {noun}",
            f"did {rng.choice(SUBJECTS)} {rng.choice(ACTIONS)} the {noun} yesterday",
            f"is the {rng.choice(DEVICES)} in the {rng.choice(ROOMS)} still on",
            f"how many {noun}s are in the {rng.choice(NOUNS)}",
        ]
    )


def _statement(rng: random.Random) -> str:
    noun, other, adjective = rng.choice(NOUNS), rng.choice(NOUNS), rng.choice(ADJECTIVES)
    subject, past = rng.choice(SUBJECTS), rng.choice(PAST)
    number = cardinal(rng.randint(2, 30))
    return rng.choice(
        [
            f"{subject} {past} the {adjective} {noun}",
            f"{subject} {past} a {noun} in the {other}",
            f"{subject} {past} {number} {noun}s",
            f"the {noun} is {adjective}",
            f"the {noun} and the {other} are {adjective}",
            f"the {noun} is on the {rng.choice(COLOURS)} {other}",
            f"{subject} {past} the {noun} because it was {adjective}",
            f"i don't like {rng.choice(ACTIVITIES)} on {rng.choice(DAYS)}",
            f"there are {number} {adjective} {noun}s in the {other}",
            f"it was a {adjective} {rng.choice(['day', 'night', 'morning', 'year'])} in "
            + rng.choice(PLACES),
            f"the {rng.choice(EVENTS)} is on {_date(rng)}",
            f"the {rng.choice(EVENTS)} starts at {_time(rng)}",
            f"{rng.choice(ADJECTIVES)} {rng.choice(COLOURS)} {noun}",
            f"{noun} {other} {rng.choice(NOUNS)}",
        ]
    )


KINDS: dict[str, tuple[float, Maker]] = {
    "digits": (0.13, _digits),
    "number": (0.11, _number),
    "date": (0.10, _date),
    "time": (0.08, _time),
    "quantity": (0.07, _quantity),
    "phone": (0.04, _phone),
    "spelled": (0.03, _spelled),
    "name": (0.10, _name),
    "command": (0.17, _command),
    "question": (0.09, _question),
    "statement": (0.08, _statement),
}


def domain_sentence(rng: random.Random) -> tuple[str, str]:
    """Draw a sentence and its kind."""
    kinds = list(KINDS)
    kind = rng.choices(kinds, [KINDS[k][0] for k in kinds])[0]
    return " ".join(KINDS[kind][1](rng).split()), kind


def book_spans(path: Path, min_words: int = 3, max_words: int = 14) -> list[str]:
    """Clauses of a book between punctuation marks, in order; anything with digits is left out."""
    raw = path.read_bytes().decode("utf-8", errors="replace")
    start = max((m.end() for m in BOOK_HEAD.finditer(raw[: len(raw) // 4])), default=0)
    end = next((m.start() for m in BOOK_TAIL.finditer(raw, start)), len(raw))
    text = raw[start:end].replace("’", "'").replace("‘", " ").replace("--", ". ")
    text = re.sub(r"\s+", " ", text.replace("_", "").lower())
    spans = (s.strip(" '\"") for s in re.split(r"[.,;:!?()\[\]“”\"*—]+", text))
    return [s for s in spans if _is_plain(s) and min_words <= len(s.split()) <= max_words]


def _is_plain(span: str) -> bool:
    """Tell whether a span holds only spoken words: no digits, numerals, initials, hyphens."""
    if not re.fullmatch(r"[a-z' ]+", span) or " '" in span or "' " in span:
        return False
    words = span.split()
    return all(len(w) > 1 or w in ("a", "i", "o") for w in words) and not any(
        re.fullmatch(r"(?=[xvicl]{2})x{0,3}(ix|iv|v?i{0,3})|xl.*|mr|mrs|dr|st|esq|etc", w)
        for w in words
    )
