"""On Ray as in one process, also when a machine of two is lost. Needs the extra `ray`:

uv run --extra ray pytest tests/scale/test_ray.py -n0 -m slow
"""

import json
import socket
import threading

import pytest
import soundfile
import toys

from tiny_audio.infer.transcriber import PLAIN, Transcriber
from tiny_audio.model.saving import save
from tiny_audio.presets import load
from tiny_audio.scale.raydata import Cluster, lines
from tiny_audio.scale.shards import ALL, REPORT, TEXTS, Shard, Work, transcribed

pytestmark = pytest.mark.slow
NUM = 160


def ports():
    """Free ports for the agents of one machine. Left to themselves they have fifteen seconds to
    name them, which is too little on a machine that does other things.
    """
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port")
    sockets = {name: socket.socket() for name in (*names, "dashboard_agent_listen_port")}
    for one in sockets.values():
        one.bind(("", 0))
    found = {name: one.getsockname()[1] for name, one in sockets.items()}
    for one in sockets.values():
        one.close()
    return found


@pytest.fixture
def machines():
    """A cluster of a head without work and two machines that compute, all on this one."""
    ray = pytest.importorskip("ray", reason="needs: pip install 'tiny-audio[ray]'")
    from ray.cluster_utils import Cluster as Machines

    head = {"num_cpus": 0, "include_dashboard": False, **ports()}
    made = Machines(initialize_head=True, head_node_args=head)
    nodes = [made.add_node(num_cpus=2, **ports()) for _ in range(2)]
    ray.init(address=made.address, log_to_driver=False)
    yield made, nodes
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def manifest(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    clips = toys.clips(*(3_000 + 37 * n for n in range(NUM)))
    for number, clip in enumerate(clips):
        soundfile.write(folder / f"{number}.flac", clip.numpy().clip(-1, 1), 16_000)
    names = [f"{n}.flac" for n in range(NUM)] + ["lost.flac"]
    rows = [{"audio": name, "id": name} for name in names]
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def whole(folder):
    return {name: (folder / name).read_bytes() for name in (ALL, REPORT)}


def test_a_lost_machine_loses_and_doubles_nothing(machines, manifest, tmp_path):
    cluster, nodes = machines
    model = str(save(toys.toy_preset("nano").build(), tmp_path / "model", whole=True))
    single = Work(manifest, tmp_path / "single", model, PLAIN)
    own = transcribed(single.waiting(Shard()), Transcriber(load(model)), PLAIN)
    single.write("1-of-1", own, lambda line: None)
    single.report()

    work = Work(manifest, tmp_path / "ray", model, PLAIN)
    lost, told = threading.Event(), []

    def tell(line):
        told.append(line["id"])
        if len(told) == 1:
            cluster.remove_node(nodes[0], allow_graceful=False)
            lost.set()

    made = lines(work, manifest, work.waiting(Shard()), "cpu", Cluster(workers=2))
    work.write("ray", made, tell)
    work.report()
    assert lost.is_set()
    assert whole(tmp_path / "ray") == whole(tmp_path / "single")
    written = (tmp_path / "ray" / "ray" / TEXTS).read_text().splitlines()
    assert len(written) == len(told) == NUM + 1
    assert work.waiting(Shard()) == []
