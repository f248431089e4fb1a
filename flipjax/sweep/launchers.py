"""Engines that run a sweep's shards as jobs. Each job runs the sweep's command line with `--shard i/n`."""

import collections
import dataclasses
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flipjax import command
from flipjax.config import ConfigError
from flipjax.sweep.lock import SHARD_JOB

RETRIES = 2
SECONDS_BETWEEN_LOOKS = 0.5


@dataclasses.dataclass(frozen=True)
class Jobs:
    """The commands of all shards, their log folder, and the engine's options."""

    commands: Sequence[Sequence[str]]
    logs: Path
    options: Mapping[str, str]

    def log(self, shard: int) -> Path:
        """Returns a shard's log file."""
        return self.logs / f"shard-{shard}-of-{len(self.commands)}.log"

    def line(self, shard: int) -> str:
        """Returns the shell line that runs a shard's command and appends its output to the log."""
        log = shlex.quote(str(self.log(shard).absolute()))
        return f"exec {shlex.join(self.commands[shard])} < /dev/null >> {log} 2>&1"


def shard_commands(arguments: Sequence[str], count: int) -> list[list[str]]:
    """Returns each shard's command: the sweep's arguments without the launcher's.

    The command sets the job's name, by which a restarted shard recognises its predecessor's lock.
    """
    launchers = command.Parser(add_help=False)
    for option in ("--launcher", "--shards", "--launcher_option"):
        launchers.add_argument(option)
    line = [sys.executable, "-m", "flipjax.sweep", *launchers.parse_known_args(arguments)[1]]
    job = uuid.uuid4().hex
    return [["env", f"{SHARD_JOB}={job}-{index}", *line, "--shard", f"{index}/{count}"] for index in range(count)]


def launch(kind: str, jobs: Jobs, *, say: Callable[[str], Any]) -> dict[int, int]:
    """Runs all shards with an engine, restarting killed or interrupted ones, and returns their exit codes.

    Reports each shard's progress from the last line of its log, and the process or job and the log of failures.

    Raises:
        ConfigError: an option is invalid.
        ModuleNotFoundError: the engine's package is missing.
    """
    try:
        engine = LAUNCHERS[kind](jobs)
    except (ValueError, RuntimeError) as error:
        raise ConfigError("--launcher_option", f"options of {kind}", f"{dict(jobs.options)} ({error})") from error
    waiting, running = [*range(len(jobs.commands))], dict[int, Any]()
    codes, spoken, tries = dict[int, int](), dict[int, str](), collections.Counter[int]()
    jobs.logs.mkdir(parents=True, exist_ok=True)
    try:
        while len(codes) < len(jobs.commands):
            if waiting:
                # One by one: where one cannot start, the others are ended.
                running.update(zip(waiting, engine.submit([jobs.line(shard) for shard in waiting]), strict=True))
                waiting = []
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for shard in running.keys() - codes.keys():
                code, line = engine.poll(running[shard]), _last_line(jobs.log(shard))
                if code is None:
                    if line != spoken.get(shard):
                        say(f"shard {shard}: {line}")
                        spoken[shard] = line
                    continue
                # As in a shell: 128 plus the number of the signal that ended the process.
                code = code if code >= 0 else 128 - code
                own = isinstance(running[shard], subprocess.Popen)
                name = f"{socket.gethostname()}, process {running[shard].pid}" if own else running[shard]
                if (code == command.INTERRUPTED or code >= 128) and tries[shard] < RETRIES:
                    tries[shard] += 1
                    say(f"shard {shard} was ended with {code} ({name}); started again")
                    waiting.append(shard)
                else:
                    codes[shard] = code
                    where = f" ({name}), see {jobs.log(shard)}: {line}" if code else ""
                    say(f"shard {shard} ended with {code}{where}")
    finally:
        engine.close(running.values())
    return codes


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "waiting")


