"""How many cores a process counts: its affinity, and the limits of a container."""

import math
import os
import shutil
import subprocess
import sys

import pytest

from flipjax.backend.start import programs_folder
from flipjax.support.threads import cores, cores_of_affinity, cores_of_groups

COUNT = """
import jax

import flipjax
from flipjax.support.threads import cores

flipjax.setup()
print(cores(), len(jax.devices("cpu")))
"""


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is no command here")
def test_a_process_on_one_core_has_one_device():
    core = min(os.sched_getaffinity(0))
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    line = ["taskset", "-c", str(core), sys.executable, "-c", COUNT]
    found = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "1"]


def test_a_count_is_at_least_one_and_within_the_affinity():
    assert 1 <= cores() <= (os.cpu_count() or 1)


GROUPS = {
    "version 2": ("0::/job\n", {"job/cpu.max": "150000 100000"}, 2),
    "version 2, no limit": ("0::/job\n", {"job/cpu.max": "max 100000", "cpu.max": "max 100000"}, math.inf),
    "a container": ("0::/\n", {"cpu.max": "50000 100000"}, 1),
    "a group below a limited one": ("0::/user/job\n", {"user/cpu.max": "300000 100000"}, 3),
    "version 1": (
        "3:memory:/a\n2:cpu,cpuacct:/a\n",
        {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"},
        4,
    ),
    "version 1, no limit": (
        "2:cpu,cpuacct:/\n",
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        math.inf,
    ),
    "no files": ("0::/\n", {}, math.inf),
}


@pytest.mark.parametrize(("membership", "files", "limit"), GROUPS.values(), ids=GROUPS)
def test_limits_of_control_groups_are_read(tmp_path, membership, files, limit):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{text}\n")
    assert cores_of_groups(tmp_path / "groups", tmp_path / "membership") == limit


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path):
    assert cores_of_groups(tmp_path, tmp_path / "absent") == math.inf


@pytest.mark.parametrize(("count", "folder"), [("1", "xla-1-threads"), ("3", "xla-3-threads")])
def test_programs_of_another_number_of_threads_lie_apart(monkeypatch, count, folder):
    monkeypatch.setenv("NPROC", count)
    assert programs_folder().name == folder


def test_without_nproc_programs_are_of_the_cores_of_the_affinity(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    assert programs_folder().name == f"xla-{cores_of_affinity()}-threads"
