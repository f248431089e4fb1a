"""Who has a run folder: locks of the dead, of other hosts, of shards, and those that make no sense."""

import errno
import json
import signal
import subprocess
import sys
from unittest import mock

import pytest

from flipjax.config import ConfigError
from flipjax.sweep import lock as locks
from flipjax.sweep.lock import Lock


@pytest.mark.parametrize("text", ["", "[" * 10**5, "[]", '{"pid": 5}', '{"pid": -1, "host": "x", "since": "y"}', None])
def test_a_lock_that_makes_no_sense_is_taken_over(tmp_path, text):
    if text is None:
        (tmp_path / ".lock").symlink_to("nowhere")
    else:
        (tmp_path / ".lock").write_text(text)
    lock = Lock(tmp_path)
    lock.acquire()
    assert lock.owned() and len(list(tmp_path.iterdir())) == 1


def test_who_may_still_have_a_lock(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv(locks.SHARD_JOB, "a-0")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        here = locks._myself() | {"pid": other.pid, "started": locks._started(other.pid), "shard_job": ""}
        there = here | {"host": "elsewhere"}
        monkeypatch.delenv(locks.SHARD_JOB)
        for owner in (here, there, there | {"shard_job": "b-0"}):  # Of the same SLURM job, too.
            path.write_text(json.dumps(owner))
            with pytest.raises(ConfigError, match="in use by process"):
                Lock(tmp_path).acquire()
        monkeypatch.setenv(locks.SHARD_JOB, "a-0")
        for owner in (there | {"restarts": "1"}, there | {"shard_job": "a-0"}):
            path.write_text(json.dumps(owner))
            Lock(tmp_path).acquire()
        # Of the same shard, which its launcher has started again.
        path.write_text(json.dumps(here | {"shard_job": "a-0"}))
        Lock(tmp_path).acquire()
        assert other.wait(timeout=10) == -signal.SIGKILL
    path.write_text(json.dumps(here))
    monkeypatch.setattr(locks.Path, "read_bytes", mock.Mock(side_effect=PermissionError(errno.EACCES, "")))
    with pytest.raises(ConfigError, match="of another user"):
        Lock(tmp_path).acquire()


def test_locks_of_shards_exclude_the_whole_run_and_not_each_other(tmp_path):
    first, second = (Lock(tmp_path, name=f"-of-2-{index}", together="-of-2-") for index in range(2))
    first.acquire()
    second.acquire()
    for other in (Lock(tmp_path), Lock(tmp_path, name="-of-3-0", together="-of-3-")):
        with pytest.raises(ConfigError, match="in use by process"):
            other.acquire()
    second.release()
    first.release()
    Lock(tmp_path).acquire()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
