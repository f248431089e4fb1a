"""Experiment trackers: MLflow, Trackio and Weights & Biases, in which each member is a run.

`tracked_members` reads members of a run, and a `Sender` sends each of their rows once: `flipjax export` those of a
finished run, `flipjax sweep --track` those of members that still train. Each tracker reads its own settings
(MLFLOW_TRACKING_URI, WANDB_MODE, TRACKIO_DIR), so that its offline modes work.
"""

import contextlib
import contextvars
import dataclasses
import difflib
import functools
import importlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pandas as pd

from flipjax.config import ConfigError
from flipjax.results.rows import axes_of, member_quantities, quantities_in
from flipjax.support.files import naming_damage, read_json, write_text
from flipjax.support.frames import Row, groups_of, records_of

MOST_NUMBERS = 1000
"""The most numbers that MLflow takes in one request."""
SECONDS_AT_END = 30
"""Seconds that Weights & Biases may take to upload the rest of a run when it ends."""


@dataclasses.dataclass(frozen=True)
class TrackedMember:
    """A member as a run of a tracker."""

    name: str
    """Its name."""
    config: Row
    """Its axes."""
    history: Mapping[int, Mapping[str, float]]
    """The finite numbers of its rows of history.csv, by epoch from 1."""
    status: str = ""
    """Its status; empty while it trains."""
    test: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Its finite test quantities, as `test/<key>`; none while it trains."""

    @property
    def last_epoch(self) -> int:
        """The last epoch, 0 without history."""
        return max(self.history, default=0)


def tracked_members(results: pd.DataFrame, history: pd.DataFrame) -> Iterator[TrackedMember]:
    """Yields the members with test rows under the first selection rule.

    Args:
        results: the rows of results.csv.
        history: the rows of history.csv.
    """
    rows = results[results["selection"] == results["selection"].iloc[0]]
    histories = histories_of(history)
    table = member_quantities(rows)
    keys = quantities_in(table)
    for record in records_of(table):
        yield TrackedMember(
            name=record["member"],
            config={name: record[name] for name in axes_of(rows)},
            history=histories.get(record["member"], {}),
            status=record["status"],
            test=_finite({f"test/{key}": record[key] for key in keys}),
        )


def histories_of(history: pd.DataFrame) -> dict[str, dict[int, dict[str, float]]]:
    """Returns the finite numbers of the rows of history.csv, by member and epoch."""
    histories: dict[str, dict[int, dict[str, float]]] = {}
    for (name,), table in groups_of(history, ["member"]):
        of_member = {}
        for row in records_of(table.drop(columns="member")):
            epoch = row.pop("epoch")
            of_member[epoch] = _finite(row)
        histories[name] = of_member
    return histories


def _finite(row: Row) -> dict[str, float]:
    """Returns the columns of a row whose number is finite."""
    return {name: value for name, value in row.items() if math.isfinite(value)}


class TrackerRun(Protocol):
    """A member's run in a tracker, which is open until it ends."""

    @property
    def identity(self) -> str:
        """What finds the run again in its tracker."""
        ...

    def log(self, measures: Mapping[str, float], *, step: int) -> None:
        """Logs the numbers of an epoch."""
        ...

    def log_results(self, member: TrackedMember) -> None:
        """Logs the status and the test quantities of a member that has trained."""
        ...

    def end(self) -> None:
        """Ends the run, once all that was logged has arrived."""
        ...


class Tracker(Protocol):
    """A project of an experiment tracker. To make one connects to nothing."""

    def open(self, member: TrackedMember, identity: str) -> TrackerRun:
        """Begins a member's run or, with an identity that is not empty, continues that one."""
        ...


@dataclasses.dataclass(frozen=True)
class _MlflowRun:
    """A run of MLflow."""

    mlflow: ModuleType
    """The package."""
    identity: str
    """The run's id."""

    def log(self, measures: Mapping[str, float], *, step: int | None = None) -> None:
        """Logs numbers at a step, by default the first."""
        names = list(measures)
        for start in range(0, len(names), MOST_NUMBERS):
            some = {name: measures[name] for name in names[start : start + MOST_NUMBERS]}
            self.mlflow.log_metrics(some, step=step, run_id=self.identity)

    def log_results(self, member: TrackedMember) -> None:
        """Logs the status as a parameter, and the test quantities."""
        self.mlflow.log_params({"status": member.status}, run_id=self.identity)
        self.log(member.test)

    def end(self) -> None:
        """Marks the run as finished."""
        self.mlflow.MlflowClient().set_terminated(self.identity)


