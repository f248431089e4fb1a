"""Two CPU devices for every test, and a tiny study whose programs compile once for all."""

import contextlib
import ctypes
import functools
import gc
import importlib.metadata
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

# Processes that share a cache of programs find the quickly compiled ones there, too.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Otherwise the cache's path, which each session has its own of, is part of what a program is found by.
os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"
# Devices that wait for each other end the process after 40 s, which a busy machine takes. XLA's newer fusions take a
# third of the time that compilation takes; 0.12 cannot leave them out. With XLA_FLAGS= all is compiled as for users.
# One module of LLVM a program is compiled in less processor time than 32 parts of it, and the workers fill the cores.
FLAGS = ["--xla_cpu_collective_call_terminate_timeout_seconds=300", "--xla_cpu_parallel_codegen_split_count=1"]
FLAGS += ["--xla_cpu_use_fusion_emitters=false"] * importlib.metadata.version("jax").startswith("0.10.")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))

import jax  # noqa: E402

# Before the backend starts: members are dealt over devices even where the tests have one core.
jax.config.update("jax_num_cpu_devices", 2)

import jax.numpy as jnp  # noqa: E402
import networks  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from flipjax.backend import compiler, convolutions  # noqa: E402
from flipjax.config import Experiment, ModelSpec, PoolSpec, SplitSpec, TrainSpec  # noqa: E402
from flipjax.config.groups import Groups  # noqa: E402
from flipjax.config.methods import Augmentation, Knobs  # noqa: E402
from flipjax.data.correlation import Table, half_of_each_group  # noqa: E402
from flipjax.data.pool import Pool  # noqa: E402
from flipjax.support.files import cache_folder, keep_newest  # noqa: E402
from flipjax.training import run  # noqa: E402
from flipjax.training.member import Member  # noqa: E402
from flipjax.training.optimise import Recipe  # noqa: E402

PROGRAMS = 1 << 28
"""Bytes of compiled programs that are kept between sessions, in .pytest_cache; a session compiles a quarter of it."""
ROOM = 800 << 20
"""Bytes that a worker holds before it lets go of compiled programs between files; two of them share 3 GB."""
GROUPS = Groups(3, 4, ((0,), (1, 3), (2,)))
SIZE, OBJECTS, PHOTOS = 16, 8, 2  # objects a class, scene photos a kind
WHOLE = ["test_sweep", "test_runs", "test_scale", "test_run_folder", "test_launchers", "test_libraries"]
"""Files on the finished run of `faults`: one process runs them, one after another, and traces its programs once."""
SLOWEST = [
    *WHOLE,
    "test_command",
    "test_make_train",
    "test_methods",
    "test_smp",
    "test_examples",
    "test_identity",
    "test_synthetic",
    "test_inputs",
    "test_report",
]
"""Files that start first, so that the workers end together."""
EXACT = {"test_population"}
"""Files that ask for equal bits of programs that differ; the programs of all others are compiled as fast as can be."""
ACCELERATED = {"test_lowering", "test_pack"}
"""Files that trace programs as accelerators run them, which no other file may meet."""
# Collections take a twentieth of the time; one is made where programs are let go of.
gc.set_threshold(200_000, 50, 100)
settings.register_profile("laws", derandomize=True, deadline=None, database=None)
settings.load_profile("laws")


def pytest_configure(config):
    """Gives all processes of this session one cache, empty but for the programs that earlier sessions compiled."""
    if not hasattr(config, "workerinput"):
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="flipjax-tests-")
        # Of the workers and commands to come: each thread that compiles would keep an arena of freed memory.
        os.environ["MALLOC_ARENA_MAX"] = "2"
        if hasattr(config, "cache"):
            programs = config.cache.mkdir("xla")
            keep_newest(programs, most=PROGRAMS)
            cache_folder().mkdir()
            (cache_folder() / "xla").symlink_to(programs)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            scope = super()._split_scope(nodeid)
            return WHOLE[0] if pathlib.Path(scope).stem in WHOLE else scope

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish():
    # What was imported lives to the end: the collections between modules need not visit it.
    gc.freeze()


