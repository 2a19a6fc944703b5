"""The package speaks the field's words, and its docstrings begin with sentences."""

import ast
import re
from pathlib import Path

import tiny_audio

PACKAGE = Path(tiny_audio.__file__).parent
# What a docstring must not begin with: words that refer to something before them, or to nothing.
ELLIPTIC = re.compile(
    r"(?:Of|In|By|To|At|Whether|Where|Whose|Whom|Who|As|For|From|Those|Not|It|They|That|This|What"
    r"|While|Whatever|Whoever|Between|Before|After|Here|There|So|More|Also|And|Or)\b(?! :)"
)
# Sentences that begin so and are whole.
WHOLE = ("So many", "There is", "These clips")


def trees():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE), ast.parse(path.read_text())


def docstrings():
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield f"{path}:{getattr(node, 'name', 'module')}", text.split("\n\n")[0]


def names():
    for path, tree in trees():
        for node in ast.walk(tree):
            for name in (
                getattr(node, "id", None),
                getattr(node, "attr", None),
                getattr(node, "name", None),
                getattr(node, "arg", None),
            ):
                if isinstance(name, str):
                    yield str(path), name


def test_no_name_is_of_the_private_vocabulary():
    private = [
        (where, name)
        for where, name in names()
        if re.fullmatch("_?([Hh]eard|hear|told|said)", name)
    ]
    assert not private


def test_docstrings_begin_with_a_sentence_that_stands_alone():
    found = list(docstrings())
    assert len(found) > 1_000
    odd = [f"{w}: {t}" for w, t in found if ELLIPTIC.match(t) and not t.startswith(WHOLE)]
    odd = [one for one in odd if not re.search(r": (What|For|To) .*\?", one)]
    assert not odd, "\n".join(odd)


def test_docstrings_end_their_first_paragraph():
    assert not [f"{where}: {text}" for where, text in docstrings() if text[-1] not in ".:?)`]…"]
