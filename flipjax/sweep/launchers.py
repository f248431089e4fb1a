"""Engines that run a sweep's shards as jobs. Each job runs the sweep's command line with `--shard i/n`."""

import dataclasses
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from flipjax import command
from flipjax.config import ConfigError
from flipjax.support.terminal import later_interrupts, one_line
from flipjax.sweep.lock import WAITS

if TYPE_CHECKING:
    import submitit

RETRIES = 2
"""Times that a killed or interrupted shard is started again."""
SECONDS_TO_ANSWER = 10
"""Seconds in which a Ray cluster is to answer at its address. Ray itself would try for minutes."""
SECONDS_BETWEEN_LOOKS = 0.5
"""Seconds between two looks at the jobs that run."""
TAIL = 4096
"""Bytes at the end of a log in which its last line is looked for."""

Handle = TypeVar("Handle")
"""What an engine keeps of a shell line that it started: a process, a SLURM job or a Ray task."""


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """The shards that an engine is to run."""

    commands: Sequence[Sequence[str]]
    """The command of each shard."""
    logs: Path
    """The folder of their logs."""
    options: Mapping[str, str]
    """The engine's options, of `--launcher_option`."""

    def log(self, shard: int) -> Path:
        """Returns a shard's log file."""
        return self.logs / f"shard-{shard}-of-{len(self.commands)}.log"

    def line(self, shard: int) -> str:
        """Returns the shell line that runs a shard's command and appends its output to the log."""
        log = shlex.quote(str(self.log(shard).absolute()))
        return f"exec {shlex.join(self.commands[shard])} < /dev/null >> {log} 2>&1"


class Engine(Protocol[Handle]):
    """Runs shell lines as jobs.

    Parameters are given by position (`/`), so that each engine can name its handles: process, job or task.
    """

    def submit(self, lines: Sequence[str], /) -> Iterable[Handle]:
        """Starts a job for each line, in order, at the latest when its handle is asked for."""
        ...

    def poll(self, handle: Handle, /) -> int | None:
        """Returns the exit code of a job, negative if a signal ended it; None while it runs."""
        ...

    def name_of(self, handle: Handle, /) -> str:
        """Returns what a user calls a job, to look for it."""
        ...

    def close(self, handles: Collection[Handle], /) -> None:
        """Asks the jobs, which run as far as is known, to stop after their epoch.

        `Local` and `Ray` also wait for their end, which nothing else would see to; SLURM ends its jobs itself.
        """
        ...


@dataclasses.dataclass
class ShardState(Generic[Handle]):
    """How far a shard is."""

    number: int
    """The number of the shard, from 0."""
    log: Path
    """The file that its output goes to."""
    handle: Handle | None = None
    """The engine's, of its job; None where one is to be started."""
    code: int | None = None
    """The exit code, once it has ended and is not started again."""
    restarts: int = 0
    """Times that it was started again."""
    last_line: str = ""
    """The line of the log that was reported last."""

    @property
    def is_waiting(self) -> bool:
        """Whether a job is to be started for it, for the first time or again."""
        return self.handle is None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended for good."""
        return self.code is not None


def shard_commands(arguments: Sequence[str], count: int) -> list[list[str]]:
    """Returns each shard's command: the sweep's arguments without the launcher's."""
    sweep = [sys.executable, "-m", "flipjax.sweep", *_without_launcher_options(arguments)]
    # With the variable WAITS a shard waits for the lock of an earlier one that outlived its launcher.
    return [["env", f"{WAITS}=1", *sweep, "--shard", f"{index}/{count}"] for index in range(count)]


