"""Who has a run folder: processes of this machine, of other containers and hosts, shards, and nobody."""

import contextlib
import dataclasses
import json
import subprocess
import sys

import pytest

from flipjax.config import ConfigError, default_config
from flipjax.config.plan import plan
from flipjax.config.program import shard_members
from flipjax.sweep import lock as locks
from flipjax.sweep.lock import Lock, Shard, read_shard

HOLD = """
import dataclasses, json, sys, pathlib
from flipjax.sweep.lock import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
lock.acquire()
print(json.dumps(dataclasses.asdict(lock._myself)), flush=True)
input()
print(lock.owned())
"""


@contextlib.contextmanager
def hold(folder):
    """A process that has the folder's lock, and what it says of itself."""
    line = [sys.executable, "-c", HOLD, str(folder)]
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


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Writes a lock of a process of the same job on another machine, with other values of some fields."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    there = dataclasses.asdict(locks.this_process()) | {"host": "elsewhere", "boot": "another"}

    def lock(**changes):
        write(tmp_path, there | changes)
        return Lock(tmp_path)

    return lock


@pytest.mark.parametrize("shard_job", ["", "b-0"], ids=["no shard", "another shard"])
def test_a_lock_of_another_machine_is_refused(elsewhere, shard_job):
    with pytest.raises(ConfigError, match="on elsewhere since"):
        elsewhere(shard_job=shard_job).acquire()


def test_a_lock_of_another_machine_is_taken_by_force(elsewhere):
    elsewhere().acquire(force=True)


@pytest.mark.parametrize(
    "changes",
    [{"restarts": "1"}, {"shard_job": "a-0"}, {"boot": locks.this_process().boot}],
    ids=["restarted", "the same shard", "this machine"],
)
def test_the_same_job_started_again_takes_its_lock(elsewhere, monkeypatch, changes):
    monkeypatch.setenv(locks.SHARD_JOB, "a-0")
    elsewhere(**changes).acquire()


def test_a_shard_that_its_launcher_starts_again_waits_for_the_first_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(locks.SHARD_JOB, "a-0")
    with hold(tmp_path) as (process, _):
        monkeypatch.setattr(locks.time, "sleep", lambda seconds: process.kill())
        Lock(tmp_path).acquire()
        assert process.wait() and f"waiting for process {process.pid} on " in capsys.readouterr().err


def test_locks_of_shards_exclude_the_whole_run_and_not_each_other(tmp_path):
    first, second = (Lock(tmp_path, name=f"-of-2-{index}") for index in range(2))
    first.acquire()
    second.acquire()
    with pytest.raises(ConfigError, match="in use by process"):
        Lock(tmp_path).acquire()
    with pytest.raises(ConfigError, match="in use by process"):
        Lock(tmp_path, name="-of-3-0").acquire()
    second.release()
    first.release()
    whole = Lock(tmp_path)
    whole.acquire()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".lock.owner"}


def test_shards_partition_members_whatever_the_grid_order():
    def shards(seeds):
        config = default_config()
        config.axes.seed = seeds
        (program,) = plan(config).programs
        axes = {setting.name: tuple(setting.axes.items()) for setting in program.settings}
        return [{axes[name] for name in shard_members([program], index=index, count=3)} for index in range(3)]

    whole = shards((0, 1, 2, 3, 4))
    assert sorted(map(len, whole)) == [3, 3, 4] and len(set().union(*whole)) == 10
    assert shards((4, 3, 2, 1, 0)) == whole


@pytest.mark.parametrize("text", ["4/3", "1", "a/b", "0/0", "auto"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ConfigError, match="--shard"):
        read_shard(text)


def test_the_last_shard_may_be_counted_from_one():
    assert read_shard("0/3") == read_shard("3/3") == Shard(0, 3)


KUBERNETES = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "4"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "3"}


@pytest.mark.parametrize(
    ("job", "shard"),
    [(KUBERNETES, Shard(2, 4)), (ARRAY, Shard(1, 3)), (KUBERNETES | ARRAY, Shard(1, 3))],
    ids=["Kubernetes", "SLURM", "both"],
)
def test_what_a_job_says_of_its_shard(monkeypatch, job, shard):
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert read_shard("auto") == shard
