"""How a long command says how far it is: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
import unicodedata
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 5.0
LINES = 20
"""A plain line comes after this part of the time that has passed: fewer, the longer a run gets."""


def clock(seconds: float) -> str:
    """Returns a duration as minutes and seconds, with hours where there are any.

    Example:
      >>> clock(75.2), clock(3675)
      ('1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Bar:
    """Shows what is done, and the time left, as a context manager."""

    def __init__(self, what: str, *, total: int, stream: TextIO | None = None):
        """Starts the clock; `what` names the things that are counted, `total` is how many there are."""
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._total = total
        self._done = 0
        self._start = self._last = time.monotonic()
        self._timed = 0
        self._seconds = 0.0
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
        self._task = self._bar.add_task(what, total=total, note="")

    def __enter__(self) -> Self:
        """Starts the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the bar."""
        # Before rich 14.3 the end of a bar that is not shown is an empty line.
        if self._live:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._live:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self._stream, flush=True)

    def skip(self, count: int) -> None:
        """Counts things that took no time: done by an earlier run, or not needed."""
        self._done += count
        self._bar.update(self._task, completed=self._done)

    def advance(self, count: int, note: str = "", *, last: bool = False, warmup: bool = False) -> None:
        """Counts what is done now, with a note and the time left; plain lines come now and then and at the `last`.

        Args:
          count: of things that are done since the last call.
          note: about them.
          last: whether a plain line comes in any case.
          warmup: whether they took longer than others will, so that the time left is not reckoned from them.
        """
        now = time.monotonic()
        self._done += count
        if not warmup:
            self._timed += count
            self._seconds += now - self._last
        self._last = now
        left = "time left known soon"
        if self._timed or self._done >= self._total:
            left = f"{clock(self._seconds / max(self._timed, 1) * (self._total - self._done))} left"
        note = f"{note}{'; ' if note else ''}{left}"
        self._bar.update(self._task, completed=self._done, note=note)
        passed = now - self._start
        if not self._live and (last or now - self._spoken > max(SECONDS_BETWEEN_LINES, passed / LINES)):
            self._spoken = now
            self.say(f"[{clock(passed)}] {note}")


def printable(text: str) -> str:
    r"""Returns a text whose control characters are written out, so that a name of a file cannot steer a terminal.

    Example:
      >>> printable("a\x1b[2Jb\udcff\n  c")
      'a\\x1b[2Jb\\udcff\n  c'
    """
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") else ascii(c)[1:-1] for c in text
    )
