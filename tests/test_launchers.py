"""Engines that run shards: processes, a real SLURM and a real Ray of this machine."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import faults
import pytest

from flipjax.config import ConfigError
from flipjax.sweep.launchers import Jobs, launch, shard_commands

SLURM = pathlib.Path(__file__).parents[1] / "sweeps/clusters/one_node_slurm.sh"


@pytest.fixture(scope="module")
def slurm():
    """A SLURM of this machine alone, whose daemons end with the module; its SLURM_CONF."""
    if not all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("slurmctld", "munged")):
        pytest.skip("no SLURM: apt-get install slurm-wlm munge")
    # Its sockets want a short path.
    folder = tempfile.mkdtemp(prefix="slurm-", dir="/tmp")
    try:
        subprocess.run(["bash", SLURM, "start", folder], check=True, stdout=subprocess.DEVNULL, timeout=60)
        yield f"{folder}/slurm.conf"
    finally:
        subprocess.run(["bash", SLURM, "stop", folder], timeout=60)
        shutil.rmtree(folder)


@pytest.fixture
def engine(request, monkeypatch):
    """The name of an engine that runs here."""
    if request.param != "local" and importlib.util.find_spec({"slurm": "submitit"}.get(request.param, "ray")) is None:
        pytest.skip(f"the extra {request.param} is not installed")
    if request.param == "slurm":
        monkeypatch.setenv("SLURM_CONF", request.getfixturevalue("slurm"))
    return request.param


@pytest.mark.parametrize("engine", ["local", "slurm"], indirect=True)
def test_a_launcher_starts_a_killed_shard_again_and_names_one_that_fails(engine, tmp_path):
    killed = ("sh", "-c", 'if [ -e "$0" ]; then echo done; else touch "$0"; kill -9 $$; fi', str(tmp_path / "mark"))
    failing = ("sh", "-c", "echo no such pool; exit 2")
    lines = []
    jobs = Jobs((killed, failing), tmp_path / "logs", {})
    assert launch(engine, jobs, say=lines.append) == {0: 0, 1: 2}
    assert any(line.startswith("shard 0 was ended with 137") for line in lines)
    assert any("shard 1 ended with 2" in line and str(jobs.log(1)) in line and "no such pool" in line for line in lines)
    with pytest.raises(ConfigError, match="--launcher_option"):
        launch(engine, Jobs((killed,), tmp_path, {"wings": "1"}), say=lines.append)


LAUNCH = """
import pathlib, sys
from flipjax.sweep.launchers import Jobs, launch
command = ("sh", "-c", 'touch "$0.begun"; sleep 1; touch "$0.done"', sys.argv[1])
launch("local", Jobs((command,), pathlib.Path(sys.argv[1] + ".logs"), {}), say=print)
"""


def test_shards_outlive_their_launcher(tmp_path):
    begun, done = (tmp_path / f"mark.{name}" for name in ("begun", "done"))
    with subprocess.Popen([sys.executable, "-c", LAUNCH, str(tmp_path / "mark")]) as launcher:
        wait_for(begun)
        launcher.kill()
    assert not done.exists()
    wait_for(done)


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_shards_command_is_the_sweeps_own():
    line = ["--config", "x.py", "--launcher=ray", "--shards", "2", "--launcher_option", "gpus=1", "--fail_fast"]
    first, second = shard_commands(line, 2)
    assert first[3:] == ("-m", "flipjax.sweep", "--config", "x.py", "--fail_fast", "--shard", "0/2")
    assert second[-1] == "1/2" and first[:1] == ("env",) and first[1] != second[1]


KILLS_A_PROCESS_ONCE = """
import os, pathlib, threading, time
from flipjax.report import html, page

html.draw_chart = lambda chart: {{"svg": b""}}  # As faults.sweep: no trial asks for the report's pictures.
page.save_gallery = lambda *_: None

def kill():
    while not list(pathlib.Path({run!r}).glob("checkpoints/*/1/record.json")):
        time.sleep(0.01)
    try:
        pathlib.Path({mark!r}).touch(exist_ok=False)
    except FileExistsError:
        return
    process = os.getpid()
    while (process == os.getpid() or pathlib.Path(f"/proc/{{process}}/comm").read_text() == "sh\\n"):
        process = int(pathlib.Path(f"/proc/{{process}}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(process, 9)

if "FLIPJAX_SHARD_JOB" in os.environ:
    threading.Thread(target=kill, daemon=True).start()
"""


@pytest.mark.parametrize("engine", ["slurm", "ray"], indirect=True)
def test_a_real_engine_whose_worker_is_killed_gives_the_bytes_of_one_process(engine, tmp_path):
    whole, _ = faults.whole_run()
    kill = KILLS_A_PROCESS_ONCE.format(run=str(tmp_path / "run"), mark=str(tmp_path / "mark"))
    (tmp_path / "tiny.py").write_text(faults.CONFIG + kill)
    command = [sys.executable, "-m", "flipjax.sweep", "--config", tmp_path / "tiny.py", "--workdir", tmp_path / "run"]
    # One shard has two members, as all small runs have in the tests: one program.
    line = [*command, "--launcher", engine, "--shards=1"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "was ended with 137" in done.stderr or engine == "ray"  # Ray starts it again itself.
    assert (tmp_path / "mark").exists() and not list((tmp_path / "run").glob(".lock*"))
    assert (tmp_path / "run/results.csv").read_bytes() == (whole / "results.csv").read_bytes()
