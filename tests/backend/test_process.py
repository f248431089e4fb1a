"""A call from Python leaves the process as it was, and its numbers are those of the command."""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys

import faults
import jax
import pytest

from flipjax.support.terminal import Interrupts

PROCESS = """
import logging, os, pathlib, random, signal, sys, warnings
import jax, matplotlib
import numpy as np

jax.config.update("jax_default_prng_impl", "rbg")
jax.config.update("jax_threefry_partitionable", False)
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
random.seed(0)
np.random.seed(0)
# Processes in the background ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
jax.random.normal(jax.random.key(0), (2,))

def state():
    loggers = [logging.getLogger(name) for name in (None, "absl", "asyncio", "concurrent.futures", "orbax")]
    return {
        "jax": dict(jax.config.values),
        "environment": dict(os.environ),
        "handlers": [list(logger.handlers) for logger in loggers],
        "levels": [logger.level for logger in loggers],
        "warnings": list(warnings.filters),
        # Without choosing a backend, where none is chosen yet.
        "matplotlib": dict(dict.items(matplotlib.rcParams)),
        "random": random.getstate(),
        "numpy": str(np.random.get_state(legacy=False)),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }

def differences(before, after):
    if isinstance(before, dict):
        before, after = list(before.items()), list(after.items())
    if isinstance(before, list):
        return [part for part in before if part not in after], [part for part in after if part not in before]
    return before, after

def changed(before):
    after = state()
    return {name: differences(before[name], after[name]) for name in before if before[name] != after[name]}

before = state()
import flipjax
from flipjax.page import charts

drawn = {}

def draw_once(chart, draw=charts.draw_chart):
    # One picture is drawn, and stands for the others.
    if not drawn:
        drawn.update(draw(chart))
    return drawn

charts.draw_chart = draw_once
CALLS
"""
"""A process in which JAX runs, with settings of its user: calls, and after each of them what is not as before."""

CALLS = {
    "run": "flipjax.run(sys.argv[1], workdir='run')",
    # Its members are those of the command, whose folder is the third argument.
    "make_train": """
train = flipjax.make_train(sys.argv[1])
trained = train.map(train.members())
events = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))
train.map(train.members())
assert not [event for event in events if event.endswith("backend_compile_duration")]
whole = flipjax.open_run(sys.argv[3])
for counts, member in zip(trained.test["val_loss"].confusion, whole.members.index, strict=True):
    assert np.array_equal(counts, whole.member(member).decomposition().confusion)
""",
    "tune": """
few = {"axes.rho": (0.5,), "axes.method": ("ce", "balanced"), "train.epochs": 1}
flipjax.tune(sys.argv[1], few, draws=2, fresh=(1,), workdir="tuned")
""",
    "assay": """
from flipjax.data import from_arrays
photos = np.full((48, 16, 16, 3), 90, np.uint8)
masks = np.zeros((48, 16, 16), bool)
masks[:, 4:12, 4:12] = True
names = {"class_names": ("cat", "dog"), "scene_names": ("in", "out")}
data = from_arrays(photos, masks, [0, 1] * 24, [0, 0, 0, 1, 1, 1, 1, 0] * 6, **names)
flipjax.assay(data, attribute="scene", network="small", folds=2, epochs=1, out="assayed")
assert [*pathlib.Path("assayed").glob("small/kept_100/*/history.csv")]  # Networks of the first fold have trained.
""",
}


def process_of(calls, place):
    """The command line of a process that makes calls in a folder, whose cache is the session's by another name."""
    whole, config, _ = faults.whole_run()
    (place / "cache").symlink_to(jax.config.jax_compilation_cache_dir)
    return [sys.executable, "-c", PROCESS.replace("CALLS", calls), str(config), str(place / "cache"), str(whole)]


@dataclasses.dataclass
class Called:
    """A process that has made each of the calls, one after the other."""

    folder: pathlib.Path
    """Where it was."""
    changed: dict[str, str]
    """What each call left that was not so before the first one."""


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    calls = "\n".join(f"{call}\nprint('changed', {name!r}, changed(before))" for name, call in CALLS.items())
    done = subprocess.run(process_of(calls, folder), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Called(folder, dict(re.findall(r"^changed (\w+) (.*)$", done.stdout, re.MULTILINE)))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_process_as_it_was(called, name):
    assert called.changed[name] == "{}"


def test_a_run_in_such_a_process_has_the_bytes_of_the_command_line(called):
    assert faults.same(called.folder / "run", "results.csv", "history.csv")


def test_an_interrupt_ends_a_run_after_the_epoch_with_one_error(tmp_path):
    call = "flipjax.run(sys.argv[1], {'train.epochs': 400, 'train.patience': 400}, workdir='run')"
    with subprocess.Popen(process_of(call, tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        faults.wait_for(tmp_path / "run/checkpoints/000/2", process)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=120)[1]
    assert process.returncode and error.count("Traceback") == 1, error
    assert error.splitlines()[-1] == "KeyboardInterrupt: interrupted; the same call continues in run"
    assert "stopping after this epoch; once more stops at once" in error


@pytest.fixture
def interruptible():
    """A process that SIGINT interrupts, which those in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_before_training_and_a_second_one_end_the_call_at_once(interruptible):
    with pytest.raises(KeyboardInterrupt), Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts() as signals:
        signals.training = True
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.stop
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_user_stays():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Interrupts() as signals:
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT] and not signals.stop
