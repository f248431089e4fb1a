"""The process: a command owns it from its slow imports on; a call from Python leaves it as it was."""

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Iterator


class Process:
    """To whom the process belongs."""

    is_command = False
    """Whether a command runs; else a call of the user's own program does."""


@contextlib.contextmanager
def as_command() -> Iterator[None]:
    """While it lasts, flipjax sets what is for the whole process: JAX's random bits, devices and cache, and malloc."""
    before = Process.is_command
    Process.is_command = True
    try:
        yield
    finally:
        Process.is_command = before


def begin_process() -> None:
    """Opens the null device for missing standard streams, and makes garbage collections rarer.

    Daemons and cron start processes without streams. `sys.stdin` stays None, so that its readers can report that it is
    closed. Collections would visit the millions of objects of JAX's traces and Matplotlib's charts again and again, and
    the one at exit all of them.
    """
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            if number:
                setattr(sys, name, os.fdopen(number, "w", closefd=False))
