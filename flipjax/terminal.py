"""How a long command says how far it is: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
import unicodedata
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 5.0


def clock(seconds: float) -> str:
    """Returns a duration as minutes and seconds.

    Example:
      >>> clock(75.2)
      '1:15'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Bar:
    """Shows what is done, and the time left, as a context manager."""

    def __init__(self, what: str, *, total: int, stream: TextIO | None = None):
        """Starts the clock; `what` names the things that are counted, `total` is how many there are."""
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._total, self._done, self._skipped = total, 0, 0
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
        self._task = self._bar.add_task(what, total=total, note="")

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

    def skip(self, count: int) -> None:
        """Counts things that took no time: done by an earlier run, or not needed."""
        self._skipped += count
        self._done += count
        self._bar.update(self._task, completed=self._done)

    def advance(self, count: int, note: str = "", *, last: bool = False) -> None:
        """Counts what is done now, with a note and the time left; plain lines come now and then and at the `last`."""
        self._done += count
        seconds = time.monotonic() - self._start
        left = seconds / max(self._done - self._skipped, 1) * (self._total - self._done)
        note = f"{note}{'; ' if note else ''}{clock(left)} left"
        self._bar.update(self._task, completed=self._done, note=note)
        now = time.monotonic()
        if not self._live and (last or now - self._spoken > SECONDS_BETWEEN_LINES):
            self._spoken = now
            self.say(f"[{clock(seconds)}] {note}")


def printable(text: str) -> str:
    r"""Returns a text whose control characters are written out, so that a name of a file cannot steer a terminal.

    Example:
      >>> printable("a\x1b[2Jb\udcff\n  c")
      'a\\x1b[2Jb\\udcff\n  c'
    """
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") else ascii(c)[1:-1] for c in text
    )
