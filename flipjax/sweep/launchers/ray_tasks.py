"""Shards as tasks of Ray: each runs the command in a process of its own, wherever Ray places it."""

import os
import subprocess
from collections.abc import Sequence
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

from flipjax.sweep.launchers import KILLED, Jobs, exit_code

OPTIONS = {"address": ("address", str), "gpus": ("num_gpus", float), "cpus": ("num_cpus", float)}


def _run(command: tuple[str, ...], log: str) -> int:
    with open(log, "ab") as stream:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream).returncode


class Ray:
    """Tasks that Ray starts again where a worker dies; the run folder is on a disk that all nodes share.

    Options: `address` of a cluster (default: one of its own on this machine), `gpus` and `cpus` that each shard takes.
    """

    def __init__(self, jobs: Jobs):
        """Connects to the cluster, or starts one."""
        self._jobs = jobs
        options = {"max_calls": 1, "max_retries": 2, "num_cpus": 1, "address": "local"} | jobs.parameters(OPTIONS)
        ray.init(address=options.pop("address"), log_to_driver=False, include_dashboard=False)
        # By value: workers need no more than the standard library for it.
        self._task = ray.remote(**options)(_run)
        self._tasks: dict[int, Any] = {}

    def submit(self, shards: Sequence[int]) -> None:
        """Submits the shards."""
        for shard in shards:
            log = os.path.abspath(self._jobs.log(shard))
            self._tasks[shard] = self._task.remote(self._jobs.commands[shard], log)

    def poll(self, shard: int) -> int | None:
        """Returns the exit code of the command, that of SIGKILL where Ray gave the task up."""
        ready, _ = ray.wait([self._tasks[shard]], timeout=0)
        if not ready:
            return None
        try:
            return exit_code(ray.get(self._tasks[shard]))
        except RayError:
            return KILLED

    def describe(self, shard: int) -> str:
        """Names the task."""
        return f"Ray task {self._tasks[shard].hex()[:16]}"

    def close(self) -> None:
        """Ends the tasks and the connection."""
        for task in self._tasks.values():
            ray.cancel(task, force=True)
        ray.shutdown()
