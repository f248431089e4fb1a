"""Contexts that undo what other libraries change in the process: random generators, filters of warnings, logging.

Put one around a single import or call, never around a whole run: on leaving, it would also undo what other threads and
the user's own functions have drawn or set meanwhile.
"""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def imports_leave_no_trace() -> Iterator[None]:
    """Restores what imports change: the random generators of Python and NumPy, filters of warnings, and logging.

    Flax imports rich, which draws random numbers; SciPy filters warnings; Orbax logs.

    Example:
        >>> import random
        >>> before = random.getstate()
        >>> with imports_leave_no_trace():
        ...     drawn = random.random()
        >>> random.getstate() == before
        True
    """
    with contextlib.ExitStack() as ending:
        ending.enter_context(warnings.catch_warnings())
        ending.enter_context(logging_as_before())
        # Nobody relies on the state of what is not imported yet.
        if "random" in sys.modules:
            python = sys.modules["random"]
            ending.callback(python.setstate, python.getstate())
        if "numpy.random" in sys.modules:
            numpy = sys.modules["numpy.random"]
            ending.callback(numpy.set_state, numpy.get_state())
        yield


@contextlib.contextmanager
def logging_as_before() -> Iterator[None]:
    """Restores the handlers of the root logger, and the levels of all loggers that there are.

    absl, by which Orbax logs, gives a root without handlers one, after which `logging.basicConfig` does nothing.

    Example:
        >>> before = list(logging.root.handlers)
        >>> with logging_as_before():
        ...     logging.root.addHandler(logging.NullHandler())
        >>> logging.root.handlers == before
        True
    """
    handlers = list(logging.root.handlers)
    loggers: list[logging.Logger] = [logging.root]
    for logger in logging.root.manager.loggerDict.values():
        # Others stand for loggers that nobody has asked for.
        if isinstance(logger, logging.Logger):
            loggers.append(logger)
    levels = [logger.level for logger in loggers]
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            if logger.level != level:
                logger.setLevel(level)
