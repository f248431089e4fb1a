"""The kernels of flipjax.metrics: one law against slow NumPy twins, hand-computed cases, and limits."""

import contextlib
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.metrics import Decomposition
from flipjax.metrics.pixels import blocks
from flipjax.metrics.pixels import reductions as pixels
from metrics.logits import EXAMPLES, FakeTensor, one_hot, random_case, slow_decompose, slow_entropy, softmax

# Few, so that few programs compile; more than 192 classes are read in blocks.
SPECS = [
    {"classes": 3, "background": 1, "ignore_index": 255},
    {"classes": 3, "background": None, "ignore_index": None},
    {"classes": 5, "background": (1, 3), "ignore_index": 0},
    {"classes": 200, "background": (0, 5), "ignore_index": 255},
]
SPATIAL = {2: (2, 9), 3: (2, 3, 2)}  # With 200 classes no shape that looks channels-first.
FLOATS = [np.dtype(name) for name in ("float32", "float16", "float64", ">f4", jnp.bfloat16)]
LAYOUTS = ["numpy", "first", "jax", "jit", "vmap", "mesh", "tensor"]


@st.composite
def cases(draw):
    """Predictions rounded to their dtype, labels, and the options that read them; ties abound."""
    spec = dict(draw(st.sampled_from(SPECS)))
    C, kind = spec.pop("classes"), draw(st.sampled_from(["logits", "probabilities", "masks"]))
    spec |= {"kind": kind, "spatial_ndim": draw(st.sampled_from([2, 3]))}
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    shape = draw(st.sampled_from([(2,), (2, 2)])) + SPATIAL[spec["spatial_ndim"]]
    scores = rng.integers(-4, 5, (*shape, C)) / np.float32(2)
    scores = {"logits": scores, "probabilities": softmax(scores), "masks": scores.argmax(-1)}[kind]
    dtypes = [np.dtype(name) for name in ("uint8", "int64", ">i4")] if kind == "masks" else FLOATS
    labels = rng.integers(0, C, shape).astype(draw(st.sampled_from(["uint8", "int64", ">i2"])))
    if spec["ignore_index"] == 255:
        labels[rng.random(shape) < 0.3] = 255
    if kind == "masks":
        spec["num_classes"] = C
    return scores.astype(draw(st.sampled_from(dtypes))), labels, spec


def laid_out(layout, kind, scores, labels, function, spec):
    """Calls a function with arrays in one of LAYOUTS."""
    arrays = [scores] if labels is None else [scores, labels]
    call = functools.partial(function, **spec)
    if layout == "first" and kind != "masks":
        arrays[0] = np.moveaxis(scores, -1, -1 - spec["spatial_ndim"])
        return call(*arrays, channels="first")
    if layout == "tensor":
        return call(*map(FakeTensor, arrays))
    if layout in ("numpy", "first"):
        return call(*arrays)
    arrays = [jnp.asarray(each.astype(each.dtype.newbyteorder("="))) for each in arrays]
    if layout == "mesh":
        sharding = jax.NamedSharding(jax.make_mesh((min(2, jax.device_count()),), ("images",)), jax.P("images"))
        call, arrays = jax.jit(call), [jax.device_put(each, sharding) for each in arrays]
        assert jax.typeof(arrays[0]).sharding.mesh._any_axis_explicit
    return {"jit": jax.jit, "vmap": jax.vmap}.get(layout, lambda each: each)(call)(*arrays)


def twin(scores, labels, spec):
    """Confusion, entropies of the predicted foreground, codes and risks of one image."""
    background = metrics.LabelSpec(spec["background"]).background_classes
    if spec["kind"] == "masks":
        scores = np.eye(spec["num_classes"])[scores.astype(int)]
    scores = scores.astype(np.float64)
    if spec["kind"] == "probabilities":
        scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
    risks = [slow_entropy(z) for z in np.delete(scores, background, -1).reshape(labels.size, -1)]
    return *slow_decompose(scores, labels, background, spec["ignore_index"]), np.reshape(risks, labels.shape)


