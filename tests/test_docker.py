"""The container files start commands that exist, with options that exist, on this machine only."""

import json
import re

import toys
import yaml
from typer.main import get_command

from tiny_audio.cli import app

FOLDER = toys.REPOSITORY / "docker"


def starts():
    """Every command line of the images and of compose.yaml."""
    for path in sorted(FOLDER.glob("*.Dockerfile")):
        yield json.loads(re.search(r"^CMD (\[.*\])$", path.read_text(), re.M)[1])
    for service in yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].values():
        if "command" in service:
            yield service["command"]


def test_every_command_and_option_exists():
    known, found = get_command(app).commands, list(starts())
    assert [words[0] for words in found] == ["serve", "serve", "demo"]
    for name, *words in found:
        options = {one for p in known[name].params for one in p.opts}
        assert {w for w in words if w.startswith("--")} <= options
        assert "--token-file" in words


def test_ports_are_open_to_this_machine_only():
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service["ports"]]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    targets = [
        t.split(":")[0] for job in scraped for s in job["static_configs"] for t in s["targets"]
    ]
    assert set(targets) <= set(services)