class Local:
    """Runs processes in their own sessions, so that Ctrl-C reaches them only through the launcher."""

    def __init__(self, jobs: Jobs):
        """Starts nothing yet."""
        if jobs.options:
            raise ValueError("there are none")

    def submit(self, lines: Sequence[str]) -> Iterator[Any]:
        """Starts the processes, one as each is asked for."""
        for line in lines:
            yield subprocess.Popen(["sh", "-c", line], start_new_session=True)

    def poll(self, process: Any) -> int | None:
        """Returns the exit code; negative if a signal ended the process."""
        return process.poll()

    def close(self, processes: Collection[Any]) -> None:
        """Asks running shards to stop after their epoch, and waits for them."""
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


class Slurm:
    """Runs jobs as `sh -c COMMAND`; submitit pickles only that text.

    Options: those of sbatch, such as `partition`, `gpus` and `time`; and `parallel`, the number of shards at once.
    """

    def __init__(self, jobs: Jobs):
        """Starts nothing yet."""
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)
        self._executor = submitit.SlurmExecutor(folder=jobs.logs / "submitit")
        options = {"parallel": len(jobs.commands), **jobs.options}
        own = {"job_name": "flipjax", "time": 24 * 60, "array_parallelism": int(options.pop("parallel"))}
        self._executor.update_parameters(**own, additional_parameters=options)

    def submit(self, lines: Sequence[str]) -> list[Any]:
        """Submits the shards as one job array."""
        from submitit.core.utils import FailedJobError

        try:
            # Return the exit code as the job's result, since submitit turns failing commands into tracebacks.
            return self._executor.map_array(os.system, lines)
        except FailedJobError as error:
            raise ConfigError("--launcher_option", "options that sbatch takes", str(error)) from error

    def poll(self, job: Any) -> int | None:
        """Returns the command's exit code; SIGKILL's for a job that ended without one."""
        if not job.done():
            # Without accounting, SLURM forgets killed jobs, and submitit would wait forever.
            line = ["squeue", "--noheader", "--jobs", job.job_id]
            forgotten = job.state == "UNKNOWN" and not subprocess.run(line, capture_output=True).stdout.strip()
            return -signal.SIGKILL if forgotten and not job.done(force_check=True) else None
        try:
            # Waits up to 15 s for its file, since file systems show other machines' files late.
            return os.waitstatus_to_exitcode(job.result())
        except Exception:
            # Killed, timed out or out of memory: the engine's log has the cause.
            return -signal.SIGKILL

    def close(self, jobs: Collection[Any]) -> None:
        """Cancels running jobs; each shard stops after its epoch, or is killed and resumes from its checkpoint."""
        for job in jobs:
            if not job.done():
                job.cancel()


class Ray:
    """Runs tasks that Ray restarts when a worker dies; the run folder must be on a disk shared by all nodes.

    Options: the cluster's `address` (default: start one on this machine), and `gpus` and `cpus` per shard.
    """

    def __init__(self, jobs: Jobs):
        """Connects to the cluster, or starts one."""
        import ray  # pyright: ignore[reportMissingImports]

        self._ray: Any = ray
        options: dict[str, Any] = {"cpus": 1, "address": "local", **jobs.options}
        address = options.pop("address")
        counts: dict[str, Any] = {f"num_{name}": float(count) for name, count in options.items()}

        def call(line: str) -> int:
            return os.waitstatus_to_exitcode(os.system(line))

        # Pickled by value, so that workers need only the standard library.
        self._task = ray.remote(max_calls=1, max_retries=2, **counts)(call)
        ray.init(address=address, log_to_driver=False, include_dashboard=False)

    def submit(self, lines: Sequence[str]) -> list[Any]:
        """Submits the shards."""
        return [self._task.remote(line) for line in lines]

    def poll(self, task: Any) -> int | None:
        """Returns the command's exit code; SIGKILL's if Ray gave up the task."""
        ready, _ = self._ray.wait([task], timeout=0)
        if not ready:
            return None
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError:
            return -signal.SIGKILL

    def close(self, tasks: Collection[Any]) -> None:
        """Stops the tasks and closes the connection."""
        for task in tasks:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()


# The engine of each launcher.
LAUNCHERS = {"local": Local, "slurm": Slurm, "ray": Ray}
