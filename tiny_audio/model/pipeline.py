"""The speech pipeline of transformers for our models.

`checkpoint.py` registers it, so whatever reads or builds a model has it; after `import tiny_audio`
that happens when transformers first needs it.
"""

from typing import Any

import torch
from transformers import AutomaticSpeechRecognitionPipeline, Pipeline

from .audio import SAMPLE_RATE
from .generation import token_limit
from .modeling import AudioLM


class AudioLMPipeline(Pipeline):
    """The speech pipeline for our models: it takes any audio source and gives `{"text": …}`."""

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _pipeline_calls_generate = True
    _generate_kwargs: dict[str, Any] = {}  # noqa: RUF012 — set by Pipeline, from what it is made with

    def _sanitize_parameters(
        self, prompt: str | None = None, sampling_rate: int | None = None, **generate: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        # Only what was given: options of a call go over those that the pipeline was made with.
        read = {"prompt": prompt, "sampling_rate": sampling_rate}
        read = {key: value for key, value in read.items() if value is not None}
        return read, {"generate": generate} if generate else {}, {}

    def preprocess(
        self, source: Any, prompt: str | None = None, sampling_rate: int | None = None
    ) -> Any:
        # transformers' own speech pipeline also takes {"raw": …, "sampling_rate": …}.
        if isinstance(source, dict) and "raw" in source:
            source, sampling_rate = source["raw"], source["sampling_rate"]
        samples = self.processor.samples(source, sampling_rate)
        inputs = self.processor(audio=samples, text=prompt, sampling_rate=SAMPLE_RATE)
        return {**inputs, "duration_s": len(samples) / SAMPLE_RATE}

    def _forward(self, inputs: dict[str, Any], generate: dict[str, Any] | None = None) -> Any:
        limit = token_limit(inputs.pop("duration_s"))
        settings = {
            "max_new_tokens": limit,
            "do_sample": False,
            "eos_token_id": self.processor.stop_ids(),
            "pad_token_id": self.processor.pad_id,
            **self._generate_kwargs,
            **(generate or {}),
        }
        with torch.inference_mode():
            ids = self.model.generate(**inputs, **settings)
        return {"tokens": ids[:, inputs["input_ids"].shape[1] :]}

    def postprocess(self, outputs: Any) -> dict[str, str]:
        text = self.processor.tokenizer.decode(outputs["tokens"][0], skip_special_tokens=True)
        return {"text": text.strip()}


class SpeechPipeline(AutomaticSpeechRecognitionPipeline):
    """The task "automatic-speech-recognition", which sends our models to our pipeline, and all
    others to the stock one.

    The stock pipeline decides by class names from its own tables and would read ours as a CTC
    model.
    """

    # None: load what the checkpoint has. Ours has a processor, CTC and seq2seq models have the
    # other two.
    _load_processor = None
    _load_tokenizer = None
    _load_feature_extractor = None

    def __new__(cls, model: Any, **kwargs: Any) -> Any:
        if isinstance(model, AudioLM):
            return AudioLMPipeline(model=model, **kwargs)
        return super().__new__(cls)
