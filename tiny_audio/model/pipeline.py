"""The speech pipeline of transformers for our models.

`checkpoint.py` registers it, so whatever reads or builds a model has it; after `import tiny_audio`
that happens when transformers first needs it.
"""

from importlib import import_module
from typing import Any

from transformers import AutomaticSpeechRecognitionPipeline

from .errors import CheckpointError
from .modeling import AudioLM


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
            # It cuts and joins long audio, which is no part of the model: loaded when it is used.
            try:
                ours = import_module("tiny_audio.infer.speech_pipeline").AudioLMPipeline
            except ModuleNotFoundError as error:  # these files were carried without the package
                raise CheckpointError(
                    "The speech pipeline of this model is in Tiny Audio. Type: pip install "
                    "tiny-audio. AutoModel and AutoProcessor work without it."
                ) from error
            return ours(model=model, **kwargs)
        return super().__new__(cls)
