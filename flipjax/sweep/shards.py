"""Which share of a run's members a process trains, and the lock by which shards stand beside each other."""

import os
from pathlib import Path
from typing import NamedTuple

from flipjax.config import ConfigError
from flipjax.sweep.lock import Lock

# Index and count of a job's share: SLURM's arrays, Kubernetes' indexed jobs, SLURM's tasks.
VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


class Shard(NamedTuple):
    """The share `index` of `count`, from 0."""

    index: int
    count: int

    def lock(self, folder: Path, *, collect: bool = False) -> Lock:
        """Returns the lock of this shard, beside which those of the same count may be taken."""
        together = f"-of-{self.count}-"
        return Lock(folder, name=f"{together}{'collect' if collect else self.index}", together=together)


def read_shard(text: str) -> Shard:
    """Returns what `--shard` means: `i/n`, or `auto` for what a job's environment says.

    `n/n` is the same as `0/n`, so that counting from 1 is right, too.

    Raises:
        ConfigError: it is neither, or the environment says nothing.
    """
    if text == "auto":
        for index, count in VARIABLES:
            if index in os.environ and count in os.environ:
                first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", 0)) if index == "SLURM_ARRAY_TASK_ID" else 0
                text = f"{int(os.environ[index]) - first}/{os.environ[count]}"
                break
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) <= int(count) > 0):
        names = "; ".join(" and ".join(pair) for pair in VARIABLES)
        raise ConfigError("--shard", f"i/n with 0 <= i <= n, or auto where a job sets {names}", text)
    return Shard(int(index) % int(count), int(count))
