"""Uploads are decoded by processes that may be killed: each case against a real pool."""

import asyncio
import errno
import io
import os
import signal
import time

import numpy as np
import pytest
import soundfile
from serving import wav
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import AudioError
from tiny_audio.serve import uploads
from tiny_audio.serve.counters import Metrics
from tiny_audio.serve.decode_worker import decode
from tiny_audio.serve.limits import Limits
from tiny_audio.serve.refusals import Refusal, _not_here
from tiny_audio.serve.uploads import DecodePool

LIMITS = Limits(
    decode_workers=1, max_audio_s=600, decode_timeout_s=2, decode_memory_bytes=64 * 2**20
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory, spawns_at_once):
    made = DecodePool(LIMITS, tmp_path_factory.mktemp("decoded"), Metrics())
    yield made
    made.close()


@pytest.mark.slow
def test_samples_are_those_of_load_audio_and_leave_no_file(pool, clips):
    for path in list(clips)[:3]:
        heard = pool.submit(io.BytesIO(path.read_bytes())).result()
        assert np.array_equal(heard.samples_N, load_audio(path).samples.numpy())
    assert not list(pool.folder.iterdir())


def test_what_decoding_noted_arrives(pool):
    loud = np.clip(3 * np.sin(np.arange(16_000) / 9), -1, 1)
    assert "clipped" in pool.submit(io.BytesIO(wav(loud))).result().notes[0]


def test_a_refused_file_costs_no_process(pool):
    with pytest.raises(AudioError, match="not audio"):
        pool.submit(io.BytesIO(b"not audio at all")).result()
    assert pool.metrics.decoder_losses._value.get() == 0


def test_an_upload_closed_midway_leaves_the_worker_in_step(pool, clips):
    """A client that goes has its file closed while it waits for a worker."""
    path = next(iter(clips))
    gone = io.BytesIO(b"x")
    gone.close()
    with pytest.raises(ValueError, match="closed"):
        pool.submit(gone).result()
    heard = pool.submit(io.BytesIO(path.read_bytes())).result()
    assert np.array_equal(heard.samples_N, load_audio(path).samples.numpy())


def test_hours_in_kilobytes_end_at_the_limit(pool):
    quiet = io.BytesIO()
    soundfile.write(quiet, np.zeros(8_000 * 3_600, np.int16), 8_000, format="FLAC")
    with pytest.raises(AudioError, match="the limit is 600 s"):
        pool.submit(quiet).result()


def test_a_process_that_cannot_start_is_a_reason_and_not_a_silence(tmp_path, monkeypatch):
    """As where TMPDIR is too long for a socket's name."""

    def failing(limits):
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(uploads, "_Worker", failing)
    pool = DecodePool(LIMITS, tmp_path, Metrics())
    for _ in range(2):
        with pytest.raises(Refusal, match=r"AF_UNIX path too long.*set TMPDIR"):
            pool.submit(io.BytesIO(b"x")).result(timeout=60)
    pool.close()


def test_a_process_that_died_before_is_not_the_files_fault(pool, clips):
    """The next good file was answered 400 once for every process that was gone."""
    lost = pool.metrics.decoder_losses._value.get()
    os.kill(pid_of_worker(pool), signal.SIGKILL)
    path = next(iter(clips))
    heard = pool.submit(io.BytesIO(path.read_bytes())).result()
    assert np.array_equal(heard.samples_N, load_audio(path).samples.numpy())
    assert pool.metrics.decoder_losses._value.get() == lost + 1


@pytest.mark.slow
def test_a_process_that_hangs_is_replaced(pool, clips):
    upload = next(iter(clips)).read_bytes()
    os.kill(pid_of_worker(pool), signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(Refusal, match="2 s"):
        pool.submit(io.BytesIO(upload)).result()
    assert time.monotonic() - started < 30
    assert len(pool.submit(io.BytesIO(upload)).result().samples_N)
    assert not list(pool.folder.iterdir())


def pid_of_worker(pool):
    worker = pool._idle.get()
    pool._idle.put(worker)
    return worker.process.pid


def test_a_full_disk_is_the_servers_trouble(pool, clips):
    number = next(pool._names) + 1
    (pool.folder / f"{number}.f32").symlink_to("/dev/full")
    upload = next(iter(clips)).read_bytes()
    with pytest.raises(Refusal, match="No space left") as caught:
        pool.submit(io.BytesIO(upload)).result()
    assert caught.value.status_code == 503
    assert len(pool.submit(io.BytesIO(upload)).result().samples_N)


def test_a_form_that_finds_no_disk_is_the_servers_trouble():
    """FastAPI blames whatever fails while a form is read on its sender."""

    async def answer(error):
        return await _not_here(
            Request({"type": "http", "method": "POST", "path": "/", "headers": []}), error
        )

    for code, status in ((errno.ENOSPC, 503), (errno.EMFILE, 503), (None, 400)):
        error = HTTPException(400, "There was an error parsing the body")
        error.__cause__ = OSError(code, "why") if code else ValueError()
        assert asyncio.run(answer(error)).status_code == status


def test_notes_of_native_libraries_go_nowhere(pool):
    assert os.readlink(f"/proc/{pid_of_worker(pool)}/fd/2") == os.devnull


def test_a_worker_has_no_more_memory_than_it_was_given(pool):
    """Read from the kernel: private memory, files and their size have an end."""
    with open(f"/proc/{pid_of_worker(pool)}/limits") as file:
        limits = {line[:26].strip(): line[26:].split()[0] for line in file}
    assert 0 < int(limits["Max data size"]) < 2**31
    assert int(limits["Max file size"]) == (LIMITS.max_audio_s + 60) * 4 * 16_000
    assert int(limits["Max open files"]) == 64


def test_no_memory_for_a_good_file_is_the_servers_trouble(tmp_path, spawns_at_once):
    made = DecodePool(Limits(decode_workers=1, decode_memory_bytes=2**21), tmp_path, Metrics())
    try:
        for seconds in (1_000, 20):  # not even the upload fits; its samples do not
            with pytest.raises(Refusal, match="more memory than 2,097,152 bytes") as error:
                made.submit(io.BytesIO(wav(np.zeros(seconds * 16_000)))).result()
            assert error.value.status_code == 503
    finally:
        made.close()


def test_a_file_larger_than_the_limit_is_refused(tmp_path):
    small = Limits(max_upload_bytes=1_000)
    assert "1,000 bytes" in decode(wav(np.zeros(2_000)), tmp_path / "x", small).refusal
