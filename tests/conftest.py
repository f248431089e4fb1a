"""Two CPU devices for every test, one cache for a session, and a tiny study whose programs compile once for all."""

import atexit
import dataclasses
import functools
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from unittest import mock

# After the flags of whoever starts the suite. Devices that wait for each other would end the process after 40 s, which
# a busy machine takes; one module of LLVM a program takes less memory and processor time than 32 parts of it.
FLAGS = "--xla_cpu_collective_call_terminate_timeout_seconds=300 --xla_cpu_parallel_codegen_split_count=1"
# Most of the suite's time is compilation: without most optimisations it takes two thirds. 0 compiles as for users.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's newer fusions take a third of the processor time of what is left; JAX 0.12 cannot do without them.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and importlib.metadata.version("jax").startswith("0.10."):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
if FLAGS not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
# The workers and the commands that tests start share a cache, which is empty at first.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="flipjax-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import jax  # noqa: E402

# Before the backend starts: members are dealt over devices even where the tests have one core.
if "JAX_NUM_CPU_DEVICES" not in os.environ:
    jax.config.update("jax_num_cpu_devices", 2)

import jax.numpy as jnp  # noqa: E402
import networks  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from flipjax.backend import compiler, convolutions  # noqa: E402
from flipjax.backend.start import programs_folder  # noqa: E402
from flipjax.config import Experiment, ModelSpec, PoolSpec, SplitSpec, TrainSpec  # noqa: E402
from flipjax.config.groups import Groups  # noqa: E402
from flipjax.config.methods import Augmentation, Knobs  # noqa: E402
from flipjax.data import POOLS  # noqa: E402
from flipjax.data.correlation import Table, half_of_each_group  # noqa: E402
from flipjax.data.pool import Pool  # noqa: E402
from flipjax.training.epoch import loop  # noqa: E402
from flipjax.training.member import Member  # noqa: E402
from flipjax.training.optimise import Recipe  # noqa: E402

GROUPS = Groups(3, 4, ((0,), (1, 3), (2,)))
SIZE, OBJECTS, PHOTOS = 16, 8, 2  # objects a class, scene photos a kind
# Laws are tried on the same cases each time, for as long as these take.
settings.register_profile("laws", derandomize=True, deadline=None, database=None)
settings.load_profile("laws")
# Where commands that tests start keep their programs.
jax.config.update("jax_compilation_cache_dir", str(programs_folder()))


