"""Chat templates under a limit: their authors are strangers, and a template is a program.

A template that only goes through the messages once is rendered here. Any other, with macros,
variables, filters or calls, is rendered in a process of its own, which has an end in time and
memory. What such a process made of a conversation's roles is kept; the messages' texts are put in
later (`prompt.py`).
"""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import PromptError
from .template_worker import CPU_S, MOST_BYTES, environment

MOST_TEMPLATE = 250_000  # characters; long ones have 20,000
WAIT_S = 60.0  # for a machine that is busy; computing has its own limit
# What a template may consist of that is no longer than its text and its messages.
PLAIN = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Const,
    nodes.Name,
    nodes.Getattr,
    nodes.Getitem,
    nodes.If,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Add,
    nodes.Test,
)
HARMLESS_FILTERS = ("trim",)


def render_template(template: str, values: dict[str, Any]) -> str:
    """Render a chat template for messages and variables; `PromptError` if it fails."""
    if len(template) > MOST_TEMPLATE:
        raise PromptError(
            f"The chat template has {len(template):,} characters; at most {MOST_TEMPLATE:,} are "
            f"rendered."
        )
    try:
        if is_plain(template):
            return str(_compiled(template).render(**values))
        text, failure = _in_a_process(template, json.dumps(values))
    except (TemplateError, RecursionError, TypeError, ValueError) as error:
        raise PromptError(f"The chat template fails ({error}). Set prompt.template.") from error
    if failure:
        raise PromptError(f"The chat template fails ({failure}). Set prompt.template.")
    return text


@functools.lru_cache(maxsize=64)
def is_plain(template: str) -> bool:
    """Say whether rendering cannot take longer than reading the messages once."""
    return _is_plain(_parser().parse(template), within_loop=False)


def _is_plain(node: nodes.Node, within_loop: bool) -> bool:
    if isinstance(node, nodes.For):
        over = node.iter.node if isinstance(node.iter, nodes.Getitem) else node.iter
        once = isinstance(over, nodes.Name) and over.name == "messages" and not within_loop
        if not once or node.recursive or node.test is not None:
            return False
        within_loop = True
    elif isinstance(node, nodes.Filter):
        if node.name not in HARMLESS_FILTERS or node.args or node.kwargs:
            return False
    elif isinstance(node, nodes.Slice):
        pass
    elif not isinstance(node, PLAIN):
        return False
    return all(_is_plain(child, within_loop) for child in node.iter_child_nodes())


@functools.cache
def _parser() -> ImmutableSandboxedEnvironment:
    return environment()


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    return _parser().from_string(template)


@functools.lru_cache(maxsize=256)
def _in_a_process(template: str, values: str) -> tuple[str, str]:
    """Return the text and what went wrong, one of them empty."""
    worker = Path(__file__).with_name("template_worker.py")
    command = [sys.executable, "-I", str(worker), str(Path(jinja2.__file__).parents[1])]
    try:
        done = subprocess.run(
            command, input=json.dumps([template, values]).encode(), capture_output=True,
            timeout=WAIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", f"it does not end within {WAIT_S:g} s"
    if done.returncode:
        return "", f"it takes more than {CPU_S} s or {MOST_BYTES // 10**6} MB"
    text, failure = json.loads(done.stdout)
    return text, failure
