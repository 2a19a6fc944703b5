"""One version number, in the two places that need it."""

import tomllib

import toys

from tiny_audio import __version__


def test_the_package_and_its_description_have_one_version():
    project = tomllib.loads((toys.REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    ours = next(
        one
        for one in tomllib.loads((toys.REPOSITORY / "uv.lock").read_text())["package"]
        if one["name"] == "tiny-audio"
    )
    assert ours["version"] == __version__
