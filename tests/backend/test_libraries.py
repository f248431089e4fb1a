"""oneDNN: what it computes, who chooses it, and that no such program reaches the compilation cache."""

import functools
import json
import os
import shutil
import subprocess
import sys

import faults
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from networks import Net, assert_alike

import flipjax
from flipjax.backend import convolutions
from flipjax.backend.compiler import fast_jit
from flipjax.config import ConfigError, ModelSpec, PopulationSpec
from flipjax.config.plan import plan
from flipjax.models.convolutions import cross_correlation
from flipjax.models.convolutions.depthwise import depthwise
from flipjax.models.convolutions.doubled import convolve_doubled, double
from flipjax.models.convolutions.stride_one import convolve
from flipjax.models.convolutions.strided import convolve_strided, multiply
from flipjax.sweep import description
from flipjax.training.population import devices

ONEDNN = PopulationSpec(map="loop", convolutions="onednn")
ASKED = "--config.population.convolutions=onednn"
pytestmark = pytest.mark.usefixtures("without_page")


of_onednn = functools.partial(fast_jit, convolutions="onednn")


def xlas_own(images, kernel, *, stride=1, padding="SAME", groups=1):
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
    return lax.conv_general_dilated(images, kernel, (stride, stride), padding, **options)


BOTH = """
import sys
import jax
import jax.numpy as jnp

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
from flipjax.backend.compiler import fast_jit
from flipjax.models.convolutions.stride_one import convolve

hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)


def of_onednn(images, kernel):
    return convolve(images, kernel)


def of_xla(images, kernel):
    return convolve(images, kernel)


given = jnp.ones((2, 16, 16, 8)), jnp.ones((3, 3, 8, 8))
print("compiling", flush=True)
program = fast_jit(of_onednn, convolutions="onednn")
results = [program.lower(*given).compile()(*given), program(*given), fast_jit(of_xla)(*given)]
assert all(jnp.allclose(result, results[-1]) for result in results)
print(len(hits))
"""


def begin(cache):
    """Starts a process that compiles programs of both libraries."""
    line = [sys.executable, "-c", BOTH, str(cache)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)


def test_both_kinds_of_programs_and_the_cache_live_in_one_process(onednn, tmp_path):
    with begin(tmp_path) as killed:
        assert killed.stdout.readline() == "compiling\n"
        killed.kill()
    hits = []
    for _ in range(2):
        with begin(tmp_path) as process:
            said = process.communicate(timeout=300)[0].split()
        assert process.returncode == 0
        hits.append(int(said[-1]))
        kept = os.listdir(tmp_path)
        assert any("of_xla" in name for name in kept)
        assert not any("of_onednn" in name for name in kept)
    assert hits[1] > 0


# Images, kernel, and whether the gradient is summed an image at a time.
SHAPES = {
    "photos": ((2, 6, 8, 3), (3, 3, 3, 8), False),
    "one channel": ((2, 5, 8, 1), (3, 3, 1, 2), False),
    "two channels, by images": ((2, 5, 8, 2), (3, 3, 2, 1), True),
    "four pixels at once": ((2, 5, 8, 4), (3, 3, 4, 4), False),
    "two": ((3, 5, 6, 8), (3, 3, 8, 8), False),
    "two, by images": ((3, 5, 6, 8), (3, 3, 8, 8), True),
    "an odd width": ((2, 6, 7, 8), (3, 3, 8, 8), False),
    "more channels in": ((2, 6, 8, 24), (3, 3, 24, 8), False),
    "more channels out, by images": ((2, 4, 5, 8), (3, 3, 8, 40), True),
    "a large kernel": ((1, 6, 8, 4), (5, 3, 4, 16), False),
}


@pytest.mark.parametrize(("images", "kernel", "blocked"), SHAPES.values(), ids=SHAPES)
def test_onednn_computes_the_same_convolutions_and_gradients(onednn, monkeypatch, images, kernel, blocked):
    monkeypatch.setattr(cross_correlation, "BLOCKED", 64 if blocked else cross_correlation.BLOCKED)
    assert_alike(convolve, xlas_own, images, kernel, compiled=of_onednn)


@pytest.mark.parametrize("blocked", [False, True], ids=["whole", "by images"])
@pytest.mark.parametrize("channels", [4, 20])
def test_onednn_computes_the_same_convolutions_of_doubled_images(onednn, monkeypatch, channels, blocked):
    monkeypatch.setattr(cross_correlation, "BLOCKED", 64 if blocked else cross_correlation.BLOCKED)

    def whole(images, skip, kernel):
        return xlas_own(jnp.concatenate([double(images), skip], axis=-1), kernel)

    shapes = (3, 4, 6, channels), (3, 8, 12, 4), (3, 3, channels + 4, 8)
    assert_alike(convolve_doubled, whole, *shapes, compiled=of_onednn)


