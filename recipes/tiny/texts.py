"""The texts that are read aloud: books, WordNet, everyday sentences, numbers, learners' sentences.

All keep true case and simple punctuation (comma, full stop, question and exclamation mark), since
that is what `tiny` shall write. A fixed rule on the text keeps one sentence in forty apart.
"""

import json
import random
import re
import zlib
from pathlib import Path

from recipes.nano.sentences import BOOK_HEAD, BOOK_TAIL, domain_sentence
from recipes.nano.sources import real_rows
from recipes.nano.words import DAYS, FIRST_NAMES, LAST_NAMES, MONTHS, PLACES
from recipes.tiny.paths import EVERYDAY

HELD_OUT_SHARE = 40
SHARES = {"book": 0.28, "dictionary": 0.42, "everyday": 0.10, "domain": 0.10, "reader": 0.10}
WORDNET = Path("/usr/share/wordnet")  # Debian's package wordnet-base
# Words that are names or ordinary words: only a capital by position is safe.
ORDINARY = (
    "may march mark will rose grace hope joy art bill frank young king long brown green white "
    "black stone bell cook baker new the of saint san hill wood day bay city lake north south east "
    "west park reed rich dean page cross price ford banks ray gene dawn summer june august"
).split()
ALWAYS = (
    "I I'm I'll I've I'd June August English American Americans Chinese China America London "
    "England God Tom Christmas Mike Jack Mary"
).split()
NAMES = {word.lower(): word.title() for names in (FIRST_NAMES, LAST_NAMES, PLACES, DAYS, MONTHS)
         for name in names for word in name.split()}  # fmt: skip
NAMES = {k: v for k, v in NAMES.items() if k not in ORDINARY} | {w.lower(): w for w in ALWAYS}
QUESTION = re.compile(
    r"^(what|why|who|whose|where|when|which|how|do|does|did|is|are|was|were|can|could|will|would|"
    r"should|shall|may|have|has|had|am|isn't|aren't|don't|doesn't|didn't|can't|won't)\b"
)
EXAMPLE_QUESTION = re.compile(  # many examples are clauses: "when the shooting stopped"
    r"^(how|why|where|who|what) (is|are|was|were|do|does|did|can|could|will|would|should)\b|"
    r"^(can|could|will|would|do|did|have|are|were|should|does|is|was|has) "
    r"(I|you|we|they|he|she|it)\b"
)
SENTENCE = re.compile(r"[A-Z][A-Za-z ,'.\-]+[.?!]")
NO_SENTENCE = re.compile(r"\b[A-Z]{2,}|\b[A-Z]\.|\.\S|Enter |Exit|Exeunt|Chapter")


def is_held_out(text: str) -> bool:
    """Tell whether a sentence is for evaluation only; the text alone decides."""
    plain = text.lower().rstrip(".?!")
    return len(plain.split()) >= 4 and zlib.crc32(plain.encode()) % HELD_OUT_SHARE == 0


def cased(text: str) -> str:
    """Give a transcript without case and marks its capitals and a closing mark."""
    words = [NAMES.get(word, word) for word in text.split()]
    sentence = " ".join(words)
    sentence = sentence[0].upper() + sentence[1:]
    if sentence.endswith((".", "?", "!")):
        return sentence
    return sentence + ("?" if QUESTION.match(text) and len(words) > 2 else ".")


def book_sentences(folder: Path, most_words: int = 30) -> list[str]:
    """Return the sentences of all books, each once, in order; long ones are cut at a comma."""
    found: list[str] = []
    for path in sorted(folder.glob("*.txt")):
        for sentence in split_book(path.read_bytes().decode("utf-8", errors="replace")):
            found += pieces(sentence, most_words)
    return list(dict.fromkeys(found))


def split_book(raw: str) -> list[str]:
    """Return a book's sentences in plain marks, without headings, initials, stage directions."""
    start = max((m.end() for m in BOOK_HEAD.finditer(raw[: len(raw) // 4])), default=0)
    end = next((m.start() for m in BOOK_TAIL.finditer(raw, start)), len(raw))
    text = raw[start:end].replace("’", "'").replace("‘", "'").replace("_", "").replace("--", ", ")
    text = re.sub(r"[\"“”*\[\]()]", " ", text)
    text = re.sub(r"\b(Mr|Mrs|Dr|St)\. ", r"\1~ ", re.sub(r"\s+", " ", text))
    sentences = []
    for sentence in re.split(r"(?<=[.?!])\s+(?=[A-Z'])", text):
        plain = re.sub(r"[;:—]", ",", sentence.replace("~", ".")).strip(" '-,")
        plain = re.sub(r"\s*,[\s,]*", ", ", plain)
        plain = re.sub(r"\s+", " ", re.sub(r"(^|\s)'|'(\s|$)", r"\1\2", plain)).strip()
        shouted = plain.upper() == plain
        if SENTENCE.fullmatch(plain) and not shouted and not NO_SENTENCE.search(plain):
            sentences.append(plain)
    return sentences


def pieces(sentence: str, most_words: int, clause_words: int = 22) -> list[str]:
    """Return the sentence, or, if it is long, its clauses as sentences."""
    if len(sentence.split()) <= most_words:
        return [sentence] if len(sentence.split()) >= 3 else []
    cut, clause = [], ""
    for part in re.split(r"(?<=,) ", sentence):
        longer = f"{clause} {part}".strip()
        if clause and len(longer.split()) > clause_words:
            cut.append(clause.rstrip(",")[0].upper() + clause.rstrip(",")[1:] + ".")
            longer = part
        clause = longer
    return [c for c in cut if len(c.split()) <= most_words]


def dictionary_sentences(folder: Path = WORDNET, most_words: int = 25) -> list[str]:
    """Return the examples in WordNet's definitions: some 40,000 phrases with most English words.

    Raises FileNotFoundError with the name of the package where WordNet is not installed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: apt-get install wordnet-base")
    found: dict[str, None] = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(errors="replace").splitlines():
            for example in re.findall(r'"([^"]+)"', line):
                found.update(dict.fromkeys(plain_example(example, most_words)))
    return list(found)


def plain_example(example: str, most_words: int) -> list[str]:
    """Make the example a sentence with a capital and a closing mark, if it is plain text."""
    text = re.sub(r"\s*[;:]\s*", ", ", example.strip().strip("`'"))
    text = text[:1].upper() + text[1:]
    mark = "?" if EXAMPLE_QUESTION.match(example) else "."
    sentence = text if text.endswith((".", "?", "!")) else text + mark
    plain = SENTENCE.fullmatch(sentence) and not NO_SENTENCE.search(sentence)
    return [sentence] if plain and 3 <= len(sentence.split()) <= most_words else []


class Texts:
    """Draws texts by their shares; "everyday" is what SmolLM2 wrote (`everyday.py`)."""

    def __init__(self, data: Path, seed: int = 3):
        rng = random.Random(seed)
        readers = [row["text"] for row in real_rows("speechocean762", held_out=False)]
        self.lists = {
            "book": book_sentences(data / "text" / "gutenberg"),
            "dictionary": dictionary_sentences(),
            "everyday": EVERYDAY.read_text().splitlines(),
            "domain": [cased(domain_sentence(rng)[0]) for _ in range(6000)],
            "reader": [cased(text) for text in readers if len(text.split()) > 2],
        }

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Draw a text and its kind. Held-out texts are drawn too; training leaves them out."""
        kinds = list(SHARES)
        kind = rng.choices(kinds, list(SHARES.values()))[0]
        return rng.choice(self.lists[kind]), kind


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    """Write JSON Lines; the file is there whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    temporary.replace(path)