@contextlib.contextmanager
def blocks_of(length):
    """Cuts host arrays into blocks of `length` pixels; None leaves them whole."""
    with pytest.MonkeyPatch.context() as patch:
        if length:
            patch.setattr(blocks, "SMALL_BLOCK", length * 32)
            patch.setattr(blocks, "LARGE_BLOCK", length * 256)
            patch.setattr(blocks, "FEWEST_PIXELS", 8)
        yield


def images_of(labels, spec):
    """The places of images among the leading axes."""
    return np.ndindex(labels.shape[: -spec["spatial_ndim"]])


def check_close(found, expected, spec, atol=None):
    # Float32 rounds the logarithms of probabilities.
    rounding = 1e-5 if spec["kind"] == "probabilities" else 1e-6
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol or rounding)


def without_labels(spec):
    """The options of functions that take no labels."""
    return {name: value for name, value in spec.items() if name not in ("ignore_index", "num_classes")}


def shares_of(codes, pixels):
    """Shares of correct, flip, miss and spill among the pixels that count, by their codes."""
    correct, flips, misses, spills = (int((codes == code).sum()) for code in (1, 2, 3, 4))
    true = correct + flips + misses
    shares = [part / true if true else np.nan for part in (correct, flips, misses)]
    return [*shares, spills / (pixels - true) if pixels > true else np.nan]


LAW = settings(EXAMPLES, max_examples=14)
LAID_OUT = (cases(), st.sampled_from(LAYOUTS), st.sampled_from([None, 8]))
"""For any precision, layout, kind, background and ignored label; cut into blocks or whole."""


@LAW
@given(*LAID_OUT)
def test_decompose_equals_its_slow_twin(case, layout, length):
    scores, labels, spec = case
    with blocks_of(length):
        result = laid_out(layout, spec["kind"], scores, labels, metrics.decompose, spec)
    assert result.background == metrics.LabelSpec(spec["background"]).background
    assert (result.confusion.dtype, result.risk_sum.dtype) == (jnp.int32, jnp.float32)
    for image in images_of(labels, spec):
        confusion, entropies, _, _ = twin(scores[image], labels[image], spec)
        np.testing.assert_array_equal(np.asarray(result.confusion)[image], confusion)
        risk_sum = np.nan if spec["kind"] == "masks" else sum(entropies)
        check_close(np.asarray(result.risk_sum)[image], risk_sum, spec, atol=1e-4)


@LAW
@given(*LAID_OUT)
def test_error_map_equals_its_slow_twin(case, layout, length):
    scores, labels, spec = case
    with blocks_of(length):
        codes = np.asarray(laid_out(layout, spec["kind"], scores, labels, metrics.error_map, spec))
    assert codes.dtype == np.uint8
    for image in images_of(labels, spec):
        np.testing.assert_array_equal(codes[image], twin(scores[image], labels[image], spec)[2])


@LAW
@given(*LAID_OUT)
def test_risks_equal_their_slow_twins(case, layout, length):
    scores, labels, spec = case
    assume(spec["kind"] != "masks")
    options = without_labels(spec)
    with blocks_of(length):
        risks = np.asarray(laid_out(layout, spec["kind"], scores, None, metrics.risk_map, options))
        means = np.asarray(laid_out(layout, spec["kind"], scores, None, metrics.flip_risk, options))
    assert risks.dtype == means.dtype == np.float32
    for image in images_of(labels, spec):
        anything = np.zeros(labels[image].shape, int)
        _, entropies, _, entropy = twin(scores[image], anything, spec | {"ignore_index": None})
        check_close(risks[image], entropy, spec)
        check_close(means[image], np.mean(entropies) if entropies else np.nan, spec)


@LAW
@given(cases(), st.sampled_from([np.asarray, jnp.asarray]))
def test_rates_are_shares_of_the_error_codes(case, leaves):
    scores, labels, spec = case
    for image in images_of(labels, spec):
        confusion, _, codes, _ = twin(scores[image], labels[image], spec)
        one = Decomposition(leaves(confusion.astype(np.int32)), leaves(np.float32(0)), spec["background"])
        found = [float(getattr(one, name)) for name in ("correct", "flip", "miss", "spill")]
        check_close(found, shares_of(codes, confusion.sum()), spec)


