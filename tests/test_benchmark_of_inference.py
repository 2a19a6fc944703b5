"""`benchmarks/inference.py` runs, and its ways write the same."""

import json
import os
import subprocess

import pytest
import toys

SCRIPT = toys.REPOSITORY / "benchmarks" / "inference.py"


@pytest.mark.long
def test_a_quick_run_is_complete(tmp_path, python):
    command = [python, str(SCRIPT), "--quick", "--out", str(tmp_path)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, env=environment, capture_output=True, check=True)
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["quick"]
    assert set(found["variants"]) == {"float32", "bfloat16", "int8"}
    assert all(row["same_tokens_as_last"] for row in found["mixed"]["rows"].values())
    assert all(row["wall_s"] > 0 for row in found["short"]["rows"].values())
    assert all(row["clips_per_s"] > 0 for row in found["variants"].values())
    assert len(found["goals"]) == 4
