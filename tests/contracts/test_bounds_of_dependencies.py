"""What the package subclasses, or uses underscored names of, has an upper bound in pyproject.

Such things change without notice, so a new minor version is tried before it is allowed.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
import toys

PACKAGE = toys.REPOSITORY / "tiny_audio"
# Underscored attributes of objects that others made, and whose objects they are.
INTERNALS = {
    "_attn_implementation": "transformers",
    "_expand_inputs_for_generation": "transformers",
    "_buffers": "torch",
    "_non_persistent_buffers_set": "torch",
    "_parameters": "torch",
    "_forward_hooks": "torch",
    "_forward_pre_hooks": "torch",
    "_is_avx512_bf16_supported": "torch",
    "_weight_int8pack_mm": "torch",
    "_is_amx_tile_supported": "torch",
    "_get_dummy_audios": "vllm",
    "_mark_language_model": "vllm",
    "_mark_tower_model": "vllm",
}
PUBLIC = {"_replace", "_asdict", "_fields", "_exit"}  # of named tuples, and of os


def imported(tree: ast.Module) -> dict[str, str]:
    """Names of a module, and the dotted names that they were imported as."""
    names = dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(a.asname or a.name).split(".")[0]: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def root(node: ast.expr) -> str:
    """The first name of an expression such as `nn.Module` or `Generic[T]`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def uses(source: str, own: set[str]) -> Iterator[str]:
    """The imported packages on whose insides a module depends; "_name" if whose is not known."""
    tree = ast.parse(source)
    names = imported(tree)
    for dotted in names.values():
        if any(part.startswith("_") for part in dotted.split(".")):
            yield dotted.split(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (names[root(b)].split(".")[0] for b in node.bases if root(b) in names)
        elif isinstance(node, ast.Attribute) and is_internal(node.attr, own):
            yield INTERNALS.get(node.attr, node.attr)


def is_internal(name: str, own: set[str]) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in own | PUBLIC


def defined(source: str) -> set[str]:
    """The underscored names that a module defines: functions, attributes, fields."""
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                found |= {n.attr for n in ast.walk(target) if isinstance(n, ast.Attribute)}
                found |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return found


def bounded() -> dict[str, bool]:
    """Every distribution that the package asks for, and whether all askings have an upper bound."""
    project = tomllib.loads((toys.REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(line for extra in extras for line in extra)]
    # vLLM is installed beside; its plugin refuses other versions (tests/scale/test_vllm.py).
    found = {"vllm": True}
    for line in asked:
        name = line.split(">")[0].split("[")[0].strip().lower()
        found[name] = found.get(name, True) and "<" in line
    return found


def uncapped(sources: list[str], bounds: dict[str, bool]) -> set[str]:
    """What sources depend on the insides of, and what is not bounded."""
    own = set[str]().union(*map(defined, sources))
    used = set[str]().union(*(uses(source, own) for source in sources))
    used -= {"tiny_audio", *sys.stdlib_module_names}
    names = packages_distributions()
    return {
        package
        for package in used
        if not any(bounds.get(one.lower(), False) for one in names.get(package, [package]))
    }


def test_what_is_subclassed_or_underscored_is_bounded():
    sources = [path.read_text() for path in PACKAGE.rglob("*.py")]
    assert len(sources) > 150
    assert uncapped(sources, bounded()) == set()


@pytest.mark.parametrize(
    "line",
    [
        "class Mine(rich.table.Table): pass",
        "from rich._loop import loop_last",
        "def f(table): return table._measure_column(1)",
    ],
)
def test_what_is_not_bounded_is_found(line):
    assert uncapped([f"import rich\n{line}"], {"rich": False}) & {"rich", "_measure_column"}
