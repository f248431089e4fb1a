"""Threads on this process's available cores."""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Out = TypeVar("Out")

AHEAD = 8
"""Most results per core that are computed ahead."""


def cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(work: Callable[[Job], Out], jobs: Iterable[Job]) -> Iterator[Out]:
    """Maps over jobs on all cores, in order, computing only a few results ahead of the consumer.

    Threads suffice because Pillow, NumPy and hashlib release the GIL in long operations.

    Example:
      >>> list(in_order(abs, [-1, 2, -3]))
      [1, 2, 3]
    """
    with ThreadPoolExecutor(cores()) as threads:
        running: collections.deque[Future[Out]] = collections.deque()
        try:
            for job in jobs:
                running.append(threads.submit(work, job))
                if len(running) > AHEAD * cores():
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
