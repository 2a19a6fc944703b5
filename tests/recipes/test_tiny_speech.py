"""Recorded speech of tiny's corpus: archives are read, and labels are kept where they are sure."""

import numpy as np
import pytest

from recipes.tiny.games import Unpacker, amazon_queen, drascula, steel_sky
from recipes.tiny.label import PAUSE_S, Piece, assigned, mixed, packed, plain_text
from recipes.tiny.paths import PROMPTS


class Packer:
    """The writer for `Unpacker`: each word of bits lies where its first bit was written."""

    def __init__(self, size: int):
        self.size, self.out, self.bits, self.word = size, bytearray(), 0, 0

    def put(self, value: int, count: int) -> None:
        for at in range(count):
            if self.bits % 16 == 0:
                self.word = len(self.out)
                self.out += bytes(2)
            place = self.bits % 16
            self.out[self.word + place // 8] |= (value >> at & 1) << place % 8
            self.bits += 1

    def packed(self) -> bytes:
        head = b"RNC\x01" + self.size.to_bytes(4, "big") + len(self.out).to_bytes(4, "big")
        return head + bytes(5) + b"\x01" + bytes(self.out)


def abcabcabcd() -> bytes:
    """Three raw bytes, a match of six that goes back three, one raw byte."""
    packer = Packer(10)
    packer.put(0, 2)
    for lengths in ([0, 1, 1], [0, 0, 1], [0, 0, 0, 1]):  # codes of runs, distances, lengths
        packer.put(len(lengths), 5)
        for length in lengths:
            packer.put(length, 4)
    packer.put(2, 16)  # two runs, with a match between them
    packer.put(1, 1)  # the second code of runs: 2, and one bit more: 2 + 1 bytes
    packer.put(1, 1)
    packer.out += b"abc"
    packer.put(0, 1)  # distance 2 + 0, plus one
    packer.put(0, 1)
    packer.put(0, 1)  # length 4 + 0, plus two
    packer.put(0, 2)
    packer.put(0, 1)  # the first code of runs: one byte
    packer.out += b"d"
    return packer.packed()


def test_runs_and_matches_are_unpacked():
    assert Unpacker(abcabcabcd()).unpack() == b"abcabcabcd"


def test_a_damaged_archive_is_no_sound():
    damaged = bytearray(abcabcabcd())
    damaged[7] = 11  # promises one byte more
    with pytest.raises(ValueError, match="10 bytes of 11"):
        Unpacker(bytes(damaged)).unpack()


def test_lines_are_found_by_the_index(tmp_path):
    content = bytes(22) + abcabcabcd()
    index = (2).to_bytes(4, "little")
    for number in (7, 50_001):  # a picture, and a line of speech
        index += number.to_bytes(2, "little") + (3).to_bytes(3, "little")
        index += len(content).to_bytes(3, "little")
    (tmp_path / "sky.dnr").write_bytes(index)
    (tmp_path / "sky.dsk").write_bytes(b"xxx" + content)
    ((name, samples),) = steel_sky(tmp_path)
    assert name == "sky-50001"
    assert len(samples) == 15  # ten samples at 11,025 Hz

    (tmp_path / "queen.1c").write_bytes(
        bytes(13) + (1).to_bytes(2, "big") + b"A.DOG".ljust(21, b"\0")
    )
    assert list(amazon_queen(tmp_path)) == []
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "7.ALS").write_bytes(bytes([128] * 11_025))
    ((name, samples),) = drascula(tmp_path)
    assert (name, len(samples), float(np.abs(samples).max())) == ("drascula-7", 16_000, 0.0)


def test_windows_hold_all_clips_with_pauses():
    clips = [np.full(16_000 * seconds, 0.01, np.float32) for seconds in (9, 9, 9, 20, 1)]
    windows = packed(clips)
    assert [[number for number, _, _ in places] for places in windows] == [[0, 1], [2], [3, 4]]
    (_, _, end_s), (_, start_s, _) = windows[0]
    assert start_s - end_s == pytest.approx(PAUSE_S)
    window = mixed(windows[0], clips)
    assert np.sqrt((window[16_000:32_000] ** 2).mean()) == pytest.approx(0.06, rel=1e-3)
    assert len(window) == 30 * 16_000
    assert not window[int((end_s + 0.1) * 16_000) : int((start_s - 0.1) * 16_000)].any()


PLACES = [(0, 0.3, 2.3), (1, 3.2, 5.2), (2, 6.1, 8.1)]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([Piece(0.2, 2.4, "What now?", -0.2), Piece(3.0, 5.4, "Not me.", -0.3)],
         {0: "What now?", 1: "Not me."}),
        ([Piece(0.2, 5.4, "What now? Not me.", -0.1)], {}),  # one piece over two clips
        ([Piece(0.2, 2.4, "What now?", -0.9)], {}),  # unsure
        ([Piece(0.2, 2.4, "Room 12.", -0.1)], {}),  # a digit can be read in several ways
        ([Piece(0.2, 2.4, "So", -0.1)], {}),  # three letters in two seconds: something is missing
        ([Piece(6.0, 7.0, "It's over", -0.1), Piece(7.0, 8.2, "there.", -0.1)],
         {2: "It's over there."}),
    ],
)  # fmt: skip
def test_a_text_is_kept_where_it_is_known_whose_it_is(pieces, texts):
    assert assigned(PLACES, pieces) == texts


def test_marks_are_made_plain():
    assert plain_text("well... I’ll go — now") == "Well. I'll go, now."
    assert plain_text("Señor!") == ""


def test_prompts_are_named_once_and_have_texts():
    rows = [r.split("\t") for r in PROMPTS.read_text().splitlines() if not r.startswith("#")]
    assert len({name for name, _ in rows}) == len(rows) == 158
    assert sum(len(text.split()) for _, text in rows) == 1644