def python(code, **environment):
    """Another process that has run code."""
    line, environment = [sys.executable, "-c", code], os.environ | environment
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=True)


def compile_quickly(quick):
    """Compiles with or without most optimisations from here on, in this process and in those that it starts."""
    if jax.config.read("jax_disable_most_optimizations") != quick:
        for kept in (compiler.fast_runtime, compiler.fast_compile, compiler.program):
            kept.cache_clear()
    jax.config.update("jax_disable_most_optimizations", quick)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))


@contextlib.contextmanager
def compiling(*, quick):
    before = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
    compile_quickly(quick)
    try:
        yield
    finally:
        compile_quickly(before)


@pytest.fixture
def quick_compilation():
    """For a test of an exact file that compares no programs that differ, and shares none with the others there."""
    with compiling(quick=True):
        yield


@pytest.fixture
def exact_compilation():
    """For a test of another file that compares programs that differ, and shares none with the others there."""
    with compiling(quick=False):
        yield


@pytest.fixture(scope="module", autouse=True)
def programs_of_one_module(request):
    begin_programs(WHOLE[0] if request.path.stem in WHOLE else str(request.path))


def held_memory():
    """The bytes of this process, as far as its system tells."""
    try:
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return ROOM
    return pages * resource.getpagesize()


@functools.lru_cache(1)
def begin_programs(files):
    """Compiles from here on as files ask, and lets go of earlier programs if these were others or fill the memory."""
    name = pathlib.Path(files).stem
    quick = name not in EXACT
    compile_quickly(quick)
    begin_kind(quick, name in ACCELERATED)
    if held_memory() >= ROOM:
        let_go_of_programs()


@functools.lru_cache(1)
def begin_kind(quick, accelerated):
    """Lets go of the programs of another kind, and of nothing if the kind is that of before."""
    let_go_of_programs()


def let_go_of_programs():
    """Forgets what was traced and compiled, and gives the memory back."""
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc's own.
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def tiny():
    """The experiment."""
    return Experiment(
        PoolSpec(size=SIZE),
        SplitSpec(n_train=24, n_val=24, n_test=24),
        ModelSpec(width=4, depth=1),
        TrainSpec(epochs=6, batch_size=8, patience=2),
        groups=GROUPS,
    )


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
        given = Recipe(learning_rate=learning_rate, **recipe), knobs or Knobs(), augmentation or Augmentation()
        return Member(jax.random.key(seed), rows, groups, *jax.tree.map(jnp.float32, given))

    return make


@pytest.fixture(scope="session")
def validation():
    """The table of a validation set: two images of each group."""
    rows, groups = table(None)
    return Table(rows, groups, jnp.full(len(rows), -1, jnp.int32), half_of_each_group(np.asarray(groups)))


@pytest.fixture(scope="session")
def run_epoch():
    """`flipjax.training.run.run_epoch`, compiled."""
    return jax.jit(run.run_epoch, static_argnums=0)


@pytest.fixture
def without_pictures(monkeypatch):
    """No picture is drawn, which takes most of the time of a page."""
    from flipjax.report import charts

    monkeypatch.setattr(charts, "draw_chart", lambda chart: {"svg": b""})


@pytest.fixture
def without_page(monkeypatch):
    """No page is written of a run."""
    from flipjax.report import page

    monkeypatch.setattr(page, "build_report", lambda folder: "")


@pytest.fixture
def onednn():
    """A processor for which XLA has oneDNN."""
    if not convolutions.has_onednn():
        pytest.skip("XLA has no oneDNN for this processor")


@pytest.fixture(scope="session")
def network():
    """The large U-Net of an encoder, made once."""
    return functools.cache(networks.make)
