"""The page about licences names every package whose licence asks for more than a notice."""

import re
from importlib.metadata import distributions

import toys

PAGE = toys.REPOSITORY / "docs" / "explanation" / "licences.md"
ASKS_FOR_MORE = re.compile(r"GPL|MPL|Mozilla|NVIDIA|Proprietary|EULA|SSPL|Commons-Clause", re.I)


def licence_of(distribution) -> str:
    """What a package says: an SPDX expression, the first line of a text, or classifiers."""
    about = distribution.metadata
    kinds = [c for c in about.get_all("Classifier") or [] if c.startswith("License ::")]
    said = about.get("License-Expression") or (about.get("License") or "").split("\n")[0]
    return " ".join([said, *kinds])


def test_every_package_with_such_a_licence_is_named():
    page = PAGE.read_text()
    found = {one.metadata["Name"]: licence_of(one) for one in distributions()}
    asks = {name for name, said in found.items() if ASKS_FOR_MORE.search(said)}
    assert "soxr" in asks  # the metadata are read
    missing = {n for n in asks if f"`{n}`" not in page and not n.startswith("nvidia-")}
    assert not missing, {name: found[name] for name in missing}