def python(code, **variables):
    """Another process that has run code, with further variables of the environment."""
    line = [sys.executable, "-c", code]
    return subprocess.run(line, env=os.environ | variables, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module", autouse=True)
def programs_of_one_file():
    """Lets go of the programs of a file at its end: two workers share 3 GB, and some trace as accelerators run."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def compiled_as_for_users():
    """All optimisations, for laws of bits."""
    quickly = jax.config.read("jax_disable_most_optimizations")
    compile_quickly(False)
    yield
    compile_quickly(quickly)


def compile_quickly(quickly):
    """Compiles without most optimisations from here on, or as for users."""
    jax.config.update("jax_disable_most_optimizations", quickly)
    # They remember the compiler's options.
    for remembered in (compiler.fast_runtime, compiler.fast_compile, compiler.program):
        remembered.cache_clear()


@pytest.fixture(scope="module")
def drawn_once():
    """Equal pools are drawn once in a file."""
    with mock.patch.dict(POOLS, synthetic=functools.cache(POOLS["synthetic"])):
        yield


@pytest.fixture(scope="session")
def tiny():
    """A small experiment of three classes in four scenes."""
    return Experiment(
        PoolSpec(size=SIZE),
        SplitSpec(n_train=24, n_val=24, n_test=24),
        ModelSpec(width=4, depth=1),
        TrainSpec(epochs=6, batch_size=8, patience=2),
        groups=GROUPS,
    )


def with_optimizer(experiment, optimizer):
    """An experiment that another optimiser trains."""
    return dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, optimizer=optimizer))


@pytest.fixture(scope="session")
def pool():
    """A composite pool, class and kind 0 first: squares of the class's colour, scenes of the kind's brightness."""
    rng = np.random.default_rng(5)
    labels = np.repeat([1, 2, 3], OBJECTS).astype(np.uint8)
    alpha = np.zeros((len(labels), SIZE, SIZE), np.uint8)
    for mask in alpha:
        y, x = rng.integers(0, 7, 2)
        mask[y : y + 9, x : x + 9] = 255
    cutouts = rng.integers(0, 80, (*alpha.shape, 3))
    cutouts[np.arange(len(labels)), ..., labels - 1] += 150
    light = np.repeat(np.arange(GROUPS.scenes), PHOTOS)[:, None, None, None] * 50
    scenes = rng.integers(0, 80, (len(light), SIZE, SIZE, 3)) + light
    images = np.where(alpha[..., None] > 0, cutouts, 0).astype(np.uint8)
    return jax.tree.map(
        jnp.asarray, Pool(kind="composite", images=images, masks=alpha, labels=labels, scenes=scenes.astype(np.uint8))
    )


def table(rho):
    """Rows and groups: every object once, a share `rho` of each class in its usual scenes, or if None evenly."""
    rows, groups = [], []
    for index in range(GROUPS.classes * OBJECTS):
        y, rank = divmod(index, OBJECTS)
        kinds = range(GROUPS.scenes)
        if rho is not None:
            kinds = [kind for kind in kinds if (kind in GROUPS.usual[y]) == (rank < round(rho * OBJECTS))]
        kind = kinds[rank % len(kinds)]
        rows.append((index, PHOTOS * kind + index % PHOTOS))
        groups.append(GROUPS.of(y, kind))
    return jnp.asarray(rows, jnp.int32), jnp.asarray(groups, jnp.int32)


@pytest.fixture(scope="session")
def make_member():
    """Makes a member from what a config's axes hold."""

    def make(seed=0, rho=0.75, learning_rate=5e-3, knobs=None, augmentation=None, **recipe):
        rows, groups = table(rho)
        numbers = (Recipe(learning_rate=learning_rate, **recipe), knobs or Knobs(), augmentation or Augmentation())
        return Member(jax.random.key(seed), rows, groups, *jax.tree.map(jnp.float32, numbers))

    return make


@pytest.fixture(scope="session")
def validation():
    """The table of a validation set: two images of each group."""
    rows, groups = table(None)
    return Table(rows, groups, jnp.full(len(rows), -1, jnp.int32), half_of_each_group(np.asarray(groups)))


@pytest.fixture(scope="session")
def run_epoch():
    """`flipjax.training.epoch.loop.run_epoch`, compiled."""
    return jax.jit(loop.run_epoch, static_argnums=0)


@pytest.fixture
def without_pictures(monkeypatch):
    """No picture is drawn, which takes most of the time of a page."""
    from flipjax.page import charts

    monkeypatch.setattr(charts, "draw_chart", lambda chart: {"svg": b""})


def draw_panels(chart):
    """Every panel of a chart on the axes of its figure, which is neither laid out nor written: a tenth of the time."""
    from flipjax.page import charts

    charts.make_figure(chart)
    return {"svg": b"<svg/>"}


@pytest.fixture
def without_page(monkeypatch):
    """No page is written of a run."""
    from flipjax.report import page

    monkeypatch.setattr(page, "build_report", lambda folder: "")


@pytest.fixture
def two_devices():
    """The suite's number of devices, which some tests know."""
    if jax.device_count() != 2:
        pytest.skip(f"needs two devices; JAX_NUM_CPU_DEVICES asks for {jax.device_count()}")


@pytest.fixture
def onednn():
    """A processor for which XLA has oneDNN."""
    if not convolutions.has_onednn():
        pytest.skip("XLA has no oneDNN for this processor")


@pytest.fixture(scope="session")
def network():
    """The large U-Net of an encoder, made once."""
    return functools.cache(networks.make)