@LAW
@given(cases())
def test_summaries_pool_the_pixels_of_all_images(case):
    scores, labels, spec = case
    twins = [twin(scores[image], labels[image], spec) for image in images_of(labels, spec)]
    confusion = np.stack([counts for counts, *_ in twins])
    codes = np.concatenate([codes.ravel() for _, _, codes, _ in twins])
    summary = metrics.summarize(Decomposition(confusion, np.zeros(len(confusion)), spec["background"]))
    counts = confusion.sum(0)
    found = [summary[name] for name in ("fg_correct", "fg_flip", "fg_miss")]
    check_close(found, shares_of(codes, counts.sum())[:3], spec)
    np.testing.assert_array_equal(summary["flip_matrix"], counts)
    background = metrics.LabelSpec(spec["background"]).background_classes
    either = counts.sum() - counts[np.ix_(background, background)].sum()
    both = np.delete(np.delete(counts, background, 0), background, 1).sum()
    check_close(summary["iou/foreground"], both / either if either else np.nan, spec)


def test_parts_become_one():
    logits, labels = random_case(4, (7, 5, 6), 5)
    parts = [metrics.decompose(logits[i], labels[i], background=(3, 1)) for i in (slice(3), slice(3, 6), 6)]
    joined, whole = metrics.concatenate(parts), metrics.decompose(logits, labels, background=[1, 3, 3])
    np.testing.assert_array_equal(joined.confusion, whole.confusion)
    np.testing.assert_allclose(joined.risk_sum, whole.risk_sum, rtol=1e-5)
    assert joined.flip.dtype == np.float64 and joined.background == whole.background == (1, 3)


def test_no_part_is_refused():
    with pytest.raises(ValueError, match="parts"):
        metrics.concatenate([])


def test_parts_of_another_background_are_refused():
    confusion, risk_sum = np.zeros((2, 5, 5), np.int32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="parts"):
        metrics.concatenate([Decomposition(confusion, risk_sum, (1, 3)), Decomposition(confusion, risk_sum, 0)])


@pytest.mark.parametrize("pixels", [(33, 62), (1, 1031)])
@pytest.mark.parametrize("classes", [3, 4])
def test_counters_do_not_overflow(pixels, classes):
    logits, labels = one_hot(np.full(pixels, 2), classes), np.full(pixels, 2)
    confusion = jax.jit(metrics.decompose)(logits, labels).confusion
    assert confusion[2, 2] == confusion.sum() == np.prod(pixels)


def test_summaries_are_exact_past_int32():
    confusion = np.zeros((9001, 3, 3), np.int32)
    confusion[:, 1, 1], confusion[:, 0, 0], confusion[0, 1, 2] = 1, 512 * 512 - 1, 1
    summary = metrics.summarize(Decomposition(confusion, np.ones(9001, np.float32)))
    assert summary["fg_flip"] == 1 / 9002 and summary["iou/background"] == 1.0


def test_sums_are_accurate_over_many_pixels():
    logits, labels = random_case(3, (511, 1024), scale=4.0)
    gap = np.abs(logits[..., 1].astype(np.float64) - logits[..., 2])
    e = np.exp(-gap)
    expected = ((np.log1p(e) + gap * e / (1 + e)) * (logits.argmax(-1) > 0)).sum()
    np.testing.assert_allclose(metrics.decompose(logits, labels).risk_sum, expected, rtol=1e-5)


