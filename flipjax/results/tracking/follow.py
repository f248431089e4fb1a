"""What follows a run while its members train: a function of the user, and a tracker."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.config.program import Program
from flipjax.results.arrays import Curves, MemberResults
from flipjax.results.tables import history_table, results_table, with_dtypes
from flipjax.results.tracking.trackers import Sender, TrackedMember, Tracker, histories_of, tracked_members
from flipjax.support.frames import Row
from flipjax.support.terminal import one_line, say

SECONDS_TO_SEND = 30.0
"""Seconds at the end of a run in which its tracker may take what it has not taken yet."""


@dataclasses.dataclass(frozen=True, eq=False)
class Epoch:
    """An epoch that members of a program have trained, as `flipjax.run` passes it to `on_epoch`."""

    program: str
    """The name of the program, such as 000."""
    number: int
    """The number of the epoch, from 1."""
    measured: Curves
    """What the members that trained in this epoch measured, as arrays of one epoch."""

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """The rows of history.csv of this epoch, one for each member that trained in it."""
        table = history_table(self.measured)
        table["epoch"] = self.number
        return table


def epoch_of(program: str, number: int, curves: Curves) -> Epoch:
    """Returns an epoch from the curves of a program's members, without what they measured in other epochs."""
    trained = curves.epochs >= number
    measured = Curves(
        member=curves.member[trained],
        epochs=np.ones(trained.sum(), np.int32),
        measure=curves.measure,
        curves=curves.curves[trained, number - 1 : number],
    )
    return Epoch(program, number, measured)


class CallbackError(Exception):
    """The user's function of an epoch raised an error."""

    def __init__(self, error: Exception):
        """Takes the error, which the run ends with."""
        super().__init__(str(error))
        self.error = error


class Tracking:
    """Sends members to a tracker in a thread of its own, for which training never waits.

    A tracker that fails is named in a line, and the run goes on without it. What it lacks then is sent when the same
    command is run again.
    """

    def __init__(self, name: str, tracker: Tracker, folder: Path):
        """Starts the thread.

        Args:
            name: of the tracker, for messages and the record.
            tracker: where members go.
            folder: where the folder of this tracker says what was sent.
        """
        self._name = name
        self._sender = Sender(tracker, folder / name)
        # The latest news of members, by their names: of a tracker that lags behind, newer ones replace older ones.
        self._news: dict[tuple[str, ...], Callable[[], Iterator[TrackedMember]]] = {}
        self._changed = threading.Condition()
        self._closed = False
        # A tracker that never answers does not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f"flipjax-{name}", daemon=True)
        self._thread.start()

    def follow(self, program: Program, curves: Curves) -> None:
        """Sends the epochs of a program's members that train."""
        configs = {setting.name: setting.columns for setting in program.settings}
        self._put(program.names, functools.partial(self._training, configs, curves))

    def finish(self, results: MemberResults) -> None:
        """Sends members that have results."""
        self._put(results.member.tolist(), functools.partial(_finished, results))

    def close(self) -> None:
        """Waits until all is sent, or for SECONDS_TO_SEND."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(SECONDS_TO_SEND)
        if self._thread.is_alive():
            say(
                f"{self._name} has not taken all rows within {SECONDS_TO_SEND:.0f} s; the same command sends the others"
            )

    def _put(self, members: Sequence[str], news: Callable[[], Iterator[TrackedMember]]) -> None:
        """Leaves news for the thread, unless it has ended."""
        with self._changed:
            if self._thread.is_alive():
                self._news[tuple(members)] = news
                self._changed.notify()

    def _training(self, configs: Mapping[str, Row], curves: Curves) -> Iterator[TrackedMember]:
        """Yields members that train, with the epochs that were not sent yet."""
        table = history_table(curves)
        last_sent = {name: self._sender.sent(name).epoch for name in configs}
        histories = histories_of(table[table["epoch"] > table["member"].map(last_sent)])
        for name, history in histories.items():
            yield TrackedMember(name, dict(configs[name]), history)

    def _work(self) -> None:
        """Sends news until there is none left and the run has ended, or the tracker fails."""
        try:
            while news := self._next():
                self._sender.send(news())
            self._sender.end()
        except Exception as error:  # A tracker may raise anything.
            say(f"{self._name} follows the run no longer ({one_line(str(error))}); the run goes on")

    def _next(self) -> Callable[[], Iterator[TrackedMember]] | None:
        """Waits for news and returns the oldest, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._closed)
            if not self._news:
                return None
            return self._news.pop(next(iter(self._news)))


def _finished(results: MemberResults) -> Iterator[TrackedMember]:
    """Yields members that have results."""
    yield from tracked_members(with_dtypes(results_table(results)), history_table(results))
