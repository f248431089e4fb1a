"""The measurement of a card runs on any machine, and writes what it has when its time is over."""

import csv
import pathlib
import runpy
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "sweeps/benchmarks/throughput/gpu.py"


@pytest.mark.skipif(not SCRIPT.exists(), reason="sweeps/ is not in a source distribution")
def test_what_was_measured_in_time_is_written(tmp_path, monkeypatch):
    out = tmp_path / "gpu.csv"
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--minutes", "0.02", "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows[:2]] == ["decompose", "read"]
    assert all(float(row["seconds"]) > 0 for row in rows)
