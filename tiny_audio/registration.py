"""Make transformers know our models without importing it.

`AutoModel.from_pretrained(folder)` must work after `import tiny_audio`, and `tiny-audio --help` must not
load torch. So registration waits: it runs right after transformers' own Auto classes, or its pipelines,
have been imported, and at once if they already are.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# transformers' module → ours, whose import registers what belongs to it.
FOLLOWERS = {
    "transformers.models.auto.modeling_auto": "tiny_audio.model.checkpoint",
    "transformers.models.auto.processing_auto": "tiny_audio.model.checkpoint",
    "transformers.pipelines": "tiny_audio.model.pipeline",
}


def register_with_transformers() -> None:
    """Register now what can be, and the rest when its time comes."""
    waiting = set()
    for theirs, ours in FOLLOWERS.items():
        if theirs in sys.modules:
            import_module(ours)
        else:
            waiting.add(theirs)
    sys.meta_path.insert(0, _Follower(waiting))


class _Follower(MetaPathFinder):
    """Finds nothing itself; it only sees to it that our module is imported after theirs."""

    def __init__(self, waiting: set[str]):
        self.waiting = waiting

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.waiting:
            return None
        self.waiting.discard(name)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, FOLLOWERS[name])
        return spec


class _Then(Loader):
    """A module's own loader, followed by the import of ours."""

    def __init__(self, loader: Loader, ours: str):
        self.loader = loader
        self.ours = ours

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        # If the import began inside our own path, that path registers itself when it is complete.
        if not (_importing("tiny_audio.model") or _importing(self.ours)):
            import_module(self.ours)


def _importing(name: str) -> bool:
    """Whether a module is being imported right now."""
    module = sys.modules.get(name)
    return module is not None and bool(getattr(module.__spec__, "_initializing", False))
