"""Chat templates: the same text as transformers renders, and an end in time and memory."""

import pytest
import toys

from tiny_audio.model.errors import PromptError
from tiny_audio.model.prompt import CHATML, FROZEN_DATE
from tiny_audio.model.template import is_plain, render_template

MESSAGES = [{"role": "user", "content": " a "}, {"role": "assistant", "content": "b"}]
ROLES = (
    "{% macro show(m) %}[{{ m.role | upper }}] {{ m.content | trim }}\n{% endmacro %}"
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ show(m) }}"
    "{% if ns.n > 3 %}{% break %}{% endif %}{% endfor %}{{ ns.n }} {{ messages | tojson }}"
    "{% generation %}{{ eos_token }}{% endgeneration %}"
)
TEMPLATES = [*toys.TEMPLATES.values(), CHATML, ROLES]


def values(family="qwen3", generate=True):
    return {
        **toys.tokenizer(family).special_tokens_map,
        "messages": MESSAGES,
        "tools": None,
        "documents": None,
        "add_generation_prompt": generate,
        "enable_thinking": False,
    }


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_gives_what_transformers_renders(template):
    if "strftime_now" in template:
        template = FROZEN_DATE + template
    for generate in (True, False):
        expected = toys.tokenizer("qwen3").apply_chat_template(
            MESSAGES,
            tokenize=False,
            add_generation_prompt=generate,
            chat_template=template,
            enable_thinking=False,
        )
        assert render_template(template, values(generate=generate)) == expected


def test_what_ships_needs_no_process():
    plain = [is_plain(template) for template in TEMPLATES]
    assert plain == [True, False, True, True, False]


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 3 }}",
        "{{ messages | join }}",
        "{% for m in messages %}{% for n in messages %}{{ n }}{% endfor %}{% endfor %}",
        "{% for m in range(3) %}{% endfor %}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{% set a = 'b' %}{{ a ~ a }}",
        "{{ messages[0].content.ljust(3) }}",
        "{{ '%9d' % 1 }}",
    ],
)
def test_what_could_take_long_is_not_rendered_here(template):
    assert not is_plain(template)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ 'a' * 10**10 }}", "takes more than"),
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for m in messages %}", "end of template"),
        ("{{ " + "(" * 100_000, "recursion"),
        ("a" * 300_000, "300,000 characters"),
        ("{{ 'a' * 2000000 }}", "writes 2,000,000 characters"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_a_sentence(template, why):
    with pytest.raises(PromptError, match=f"(?i){why}"):
        render_template(template, values())


@pytest.mark.slow
def test_endless_loops_end():
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(PromptError, match="more than 3 s"):
        render_template(loops, values())
