"""The measurement of a card runs on any machine, and writes what it has when its time is over."""

import csv
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "sweeps/benchmarks/throughput/gpu.py"


@pytest.mark.skipif(not SCRIPT.exists(), reason="sweeps/ is not in a source distribution")
def test_what_was_measured_in_time_is_written(tmp_path):
    out = tmp_path / "gpu.csv"
    options = ["--device", "cpu", "--tiny", "--minutes", "0.05", "--out", str(out)]
    subprocess.run([sys.executable, str(SCRIPT), *options], check=True, capture_output=True)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows[:2]] == ["decompose", "read"]
    assert all(float(row["seconds"]) > 0 for row in rows)