@dataclasses.dataclass(frozen=True)
class Mlflow:
    """An experiment of MLflow."""

    project: str
    """The experiment's name."""
    group: str
    """Unused: MLflow has no groups."""
    mlflow: ModuleType
    """The package."""

    @functools.cached_property
    def _experiment(self) -> str:
        """The experiment's id."""
        return self.mlflow.set_experiment(self.project).experiment_id

    def open(self, member: TrackedMember, identity: str) -> TrackerRun:
        """Begins or continues a member's run."""
        if not identity:
            # A context, which adds the user and the source to the run, and ends it.
            with self.mlflow.start_run(experiment_id=self._experiment, run_name=member.name) as run:
                identity = run.info.run_id
                self.mlflow.log_params(member.config)
        self.mlflow.MlflowClient().update_run(identity, status="RUNNING")
        return _MlflowRun(self.mlflow, identity)


@dataclasses.dataclass(frozen=True)
class _WandbRun:
    """A run of Weights & Biases."""

    run: Any
    """The run of the package."""

    @property
    def identity(self) -> str:
        """The run's id."""
        return self.run.id

    def log(self, measures: Mapping[str, float], *, step: int) -> None:
        """Logs the numbers of an epoch."""
        self.run.log(dict(measures), step=step)

    def log_results(self, member: TrackedMember) -> None:
        """Logs the status in the configuration, and the test quantities at the last epoch."""
        self.run.config.update({"status": member.status})
        # Without a step, which would have to be beyond those of a run that was continued.
        self.run.log(dict(member.test))

    def end(self) -> None:
        """Ends the run."""
        self.run.finish()


@dataclasses.dataclass(frozen=True)
class Wandb:
    """A project of Weights & Biases."""

    project: str
    """The project's name."""
    group: str
    """The runs' group."""
    wandb: ModuleType
    """The package."""

    @functools.cached_property
    def _is_online(self) -> bool:
        """Whether runs go to a server."""
        return self.wandb.setup().settings.mode == "online"

    @functools.cached_property
    def _has_key(self) -> bool:
        """Whether the server's key is known without asking for it on the terminal."""
        return self.wandb.login(prompt=False, verify=False)

    def open(self, member: TrackedMember, identity: str) -> TrackerRun:
        """Begins or continues a member's run beside those that are open.

        Raises:
            ConfigError: it would ask for a key on the terminal.
        """
        if self._is_online and not self._has_key:
            raise ConfigError("wandb", "a key, which `wandb login` stores, or WANDB_MODE=offline", "neither")
        quiet = self.wandb.Settings(console="off", silent=True, x_disable_stats=True, finish_timeout=SECONDS_AT_END)
        resume = None
        # Offline each part of a run has a file of its own, and the server joins those of one id.
        if identity and self._is_online:
            resume = "allow"
        run = self.wandb.init(
            project=self.project,
            group=self.group,
            name=member.name,
            config=dict(member.config),
            id=identity or None,
            resume=resume,
            reinit="create_new",
            settings=quiet,
        )
        return _WandbRun(run)


@dataclasses.dataclass
class _TrackioRun:
    """A run of Trackio."""

    run: Any
    """The run of the package."""
    begin: Callable[..., Any]
    """Begins or continues the run, with a configuration."""

    @property
    def identity(self) -> str:
        """The run's name, by which Trackio continues it."""
        return self.run.name

    def log(self, measures: Mapping[str, float], *, step: int) -> None:
        """Logs the numbers of an epoch."""
        self.run.log(dict(measures), step=step)

    def log_results(self, member: TrackedMember) -> None:
        """Logs the status in the configuration, and the test quantities at the last epoch."""
        # Trackio stores a configuration with the first numbers of a run, or of its continuation.
        self.end()
        self.run = self.begin(config={**member.config, "status": member.status}, resume="must")
        self.run.log(dict(member.test), step=member.last_epoch)

    def end(self) -> None:
        """Ends the run."""
        with _unprinted():
            self.run.finish()


