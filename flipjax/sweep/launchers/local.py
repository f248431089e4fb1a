"""Shards as processes of this machine."""

import socket
import subprocess
from collections.abc import Sequence

from flipjax.sweep.launchers import Jobs, exit_code


class Local:
    """Processes in sessions of their own, so that Ctrl-C at the launcher reaches them from here alone."""

    def __init__(self, jobs: Jobs):
        """Starts nothing yet."""
        jobs.parameters({})
        self._jobs = jobs
        self._processes: dict[int, subprocess.Popen] = {}

    def submit(self, shards: Sequence[int]) -> None:
        """Starts the processes."""
        for shard in shards:
            with self._jobs.log(shard).open("ab") as log:
                streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                command = self._jobs.commands[shard]
                self._processes[shard] = subprocess.Popen(command, start_new_session=True, **streams)

    def poll(self, shard: int) -> int | None:
        """Returns the exit code."""
        code = self._processes[shard].poll()
        return None if code is None else exit_code(code)

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
