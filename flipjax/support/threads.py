"""Threads on this process's available cores."""

import collections
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Job = TypeVar("Job")
Out = TypeVar("Out")

AHEAD = 8
"""Most results per core that are computed ahead."""


def cores() -> int:
    """Returns the number of cores that this process may use: those of its affinity, within the limit of a container."""
    return int(min(cores_of_affinity(), cores_of_groups()))


def cores_of_affinity() -> int:
    """Returns the number of cores on which this process may run; XLA starts a thread on each."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_of_groups(
    mounted: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | float:
    """Returns the cores that Linux's control groups leave to this process, rounded up; infinite without a limit.

    Containers and job schedulers limit time with them, not which cores a process may use.

    Args:
        mounted: where control groups are mounted, version 1 or 2.
        membership: names the groups of the process, `number:controllers:path` a line; version 2 has no controllers.
    """
    limits = [math.inf]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root = mounted
        elif "cpu" in controllers.split(","):
            root = mounted / "cpu"
        else:
            continue
        # In a container the group itself is mounted at the root; elsewhere each group limits those below it.
        group = Path(name.lstrip("/"))
        limits += [_limit_of(root / part) for part in (group, *group.parents)]
    return max(1, min(limits))


def _limit_of(group: Path) -> int | float:
    """Returns the cores that one group may use, rounded up; infinite without a limit."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text()
    except OSError:
        return math.inf
    # Without a limit, version 2 says max and version 1 -1.
    if quota in ("max", "-1"):
        return math.inf
    return math.ceil(int(quota) / int(period))


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
