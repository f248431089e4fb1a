"""The process of a command, before its slow imports."""

import atexit
import gc
import os
import sys


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
