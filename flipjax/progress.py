"""What a running sweep shows: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flipjax.train import Status

SECONDS_BETWEEN_LINES = 5.0


def clock(seconds: float) -> str:
    """Returns a duration as minutes and seconds.

    Example:
      >>> clock(75.2)
      '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Display:
    """Shows epochs done, members running, stopped and diverged, losses and the time left, as a context manager."""

    def __init__(self, *, total: int, stream: TextIO | None = None):
        """Starts the clock; `total` counts member epochs over all cells, an upper bound."""
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._total, self._done, self._trained = total, 0, 0
        self._start = time.monotonic()
        self._spoken = float("-inf")
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=self._stream),
            disable=not self._live,
        )
        self._task = self._bar.add_task("member epochs", total=total, note="")

    def __enter__(self) -> Self:
        """Starts the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the bar."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._live:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self._stream, flush=True)

    def skip(self, member_epochs: int) -> None:
        """Counts member epochs that an earlier run has done."""
        self._done += member_epochs
        self._bar.update(self._task, completed=self._done)

    def epoch(self, name: str, epoch: int, epochs: int, status: np.ndarray, losses: np.ndarray, *, freed: int) -> None:
        """Reports an epoch of a cell.

        Args:
          name: of the cell.
          epoch: just done, from 1.
          epochs: at most.
          status: (K,) status of all members.
          losses: (R,) validation losses of the members that ran it; those of diverged ones are left out of the mean.
          freed: member epochs that will not be run, since members stopped early in this one.
        """
        self._trained += len(losses)
        self._done += len(losses) + freed
        seconds = time.monotonic() - self._start
        left = seconds / max(self._trained, 1) * (self._total - self._done)
        counts = {kind.name.lower(): int((status == kind).sum()) for kind in Status}
        members = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        finite = losses[np.isfinite(losses)]
        mean = f"{finite.mean():.4f}" if finite.size else "-"
        note = f"cell {name}, epoch {epoch}/{epochs}: {members}; mean validation loss {mean}; {clock(left)} left"
        self._bar.update(self._task, completed=self._done, note=note)
        now = time.monotonic()
        if not self._live and (now - self._spoken > SECONDS_BETWEEN_LINES or not (status == Status.RUNNING).any()):
            self._spoken = now
            self.say(f"[{clock(seconds)}] {note}")