@pytest.mark.parametrize("classes", [3, 5, 200])
def test_entropy_against_float64_up_to_extreme_logits(classes):
    gaps = np.concatenate([np.linspace(0, 80, 401), [1e2, 1e4]]).astype(np.float32)
    logits = np.full((1, 2 * len(gaps), classes), -np.inf, np.float32)
    logits[0, :, :3] = 0
    logits[0, : len(gaps), 2] = gaps
    logits[0, len(gaps) :, 1] = -gaps
    logits[0, len(gaps) :, 2] = gaps / 2
    risks = np.asarray(metrics.risk_map(logits))[0]
    expected = np.array([slow_entropy(z[1:3]) for z in logits[0]])
    np.testing.assert_allclose(risks, expected, atol=1e-6)
    # A small entropy is as precise as the float32 gap of its logits, so that confident images keep their order.
    large = expected > 1e-30
    np.testing.assert_allclose(risks[large], expected[large], rtol=1e-5)


def test_limits():
    labels = np.array([[0, 1], [2, 1]])
    nothing = np.zeros((2, 2), int)
    result = metrics.decompose(one_hot(nothing), labels)
    assert (result.correct, result.flip, result.miss, result.spill) == (0, 0, 1, 0)
    assert result.risk_sum == 0 and np.isnan(result.flip_risk) and np.isnan(metrics.flip_risk(one_hot(nothing)))
    ignored = metrics.decompose(one_hot(labels), np.full((2, 2), 9), ignore_index=9)
    assert ignored.confusion.sum() == 0 and np.isnan(ignored.flip) and np.isnan(ignored.flip_risk)


