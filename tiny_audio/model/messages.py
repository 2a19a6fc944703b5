"""Messages of transformers, with their parts, become turns and the clips that belong to them.

    {"role": "user", "content": [{"type": "audio", "path": "a.wav"}, {"type": "text", "text": "?"}]}

What a part says is text, whatever it holds; a clip stands where its part stands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import PromptError
from .prompt import Turn, turn_of

EXPECTED = '{"type": "text", "text": …} or {"type": "audio", "audio": … or "path": …}'


def conversation_of(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Turn], list[Any]]:
    """Return the turns and the sources of their clips in order, or raise a `PromptError`."""
    turns, sources = list[Turn](), list[Any]()
    for message in messages:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise PromptError(f"{message!r:.80} is no message; it needs a role and a content.")
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        read = [_part(part) for part in parts]
        sources += [source for text, source in read if text is None]
        turns.append(turn_of(str(message["role"]), [text for text, _ in read]))
    if not turns:
        raise PromptError("There is no message; give at least one of the user.")
    return turns, sources


def _part(part: Any) -> tuple[str | None, Any]:
    """Return a text, or None and the source of a clip."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"], None
    if kind == "audio" and "url" in part:
        raise PromptError("URLs are never fetched; load the file and give it as audio or path.")
    found = [part[key] for key in ("audio", "path") if key in part] if kind == "audio" else []
    if len(found) != 1 or found[0] is None:
        raise PromptError(f"{part!r:.80} is no part of a message; expected {EXPECTED}.")
    if "sampling_rate" in part:
        return None, {"array": found[0], "sampling_rate": part["sampling_rate"]}
    return None, found[0]