@pytest.mark.parametrize("blocked", [False, True], ids=["whole", "by images"])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (5, 2), (7, 4), (1, 2), (4, 4)])
def test_onednn_computes_the_same_strided_convolutions(onednn, monkeypatch, size, stride, blocked):
    monkeypatch.setattr(cross_correlation, "BLOCKED", 64 if blocked else cross_correlation.BLOCKED)
    margin = size // 2 if size != stride else 0
    wanted = functools.partial(xlas_own, stride=stride, padding=[(margin, margin)] * 2)
    function = functools.partial(convolve_strided, stride=stride)
    assert_alike(function, wanted, (2, 8, 16, 3), (size, size, 3, 5), compiled=of_onednn)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_onednn_computes_the_same_depthwise_convolutions(onednn, images, size, stride):
    function = functools.partial(depthwise, stride=stride)
    wanted = functools.partial(xlas_own, stride=stride, groups=6)
    assert_alike(function, wanted, (images, 8, 12, 6), (size, size, 1, 6), compiled=of_onednn)


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="XLA hands oneDNN no convolution")
def test_a_depthwise_convolution_between_products_is_left_to_onednn(onednn):
    def layer(images, inward, kernel, outward):
        scaled = images / jnp.square(images).mean(-1, keepdims=True)
        return jax.nn.gelu(depthwise(scaled @ inward + 1, kernel) + 1) @ outward

    # As in a stage of MiT-B2, where XLA would fuse norm, product and convolution.
    shapes = (1, 64, 64, 32), (32, 128), (3, 3, 1, 128), (128, 32)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    program = of_onednn(layer).lower(*arrays).compile().as_text()
    assert '"__onednn$convolution"' in program and " convolution(" not in program


def test_a_depthwise_gradient_in_bfloat16_sums_in_float32(onednn):
    images = jnp.ones((1, 300, 2, 1), jnp.bfloat16)
    kernel = jnp.zeros((3, 3, 1, 1), jnp.bfloat16)
    gradient = of_onednn(jax.grad(lambda kernel: depthwise(images, kernel).astype(jnp.float32).sum()))(kernel)
    # 256 + 1 is 256 in bfloat16.
    assert gradient[1, 1, 0, 0] == 600 and gradient.dtype == jnp.bfloat16


@pytest.mark.parametrize("blocked", [False, True], ids=["whole", "by images"])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 7), (7, 4)], ids=["to more", "to fewer"])
def test_onednn_multiplies_pixels_by_a_matrix(onednn, monkeypatch, inputs, outputs, blocked):
    monkeypatch.setattr(cross_correlation, "BLOCKED", 64 if blocked else cross_correlation.BLOCKED)
    assert_alike(multiply, jnp.matmul, (3, 5, 6, inputs), (inputs, outputs), compiled=of_onednn)


def test_kernels_gradients_are_summed_over_as_many_images_as_stay_in_the_cache():
    sizes = [(16, 64, 16), (16, 128, 16), (3, 64, 64), (1, 256, 64)]
    arrays = [jax.ShapeDtypeStruct((batch, size, size, channels), jnp.float32) for batch, size, channels in sizes]
    assert [cross_correlation.images_at_once(array, array) for array in arrays] == [8, 2, 1, 1]


def test_a_trace_of_one_library_is_not_taken_for_the_other():
    seen = []

    @jax.jit
    def inner(x):
        seen.append(convolutions.traced_library.value)
        return x

    for name in ("xla", "onednn", "xla"):
        convolutions.with_library(inner, name)(1.0)
    assert seen == ["xla", "onednn"]


@pytest.mark.parametrize(
    ("version", "model", "passes", "library"),
    [
        ((0, 10, 2), ModelSpec(width=16), 10**9, "xla"),
        ((0, 12, 0), ModelSpec(width=16), 10**9, "onednn"),
        ((0, 12, 0), ModelSpec(width=16), 10**3, "xla"),
        ((0, 12, 0), ModelSpec(width=8), 10**9, "onednn"),
        ((0, 12, 0), ModelSpec(width=4), 10**9, "onednn"),
        ((0, 12, 0), ModelSpec(width=2), 10**9, "xla"),
        ((0, 10, 2), ModelSpec(name="smp_resnet50"), 10**9, "xla"),
        ((0, 12, 0), ModelSpec(name="smp_resnet50"), 10**9, "onednn"),
        ((0, 12, 0), ModelSpec(name="smp_mit_b2"), 10**5, "xla"),
        ((0, 12, 0), ModelSpec(build=Net), 10**9, "xla"),
    ],
    ids=[
        "JAX 0.10",
        "wide and long",
        "short",
        "of width 8",
        "of width 4",
        "narrow",
        "large, JAX 0.10",
        "large and long",
        "large and short",
        "a user's own",
    ],
)
def test_the_rule(monkeypatch, version, model, passes, library):
    monkeypatch.setattr(jax, "__version_info__", version)
    assert convolutions.faster_library(model, pixels=passes * 48**2) == library


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(convolutions, "has_onednn", lambda: False)
    monkeypatch.setattr(devices, "has_onednn", lambda: False)


