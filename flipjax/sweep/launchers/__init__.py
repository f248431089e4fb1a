"""Engines that run a sweep's shards as jobs. A job is the sweep's own command with `--shard i/n`, never a pickle."""

import dataclasses
import importlib
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from flipjax.config import ConfigError
from flipjax.sweep.lock import SHARD_JOB
from flipjax.sweep.signals import INTERRUPTED

# The module of each launcher, and its engine.
LAUNCHERS = {
    "local": ("flipjax.sweep.launchers.local", "Local"),
    "slurm": ("flipjax.sweep.launchers.slurm", "Slurm"),
    "ray": ("flipjax.sweep.launchers.ray_tasks", "Ray"),
}
RETRIES = 2
# What a shell says of a command that SIGKILL ended.
KILLED = 137
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_LINES = 10.0


class Engine(Protocol):
    """What runs the commands of `Jobs`."""

    def submit(self, shards: Sequence[int]) -> None:
        """Starts the commands of some shards, or starts them again."""

    def poll(self, shard: int) -> int | None:
        """Returns the exit code of a shard's job, None while it waits or runs; one that was killed has 128 or more."""

    def describe(self, shard: int) -> str:
        """Says where a shard's job runs or ran: host and process, or the engine's number of the job."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what this process started of the engine."""


@dataclasses.dataclass(frozen=True)
class Jobs:
    """The commands of all shards, the folder of their logs, and the engine's own options."""

    commands: tuple[tuple[str, ...], ...]
    logs: Path
    options: Mapping[str, str]

    def log(self, shard: int) -> Path:
        """Returns the file of a shard's output."""
        return self.logs / f"shard-{shard}-of-{len(self.commands)}.log"

    def parameters(self, options: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
        """Returns the engine's parameters: `options` has the name and kind of each; a ConfigError names a wrong one."""
        given = {}
        for name, text in self.options.items():
            try:
                parameter, kind = options[name]
                given[parameter] = kind(text)
            except (KeyError, ValueError) as error:
                found = f"{name}={text}"
                raise ConfigError("--launcher_option", f"one of {', '.join(options) or 'none'}", found) from error
        return given


def shard_commands(arguments: Sequence[str], count: int) -> tuple[tuple[str, ...], ...]:
    """Returns the command of each shard: the sweep's own arguments, without those of the launcher.

    Each has the name of its job, by which a shard that is started again knows that the first one has ended.
    """
    shared = []
    skip = False
    for part in arguments:
        name, equals, _ = part.replace("-", "_").partition("=")
        if name in ("__launcher", "__shards", "__launcher_option"):
            skip = not equals
        elif skip:
            skip = False
        else:
            shared.append(part)
    job = uuid.uuid4().hex
    python = (sys.executable, "-m", "flipjax.sweep", *shared)
    return tuple(
        ("env", f"{SHARD_JOB}={job}-{index}", *python, "--shard", f"{index}/{count}") for index in range(count)
    )


def run_jobs(engine: Engine, jobs: Jobs, *, say: Callable[[str], Any]) -> dict[int, int]:
    """Runs all shards, those that are killed or interrupted again, and returns their exit codes.

    Says how far each is, by the last line of its log, and names host, process and log of what fails.
    """
    codes: dict[int, int] = {}
    tries = dict.fromkeys(range(len(jobs.commands)), 0)
    spoken: dict[int, str] = {}
    last = time.monotonic()
    engine.submit(list(tries))
    while len(codes) < len(tries):
        time.sleep(SECONDS_BETWEEN_LOOKS)
        speak = time.monotonic() - last > SECONDS_BETWEEN_LINES
        last = time.monotonic() if speak else last
        for shard in tries.keys() - codes.keys():
            code = engine.poll(shard)
            line = _last_line(jobs.log(shard))
            if code is None:
                if speak and line != spoken.get(shard):
                    say(f"shard {shard}: {line}")
                    spoken[shard] = line
            elif (code == INTERRUPTED or code >= 128) and tries[shard] < RETRIES:
                tries[shard] += 1
                say(f"shard {shard} was ended with {code} on {engine.describe(shard)}; started again")
                engine.submit([shard])
            else:
                codes[shard] = code
                where = f" on {engine.describe(shard)}, see {jobs.log(shard)}: {line}" if code else ""
                say(f"shard {shard} ended with {code}{where}")
    return codes


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "waiting")


def launch(kind: str, jobs: Jobs, *, say: Callable[[str], Any]) -> dict[int, int]:
    """Runs all shards with an engine; returns their exit codes.

    Raises:
        ConfigError: the engine's package is missing, or an option is wrong.
    """
    module, name = LAUNCHERS[kind]
    try:
        engine_of = getattr(importlib.import_module(module), name)
    except ImportError as error:
        problem = f"{kind} needs the package {error.name}: python -m pip install 'flipjax[{kind}]'"
        raise ConfigError("--launcher", problem=problem) from error
    jobs.logs.mkdir(parents=True, exist_ok=True)
    engine: Engine = engine_of(jobs)
    try:
        return run_jobs(engine, jobs, say=say)
    finally:
        engine.close()


def exit_code(code: int) -> int:
    """Returns the exit code of a process as a shell has it: 128 and the signal's number where a signal ended it.

    Example:
        >>> exit_code(2), exit_code(-9)
        (2, 137)
    """
    return code if code >= 0 else 128 - code
