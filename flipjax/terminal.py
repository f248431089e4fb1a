"""How a long command says how far it is: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
import unicodedata
from types import TracebackType
from typing import Any, Self, TextIO

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

    def __init__(self, what: str, *, total: int, starts: int = 0, stream: TextIO | None = None):
        """Starts the clock; `what` names the things that are counted, `total` is how many there are.

        `starts` is how often there is a `warmup`, see `advance`.
        """
        self._stream = stream or sys.stderr
        self._total = total
        self._done = 0
        self._start = self._last = time.monotonic()
        self._starts = starts
        # How many things took how many seconds, with a warmup and without.
        self._cold: list[tuple[int, float]] = []
        self._timed = 0
        self._seconds = 0.0
        self._spoken = float("-inf")
        self._bar: Any = _live_bar(self._stream) if self._stream.isatty() else None
        self._task = None if self._bar is None else self._bar.add_task(what, total=total, note="")

    def __enter__(self) -> Self:
        """Starts the bar."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self._stream, flush=True)

    def skip(self, count: int) -> None:
        """Counts things that took no time: done by an earlier run, or not needed."""
        self._done += count
        self._show()

    def advance(self, count: int, note: str = "", *, last: bool = False, warmup: bool = False) -> None:
        """Counts what is done now, with a note and the time left; plain lines come now and then and at the `last`.

        Args:
          count: of things that are done since the last call.
          note: about them.
          last: whether a plain line comes in any case.
          warmup: whether a start was in them, such as a compilation, so that they took longer than others will.
        """
        now = time.monotonic()
        self._done += count
        if warmup:
            self._cold.append((count, now - self._last))
        else:
            self._timed += count
            self._seconds += now - self._last
        self._last = now
        note = f"{note}{'; ' if note else ''}{self._left()}"
        self._show(note=note)
        passed = now - self._start
        if self._bar is None and (last or now - self._spoken > max(SECONDS_BETWEEN_LINES, passed / LINES)):
            self._spoken = now
            self.say(f"[{clock(passed)}] {note}")

    def _show(self, **fields: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, **fields)

    def _left(self) -> str:
        """The time left: of the things to do, and of the starts to come. Before any is timed, at most that long."""
        rest = self._total - self._done
        count, seconds = (sum(values) for values in zip(*self._cold, strict=True)) if self._cold else (0, 0.0)
        if rest > 0 and not self._timed:
            return f"at most {clock(seconds / count * rest)} left" if count else "time left known soon"
        pace = self._seconds / max(self._timed, 1)
        start = max(0.0, seconds - pace * count) / max(len(self._cold), 1)
        return f"{clock(pace * rest + start * max(0, self._starts - len(self._cold)))} left"


def _live_bar(stream: TextIO) -> Any:
    """A bar of rich, or None where it is not installed: plain lines do as well."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    return Progress(TextColumn("{task.description}"), *columns, console=Console(file=stream))


def one_line(text: str) -> str:
    r"""Returns a text as `printable` does, its line breaks written out as well: of a problem, or of one sentence.

    Example:
      >>> one_line("a\nb")
      'a\\nb'
    """
    return printable(text).replace("\n", r"\n")


def printable(text: str) -> str:
    r"""Returns a text whose control characters are written out, so that a name of a file cannot steer a terminal.

    Example:
      >>> printable("a\x1b[2Jb\udcff\n  c")
      'a\\x1b[2Jb\\udcff\n  c'
    """
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") else ascii(c)[1:-1] for c in text
    )
