"""Shards as a job array of SLURM, through submitit."""

import logging
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import submitit

from flipjax.sweep.launchers import KILLED, Jobs, exit_code

OPTIONS = {
    "partition": ("slurm_partition", str),
    "minutes": ("timeout_min", int),
    "gpus": ("gpus_per_node", int),
    "cpus": ("cpus_per_task", int),
    "memory_gb": ("mem_gb", float),
    "parallel": ("slurm_array_parallelism", int),
    "account": ("slurm_account", str),
    "setup": ("slurm_setup", lambda line: [line]),
}
# How long after a job's end its result may still come: other machines see a file late.
SECONDS_FOR_A_RESULT = 15.0


class Slurm:
    """Jobs that run `sh -c COMMAND`; submitit pickles no more than that text.

    Options: SLURM's, `parallel`, how many shards run at once, and `setup`, a line of shell before each.
    """

    def __init__(self, jobs: Jobs):
        """Starts nothing yet."""
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self._executor = submitit.AutoExecutor(folder=jobs.logs / "submitit", cluster="slurm")
        defaults = {"name": "flipjax", "timeout_min": 24 * 60, "slurm_array_parallelism": len(jobs.commands)}
        self._executor.update_parameters(**defaults | jobs.parameters(OPTIONS))
        self._jobs = jobs
        self._submitted: dict[int, submitit.Job[Any]] = {}
        self._ended: dict[int, float] = {}

    def submit(self, shards: Sequence[int]) -> None:
        """Submits the shards as one array."""
        # The exit code is the job's result: to submitit a command that fails is a traceback.
        lines = [
            f"{shlex.join(self._jobs.commands[shard])} >> {shlex.quote(str(self._jobs.log(shard).absolute()))} 2>&1"
            for shard in shards
        ]
        with self._executor.batch():
            submitted = [self._executor.submit(os.system, line) for line in lines]
        self._submitted |= dict(zip(shards, submitted, strict=True))
        for shard in shards:
            self._ended.pop(shard, None)

    def poll(self, shard: int) -> int | None:
        """Returns the exit code of the command; of a job that ended without one, that of SIGKILL."""
        job = self._submitted[shard]
        if not job.done():
            # Without accounting SLURM forgets a job that was killed, and submitit waits for it for ever.
            return KILLED if job.state == "UNKNOWN" and not _queued(job) and not job.done(force_check=True) else None
        # Asked for a result that is not there, submitit would wait, and with it all other shards.
        if not job.paths.result_pickle.exists():
            ended = self._ended.setdefault(shard, time.monotonic())
            return KILLED if time.monotonic() - ended > SECONDS_FOR_A_RESULT else None
        try:
            return exit_code(os.waitstatus_to_exitcode(job.result()))
        except Exception:
            # Killed, out of time or of memory: the engine's own log says which.
            return KILLED

    def describe(self, shard: int) -> str:
        """Names the engine's job."""
        return f"job {self._submitted[shard].job_id} ({self._submitted[shard].state})"

    def close(self) -> None:
        """Cancels what still runs: each shard stops after its epoch, or is killed and continues from there."""
        for job in self._submitted.values():
            if not job.done():
                job.cancel()


def _queued(job: submitit.Job[Any]) -> bool:
    """Says whether SLURM still has a job."""
    line = ["squeue", "--noheader", "--jobs", job.job_id]
    return bool(subprocess.run(line, capture_output=True, text=True).stdout.strip())
