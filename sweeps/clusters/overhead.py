"""What digests and locks cost a sweep: `python sweeps/clusters/overhead.py --config NAME [--config.KEY=VALUE ...]`.

Runs the command in a new folder and prints the seconds of the CPU that all of it took, and those of digests of
checkpoints and results, of locking, and of asking whether the lock is still there.
"""

import sys
import tempfile
import time

from flipjax import files
from flipjax.results import files as tables
from flipjax.sweep import checkpoint
from flipjax.sweep.__main__ import main
from flipjax.sweep.lock import Lock
from flipjax.sweep.workdir import Workdir

COSTS = (
    (checkpoint, "_digest"),
    (checkpoint, "_file_digests"),
    (files, "digest"),
    (tables, "_digest"),
    (Lock, "acquire"),
    (Lock, "release"),
    (Workdir, "verify"),
)


def timed(owner, name, seconds):
    """Puts a function that adds its seconds of the CPU in a function's place; those inside it are counted once."""
    function = getattr(owner, name)

    def call(*arguments, **options):
        if seconds["inside"]:
            return function(*arguments, **options)
        seconds["inside"] = True
        start = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.thread_time() - start
            seconds["inside"] = False

    setattr(owner, name, call)


if __name__ == "__main__":
    seconds = {"inside": False}
    for owner, name in COSTS:
        timed(owner, name, seconds)
    with tempfile.TemporaryDirectory() as place:
        code = main([*sys.argv[1:], "--workdir", f"{place}/run"])
    whole = time.process_time()
    del seconds["inside"]
    for name, value in seconds.items():
        print(f"{name:14} {value:8.3f} s")
    print(f"{sum(seconds.values()):.3f} of {whole:.1f} s of the CPU: {sum(seconds.values()) / whole:.2%}")
    sys.exit(code)
