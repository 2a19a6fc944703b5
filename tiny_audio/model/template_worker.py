"""A process that renders one chat template, with an end in time and memory.

`python template_worker.py SITE_PACKAGES` reads [template, variables] as JSON and writes [text, what
went wrong]. It imports Jinja and nothing else of ours, so that it starts in a tenth of a second.
"""

import json
import sys
from datetime import datetime
from typing import Any

CPU_S, MOST_BYTES, MOST_TEXT = 3, 200 * 10**6, 1_000_000


def environment() -> Any:
    """Make Jinja as chat templates expect it, with the names that transformers adds."""
    from jinja2 import Undefined, nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant wrote; here that is shown as it is."""

        tags = {"generation"}  # noqa: RUF012 — as Jinja declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    def raise_exception(message: Any) -> None:
        raise TemplateError(str(message))

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        if isinstance(value, Undefined):
            raise TemplateError("tojson of a variable that does not exist")
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def confine() -> None:
    """Set limits of this process; where the system knows none, the parent's clock is left."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))


def main() -> None:
    """Render what stdin asks for."""
    confine()
    sys.path.append(sys.argv[1])
    template, values = json.load(sys.stdin.buffer)
    try:
        text, failure = str(environment().from_string(template).render(**json.loads(values))), ""
    except MemoryError:
        sys.exit(1)
    except Exception as error:  # whatever a template does wrong
        text, failure = "", f"{type(error).__name__}: {error}"[:300]
    if len(text) > MOST_TEXT:
        text, failure = "", f"it writes {len(text):,} characters"
    json.dump([text, failure], sys.stdout)


if __name__ == "__main__":
    main()
