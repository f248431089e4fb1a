"""Which members a shard has, and how a job says which shard it is; what shards write: `test_run_folder.py`."""

import pytest

from flipjax.config import ConfigError, default_config
from flipjax.plan import plan, shard_members
from flipjax.sweep.lock import read_shard


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
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    monkeypatch.setenv("JOB_COMPLETIONS", "4")
    assert read_shard("auto") == (2, 4)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "4")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    assert read_shard("auto") == (1, 3)
