"""Shards as processes of this machine."""

import os
import socket
import subprocess
from collections.abc import Sequence

from flipjax.sweep.launchers import Jobs

OPTIONS = ()


class Local:
    """Processes in sessions of their own, so that Ctrl-C at the launcher reaches them from here alone."""

    def __init__(self, jobs: Jobs):
        """Starts nothing yet."""
        self._jobs = jobs
        self._processes: dict[int, subprocess.Popen] = {}

    def submit(self, shards: Sequence[int]) -> None:
        """Starts the processes."""
        for shard in shards:
            with self._jobs.log(shard).open("ab") as log:
                self._processes[shard] = subprocess.Popen(
                    self._jobs.commands[shard],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=os.environ,
                )

    def poll(self, shard: int) -> int | None:
        """Returns the exit code, 128 and the signal's number for a process that a signal ended."""
        code = self._processes[shard].poll()
        return code if code is None or code >= 0 else 128 - code

    def describe(self, shard: int) -> str:
        """Names host and process."""
        return f"{socket.gethostname()}, process {self._processes[shard].pid}"

    def close(self) -> None:
        """Asks what still runs to stop after its epoch, and waits for it."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            process.wait()


def start(kind: str, jobs: Jobs) -> Local:
    """Returns the engine."""
    return Local(jobs)
