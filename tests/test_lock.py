"""Who has a run folder: processes of this machine, of other containers and hosts, shards, and nobody."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys

import pytest

from flipjax.config import ConfigError, default_config
from flipjax.plan import plan, shard_members
from flipjax.sweep import lock as locks
from flipjax.sweep.lock import Lock, read_shard

HOLD = """
import sys, pathlib
from flipjax.sweep.lock import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
lock.acquire()
print(lock._text, flush=True)
input()
print(lock.owned())
"""


@contextlib.contextmanager
def hold(folder, *before):
    """A process that has the folder's lock, and what it says of itself."""
    line = [*before, sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process, json.loads(process.stdout.readline())
        process.kill()


def write(folder, owner):
    (folder / ".lock").touch()
    (folder / ".lock.owner").write_text(owner if isinstance(owner, str) else json.dumps(owner))


@pytest.mark.parametrize("text", ["", "[" * 10**5, "[]", '{"pid": 5}', '{"pid": -1, "since": "y"}'])
def test_a_lock_that_nobody_has_is_taken_whatever_it_says(tmp_path, text):
    write(tmp_path, text)
    lock = Lock(tmp_path)
    lock.acquire()
    assert lock.owned()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_process_is_refused_by_name_until_it_ends_and_loses_a_lock_that_is_forced(tmp_path):
    with hold(tmp_path) as (process, owner):
        who = f"in use by process {process.pid} on {owner['host']} since {owner['since']}"
        with pytest.raises(ConfigError, match=who):
            Lock(tmp_path).acquire()
        lock = Lock(tmp_path)
        lock.acquire(force=True)
        assert lock.owned() and process.communicate("\n")[0] == "False\n"
        lock.release()
    with hold(tmp_path):
        pass
    assert (tmp_path / ".lock").exists()
    Lock(tmp_path).acquire()


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare")
def test_processes_of_two_containers_of_one_host_name_exclude_each_other(tmp_path):
    before = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("no right to make a pid namespace")
    with hold(tmp_path, *before) as (process, owner):
        assert owner["pid"] < 100 and owner["namespace"] != locks._myself()["namespace"]
        with pytest.raises(ConfigError, match="in use by process"):
            Lock(tmp_path).acquire()
        process.communicate("\n")


def test_a_lock_of_another_machine_is_refused_but_for_the_same_job_started_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(locks.SHARD_JOB, "a-0")
    here = locks._myself()
    there = here | {"host": "elsewhere", "boot": "another", "shard_job": ""}
    monkeypatch.delenv(locks.SHARD_JOB)
    for owner in (there, there | {"shard_job": "b-0"}):
        write(tmp_path, owner)
        with pytest.raises(ConfigError, match="on elsewhere since"):
            Lock(tmp_path).acquire()
    Lock(tmp_path).acquire(force=True)
    monkeypatch.setenv(locks.SHARD_JOB, "a-0")
    for owner in (there | {"restarts": "1"}, there | {"shard_job": "a-0"}, there | {"boot": here.get("boot")}):
        write(tmp_path, owner)
        Lock(tmp_path).acquire()


def test_a_shard_that_its_launcher_starts_again_ends_the_first_one(tmp_path, monkeypatch):
    monkeypatch.setenv(locks.SHARD_JOB, "a-0")
    with hold(tmp_path) as (process, _):
        Lock(tmp_path).acquire()
        assert process.wait(timeout=10) == -signal.SIGKILL


def test_locks_of_shards_exclude_the_whole_run_and_not_each_other(tmp_path):
    first, second = (Lock(tmp_path, name=f"-of-2-{index}") for index in range(2))
    first.acquire()
    second.acquire()
    for other in (Lock(tmp_path), Lock(tmp_path, name="-of-3-0")):
        with pytest.raises(ConfigError, match="in use by process"):
            other.acquire()
    second.release()
    first.release()
    whole = Lock(tmp_path)
    whole.acquire()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".lock.owner"}


def test_shards_partition_members_whatever_the_grid_order():
    config = default_config()
    config.axes.seed = tuple(range(5))
    programs = plan(config)
    names = [shard_members(programs, index=index, count=3) for index in range(3)]
    assert sorted(name for shard in names for name in shard) == [f"m{index:03d}" for index in range(10)]
    assert sorted(map(len, names)) == [3, 3, 4]
    chosen = {tuple(s.axes.items()) for s in programs[0].settings if s.name in names[0]}
    config.axes.seed = tuple(reversed(range(5)))
    again = plan(config)
    members = shard_members(again, index=0, count=3)
    assert {tuple(s.axes.items()) for s in again[0].settings if s.name in members} == chosen


def test_what_a_job_says_of_its_shard(monkeypatch):
    assert read_shard("0/3") == read_shard("3/3") == (0, 3)
    for text in ("4/3", "1", "a/b", "0/0", "auto"):
        with pytest.raises(ConfigError, match="--shard"):
            read_shard(text)
    indexed = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "4"}
    array = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "3"}
    for job, shard in ((indexed, (2, 4)), (array, (1, 3))):
        for name, value in job.items():
            monkeypatch.setenv(name, value)
        assert read_shard("auto") == shard
