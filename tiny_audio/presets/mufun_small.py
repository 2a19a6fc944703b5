"""MuFun's way at the size of a laptop: all states of Whisper tiny.en, BLP, nano's decoder."""

from tiny_audio.model.encoder import EncoderConfig
from tiny_audio.model.projector import BlpConfig
from tiny_audio.model.prompt import PromptConfig

from .nano import PRESET as NANO
from .preset import Preset
from .tiny import PRESET as TINY

PRESET = Preset(
    name="mufun_small",
    encoder=EncoderConfig(
        architecture=TINY.encoder.architecture,
        source=TINY.encoder.source,
        layers=(0, 1, 2, 3, 4),
        pool=(5, 1),  # 10 positions a second
        layer_norm=True,
    ),
    projector=BlpConfig(expand=2),
    decoder=NANO.decoder,
    prompt=PromptConfig(instruction="<audio> Describe this music.", long_audio="windows"),
)
