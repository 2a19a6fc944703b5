"""The package as a whole: no circles of imports, no name and no default twice."""

import ast
import dataclasses
import graphlib
import importlib
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import tiny_audio
from tiny_audio.cli import app
from tiny_audio.model.config import StrictConfig
from tiny_audio.train.loop import LoopConfig
from tiny_audio.train.recipe import Recipe, Stage

ROOT = Path(tiny_audio.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imported(name: str, path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, also within functions."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""] if node.level else [node.module or ""])
            base = base.rstrip(".")
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {base}
    return (found & MODULES.keys()) - {name}


def test_no_files_import_each_other_in_a_circle():
    graph = {name: imported(name, path) for name, path in MODULES.items()}
    assert len(graph) > 100
    assert "tiny_audio.model.encoder" in graph["tiny_audio.model.modeling"]
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_no_two_files_share_a_name():
    """A file of commands/ is named after its command, and one may be named after its folder."""
    commands = {command.callback.__module__ for command in app.registered_commands}
    commands |= {f"tiny_audio.commands.{group.name}" for group in app.registered_groups}
    names = Counter(
        path.stem
        for path in FILES
        if not path.stem.startswith("__")
        and path.stem != path.parent.name
        and module_of(path) not in commands
    )
    assert not {name for name, count in names.items() if count > 1}


# Fields of one name that are different things: sizes of an architecture, and an evaluation's clips.
OWN_MEANING = {"hidden", "k", "window", "seed", "device"}


def defaults(kind: type) -> dict[str, str]:
    """Field -> default, of the fields that this class and no parent of it declares."""
    found = {}
    for one in dataclasses.fields(kind):
        made = one.default_factory
        default = one.default if made is dataclasses.MISSING else made()
        if one.name in vars(kind).get("__annotations__", {}) and default is not dataclasses.MISSING:
            found[one.name] = repr(default)
    return found


def test_a_default_stands_once():
    """No two configurations give a field of the same name different defaults."""
    # vLLM has an environment of its own, where tests/scale/test_vllm.py imports its module.
    apart = "__main__", "vllm_model"
    modules = [importlib.import_module(name) for name in MODULES if not name.endswith(apart)]
    classes = {k for module in modules for k in vars(module).values() if isinstance(k, type)}
    configurations = {
        kind
        for kind in filter(dataclasses.is_dataclass, classes)
        if issubclass(kind, StrictConfig) or kind.__name__.endswith("Config")
    }
    given: dict[str, set[str]] = defaultdict(set)
    for kind in configurations:
        for field, default in defaults(kind).items():
            given[field].add(default)
    assert {LoopConfig, Stage, Recipe} <= configurations
    assert {f for f, values in given.items() if len(values) > 1} == OWN_MEANING


def test_the_package_and_its_description_have_one_version():
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == tiny_audio.__version__
    locked = tomllib.loads((ROOT.parent / "uv.lock").read_text())["package"]
    (ours,) = [one for one in locked if one["name"] == "tiny-audio"]
    assert ours["version"] == tiny_audio.__version__