@dataclasses.dataclass(frozen=True)
class Trackio:
    """A project of Trackio."""

    project: str
    """The project's name."""
    group: str
    """The runs' group."""
    trackio: ModuleType
    """The package."""

    def open(self, member: TrackedMember, identity: str) -> TrackerRun:
        """Begins or continues a member's run beside those that are open."""
        begin = functools.partial(self._begin, identity or member.name)
        resume = "never"
        if identity:
            resume = "must"
        return _TrackioRun(begin(config=dict(member.config), resume=resume), begin)

    def _begin(self, name: str, *, config: Row, resume: str) -> Any:
        """Begins a run of the package, without its page in a notebook and without the machine's own numbers."""
        begin = functools.partial(
            self.trackio.init,
            project=self.project,
            name=name,
            group=self.group,
            config=config,
            resume=resume,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        with _unprinted():
            # In a context of its own: Trackio ends the run that its context holds when it begins another.
            return contextvars.Context().run(begin)


@contextlib.contextmanager
def _unprinted() -> Iterator[None]:
    """Discards what is printed: Trackio prints several lines for each run."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


TRACKERS: dict[str, Callable[[str, str, ModuleType], Tracker]] = {
    "mlflow": Mlflow,
    "trackio": Trackio,
    "wandb": Wandb,
}
"""Functions of a project, a group and the tracker's package."""


def find_tracker(name: str, *, project: str, group: str) -> Tracker:
    """Returns a project of a tracker by the tracker's name.

    Args:
        name: of TRACKERS.
        project: the name of the project, or the experiment.
        group: the runs' group, where the tracker has groups.

    Raises:
        ConfigError: flipjax knows no such tracker.
        ModuleNotFoundError: it is not installed.
    """
    if name not in TRACKERS:
        near = difflib.get_close_matches(name.lower(), TRACKERS, n=1)
        hint = f"one of {', '.join(TRACKERS)}"
        if near:
            hint += f"; the nearest is {near[0]}"
        raise ConfigError("--track", hint, name or "no name")
    return TRACKERS[name](project, group, importlib.import_module(name))


@dataclasses.dataclass(frozen=True)
class Sent:
    """What a tracker has of a member."""

    run: str = ""
    """The identity of its run; empty if it has none yet."""
    epoch: int = 0
    """The last epoch that was sent."""
    finished: bool = False
    """Whether its results were sent, too."""


class Sender:
    """Sends members to a tracker: each row once, also if another process goes on."""

    def __init__(self, tracker: Tracker, folder: Path | None = None):
        """Opens nothing yet.

        Args:
            tracker: where members go.
            folder: of a file for each member, which says what was sent; None: all is sent, and remembered nowhere.
        """
        self._tracker = tracker
        self._folder = folder
        self._sent: dict[str, Sent] = {}
        self._open: dict[str, TrackerRun] = {}

    def sent(self, member: str) -> Sent:
        """Returns what the tracker has of a member."""
        if member not in self._sent:
            self._sent[member] = self._read(member)
        return self._sent[member]

    def send(self, members: Iterable[TrackedMember]) -> None:
        """Sends what the tracker lacks of members, and ends the runs of those that have results."""
        for member in members:
            sent = self.sent(member.name)
            rows = {epoch: row for epoch, row in member.history.items() if epoch > sent.epoch}
            if not sent.finished and (rows or member.status):
                self._send(member, sent, rows)

    def _send(self, member: TrackedMember, sent: Sent, rows: Mapping[int, Mapping[str, float]]) -> None:
        """Sends rows of a member, and its results if it has some."""
        if member.name not in self._open:
            run = self._tracker.open(member, sent.run)
            self._open[member.name] = run
            # Recorded before any row is sent: a process that is killed now leaves no second run.
            self._record(member.name, dataclasses.replace(sent, run=run.identity))
        run = self._open[member.name]
        for epoch, row in rows.items():
            run.log(row, step=epoch)
        finished = bool(member.status)
        if finished:
            run.log_results(member)
            self._open.pop(member.name).end()
        self._record(member.name, Sent(run.identity, max(sent.epoch, member.last_epoch), finished))

    def end(self) -> None:
        """Ends the runs that are open, of members that have no results yet."""
        while self._open:
            self._open.popitem()[1].end()

    def _path(self, member: str) -> Path | None:
        """Returns the file that says what was sent of a member."""
        if self._folder is None:
            return None
        return self._folder / f"{member}.json"

    def _read(self, member: str) -> Sent:
        """Returns what was sent of a member; raises DamagedError if the file does not say it."""
        path = self._path(member)
        if path is None or not path.is_file():
            return Sent()
        with naming_damage(path):
            return Sent(**read_json(path))

    def _record(self, member: str, sent: Sent) -> None:
        """Notes what was sent of a member."""
        self._sent[member] = sent
        path = self._path(member)
        if path is not None:
            write_text(path, json.dumps(dataclasses.asdict(sent)) + "\n")
