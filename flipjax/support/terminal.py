"""The terminal: signals, and progress in a line that is rewritten or, elsewhere, plain lines. Imports nothing slow."""

import contextlib
import datetime
import math
import os
import shutil
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Self, TextIO, TypeAlias

INTERRUPTED = 75
"""Exit code of a command that the same command continues, or does anew."""
SECONDS_BETWEEN_LINES = 5.0
"""Least time between two plain lines of progress."""
LINES_SO_FAR = 4
"""The time between them is the elapsed time over this, if that is longer, so that a long run prints few."""

Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | signal.Handlers | None
"""What Python calls for a signal, or one of its constants."""


def clock(seconds: float) -> str:
    """Formats a duration as minutes and seconds, with hours if any.

    Example:
      >>> clock(75.2), clock(3675)
      ('01:15', '1:01:15')
    """
    return str(datetime.timedelta(seconds=int(seconds))).removeprefix("0:")


def say(text: str, *, stream: TextIO | None = None) -> None:
    """Prints a line to a stream, standard error by default; does nothing if it is closed or its reader is gone."""
    out: TextIO | None = stream or sys.stderr
    if out is None:
        return
    try:
        print(text, file=out, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


class Signals:
    """A context: until `training` is set, a signal ends the process at once, with exit code 75 and one line.

    After that, the first signal sets `stop`, which asks the run to stop after the epoch, and a second one ends it.
    """

    def __init__(self, *, until: float = math.inf) -> None:
        """Changes nothing yet; a run is also asked to stop once `time.monotonic()` is beyond `until`."""
        self.training = False
        self.until = until
        # Called before a signal ends the process, to release what the command holds, such as a lock.
        self.release: Callable[[], object] = _hold_nothing
        self._signalled = False
        self._handlers_before: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        """Installs both handlers; does nothing outside the main thread, which alone receives signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers_before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    @property
    def stop(self) -> bool:
        """Whether the run is to stop after the epoch."""
        return self._signalled or time.monotonic() > self.until

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Asks the run to stop, or ends the process."""
        stops_later = self.training and not self._signalled
        self._signalled = True
        line = "stopping after this epoch; once more stops at once\n"
        if not stops_later:
            line = "interrupted; the same command continues\n"
        # The reader of standard error may be gone.
        with contextlib.suppress(OSError):
            if os.isatty(2):
                # After the line of a `Bar`.
                line = f"\n{line}"
            os.write(2, line.encode())
        if not stops_later:
            # File writes are atomic, so the process may exit anywhere. An exception inside an import or callback
            # would be swallowed or print a traceback.
            with contextlib.suppress(OSError):
                self.release()
            os._exit(INTERRUPTED)


class Interrupts(Signals):
    """Signals of a call from Python: Ctrl-C in training ends it after the epoch, and once more at once.

    Before training it ends the call at once. Where SIGINT has another handler than Python's own, such as that of a
    command, that one stays.
    """

    def __enter__(self) -> Self:
        """Installs the handler; does nothing outside the main thread, which alone receives signals."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._handlers_before[signal.SIGINT] = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Asks the run to stop, or raises KeyboardInterrupt."""
        if not self.training or self._signalled:
            raise KeyboardInterrupt
        self._signalled = True
        # The signal may have come amid a line of the same stream, which refuses another.
        with contextlib.suppress(RuntimeError):
            say("stopping after this epoch; once more stops at once")


@contextlib.contextmanager
def later_interrupts() -> Iterator[None]:
    """Delivers Ctrl-C at the end of the block. Inside, it would lose a process that is just starting.

    Does nothing outside the main thread, which alone gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = []
    handler = signal.signal(signal.SIGINT, lambda number, _: numbers.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if numbers:
        signal.raise_signal(signal.SIGINT)


def _hold_nothing() -> None:
    """Releases nothing: the command holds no lock yet."""


class Bar(contextlib.AbstractContextManager["Bar"]):
    """A context that shows progress and the time left, on a terminal or in a notebook in one line that is rewritten."""

    def __init__(self, *, total: int, parts: int = 1, stream: TextIO | None = None):
        """Starts the clock; `total` is the number of counted items, in parts that each `begin`."""
        self._stream = stream or sys.stderr
        # A notebook rewrites a line, too.
        is_rewritten = self._stream.isatty() or "ipykernel" in sys.modules
        self._width = 0
        if is_rewritten:
            self._width = shutil.get_terminal_size().columns - 1
        self._total = total
        self._parts = parts
        self._start = time.monotonic()
        # When the latest item was done, or the latest part began.
        self._latest = self._start
        self._done = 0
        # Items whose seconds are known, and these seconds.
        self._timed = 0
        self._seconds_of_timed = 0.0
        # Seconds before each part that has begun, such as those of a compilation.
        self._seconds_before: list[float] = []
        # When the latest plain line was printed.
        self._printed = -math.inf

    def __exit__(self, *_: object) -> None:
        """Leaves the latest line of a terminal as it is."""
        if self._width:
            say("", stream=self._stream)

    def say(self, text: str) -> None:
        """Prints a line."""
        say(text.ljust(self._width), stream=self._stream)

    def begin(self) -> None:
        """Begins a part: time since the latest item is not an item's. Without parts, the first item is not timed."""
        now = time.monotonic()
        self._seconds_before.append(now - self._latest)
        self._latest = now

    def skip(self, count: int) -> None:
        """Counts items that took no time, done by an earlier run or not needed."""
        self._total -= count

    def advance(self, count: int, note: str = "", *, last: bool = False) -> None:
        """Counts completed items, with a note and the time left; a plain line occasionally and at the `last`."""
        if self._seconds_before:
            self._seconds_of_timed += time.monotonic() - self._latest
            self._timed += count
        else:
            self.begin()
        now = time.monotonic()
        self._latest = now
        self._done += count
        left = "time left known soon"
        if self._timed:
            left = f"{clock(self._seconds_left())} left"
        # The time left comes first: a narrow terminal cuts the line.
        line = f"[{clock(now - self._start)}, {left}] {note}".rstrip()
        if self._width:
            print(line[: self._width].ljust(self._width), end="\r", file=self._stream, flush=True)
        elif last or now - self._printed > max(SECONDS_BETWEEN_LINES, (now - self._start) / LINES_SO_FAR):
            self._printed = now
            self.say(line)

    def _seconds_left(self) -> float:
        """Returns the time that the other items take if they are as those before, and the parts that are to begin."""
        of_items = self._seconds_of_timed / self._timed * (self._total - self._done)
        begun = len(self._seconds_before)
        before_parts = sum(self._seconds_before) / begun * max(0, self._parts - begun)
        return of_items + before_parts


def one_line(text: str) -> str:
    r"""Escapes line breaks as well as the control characters of `printable`.

    Example:
      >>> one_line("a\nb")
      'a\\nb'
    """
    return printable(text).replace("\n", r"\n")


def listed(values: Iterable[object], *, most: int = 10) -> str:
    """Returns the first `most` values as text, and the number of the others; "nothing" if there are none.

    Example:
        >>> listed(["a", "b", "c"], most=2), listed([])
        ('a, b and 1 more', 'nothing')
    """
    texts = [str(value) for value in values]
    if not texts:
        return "nothing"
    text = ", ".join(texts[:most])
    if len(texts) > most:
        text += f" and {len(texts) - most} more"
    return text


def printable(text: str) -> str:
    r"""Escapes control characters, so that a file name cannot control the terminal.

    Example:
      >>> printable("a\x1b[2Jb\udcff\n  c")
      'a\\x1b[2Jb\\udcff\n  c'
    """
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    """Returns a character, or its escape if it controls the terminal."""
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp"):
        return character
    return ascii(character)[1:-1]
