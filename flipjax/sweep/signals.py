"""What SIGINT and SIGTERM do to a sweep, from its first moment on. Imports nothing that takes time."""

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

    From then on the first one sets `stop`, which asks the run to stop after the epoch, and a second one ends it.
    """

    def __init__(self) -> None:
        """Changes nothing yet."""
        self.training = False
        self.stop = False
        self.release: Callable[[], Any] = lambda: None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Takes both signals; in a thread, which gets none, it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return self
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        """Gives them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        stops_later = self.training and not self.stop
        self.stop = True
        # Whoever read standard error may be gone.
        with contextlib.suppress(OSError):
            if stops_later:
                os.write(2, b"stopping after this epoch; once more stops at once\n")
            else:
                cursor = SHOW_CURSOR if os.isatty(2) else b""
                os.write(2, cursor + b"interrupted; the same command continues\n")
        if not stops_later:
            # Every file appears whole or not at all, so that the process may end anywhere. An exception may not: amid
            # an import or a callback it is lost, or comes with a traceback.
            with contextlib.suppress(OSError):
                self.release()
            os._exit(INTERRUPTED)
