"""Engines that run a sweep's shards as jobs. Each job runs the sweep's command line with `--shard i/n`."""

import dataclasses
import logging
import os
import shlex
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError
from flipjax.support.terminal import INTERRUPTED
from flipjax.sweep.lock import SHARD_JOB

SLURM_OPTIONS = {
    "partition": ("slurm_partition", str),
    "minutes": ("timeout_min", int),
    "gpus": ("gpus_per_node", int),
    "cpus": ("cpus_per_task", int),
    "memory_gb": ("mem_gb", float),
    "parallel": ("slurm_array_parallelism", int),
    "account": ("slurm_account", str),
    "setup": ("slurm_setup", lambda line: [line]),
}
RAY_OPTIONS = {"address": ("address", str), "gpus": ("num_gpus", float), "cpus": ("num_cpus", float)}
RETRIES = 2
# A shell's exit code for a command ended by SIGKILL.
KILLED = 137
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_LINES = 10.0


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

    def parameters(self, options: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
        """Returns the engine's parameters; `options` maps each option to its name and type. Raises ConfigError."""
        given = {}
        for name, text in self.options.items():
            try:
                parameter, kind = options[name]
                given[parameter] = kind(text)
            except (KeyError, ValueError) as error:
                found = f"{name}={text}"
                raise ConfigError("--launcher_option", f"one of {', '.join(options) or 'none'}", found) from error
        return given


def shard_commands(arguments: Sequence[str], count: int) -> list[list[str]]:
    """Returns each shard's command: the sweep's arguments without the launcher's.

    The command sets the job's name, by which a restarted shard recognises its predecessor's lock.
    """
    line, skip = [sys.executable, "-m", "flipjax.sweep"], False
    for part in arguments:
        name, equals, _ = part.replace("-", "_").partition("=")
        own = name in ("__launcher", "__shards", "__launcher_option")
        if not own and not skip:
            line.append(part)
        skip = own and not equals
    job = uuid.uuid4().hex
    return [["env", f"{SHARD_JOB}={job}-{index}", *line, "--shard", f"{index}/{count}"] for index in range(count)]


def launch(kind: str, jobs: Jobs, *, say: Callable[[str], Any]) -> dict[int, int]:
    """Runs all shards with an engine, restarting killed or interrupted ones, and returns their exit codes.

    Reports each shard's progress from the last line of its log, and the host, process and log of failures.

    Raises:
        ConfigError: the engine's package is missing or an option is invalid.
    """
    try:
        engine = LAUNCHERS[kind](jobs)
    except ImportError as error:
        problem = f"{kind} needs the package {error.name}: python -m pip install 'flipjax[{kind}]'"
        raise ConfigError("--launcher", problem=problem) from error
    codes: dict[int, int] = {}
    tries = dict.fromkeys(range(len(jobs.commands)), 0)
    spoken: dict[int, str] = {}
    last = time.monotonic()
    jobs.logs.mkdir(parents=True, exist_ok=True)
    running: dict[int, Any] = {}
    try:
        # One by one: where one cannot start, the others are ended.
        running.update(engine.submit(list(tries)))
        while len(codes) < len(tries):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            speak = time.monotonic() - last > SECONDS_BETWEEN_LINES
            last = time.monotonic() if speak else last
            for shard in tries.keys() - codes.keys():
                code, line = engine.poll(running[shard]), _last_line(jobs.log(shard))
                if code is None:
                    if speak and line != spoken.get(shard):
                        say(f"shard {shard}: {line}")
                        spoken[shard] = line
                    continue
                place = engine.describe(running[shard])
                if (code == INTERRUPTED or code >= 128) and tries[shard] < RETRIES:
                    tries[shard] += 1
                    say(f"shard {shard} was ended with {code} on {place}; started again")
                    running.update(engine.submit([shard]))
                else:
                    codes[shard] = code
                    where = f" on {place}, see {jobs.log(shard)}: {line}" if code else ""
                    say(f"shard {shard} ended with {code}{where}")
    finally:
        engine.close(running.values())
    return codes


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "waiting")


def exit_code(code: int) -> int:
    """Returns a process's exit code as in a shell: 128 plus the signal's number if a signal ended it.

    Example:
        >>> exit_code(2), exit_code(-9)
        (2, 137)
    """
    return code if code >= 0 else 128 - code


