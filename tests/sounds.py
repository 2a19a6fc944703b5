"""Samples as the bytes of a file, of any kind that libsndfile or FFmpeg writes."""

import io

import numpy as np
import pytest
import soundfile


def encode(
    samples: np.ndarray, rate: int, container: str = "WAV", subtype: str | None = None
) -> bytes:
    """A file of libsndfile's; `samples` is (N,) or (N, channels)."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=container, subtype=subtype)
    return out.getvalue()


def encode_media(
    samples: np.ndarray, rate: int, container: str, codec: str, layout: str = "mono"
) -> bytes:
    """A file of FFmpeg's, e.g. mp4, adts or webm; `samples` is (N,) of interleaved values."""
    av = pytest.importorskip("av")
    out = io.BytesIO()
    with av.open(out, "w", format=container) as sink:
        track = sink.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout=layout)
        frame.sample_rate = rate
        for packet in [*track.encode(frame), *track.encode(None)]:
            sink.mux(packet)
    return out.getvalue()
