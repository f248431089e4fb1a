"""Handles SIGINT and SIGTERM from a sweep's start on. Imports nothing slow."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

INTERRUPTED = 75
SHOW_CURSOR = b"\x1b[?25h"


class Signals:
    """A context: until `training` is set, a signal ends the process at once, with exit code 75 and one line.

    After that, the first signal sets `stop`, which asks the run to stop after the epoch, and a second one ends it.
    """

    def __init__(self) -> None:
        """Changes nothing yet."""
        self.training = False
        self.stop = False
        self.release: Callable[[], Any] = lambda: None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Installs both handlers; does nothing outside the main thread, which alone receives signals."""
        if threading.current_thread() is not threading.main_thread():
            return self
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        stops_later = self.training and not self.stop
        self.stop = True
        # The reader of standard error may be gone.
        with contextlib.suppress(OSError):
            if stops_later:
                os.write(2, b"stopping after this epoch; once more stops at once\n")
            else:
                cursor = SHOW_CURSOR if os.isatty(2) else b""
                os.write(2, cursor + b"interrupted; the same command continues\n")
        if not stops_later:
            # File writes are atomic, so the process may exit anywhere. An exception would be lost in an import or
            # callback, or print a traceback.
            with contextlib.suppress(OSError):
                self.release()
            os._exit(INTERRUPTED)