NO_ONEDNN = r"config\.population\.convolutions: expected auto or xla, for XLA of JAX"


def test_a_layout_of_onednn_that_is_absent_is_refused(absent):
    with pytest.raises(ConfigError, match=NO_ONEDNN):
        devices.make_layout(ONEDNN, members=1)


def test_a_program_of_onednn_that_is_absent_is_refused(absent):
    with pytest.raises(ConfigError, match=NO_ONEDNN):
        fast_jit(jnp.sin, convolutions="onednn")


def test_a_program_of_an_unknown_library_is_refused():
    with pytest.raises(ConfigError, match=r"^convolutions: expected xla or onednn; found 'oneDNN'"):
        fast_jit(jnp.sin, convolutions="oneDNN")


def test_auto_is_todays_path_where_onednn_is_absent(absent, monkeypatch):
    monkeypatch.setattr(jax, "__version_info__", (0, 12, 0))
    (program,) = plan(faults.read_config({"model.width": "16"})).programs
    assert devices.library_of(program, PopulationSpec(), n_train=10**9) == "xla"
    monkeypatch.setattr(devices, "has_onednn", lambda: True)
    assert devices.library_of(program, PopulationSpec(), n_train=10**9) == "onednn"


@pytest.mark.parametrize(
    ("machine", "options"),
    [("aarch64", convolutions.OPTIONS), ("x86_64", {"xla_cpu_no_such_option": True})],
    ids=["another processor", "an option that XLA lacks"],
)
def test_what_has_no_onednn(monkeypatch, machine, options):
    monkeypatch.setattr(convolutions.platform, "machine", lambda: machine)
    monkeypatch.setattr(convolutions, "OPTIONS", options)
    assert not convolutions.has_onednn.__wrapped__()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx512f avx512_bf16 fma", True),
        ("flags : fpu amx_tile amx_bf16", True),
        ("flags : fpu avx512f avx512_bf16x", False),
        (None, False),
    ],
    ids=["AVX512", "AMX", "neither", "no such file"],
)
def test_instructions_of_bfloat16(monkeypatch, tmp_path, flags, expected):
    path = tmp_path / "cpuinfo"
    if flags is not None:
        path.write_text(flags)
    monkeypatch.setattr(convolutions, "CPUINFO", path)
    assert convolutions.multiplies_bfloat16() == expected


@pytest.mark.parametrize(
    ("library", "dtype", "instructions", "named"),
    [
        ("onednn", "float32", True, True),
        ("xla", "float32", True, False),
        ("onednn", "bfloat16", True, False),
        ("onednn", "float32", False, False),
    ],
    ids=["faster", "XLA's own", "chosen already", "no instructions"],
)
def test_a_dry_run_names_bfloat16_where_it_is_faster(monkeypatch, library, dtype, instructions, named):
    monkeypatch.setattr(description, "multiplies_bfloat16", lambda: instructions)
    config = flipjax.configure("smoke", {"model.dtype": dtype, "population.convolutions": library})
    text = "\n".join(description.describe_plan(plan(config)))
    assert f"convolutions on a CPU: {library}" in text
    assert ("config.model.dtype=bfloat16 is faster" in text) == named


@pytest.fixture(scope="module")
def onednn_run(tmp_path_factory):
    """A finished run of oneDNN, asked for."""
    if not convolutions.has_onednn():
        pytest.skip("XLA has no oneDNN for this processor")
    folder = tmp_path_factory.mktemp("onednn") / "run"
    assert faults.run(folder, ASKED)[0] == 0
    return folder


def test_a_dry_run_and_config_json_say_which(onednn_run, tmp_path):
    code, text = faults.run(tmp_path / "dry", "--dry_run", ASKED)
    assert code == 0 and "convolutions on a CPU: onednn" in text
    assert json.loads((onednn_run / "config.json").read_text())["convolutions"] == {"000": "onednn"}


@pytest.fixture
def begun(tmp_path):
    """A run whose first start chose oneDNN, which a rule of today would not choose, and which trained nothing yet."""
    run = tmp_path / "run"
    shutil.copytree(faults.whole_run()[0], run)
    record = json.loads((run / "config.json").read_text())
    assert record["convolutions"] == {"000": "xla"}
    record["convolutions"] = {"000": "onednn"}
    (run / "config.json").write_text(json.dumps(record))
    for stored in (run / "cells").rglob("results.npz"):
        stored.unlink()
    shutil.rmtree(run / "checkpoints")
    return run


def test_a_continued_run_keeps_the_library_of_its_first_start(onednn_run, begun):
    assert faults.run(begun)[0] == 0
    assert faults.same(begun, "history.csv", whole=onednn_run)


def test_a_run_of_a_library_that_is_absent_is_refused(begun, absent):
    code, text = faults.run(begun)
    problem = "--workdir: expected a run whose library of convolutions this machine has; found one with onednn"
    assert code == 2 and problem in text, text
