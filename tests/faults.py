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
import pathlib
import random
import shutil
import tempfile
import time
from unittest import mock

import damage
import jax

from flipjax.config import reading
from flipjax.data import POOLS
from flipjax.page import charts
from flipjax.report import page
from flipjax.sweep.__main__ import main
from flipjax.sweep.folder.workdir import Workdir

CONFIG = """
from flipjax import configure
from flipjax.config import default_config

def get_config():
    sizes = {"pool.size": 16, "pool.objects": 12, "pool.scenes": 6, "model.width": 4, "model.depth": 1}
    sizes |= {"split.n_train": 16, "split.n_val": 8, "split.n_test": 8, "train.epochs": 3, "train.batch_size": 8}
    return configure(default_config(), sizes | {"axes.rho": (0.5, 1.0)})
"""
DRAWN = functools.cache(POOLS["synthetic"])
BUILD_REPORT = page.build_report
KINDS = (*damage.KINDS, "gone")


def sweep(*arguments):
    """Exit code and all that the command printed.

    The report's pictures, of which no trial asks, are not drawn, a pool is drawn once, and checkpoints stay, as if it
    was killed before.
    """
    text = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Workdir, "remove_checkpoints"))
        stack.enter_context(mock.patch.dict(POOLS, synthetic=DRAWN))
        stack.enter_context(mock.patch.object(charts, "draw_chart", return_value={"svg": b""}))
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        code = main([str(part) for part in arguments])
    return code, text.getvalue()


@functools.cache
def config_file():
    """The file of CONFIG."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="flipjax-config-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "tiny.py").write_text(CONFIG)
    return place / "tiny.py"


@functools.cache
def whole_run(*options):
    """A run as `make_run` makes it, which the tests of this process share and none changes."""
    return make_run(*options)


def make_run(*options):
    """A finished run of CONFIG: its folder, its file, and the number of programs that were compiled, by name."""
    place, compiled = pathlib.Path(tempfile.mkdtemp(prefix="flipjax-run-")), collections.Counter()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    config = config_file()

    def note(event, _, *, fun_name="", **__):
        compiled[fun_name.removeprefix("jit(").removesuffix(")")] += event.endswith("backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(note)
    with mock.patch.object(page, "build_report", BUILD_REPORT):
        code, text = sweep("--config", config, "--workdir", place / "whole", *options)
    jax.monitoring.unregister_event_duration_listener(note)
    assert code == 0, text
    (place / "said").write_text(text)
    return place / "whole", config, compiled


def run(folder, *options):
    """The command with the configuration of the whole run, on a folder: exit code and all that it printed."""
    return sweep("--config", config_file(), "--workdir", folder, *options)


def wait_for(path, process=None):
    """Waits until there is a path, made by a process that goes on."""
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def same(folder, *names, whole=None):
    """Whether files of a run, results.csv alone unless told, have the bytes of another, by default the whole run."""
    whole = whole or whole_run()[0]
    return all((folder / name).read_bytes() == (whole / name).read_bytes() for name in names or ("results.csv",))


def read_config(overrides=None):
    """The configuration of the whole run."""
    return reading.read_config(config_file(), overrides)


def trials(place, count, *, seed=0):
    """Damages a copy of the whole run in each trial: the command must give the same bytes, or refuse in words."""
    chance = random.Random(seed)
    for trial in range(count):
        folder = place / f"trial{trial}"
        shutil.copytree(whole_run()[0], folder)
        if chance.random() < 0.6:
            # As killed before the last evaluation: all rests on the checkpoints.
            shutil.rmtree(folder / "cells")
        paths = [path for name in ("checkpoints", "cells") for path in sorted((folder / name).rglob("*"))]
        paths += [folder / name for name in ("config.json", "results.csv", "history.csv")]
        path, kind = chance.choice([path for path in paths if path.is_file()]), chance.choice(KINDS)
        if kind == "gone":
            path.unlink()
        else:
            whole = path.read_bytes() or b"\n"
            path.write_bytes(damage.damaged(whole, kind, chance.randrange(1 << 30), chance.randrange(256)))
        code, text = run(folder)
        refused = code == 2 and str(folder) in text and "Traceback" not in text
        assert refused or (code == 0 and same(folder, "results.csv", "cells/000/gallery.npz")), (path, kind, text)
        shutil.rmtree(folder)
