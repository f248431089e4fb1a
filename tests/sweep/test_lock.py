"""Who has a run folder: one process, the shards of one run, or nobody."""

import contextlib
import subprocess
import sys

import pytest

from flipjax.config import ConfigError, default_config
from flipjax.config.plan import plan
from flipjax.config.program import shard_members
from flipjax.sweep import lock as locks
from flipjax.sweep.lock import Lock, Shard, read_shard

HOLD = """
import sys, pathlib
from flipjax.sweep.lock import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
input()
"""


@contextlib.contextmanager
def hold(folder):
    """A process that has the folder's lock, and is killed at the end."""
    line = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_that_nobody_has_is_taken_and_leaves_nothing(tmp_path):
    (tmp_path / ".lock").write_text("of a process that was killed")
    lock = Lock(tmp_path)
    lock.acquire()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_process_is_refused_until_the_other_ends(tmp_path):
    with hold(tmp_path), pytest.raises(ConfigError, match="in use by another process"):
        Lock(tmp_path).acquire()
    assert (tmp_path / ".lock").exists()
    Lock(tmp_path).acquire()


def test_a_shard_of_a_launcher_waits(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(locks.WAITS, "1")
    with hold(tmp_path) as process:
        monkeypatch.setattr(locks.time, "sleep", lambda seconds: (process.kill(), process.wait()))
        Lock(tmp_path).acquire()
    assert "waiting for another process" in capsys.readouterr().err


def test_locks_of_shards_exclude_the_whole_run_and_not_each_other(tmp_path):
    first, second = (Lock(tmp_path, name=f"-of-2-{index}") for index in range(2))
    first.acquire()
    second.acquire()
    with pytest.raises(ConfigError, match="in use by another process"):
        Lock(tmp_path).acquire()
    with pytest.raises(ConfigError, match="in use by another process"):
        Lock(tmp_path, name="-of-3-0").acquire()
    second.release()
    first.release()
    whole = Lock(tmp_path)
    whole.acquire()
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


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
    assert read_shard("3/3").typed == "3/3"
    assert read_shard("0/3") == read_shard("3/3") == Shard(0, 3, "0/3")


KUBERNETES = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "4"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "3"}


@pytest.mark.parametrize(
    ("job", "shard"),
    [(KUBERNETES, Shard(2, 4, "2/4")), (ARRAY, Shard(1, 3, "1/3")), (KUBERNETES | ARRAY, Shard(1, 3, "1/3"))],
    ids=["Kubernetes", "SLURM", "both"],
)
def test_what_a_job_says_of_its_shard(monkeypatch, job, shard):
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert read_shard("auto") == shard
