"""Engines that run shards: processes, a real SLURM and a real Ray of this machine."""

import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import faults
import pytest

from flipjax.config import ConfigError
from flipjax.sweep import __main__ as command
from flipjax.sweep import launchers
from flipjax.sweep.launchers import ShardPlan

SLURM = pathlib.Path(__file__).parents[2] / "sweeps/clusters/one_node_slurm.sh"
FAILING = ("sh", "-c", "echo no such pool; exit 2")
LOOK = 0.05


def test_a_launcher_starts_a_killed_shard_again_and_names_one_that_fails(tmp_path, monkeypatch):
    killed = ("sh", "-c", 'if [ -e "$0" ]; then echo done; else touch "$0"; kill -9 $$; fi', str(tmp_path / "mark"))
    lines = []
    jobs = ShardPlan((killed, FAILING), tmp_path / "logs", {})
    monkeypatch.setattr(launchers, "SECONDS_BETWEEN_LOOKS", LOOK)
    assert launchers.launch("local", jobs, say=lines.append) == {0: 0, 1: 2}
    assert any(line.startswith("shard 0 was ended with 137") for line in lines)
    assert any("shard 1 ended with 2" in line and str(jobs.log(1)) in line and "no such pool" in line for line in lines)


def test_an_option_that_an_engine_lacks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--launcher_option"):
        launchers.launch("local", ShardPlan((FAILING,), tmp_path, {"wings": "1"}), say=print)


@pytest.mark.parametrize("port", ["closed", "too high"])
def test_a_ray_cluster_that_does_not_answer_is_one_sentence(tmp_path, port):
    pytest.importorskip("ray", reason="Ray is not installed (pip install '.[ray]')")
    with socket.socket() as bound:
        # Nothing listens there.
        bound.bind(("127.0.0.1", 0))
        number = bound.getsockname()[1] if port == "closed" else 2**16
        address = f"127.0.0.1:{number}"
        with pytest.raises(ConfigError, match=f"no Ray cluster answers at {address}: ") as refused:
            launchers.launch("ray", ShardPlan((FAILING,), tmp_path, {"address": address}), say=print)
    assert refused.value.field == "--launcher_option" and "\n" not in str(refused.value)


# A suite that runs in the background of a shell script ignores SIGINT, and so would what it starts.
LAUNCH = f"""
import json, pathlib, signal, sys
from flipjax.sweep import launchers
signal.signal(signal.SIGINT, signal.default_int_handler)
launchers.SECONDS_BETWEEN_LOOKS = {LOOK}
engine, logs, commands = sys.argv[1:]
launchers.launch(engine, launchers.ShardPlan(json.loads(commands), pathlib.Path(logs), {{}}), say=print)
"""


def launcher(engine, logs, *commands):
    """The command line of a process that runs commands by an engine."""
    return [sys.executable, "-c", LAUNCH, engine, logs, json.dumps(commands)]