@pytest.mark.parametrize("transform", [lambda function: function, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("classes", [3, 4, 200])
def test_nan_and_infinite_logits(classes, transform):
    """NaN counts as the largest and shows in the risk. Infinity alone is certain, two of them a tie; -inf no class."""
    logits = np.full((8, 1, 2, classes), -5, np.float32)
    for image, (channel, other) in enumerate(itertools.permutations((0, 1, classes - 1), 2)):
        logits[image, 0, 0, channel] = np.nan
        logits[image, ..., other] = 9
    logits[6, ..., -1] = logits[6, 0, 1, -2] = np.inf
    logits[7] = -np.inf
    logits[7, 0, :, 1] = 1
    first = np.where(np.isnan(logits), np.inf, logits).argmax(-1)
    result = transform(metrics.decompose)(logits, np.ones(first.shape, int))
    np.testing.assert_array_equal(result.confusion[:, 1], [np.bincount(row[0], minlength=classes) for row in first])
    np.testing.assert_allclose(result.risk_sum[6:], [np.log(2), 0], atol=1e-6)
    assert np.isnan(result.risk_sum[:6]).all()
    kept = metrics.decompose(logits, np.tile([9, 1], (8, 1, 1)), ignore_index=9)
    assert np.isfinite(kept.risk_sum).all() and np.isnan(metrics.flip_risk(logits)[:6]).all()


@pytest.mark.parametrize(("classes", "background"), [(2, None), (4, 0), (200, (0, 5))])
def test_scores_have_gradients(classes, background):
    logits, labels = random_case(1, (2, 9, 3), classes)
    logits += one_hot(labels, classes, 5)

    @jax.jit
    @jax.value_and_grad
    def score(logits):
        risk_sum = metrics.decompose(logits, labels, background=background).risk_sum
        means = metrics.flip_risk(logits, background=background)
        margins = metrics.logit_scores(logits, background=background)["margin"]
        return risk_sum.sum() + 10 * means.sum() + 10 * margins.sum()

    direction = np.random.default_rng(2).normal(size=logits.shape).astype(np.float32)
    slope = float((score(logits)[1] * direction).sum())
    up, down = (float(score(logits + step * direction)[0]) for step in (1e-2, -1e-2))
    assert slope == pytest.approx((up - down) / 2e-2, rel=2e-2, abs=2e-2)


@pytest.mark.parametrize("wide", [False, True], ids=["x32", "x64"])
def test_under_jit_labels_out_of_range_count_nowhere(wide):
    logits, labels = random_case(5, (4, 4), 4)
    marked = labels.copy()
    marked[0], marked[1] = -1, 4
    expected = metrics.decompose(logits[2:], labels[2:])
    with jax.enable_x64(wide):
        result = jax.jit(metrics.decompose)(logits.astype(np.float64), marked + wide * ((marked != labels) << 32))
    assert result.confusion.dtype == jnp.int32 and result.risk_sum.dtype == jnp.float32
    np.testing.assert_array_equal(result.confusion, expected.confusion)
    np.testing.assert_allclose(result.risk_sum, expected.risk_sum, rtol=1e-5)


def test_new_sizes_and_a_ragged_last_batch_compile_nothing():
    def programs(images, height, width):
        logits, labels = random_case(images, (images, height, width), 4)
        result = metrics.decompose(np.ascontiguousarray(np.moveaxis(logits, -1, 1)), labels, channels="first")
        assert len(result.flip) == len(result.flip_risk) == len(metrics.flip_risk(logits)) == images
        metrics.error_map(logits, labels)
        return [program._cache_size() for program in (pixels.count_pixels, pixels.sum_scores, pixels.find_errors)]

    before = programs(4, 24, 24)
    for shape in ((3, 24, 24), (1, 24, 24), (4, 17, 31), (7, 30, 34), (90, 5, 3)):
        assert programs(*shape) == before


def test_memory_is_that_of_a_block():
    logits = np.broadcast_to(np.float32(0), (3, 2000, 3000, 21))  # 1.5 GB, were it there.
    cut = blocks.cut([logits], spatial_ndim=2, lead=1, classes=21)
    (size,) = {next(cut).arrays[0].size for _ in range(5)}
    assert size <= blocks.LARGE_BLOCK


@pytest.mark.parametrize("begin", [0, 4, 16, 60], ids=str)
def test_a_whole_block_is_the_array_s_own_memory_where_it_begins_with_a_line(monkeypatch, begin):
    monkeypatch.setattr(blocks, "SMALL_BLOCK", 512)
    monkeypatch.setattr(blocks, "LARGE_BLOCK", 512)
    monkeypatch.setattr(blocks, "FEWEST_PIXELS", 16)
    logits, labels = random_case(5, (5, 4, 4), 9)
    memory = np.empty(logits.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + begin
    there = memory[start : start + logits.nbytes].view(np.float32).reshape(logits.shape)
    there[...] = logits
    for block in blocks.cut([there], spatial_ndim=2, lead=1, classes=9):
        assert block.arrays[0].ctypes.data % 64 == 0
        is_whole = block.images.stop - block.images.start == 2
        assert np.shares_memory(block.arrays[0], there) == (begin == 0 and is_whole)
    expected = jax.jit(metrics.decompose)(logits, labels)
    found = metrics.decompose(there, labels)
    np.testing.assert_array_equal(found.confusion, expected.confusion)
    np.testing.assert_allclose(found.risk_sum, expected.risk_sum, rtol=1e-5)


def test_constants_inside_a_callers_jit():
    logits, labels = random_case(0, (2, 5, 6))
    inside = jax.jit(lambda scale: jax.tree.map(lambda leaf: scale * leaf, metrics.decompose(logits, labels)))(1)
    np.testing.assert_array_equal(inside.confusion, metrics.decompose(logits, labels).confusion)


def test_bfloat16_logits_give_the_counts_and_entropies_of_their_float32():
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 3, (2, 8, 8, 9)), jnp.bfloat16)
    edges = jnp.array([np.nan, np.inf, -np.inf, 1e-39, -0.0], jnp.bfloat16)
    logits = logits.at[1, 0, 0, :5].set(edges)
    labels = np.zeros((2, 8, 8), np.uint8)
    half = jax.jit(metrics.decompose)(logits, labels)
    full = jax.jit(metrics.decompose)(logits.astype(jnp.float32), labels)
    np.testing.assert_array_equal(half.confusion, full.confusion)
    np.testing.assert_allclose(half.risk_sum, full.risk_sum, rtol=1e-6)


def test_bfloat16_logits_have_the_gradients_of_their_float32():
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 3, (4, 4, 3)), jnp.bfloat16)
    half = jax.grad(metrics.flip_risk)(logits)
    full = jax.grad(metrics.flip_risk)(logits.astype(jnp.float32))
    np.testing.assert_array_equal(half, full.astype(jnp.bfloat16))
    assert np.any(half != 0)