class Local:
    """Runs processes in their own sessions, so that Ctrl-C reaches them only through the launcher."""

    def __init__(self, jobs: Jobs):
        """Starts nothing yet."""
        jobs.parameters({})
        self._jobs = jobs

    def submit(self, shards: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Starts the processes, one as each is asked for."""
        for shard in shards:
            yield shard, subprocess.Popen(["sh", "-c", self._jobs.line(shard)], start_new_session=True)

    def poll(self, process: Any) -> int | None:
        """Returns the exit code."""
        code = process.poll()
        return None if code is None else exit_code(code)

    def describe(self, process: Any) -> str:
        """Returns host and process."""
        return f"{socket.gethostname()}, process {process.pid}"

    def close(self, processes: Collection[Any]) -> None:
        """Asks running shards to stop after their epoch, and waits for them."""
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


class Slurm:
    """Runs jobs as `sh -c COMMAND`; submitit pickles only that text.

    Options: SLURM's; `parallel`, the number of shards at once; and `setup`, a shell line run before each.
    """

    def __init__(self, jobs: Jobs):
        """Starts nothing yet."""
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)
        self._executor = submitit.AutoExecutor(folder=jobs.logs / "submitit", cluster="slurm")
        defaults = {"name": "flipjax", "timeout_min": 24 * 60, "slurm_array_parallelism": len(jobs.commands)}
        self._executor.update_parameters(**defaults | jobs.parameters(SLURM_OPTIONS))
        self._jobs = jobs

    def submit(self, shards: Sequence[int]) -> dict[int, Any]:
        """Submits the shards as one job array."""
        # Return the exit code as the job's result, since submitit turns failing commands into tracebacks.
        with self._executor.batch():
            return {shard: self._executor.submit(os.system, self._jobs.line(shard)) for shard in shards}

    def poll(self, job: Any) -> int | None:
        """Returns the command's exit code; SIGKILL's for a job that ended without one."""
        if not job.done():
            # Without accounting, SLURM forgets killed jobs, and submitit would wait forever.
            return KILLED if job.state == "UNKNOWN" and not _queued(job) and not job.done(force_check=True) else None
        try:
            # Waits up to 15 s for its file, since file systems show other machines' files late.
            return exit_code(os.waitstatus_to_exitcode(job.result()))
        except Exception:
            # Killed, timed out or out of memory: the engine's log has the cause.
            return KILLED

    def describe(self, job: Any) -> str:
        """Returns the engine's job."""
        return f"job {job.job_id} ({job.state})"

    def close(self, jobs: Collection[Any]) -> None:
        """Cancels running jobs; each shard stops after its epoch, or is killed and resumes from its checkpoint."""
        for job in jobs:
            if not job.done():
                job.cancel()


def _queued(job: Any) -> bool:
    """Returns whether SLURM still lists a job."""
    line = ["squeue", "--noheader", "--jobs", job.job_id]
    return bool(subprocess.run(line, capture_output=True, text=True).stdout.strip())


class Ray:
    """Runs tasks that Ray restarts when a worker dies; the run folder must be on a disk shared by all nodes.

    Options: the cluster's `address` (default: start one on this machine), and `gpus` and `cpus` per shard.
    """

    def __init__(self, jobs: Jobs):
        """Connects to the cluster, or starts one."""
        import ray  # pyright: ignore[reportMissingImports]

        self._ray: Any = ray
        self._jobs = jobs
        options = {"max_calls": 1, "max_retries": 2, "num_cpus": 1, "address": "local"} | jobs.parameters(RAY_OPTIONS)
        ray.init(address=options.pop("address"), log_to_driver=False, include_dashboard=False)

        def call(line: str) -> int:
            return os.waitstatus_to_exitcode(os.system(line))

        # Pickled by value, so that workers need only the standard library.
        self._task = ray.remote(**options)(call)

    def submit(self, shards: Sequence[int]) -> dict[int, Any]:
        """Submits the shards."""
        return {shard: self._task.remote(self._jobs.line(shard)) for shard in shards}

    def poll(self, task: Any) -> int | None:
        """Returns the command's exit code; SIGKILL's if Ray gave up the task."""
        ready, _ = self._ray.wait([task], timeout=0)
        if not ready:
            return None
        try:
            return exit_code(self._ray.get(task))
        except self._ray.exceptions.RayError:
            return KILLED

    def describe(self, task: Any) -> str:
        """Returns the task."""
        return f"Ray task {task.hex()[:16]}"

    def close(self, tasks: Collection[Any]) -> None:
        """Stops the tasks and closes the connection."""
        for task in tasks:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()


# The engine of each launcher.
LAUNCHERS = {"local": Local, "slurm": Slurm, "ray": Ray}
