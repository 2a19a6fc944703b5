"""One thread, shared batches: each caller gets its own text, and only its own error."""

import ctypes
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tiny_audio.infer.longform import Window
from tiny_audio.infer.transcriber import Request
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import PromptError
from tiny_audio.serve.batcher import Batcher
from tiny_audio.serve.counters import Metrics
from tiny_audio.serve.limits import Limits


@pytest.fixture
def batcher(nano):
    made = Batcher(nano, Limits(batch_items=4, batch_s=20), Metrics())
    yield made
    made.close()


@pytest.fixture
def blocked(batcher):
    """The model's thread waits until this is set, so that a queue forms."""
    release, inside = threading.Event(), threading.Event()
    batcher.call(lambda: (inside.set(), release.wait()))
    inside.wait()
    yield release
    release.set()


def windows(clips, number=5):
    chosen = list(clips.items())[:number]
    return {text: Window(0, load_audio(path).samples) for path, text in chosen}


def batches(batcher):
    rows = batcher.metrics.batch_items.collect()[0].samples
    return {row.name.rsplit("_", 1)[-1]: row.value for row in rows if "bucket" not in row.name}


@pytest.mark.slow
def test_windows_of_several_callers_share_batches_and_keep_their_texts(batcher, blocked, clips):
    asked = {text: batcher.submit(window) for text, window in windows(clips).items()}
    blocked.set()
    for text, segment in asked.items():
        assert segment.result().text == text
    found = batches(batcher)
    assert found["sum"] == len(asked)
    assert found["count"] <= len(asked) / 4 + 1  # four items, or 20 s


def test_a_bad_prompt_fails_alone(batcher, blocked, clips):
    said, window = next(iter(windows(clips).items()))
    good = batcher.submit(window)
    bad = batcher.submit(window, Request(prompt="<audio> and <audio>"))
    blocked.set()
    assert good.result().text == said
    with pytest.raises(PromptError, match="2 <audio>"):
        bad.result()


def test_windows_asked_for_times_do_not_change_those_of_others(
    batcher, blocked, clips, times_of_words
):
    said, window = next(iter(windows(clips).items()))
    timed, plain = batcher.submit(window, Request(timestamps="word")), batcher.submit(window)
    blocked.set()
    assert [word.text for word in timed.result().words] == said.split()
    assert all(word.start_s is not None for word in timed.result().words)
    assert plain.result().text == said
    assert all(word.start_s is None for word in plain.result().words)


def test_whatever_fails_is_the_callers_and_the_thread_goes_on(batcher, clips):
    said, window = next(iter(windows(clips).items()))
    with pytest.raises(TypeError):
        batcher.submit(window, Request(prompt=b"not text")).result()
    with pytest.raises(ZeroDivisionError):
        batcher.call(lambda: 1 / 0).result()
    assert batcher.submit(window).result().text == said


class Panic(BaseException):
    """As compiled code raises it: pyo3's PanicException is no `Exception`, either."""


def panic(*_):
    raise Panic("index out of bounds")


def test_a_panic_fails_its_request_and_the_thread_goes_on(batcher, clips, monkeypatch):
    said, window = next(iter(windows(clips).items()))
    for kind in (panic, sys.exit):
        with pytest.raises(RuntimeError, match="model's code failed"):
            batcher.call(kind).result(timeout=60)
    transcriber = batcher.transcriber
    for owner, step in ((transcriber.room, "check"), (transcriber, "transcribe_windows")):
        with monkeypatch.context() as broken:
            broken.setattr(owner, step, panic)
            with pytest.raises(RuntimeError, match="Panic: index out of bounds"):
                batcher.submit(window).result(timeout=60)
    assert batcher.submit(window).result(timeout=60).text == said


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_noticed_and_started_again(batcher, clips):
    said, window = next(iter(windows(clips).items()))
    assert batcher.alive
    batcher._queue.put(object())
    batcher._thread.join(timeout=60)
    assert not batcher.alive
    assert batcher.submit(window).result(timeout=60).text == said
    assert batcher.alive


def test_who_went_away_is_not_computed(batcher, blocked, clips):
    window = next(iter(windows(clips).values()))
    gone, here = batcher.submit(window), batcher.submit(window)
    assert gone.cancel()
    blocked.set()
    here.result()
    assert batches(batcher)["sum"] == 1


def test_calls_and_windows_keep_their_order(batcher, blocked, clips):
    window = next(iter(windows(clips).values()))
    order = []
    first = batcher.submit(window)
    first.add_done_callback(lambda _: order.append("window"))
    batcher.call(order.append, "call")
    last = batcher.submit(window)
    blocked.set()
    last.result()
    assert order == ["window", "call"]


def test_close_finishes_what_was_given(nano, clips):
    batcher = Batcher(nano, Limits(), Metrics())
    asked = {text: batcher.submit(window) for text, window in windows(clips, 2).items()}
    batcher.close()
    assert {text: done.result(timeout=0).text for text, done in asked.items()} == {
        text: text for text in asked
    }


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps them")
def test_an_idle_model_gives_freed_memory_back(batcher):
    libc, size = ctypes.CDLL(None), 2**16
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(size) for _ in range(3_200)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for number, block in enumerate(blocks):
        if number % 100:  # what stays lies between those that are freed
            libc.free(block)
    kept_mb = resident_mb()
    batcher.call(lambda: None).result()
    deadline = time.monotonic() + 30
    while resident_mb() > kept_mb - 150 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert resident_mb() < kept_mb - 150
    for block in blocks[::100]:
        libc.free(block)
