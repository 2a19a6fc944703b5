"""Write docs/reference/licences.md: every library that an installation brings, and its licence.

    uv run python .ci/licences.py

Names and versions are those of uv.lock, licences those that each installed library states.
"""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"
US = "tiny-audio"
HEAD = """# Licences of what is installed

Tiny Audio itself is under the MIT licence. An installation brings these libraries; versions are
those of `uv.lock`, the licence is what each library's own package says. "Not installed here" means
that the machine on which this page was made does not have it, as with libraries for another
system. Written by `uv run python .ci/licences.py`.

Two matter to who passes on an installation: the wheel of `av` (extra `media`) holds FFmpeg with GPL
parts, and CUDA's libraries come with NVIDIA's own terms. Weights and clips have licences of their
own: see the models' cards. `uv export --format cyclonedx1.5` writes the same list for machines.
"""


def locked() -> dict[str, dict]:
    """The packages of uv.lock by name."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return {package["name"]: package for package in packages}


def needed(packages: dict[str, dict], wanted: list[dict]) -> set[str]:
    """Names of all that these dependencies bring, however far."""
    found, waiting = set[str](), list(wanted)
    while waiting:
        one = waiting.pop()
        package = packages[one["name"]]
        extras = package.get("optional-dependencies", {})
        waiting += [d for extra in one.get("extra", ()) for d in extras.get(extra, ())]
        if one["name"] not in found:
            found.add(one["name"])
            waiting += package.get("dependencies", [])
    return found


def licence(name: str) -> str:
    """What an installed library says of itself, in a line."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return "not installed here"
    classified = [c.split(" :: ")[-1] for c in told.get_all("Classifier", []) if "License ::" in c]
    stated = told.get("License-Expression") or "; ".join(classified) or told.get("License") or ""
    line = re.sub(r"\s+", " ", stated.strip().splitlines()[0] if stated.strip() else "")
    return line[:80] or "not stated in its package"


def page() -> str:
    packages = locked()
    ours = packages[US]
    groups = {"core": ours["dependencies"], **ours["optional-dependencies"]}
    core = needed(packages, groups["core"])
    parts = [HEAD]
    for name, wanted in groups.items():
        found = needed(packages, wanted) - (set() if name == "core" else core)
        title = "Always" if name == "core" else f"With `[{name}]`, besides"
        rows = [f"| {n} | {packages[n].get('version', '')} | {licence(n)} |" for n in sorted(found)]
        parts.append(
            "\n".join([f"## {title}\n", "| library | version | licence |", "|---|---|---|", *rows])
        )
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stderr.write(f"{PAGE}\n")
