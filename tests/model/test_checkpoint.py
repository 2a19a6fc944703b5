"""Where a checkpoint is looked for; contracts/test_save_load_without_network.py has the rest."""

import pytest

from tiny_audio.model.checkpoint import AudioLMForConditionalGeneration, checkpoint_folder
from tiny_audio.model.errors import CheckpointError


@pytest.mark.parametrize("source", ["nano2", "/no/such/folder", "./here", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(source):
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        checkpoint_folder(source)


def test_options_of_transformers_that_are_not_honoured_are_refused():
    with pytest.raises(TypeError, match="quantization_config"):
        AudioLMForConditionalGeneration.from_pretrained("here", quantization_config={})