def _without_launcher_options(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments that are not for the launcher, in order.

    A parser that knows only the launcher's options returns all others, and finds both `--shards 2` and `--shards=2`.
    """
    parser = command.Parser(add_help=False)
    for option in ("--launcher", "--shards", "--launcher_option"):
        parser.add_argument(option)
    _, others = parser.parse_known_args(arguments)
    return others


def launch(kind: str, plan: ShardPlan, *, say: Callable[[str], object]) -> dict[int, int]:
    """Runs all shards with an engine, restarting killed or interrupted ones, and returns their exit codes.

    Reports each shard's progress from the last line of its log, and the process or job and the log of failures.

    Raises:
        ConfigError: an option is invalid.
        ModuleNotFoundError: the engine's package is missing.
    """
    try:
        engine = LAUNCHERS[kind](plan)
    except (ValueError, RuntimeError, ConnectionError) as error:
        # ValueError: no option of the engine, or no number. RuntimeError: of submitit, where there is no SLURM.
        # ConnectionError: no Ray cluster answers.
        found = f"{dict(plan.options)} ({one_line(str(error))})"
        raise ConfigError("--launcher_option", f"options of {kind}", found) from error
    shards = [ShardState(number, plan.log(number)) for number in range(len(plan.commands))]
    plan.logs.mkdir(parents=True, exist_ok=True)
    try:
        while not all(shard.has_ended for shard in shards):
            _start(engine, [shard for shard in shards if shard.is_waiting], plan)
            time.sleep(SECONDS_BETWEEN_LOOKS)
            for shard in shards:
                if not shard.has_ended:
                    _look(engine, shard, say)
    finally:
        engine.close(_running_handles(shards))
    # All have ended; the condition tells type checkers that each has a code.
    return {shard.number: shard.code for shard in shards if shard.code is not None}


def _start(engine: Engine[Handle], waiting: Sequence[ShardState[Handle]], plan: ShardPlan) -> None:
    """Starts the shards that wait.

    `submit` may start a job only when its handle is asked for. Each handle is therefore kept before the next is asked
    for: if a job cannot start, `launch` still knows, and ends, those before it.
    """
    if not waiting:
        return
    handles = engine.submit([plan.line(shard.number) for shard in waiting])
    with later_interrupts():
        for shard, handle in zip(waiting, handles, strict=True):
            shard.handle = handle


def _running_handles(shards: Sequence[ShardState[Handle]]) -> list[Handle]:
    """Returns the handles of the shards that have started and, as far as is known, not ended."""
    handles = []
    for shard in shards:
        if shard.handle is not None and not shard.has_ended:
            handles.append(shard.handle)
    return handles


def _look(engine: Engine[Handle], shard: ShardState[Handle], say: Callable[[str], object]) -> None:
    """Reports what a started shard last wrote, or how it ended; marks it to be started again if it was killed."""
    assert shard.handle is not None
    polled = engine.poll(shard.handle)
    if polled is None:
        _report_progress(shard, say)
        return
    code = _exit_code_of_shell(polled)
    job = engine.name_of(shard.handle)
    # A sweep that was asked to stop ends with INTERRUPTED; a process that a signal ended, with 128 or more.
    was_killed = code == command.INTERRUPTED or code >= 128
    if was_killed and shard.restarts < RETRIES:
        say(f"shard {shard.number} was ended with {code} ({job}); started again")
        shard.restarts += 1
        shard.handle = None
    else:
        shard.code = code
        _report_end(shard, code, job, say)


def _exit_code_of_shell(code: int) -> int:
    """Returns an exit code as in a shell: 128 plus the number of the signal, where `code` is minus that number."""
    if code < 0:
        return 128 - code
    return code


def _report_end(shard: ShardState[Handle], code: int, job: str, say: Callable[[str], object]) -> None:
    """Reports the exit code of a shard; if it failed, also its job, its log and the last line of that."""
    if code:
        say(f"shard {shard.number} ended with {code} ({job}), see {shard.log}: {_last_line(shard.log)}")
    else:
        say(f"shard {shard.number} ended with 0")


def _report_progress(shard: ShardState[Handle], say: Callable[[str], object]) -> None:
    """Reports the last line of a shard's log once."""
    line = _last_line(shard.log)
    if line != shard.last_line:
        say(f"shard {shard.number}: {line}")
        shard.last_line = line


def _last_line(path: Path) -> str:
    """Returns the last line of a log that is not blank, or `waiting` if there is none.

    Reads only the file's end, since a long run has a long log.
    """
    if not path.is_file():
        return "waiting"
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL))
        lines = stream.read().decode(errors="replace").split("\n")
    for line in reversed(lines):
        if line.strip():
            return line.strip()
    return "waiting"