def test_shards_outlive_their_launcher(tmp_path):
    begun, go, done = (tmp_path / f"mark.{name}" for name in ("begun", "go", "done"))
    waiting = 'touch "$0.begun"; until [ -e "$0.go" ]; do sleep 0.02; done; touch "$0.done"'
    job = ("sh", "-c", waiting, str(tmp_path / "mark"))
    with subprocess.Popen(launcher("local", tmp_path / "logs", job)) as process:
        faults.wait_for(begun)
        process.kill()
    go.touch()
    faults.wait_for(done)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_an_interrupted_launcher_leaves_no_shard_behind(tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is not installed (pip install '.[ray]')")
    begun, stopped = (tmp_path / f"mark.{name}" for name in ("begun", "stopped"))
    waiting = 'trap \'touch "$0.stopped"; exit 75\' TERM; touch "$0.begun"; while :; do sleep 0.02; done'
    line = launcher(engine, tmp_path / "logs", ("sh", "-c", waiting, str(tmp_path / "mark")))
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        faults.wait_for(begun)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    # Not "soon": the launcher waits for its shards.
    assert stopped.exists()


def test_an_interrupt_while_a_shard_starts_leaves_none_behind(tmp_path, monkeypatch):
    started = []

    class Interrupted(launchers.Local):
        """Gets Ctrl-C once a process runs, and before anybody holds it."""

        def submit(self, lines):
            for process in super().submit(lines):
                started.append(process)
                signal.raise_signal(signal.SIGINT)
                yield process

    monkeypatch.setitem(launchers.LAUNCHERS, "local", Interrupted)
    # As for `LAUNCH`, the suite may have been started so that it ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            launchers.launch("local", ShardPlan((("sleep", "60"),), tmp_path, {}), say=print)
    finally:
        signal.signal(signal.SIGINT, before)
    (process,) = started
    assert process.poll() is not None


def test_the_last_line_of_a_long_log_is_found_at_its_end(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"first\n" + "\u00e9".encode() * 5000 + b"\nepoch 7\n\n")
    assert launchers._last_line(log) == "epoch 7"


def test_commands_of_shards_are_the_sweeps_own():
    line = ["--config", "x.py", "--launcher=ray", "--shards", "2", "--launcher_option", "gpus=1", "--fail_fast"]
    first, second = launchers.shard_commands(line, 2)
    assert first[3:] == ["-m", "flipjax.sweep", "--config", "x.py", "--fail_fast", "--shard", "0/2"]
    assert second[-1] == "1/2" and first[0] == "env"


def test_the_command_launches_shards_and_collects(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    asked = []

    def trains_all(kind, jobs, *, say):
        asked.append((kind, len(jobs.commands), jobs.logs, jobs.options))
        shutil.copytree(faults.whole_run()[0], folder)

    monkeypatch.setattr(command, "launch", trains_all)
    options = ("--launcher", "ray", "--shards=3", "--launcher_option", "gpus=1")
    code, text = faults.run(folder, *options)
    assert code == 0 and "Flip" in text and asked == [("ray", 3, folder / "logs", {"gpus": "1"})]


def installed_engines():
    engines = ["ray"] if importlib.util.find_spec("ray") else []
    programs = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("slurmctld", "munged")]
    if all(programs) and importlib.util.find_spec("submitit"):
        engines.append("slurm")
    return engines


@contextlib.contextmanager
def slurm_daemons():
    """A SLURM of daemons of its own."""
    # Its sockets want a short path.
    folder = tempfile.mkdtemp(prefix="slurm-", dir="/tmp")
    try:
        subprocess.run(["bash", SLURM, "start", folder], check=True, stdout=subprocess.DEVNULL, timeout=60)
        yield {"SLURM_CONF": f"{folder}/slurm.conf"}
    finally:
        subprocess.run(["bash", SLURM, "stop", folder], timeout=60)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Processes by engine, which launch a shard whose worker is killed and one that fails, side by side; logs below."""
    folder = tmp_path_factory.mktemp("engines")
    killing = 'if [ -e "$0" ]; then echo done; else touch "$0"; kill -9 $PPID; fi'
    engines = installed_engines()
    with contextlib.ExitStack() as stack:
        daemons = stack.enter_context(slurm_daemons()) if "slurm" in engines else {}
        processes = {}
        for engine in engines:
            killed = ("setsid", "sh", "-c", killing, str(folder / f"{engine}.mark"))  # SLURM waits for its group.
            line = launcher(engine, folder / engine, killed, FAILING)
            process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=os.environ | daemons)
            # At the end it is killed, and waited for, also where no test asked for it.
            stack.enter_context(process)
            stack.callback(process.kill)
            processes[engine] = process
        yield processes, folder


@pytest.mark.parametrize("engine", ["slurm", "ray"])
def test_a_real_engine_starts_a_shard_again_whose_worker_was_killed(launched, engine):
    processes, folder = launched
    if engine not in processes:
        pytest.skip(f"{engine} is not installed (apt-get install slurm-wlm munge; pip install '.[slurm,ray]')")
    said = processes[engine].communicate(timeout=900)[0]
    assert "shard 0 ended with 0" in said and "shard 1 ended with 2" in said and "no such pool" in said, said
    assert said.count("shard 0 was ended with 137") == 1
    assert (folder / engine / "shard-0-of-2.log").read_text() == "done\n"
