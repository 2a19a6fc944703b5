"""The folder is the path: a file of `model/` imports only files above it, and nothing leaks in."""

import ast
import re
import sys
from pathlib import Path

import pytest

import tiny_audio

MODEL = Path(tiny_audio.__file__).parent / "model"
TRAIN = MODEL.parent / "train"


def order_of(folder: Path) -> list[str]:
    """From top to bottom, as a reader walks them: the table in the folder's own docstring."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()), clean=False)
    return re.findall(r"^    ([a-z0-9_]+)  ", text, re.M)


PATH = order_of(MODEL)
THIRD_PARTY = {
    "numpy",
    "jinja2",
    "torch",
    "transformers",
    "tokenizers",  # comes with transformers
    "safetensors",
    "soundfile",
    "soxr",
    "huggingface_hub",  # comes with transformers
    "gguf",  # extra [gguf], imported where it is used
    "av",  # extra [media], imported where it is used
    "peft",  # extra [lora], imported where it is used
}
LAZY = {"av", "gguf", "peft"}


def imports(path: Path) -> list[tuple[ast.stmt, int, str]]:
    """Every import statement: (node, level of dots, module)."""
    found: list[tuple[ast.stmt, int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node, 0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node, node.level, node.module or ""))
    return found


def test_the_path_lists_every_file_of_the_folder():
    files = {path.stem for path in MODEL.rglob("*.py") if path.stem != "__init__"}
    assert files == set(PATH)
    assert PATH[0] == "errors"
    assert not [path for path in MODEL.iterdir() if path.is_dir() and path.name != "__pycache__"]


@pytest.mark.parametrize("name", PATH)
def test_a_file_imports_only_files_above_it_and_listed_libraries(name):
    above = PATH[: PATH.index(name)]
    for _, level, module in imports(MODEL / f"{name}.py"):
        top = module.split(".")[0]
        if level:
            assert level == 1, f"{name}.py reaches outside of model/ ({'.' * level}{module})"
            assert module in above, f"{name}.py imports {module!r}, which does not stand above it"
        else:  # of the package itself it names siblings only
            assert top in THIRD_PARTY | sys.stdlib_module_names, f"{name}.py imports {module}"


@pytest.mark.parametrize("name", PATH)
def test_optional_libraries_are_imported_where_they_are_used(name):
    tree = ast.parse((MODEL / f"{name}.py").read_text())
    at_the_top = {
        module.split(".")[0]
        for node, _, module in imports(MODEL / f"{name}.py")
        if node in tree.body
    }
    assert not at_the_top & LAZY


def test_presets_import_only_the_path():
    for path in (MODEL.parent / "presets").rglob("*.py"):
        for _, level, module in imports(path):
            if module.startswith("tiny_audio"):
                assert module.startswith(("tiny_audio.model", "tiny_audio.presets")), path
            assert level <= 1, path


def test_the_package_knows_neither_the_recipes_nor_the_data_beside_the_repository():
    for path in MODEL.parent.rglob("*.py"):
        assert not [m for _, _, m in imports(path) if m.split(".")[0] == "recipes"], path
        assert not re.search(r'shared"? ?/ ?"?data', path.read_text()), path


def test_training_is_read_from_top_to_bottom():
    order = order_of(TRAIN)
    assert sorted(order) == sorted(p.stem for p in TRAIN.glob("*.py") if p.stem != "__init__")
    for number, name in enumerate(order):
        for node, _, module in imports(TRAIN / f"{name}.py"):
            if module.startswith("tiny_audio.train."):
                assert module.split(".")[2] in order[:number], (name, module)
            elif module == "tiny_audio.train":
                assert {alias.name for alias in node.names} <= {*order[:number]}, name
