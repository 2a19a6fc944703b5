"""Make transformers know our models without importing it.

`AutoModel.from_pretrained(folder)` must work after `import tiny_audio`, and `tiny-audio --help`
must not load torch. So all that is done early is one entry in transformers' table of
configurations, made when that table is loaded. The entry stands for `AudioLMConfig`; the first use
of it loads the rest.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODEL_TYPE = "tiny_audio"
TABLE = "transformers.models.auto.configuration_auto"


class LazyConfig:
    """Stands in transformers' table for `AudioLMConfig`, and becomes it."""

    model_type = MODEL_TYPE

    def __new__(cls, **values: Any) -> Any:
        return _real_config()(**values)

    @classmethod
    def from_dict(cls, values: dict[str, Any], **options: Any) -> Any:
        return _real_config().from_dict(values, **options)


def _real_config() -> Any:
    """Importing the end of the path imports all of it, which registers the rest."""
    import_module("tiny_audio.model.checkpoint")
    return import_module("tiny_audio.model.configuration").AudioLMConfig


def register_with_transformers() -> None:
    """Enter ourselves now if the table is there, else as soon as it is."""
    if TABLE in sys.modules:
        _enter(sys.modules[TABLE])
    else:
        sys.meta_path.insert(0, _TableFinder())


def _enter(table: ModuleType) -> None:
    if MODEL_TYPE not in table.CONFIG_MAPPING:
        table.CONFIG_MAPPING.register(MODEL_TYPE, LazyConfig)


class _TableFinder(MetaPathFinder):
    """Finds nothing but the table, once, and only to look over its loader's shoulder."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != TABLE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _TableLoader(spec.loader)
        return spec


class _TableLoader(Loader):
    """The table's own loader, followed by our entry."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _enter(module)
