"""Engines that run shards: processes, submitit, a real SLURM and a real Ray of this machine."""

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

ENGINES = ("submitit_local", "slurm", "ray")
# Two members a shard, as all small runs have in the tests: one program. The rest is what no engine sees.
PLAIN = ("--config.axes.seed=(0, 1)", "--config.intervene.scenes=none", "--config.intervene.scores=none")
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


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch):
    """The name of an engine that runs here."""
    if importlib.util.find_spec("ray" if request.param == "ray" else "submitit") is None:
        pytest.skip(f"the extra of {request.param} is not installed")
    if request.param == "slurm":
        monkeypatch.setenv("SLURM_CONF", request.getfixturevalue("slurm"))
    return request.param


def test_a_launcher_starts_a_killed_shard_again_and_names_one_that_fails(tmp_path):
    command = (
        sys.executable,
        "-c",
        "import os, pathlib, sys; p = pathlib.Path(sys.argv[1]); n = p.exists(); p.touch();",
    )
    killed = (*command[:2], command[2] + " n or os.kill(os.getpid(), 9); print('done')", str(tmp_path / "mark"))
    failing = (*command[:2], "print('no such pool'); raise SystemExit(2)")
    lines = []
    jobs = Jobs((killed, failing), tmp_path / "logs", {})
    assert launch("local", jobs, say=lines.append) == {0: 0, 1: 2}
    assert any(line.startswith("shard 0 was ended with 137") for line in lines)
    assert any("shard 1 ended with 2" in line and str(jobs.log(1)) in line and "no such pool" in line for line in lines)
    with pytest.raises(ConfigError, match="--launcher_option"):
        launch("local", Jobs((killed,), tmp_path, {"gpus": "1"}), say=lines.append)


def test_a_shards_command_is_the_sweeps_own():
    line = ["--config", "x.py", "--launcher=ray", "--shards", "2", "--launcher_option", "gpus=1", "--fail_fast"]
    first, second = shard_commands(line, 2)
    assert first[3:] == ("-m", "flipjax.sweep", "--config", "x.py", "--fail_fast", "--shard", "0/2")
    assert second[-1] == "1/2" and first[:1] == ("env",) and first[1] != second[1]


KILLS_A_PROCESS_ONCE = """
import os, pathlib, threading, time
from flipjax.report import html, page

html.Picture.uri = ""  # As faults.sweep: no trial asks for the report's pictures.
page.save_figures = page.save_gallery = lambda *_, **__: None

def kill():
    while not list(pathlib.Path({run!r}).glob("checkpoints/*/1/record.json")):
        time.sleep(0.01)
    try:
        pathlib.Path({mark!r}).touch(exist_ok=False)
    except FileExistsError:
        return
    process = os.getpid()
    while {worker} and (process == os.getpid() or pathlib.Path(f"/proc/{{process}}/comm").read_text() == "sh\\n"):
        process = int(pathlib.Path(f"/proc/{{process}}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(process, 9)

if "FLIPJAX_SHARD_JOB" in os.environ:
    threading.Thread(target=kill, daemon=True).start()
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The bytes of results.csv of one process."""
    place = tmp_path_factory.mktemp("whole")
    (place / "tiny.py").write_text(faults.CONFIG)
    code, text = faults.sweep("--config", place / "tiny.py", "--workdir", place / "run", *PLAIN)
    assert code == 0, text
    return (place / "run/results.csv").read_bytes()


def sweep_command(tmp_path, launcher, *, worker):
    """The command of a launcher whose shard, or the engine's worker that runs it, is killed once."""
    kill = KILLS_A_PROCESS_ONCE.format(run=str(tmp_path / "run"), mark=str(tmp_path / "mark"), worker=worker)
    (tmp_path / "tiny.py").write_text(faults.CONFIG + kill)
    command = [sys.executable, "-m", "flipjax.sweep", "--config", tmp_path / "tiny.py", "--workdir", tmp_path / "run"]
    return [*command, *PLAIN, "--launcher", launcher]


def test_a_real_engine_whose_worker_is_killed_gives_the_bytes_of_one_process(engine, expected, tmp_path):
    command = sweep_command(tmp_path, engine, worker=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "was ended with 137" in done.stderr or engine == "ray"  # Ray starts it again itself.
    assert (tmp_path / "mark").exists() and (tmp_path / "run/results.csv").read_bytes() == expected


def test_shards_outlive_their_launcher_and_the_next_one_waits_for_them(expected, tmp_path):
    command = sweep_command(tmp_path, "local", worker=False)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
        while not (tmp_path / "mark").exists():
            assert launcher.poll() is None
            time.sleep(0.01)
        launcher.kill()
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/results.csv").read_bytes() == expected
    assert not list((tmp_path / "run").glob(".lock*"))
