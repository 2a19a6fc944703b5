"""Nothing that transformers loads may bring code along: every call says so."""

import ast
from pathlib import Path

import tiny_audio

PACKAGE = Path(tiny_audio.__file__).parent
LOADERS = ("from_pretrained", "from_config", "pipeline")
# Ours, and PreTrainedConfig's own `from_pretrained`, which never looks for code.
NO_CODE = ("Transcriber", "CtcHead", "TokenHead", "AudioLMConfig")


def calls(path: Path) -> list[tuple[int, str, dict[str, ast.expr]]]:
    """Calls that load something: (line, whose method, keywords)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, keywords = ast.unparse(node.func.value), {k.arg: k.value for k in node.keywords}
            if node.func.attr in LOADERS and owner not in (*NO_CODE, "self"):
                found.append((node.lineno, f"{owner}.{node.func.attr}", keywords))
    return found


def test_every_call_that_loads_through_transformers_refuses_remote_code():
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        for line, name, keywords in calls(path):
            seen += 1
            where = f"{path.relative_to(PACKAGE)}:{line}: {name}"
            assert "trust_remote_code" in keywords, f"{where} lacks trust_remote_code=False"
            assert ast.literal_eval(keywords["trust_remote_code"]) is False, where
    assert seen >= 8