class Local:
    """Runs processes in their own sessions, so that Ctrl-C reaches them only through the launcher."""

    def __init__(self, plan: ShardPlan):
        """Starts nothing yet."""
        if plan.options:
            raise ValueError("local processes take no options")

    def submit(self, lines: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Starts the processes, one as each is asked for."""
        for line in lines:
            yield subprocess.Popen(["sh", "-c", line], start_new_session=True)

    def poll(self, process: subprocess.Popen[bytes]) -> int | None:
        """Returns the exit code; negative if a signal ended the process."""
        return process.poll()

    def name_of(self, process: subprocess.Popen[bytes]) -> str:
        """Returns the machine and the process."""
        return f"{socket.gethostname()}, process {process.pid}"

    def close(self, processes: Collection[subprocess.Popen[bytes]]) -> None:
        """Waits until the shards have stopped."""
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


class Slurm:
    """Runs jobs as `sh -c COMMAND`; submitit pickles only that text.

    Options: those of sbatch, such as `partition`, `gpus` and `time`; and `parallel`, the number of shards at once.
    """

    def __init__(self, plan: ShardPlan):
        """Starts nothing yet."""
        import submitit

        # submitit warns whenever it cannot ask SLURM for the states of jobs, as on a cluster without accounting.
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self._executor = submitit.SlurmExecutor(folder=plan.logs / "submitit")
        options = dict(plan.options)
        parallel = int(options.pop("parallel", len(plan.commands)))
        self._executor.update_parameters(
            job_name="flipjax", time=24 * 60, array_parallelism=parallel, additional_parameters=options
        )

    def submit(self, lines: Sequence[str]) -> "list[submitit.Job[int]]":
        """Submits the shards as one job array."""
        from submitit.core.utils import FailedJobError

        try:
            # The result of a job is the wait status of its command: submitit would make a traceback of a failing one.
            return self._executor.map_array(os.system, lines)
        except FailedJobError as error:
            raise ConfigError("--launcher_option", "options that sbatch takes", str(error)) from error

    def poll(self, job: "submitit.Job[int]") -> int | None:
        """Returns the command's exit code; SIGKILL's for a job that ended without one."""
        if not job.done():
            # `done` is asked anew, since the job may have ended in between.
            if self._is_forgotten(job) and not job.done(force_check=True):
                return -signal.SIGKILL
            return None
        try:
            # `result` waits up to 15 s for its file, since file systems show other machines' files late.
            return os.waitstatus_to_exitcode(job.result())
        except Exception:
            # Killed, timed out or out of memory: the engine's log has the cause.
            return -signal.SIGKILL

    @staticmethod
    def _is_forgotten(job: "submitit.Job[int]") -> bool:
        """Returns whether SLURM does not know a job: without accounting it forgets killed ones.

        submitit would wait for them forever.
        """
        if job.state != "UNKNOWN":
            return False
        queue = subprocess.run(["squeue", "--noheader", "--jobs", job.job_id], capture_output=True).stdout
        return not queue.strip()

    def name_of(self, job: "submitit.Job[int]") -> str:
        """Returns the job's number and state, as submitit writes them."""
        return str(job)

    def close(self, jobs: "Collection[submitit.Job[int]]") -> None:
        """Cancels the jobs: SLURM kills those whose epoch is long, and they resume from their checkpoints."""
        for job in jobs:
            if not job.done():
                job.cancel()


def _make_worker() -> Callable[[str], int]:
    """Returns the function of a Ray task.

    A nested function is pickled by value, so that workers need only the standard library.
    """

    def run(line: str) -> int:
        """Returns the exit code of a shell line; if the task is cancelled, its process is asked to stop."""
        interrupts = []
        # Ray cancels a task by an interrupt. As an exception it would lose a process that is just starting.
        signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
        process = subprocess.Popen(["sh", "-c", line])
        while process.poll() is None and not interrupts:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        process.terminate()
        return process.wait()

    return run


def _check_answers(address: str) -> None:
    """Raises ConnectionError if nothing answers at an address `HOST:PORT`; leaves other forms, as `auto`, to Ray."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


class Ray:
    """Runs tasks of a Ray cluster; the run folder must be on a disk shared by all nodes.

    Options: the cluster's `address` (default: start one on this machine), and `gpus` and `cpus` per shard.
    """

    def __init__(self, plan: ShardPlan):
        """Connects to the cluster, or starts one."""
        import ray  # pyright: ignore[reportMissingImports]

        self._ray: Any = ray
        options = {"cpus": "1", "address": "local", **plan.options}
        address = options.pop("address")
        resources: dict[str, Any] = {f"num_{name}": float(count) for name, count in options.items()}

        _check_answers(address)
        # Ray restarts no task itself: `launch` counts the restarts.
        self._task = ray.remote(max_calls=1, max_retries=0, **resources)(_make_worker())
        ray.init(address=address, log_to_driver=False, include_dashboard=False)

    def submit(self, lines: Sequence[str]) -> list[Any]:
        """Submits the shards."""
        return [self._task.remote(line) for line in lines]

    def poll(self, task: Any) -> int | None:
        """Returns the command's exit code; SIGKILL's if the worker died."""
        ready, _ = self._ray.wait([task], timeout=0)
        if not ready:
            return None
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError:
            return -signal.SIGKILL

    def name_of(self, task: Any) -> str:
        """Returns the number of the task."""
        return str(task)

    def close(self, tasks: Collection[Any]) -> None:
        """Waits until the shards have stopped, and closes the connection."""
        for task in tasks:
            self._ray.cancel(task)
        if tasks:
            self._ray.wait(list(tasks), num_returns=len(tasks))
        self._ray.shutdown()


LAUNCHERS: dict[str, Callable[[ShardPlan], Engine[Any]]] = {"local": Local, "slurm": Slurm, "ray": Ray}
"""The engine of each `--launcher`."""
