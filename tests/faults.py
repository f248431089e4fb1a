"""Random damage to a run folder: continues damaged copies of a finished run, FLIPJAX_FAULTS of them.

Each trial removes one file of checkpoints or cells, or damages it (a bit, 16 bytes, its end, its start twice, all of
it), and runs the command again. It must end with the same results.csv and gallery, or with a refusal in one line that
names the run folder.
"""

import atexit
import collections
import contextlib
import functools
import io
import os
import pathlib
import random
import shutil
import tempfile
import time
from unittest import mock

import damage

from flipjax import command
from flipjax.report import panels
from flipjax.sweep.__main__ import main
from flipjax.sweep.workdir import Workdir

CONFIG = """
from flipjax.config import default_config

def get_config():
    config = default_config()
    config.pool.update(size=16, objects=12, scenes=6)
    config.split.update(n_train=16, n_val=8, n_test=8)
    config.model.update(width=4, depth=1)
    config.train.update(epochs=3, batch_size=8)
    config.axes.rho = (0.5, 1.0)
    return config
"""
KINDS = (*damage.KINDS, "gone")


def sweep(*arguments):
    """Exit code and all that the command printed.

    The report's pictures, of which no trial asks, are not drawn, and checkpoints stay, as if it was killed before.
    """
    text = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Workdir, "remove_checkpoints"))
        stack.enter_context(mock.patch.object(panels, "draw_chart", return_value={"svg": b""}))
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        code = main([str(part) for part in arguments])
    return code, text.getvalue()


@functools.cache
def whole_run(*options):
    """A finished run of CONFIG, which the tests of this process share and none changes: its folder and its file.

    Its programs are compiled as for users whatever test asks first, since others compare its bits.
    """
    quick = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1"
    if quick:
        from conftest import compile_quickly, jax

        jax.clear_caches()
        compile_quickly(False)
    place = pathlib.Path(tempfile.mkdtemp(prefix="flipjax-run-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    config = place / "tiny.py"
    config.write_text(CONFIG)
    code, text = sweep("--config", config, "--workdir", place / "whole", *options)
    assert code == 0, text
    (place / "said").write_text(text)
    if quick:
        compile_quickly(True)
    return place / "whole", config


def other_run():
    """The folder of a finished run of another seed."""
    return whole_run("--config.axes.seed=(1,)")[0]


def run(folder, *options):
    """The command with the configuration of the whole run, on a folder: exit code and all that it printed."""
    return sweep("--config", whole_run()[1], "--workdir", folder, *options)


def wait_for(path, process=None):
    """Waits until there is a path, made by a process that goes on."""
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def same(folder, *names):
    """Whether files of a run, results.csv alone unless told, have the bytes of the whole run."""
    whole = whole_run()[0]
    return all((folder / name).read_bytes() == (whole / name).read_bytes() for name in names or ("results.csv",))


def read_config(*overrides):
    """The configuration of the whole run."""
    return command.read_config(whole_run()[1], overrides)


def outcome(folder):
    """Runs the command on a folder: 'same', 'refused', or what else happened."""
    try:
        code, text = run(folder)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if "Traceback" in text:
        return "traceback"
    if code == 0:
        return "same" if same(folder, "results.csv", "cells/000/gallery.npz") else "other bytes"
    return "refused" if code == 2 and str(folder) in text else f"exit {code}: {text[-300:]}"


def trials(place, count, *, seed=0):
    """Runs trials in a folder; returns how many had which outcome, by kind of damage and of file."""
    chance = random.Random(seed)
    counts = collections.Counter()
    for trial in range(count):
        folder = place / f"trial{trial}"
        shutil.copytree(whole_run()[0], folder)
        if chance.random() < 0.6:
            # As killed before the last evaluation: all rests on the checkpoints.
            shutil.rmtree(folder / "cells")
        paths = [path for name in ("checkpoints", "cells") for path in sorted((folder / name).rglob("*"))]
        paths += [folder / name for name in ("config.json", "results.csv", "history.csv")]
        path = chance.choice([path for path in paths if path.is_file()])
        kind = chance.choice(KINDS)
        if kind == "gone":
            path.unlink()
        else:
            whole = path.read_bytes() or b"\n"
            path.write_bytes(damage.damaged(whole, kind, chance.randrange(1 << 30), chance.randrange(256)))
        counts[path.relative_to(folder).parts[0], kind, outcome(folder)] += 1
        shutil.rmtree(folder)
    return counts
