"""Strict, typed configuration: the base class of every component's frozen dataclass.

The dataclasses themselves stand next to their component (`EncoderConfig` in `encoder.py`, …). Here
is only what makes them strict. The error for an unknown key names the nearest valid key, that for a
wrong type names the field, and two equal configurations have the same fingerprint on every machine.
"""

import hashlib
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StrictConfig:
    """Base of every component configuration: frozen, no I/O, checked when it is made."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            if not _matches(value, hints[field.name]):
                raise ConfigError(
                    f"{type(self).__name__}.{field.name} is {value!r} ({type(value).__name__}), "
                    f"expected {_spell(hints[field.name])}."
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a configuration from JSON values; lists become tuples, mappings dataclasses."""
        known = {field.name: field for field in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError.unknown(name, known, cls.__name__)
        required = [n for n, f in known.items() if f.default is f.default_factory is MISSING]
        if missing := [n for n in required if n not in values]:
            raise ConfigError(f"{cls.__name__} needs {', '.join(missing)}; add the missing key(s).")
        hints = get_type_hints(cls)
        return cls(**{name: _revive(value, hints[name]) for name, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_dict` makes an equal object."""
        return json.loads(json.dumps(asdict(self)))


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _revive(value: Any, hint: Any) -> Any:
    """Give a JSON value the shape that the type hint asks for."""
    for option in get_args(hint) if _is_union(hint) else (hint,):
        if is_dataclass(option) and isinstance(value, Mapping):
            return option.from_dict(value)  # type: ignore[union-attr]
        if get_origin(option) is tuple and isinstance(value, list):
            inner = get_args(option)[0]
            return tuple(_revive(item, inner) for item in value)
        if get_origin(option) is dict and isinstance(value, Mapping):
            inner = get_args(option)[1]
            return {key: _revive(item, inner) for key, item in value.items()}
    return value


def _matches(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if _is_union(hint):
        return any(_matches(value, option) for option in get_args(hint))
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return isinstance(value, tuple) and all(_matches(item, inner[0]) for item in value)
        if not isinstance(value, tuple) or len(value) != len(inner):
            return False
        return all(_matches(item, of) for item, of in zip(value, inner, strict=True))
    if str(origin) == "typing.Literal":
        return value in inner
    if origin is dict and isinstance(value, dict):
        return all(_matches(v, inner[1]) and isinstance(k, inner[0]) for k, v in value.items())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _spell(hint: Any) -> str:
    if str(get_origin(hint)) == "typing.Literal":
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    return getattr(hint, "__name__", None) or str(hint)
