"""The kernels of flipjax.metrics against hand-computed cases, slow NumPy twins and limits."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax import metrics
from flipjax.metrics import Decomposition
from metrics.logits import draw, one_hot, random_case, slow_decompose, slow_entropy


def test_decompose_by_hand():
    labels, predicted = (np.stack([draw(own), draw("0000 0000")]) for own in ("0001 1122", "0121 2022"))
    predicted[1, 1, 3] = 2
    result = metrics.decompose(one_hot(predicted, scale=np.log(3.0)), labels)
    assert result.confusion.dtype == jnp.int32 and result.risk_sum.dtype == jnp.float32
    np.testing.assert_array_equal(result.confusion[0], [[1, 1, 1], [1, 1, 1], [0, 0, 2]])
    np.testing.assert_array_equal(result.confusion[1], [[7, 0, 1], [0, 0, 0], [0, 0, 0]])
    entropy = np.log(4.0) - 0.75 * np.log(3.0)
    np.testing.assert_allclose(result.risk_sum, [6 * entropy, entropy], rtol=1e-6)
    np.testing.assert_allclose(result.flip_risk, [entropy, entropy], rtol=1e-6)
    shares = [result.correct, result.flip, result.miss, result.spill]
    expected = [[3 / 5, np.nan], [1 / 5, np.nan], [1 / 5, np.nan], [2 / 3, 1 / 8]]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    codes = metrics.error_map(one_hot(predicted), labels)
    assert codes.dtype == jnp.uint8
    np.testing.assert_array_equal(codes, [draw("0441 2311"), draw("0000 0004")])


@pytest.mark.parametrize(
    ("lead", "spatial", "classes", "background", "ignore_index"),
    [
        ((2,), (3, 5), 3, (1,), 255),
        ((2, 1), (3, 5), 4, (3,), 0),
        ((2,), (2, 3, 2), 5, (1, 3), 255),
        ((), (5, 6), 4, (), None),
        ((2,), (5, 6), 6, (0, 1), 255),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_kernels_equal_their_slow_twins(lead, spatial, classes, background, ignore_index, seed):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-2, 3, (*lead, *spatial, classes)) * np.float32(rng.choice([0.5, 3.0]))  # ties abound
    labels = rng.integers(0, classes, (*lead, *spatial)).astype(np.uint8)
    if ignore_index == 255:
        labels[rng.random(labels.shape) < 0.3] = 255
    options = {"background": background, "spatial_ndim": len(spatial)}
    result = jax.tree.map(np.asarray, metrics.decompose(logits, labels, ignore_index=ignore_index, **options))
    codes = np.asarray(metrics.error_map(logits, labels, ignore_index=ignore_index, **options))
    risks, means = np.asarray(metrics.risk_map(logits, **options)), np.asarray(metrics.flip_risk(logits, **options))
    sums = metrics.region_sums(logits, labels, ignore_index=ignore_index, width=1, **options)
    assert result.confusion.shape == (*lead, classes, classes) and codes.shape == risks.shape == labels.shape
    for image in np.ndindex(lead):
        confusion, entropies, wanted = slow_decompose(logits[image], labels[image], background, ignore_index)
        np.testing.assert_array_equal(result.confusion[image], confusion)
        np.testing.assert_array_equal(codes[image], wanted)
        np.testing.assert_allclose(result.risk_sum[image], sum(entropies), rtol=2e-6, atol=1e-6)
        found = risks[image][~np.isin(logits[image].argmax(-1), background)]
        np.testing.assert_allclose(means[image], found.mean() if found.size else np.nan, rtol=1e-5, atol=1e-6)
        correct, flips, misses, spill = (int((wanted == code).sum()) for code in (1, 2, 3, 4))
        true = correct + flips + misses
        shares = [np.divide(part, true) if true else np.nan for part in (correct, flips, misses)]
        shares.append(spill / (confusion.sum() - true) if confusion.sum() > true else np.nan)
        own = [getattr(result, name)[image] for name in ("correct", "flip", "miss", "spill")]
        np.testing.assert_allclose(own, shares)
        assert (sums.true[image].sum(), sums.flips[image].sum()) == (true, flips)
    np.testing.assert_allclose(metrics.logit_scores(logits, **options)["flip_risk"], means, rtol=1e-5, atol=1e-6)
    summary, whole = metrics.summarize(metrics.concatenate([result])), codes[np.isin(codes, (1, 2, 3))]
    pooled = [(whole == code).mean() if whole.size else np.nan for code in (1, 2, 3)]
    np.testing.assert_allclose([summary[name] for name in ("fg_correct", "fg_flip", "fg_miss")], pooled)
    np.testing.assert_array_equal(summary["flip_matrix"], result.confusion.reshape(-1, classes, classes).sum(0))


@pytest.mark.parametrize("pixels", [(1, 1023), (33, 62), (1, 1031), (32, 32)])
@pytest.mark.parametrize("classes", [3, 4])
def test_counters_do_not_overflow(pixels, classes):
    logits, labels = one_hot(np.full(pixels, 2), classes), np.full(pixels, 2)
    confusion = np.asarray(metrics.decompose(logits, labels).confusion)
    assert confusion[2, 2] == confusion.sum() == np.prod(pixels)


def test_counts_are_exact_past_float32_and_int32():
    shape = (4099, 4098)
    result = metrics.decompose(jnp.zeros((*shape, 3), jnp.bfloat16), jnp.ones(shape, jnp.uint8))
    assert int(result.confusion[1, 0]) == 4099 * 4098 > 2**24
    n, pixels = 9001, 512 * 512
    confusion = np.zeros((n, 3, 3), np.int32)
    confusion[:, 1, 1], confusion[:, 0, 0] = 1, pixels - 1
    confusion[0, 1, 2] = 1
    summary = metrics.summarize(Decomposition(confusion, np.ones(n, np.float32)))
    assert summary["fg_flip"] == 1 / 9002
    assert summary["iou/background"] == 1.0


def test_flip_risk_sum_is_accurate_over_many_pixels():
    logits, labels = random_case(3, (1021, 1024), scale=4.0)
    gap = np.abs(logits[..., 1].astype(np.float64) - logits[..., 2])
    e = np.exp(-gap)
    expected = ((np.log1p(e) + gap * e / (1 + e)) * (logits.argmax(-1) > 0)).sum()
    np.testing.assert_allclose(metrics.decompose(logits, labels).risk_sum, expected, rtol=1e-6)


@pytest.mark.parametrize("classes", [3, 5])
def test_entropy_against_float64_up_to_extreme_logits(classes):
    gaps = np.concatenate([np.linspace(0, 80, 4001), [1e2, 1e4]]).astype(np.float32)
    logits = np.zeros((1, 2 * len(gaps), classes), np.float32)
    logits[0, : len(gaps), -1] = gaps
    logits[0, len(gaps) :, 1] = -gaps
    logits[0, len(gaps) :, 2] = gaps / 2
    risks = np.asarray(metrics.risk_map(logits))[0]
    expected = np.array([slow_entropy(z[1:]) for z in logits[0]])
    assert np.isfinite(risks).all()
    np.testing.assert_allclose(risks, expected, atol=1e-6)
    # A small entropy is as precise as the float32 gap of its logits, so that confident images keep their order.
    large = expected > 1e-30
    np.testing.assert_allclose(risks[large], expected[large], rtol=1e-5)


def test_limits():
    labels = np.array([[0, 1], [2, 1]])
    nothing = np.zeros((2, 2), int)
    for predicted, shares in (labels, (1, 0, 0)), (np.array([0, 2, 1])[labels], (0, 1, 0)), (nothing, (0, 0, 1)):
        result = metrics.decompose(one_hot(predicted), labels)
        assert (result.correct, result.flip, result.miss, result.spill) == (*shares, 0)
    assert result.risk_sum == 0 and np.isnan(result.flip_risk) and np.isnan(metrics.flip_risk(one_hot(nothing)))
    all_foreground = metrics.decompose(one_hot(labels), np.ones((2, 2), int))
    assert np.isnan(all_foreground.spill) and all_foreground.correct == 0.5
    ignored = metrics.decompose(one_hot(labels), np.full((2, 2), 9), ignore_index=9)
    assert ignored.confusion.sum() == 0 and np.isnan(ignored.flip) and np.isnan(ignored.flip_risk)
    uncertain = metrics.decompose(np.ones((1, 1, 3), np.float32) * [0, 1, 1], np.ones((1, 1), int))
    np.testing.assert_allclose(uncertain.flip_risk, np.log(2), rtol=1e-6)


def test_many_classes_equal_the_slow_twin_and_keep_their_gradient():
    C, background = 200, (0, 5)
    logits, labels = random_case(1, (6, 9, 4), C)
    logits[1], logits[2], logits[3, 1] = np.round(logits[1]), 1, -np.inf
    logits[4, 1, 1, 7] = np.inf
    logits[5, 0, 0, [9, 3]] = np.nan
    result = jax.jit(functools.partial(metrics.decompose, background=background))(logits, labels)
    for image in range(6):
        with np.errstate(invalid="ignore"):
            confusion, entropies, _ = slow_decompose(logits[image], labels[image], background)
        np.testing.assert_array_equal(result.confusion[image], confusion)
        if image < 3:
            np.testing.assert_allclose(result.risk_sum[image], sum(entropies), rtol=1e-5, atol=1e-6)
    assert np.isfinite(result.risk_sum[:5]).all() and np.isnan(result.risk_sum[5])
    wide = jnp.asarray(logits[:1] + 5 * (np.arange(C) == 1))
    slope = jax.jit(jax.grad(lambda x: metrics.flip_risk(x, background=background).sum()))(wide)
    z = np.delete(np.asarray(wide, np.float64), background, -1)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    inside = ~np.isin(np.asarray(wide).argmax(-1), background)[..., None]
    expected = -p * (np.log(p) - (p * np.log(p)).sum(-1, keepdims=True)) * inside / inside.sum()
    np.testing.assert_allclose(np.delete(slope, background, -1), expected, atol=1e-6)


def test_wide_labels_are_checked_before_they_are_narrow():
    logits, labels = random_case(6, (4, 4))
    with jax.enable_x64(True):
        result = jax.jit(metrics.decompose)(logits, jnp.asarray(labels) + (1 << 32))
    assert result.confusion.sum() == 0


def test_images_beyond_int32_are_refused():
    huge = np.broadcast_to(np.uint8(1), (1, 1 << 16, 1 << 15))
    with pytest.raises(ValueError, match="2147483648"):
        metrics.decompose(huge, huge, kind="masks", num_classes=3)


@pytest.mark.parametrize("classes", [3, 4])
def test_jit_and_vmap_equal_eager(classes):
    logits, labels = random_case(4, (3, 2, 8, 8), classes)
    kernel = functools.partial(metrics.decompose, ignore_index=0)
    eager = kernel(logits, labels)
    for traced in (jax.jit(kernel), jax.vmap(kernel), jax.vmap(jax.vmap(kernel))):
        result = traced(logits, labels)
        np.testing.assert_array_equal(result.confusion, eager.confusion)
        np.testing.assert_allclose(result.risk_sum, eager.risk_sum, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(metrics.flip_risk)(logits), metrics.flip_risk(logits), rtol=1e-6)
    np.testing.assert_array_equal(jax.jit(metrics.error_map)(logits, labels), metrics.error_map(logits, labels))
    np.testing.assert_allclose(jax.vmap(metrics.risk_map)(logits), metrics.risk_map(logits), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda d: d.flip)(eager), eager.flip, rtol=1e-6)
    assert jax.tree.map(lambda leaf: leaf[0], eager).background == 0


@pytest.mark.parametrize("classes", [3, 4])
def test_traced_labels_out_of_range_count_nowhere(classes):
    logits, labels = random_case(5, (4, 4), classes)
    marked = labels.copy()
    marked[0], marked[1] = -1, classes
    result = jax.jit(metrics.decompose)(logits, marked)
    expected = metrics.decompose(logits[2:], labels[2:])
    np.testing.assert_array_equal(result.confusion, expected.confusion)
    np.testing.assert_allclose(result.risk_sum, expected.risk_sum, rtol=1e-6)


@pytest.mark.parametrize("classes", [3, 4])
def test_nan_logits_count_as_the_largest_and_show_in_the_risk(classes):
    for channel, other in itertools.permutations(range(3), 2):
        logits = np.zeros((2, 1, 2, classes), np.float32)
        logits[0, 0, 0, channel] = np.nan
        logits[..., other] = 9
        result = metrics.decompose(logits, np.ones((2, 1, 2), int))
        assert result.confusion[0, 1, channel] == 1 and result.confusion[0, 1, other] == 1
        np.testing.assert_array_equal(np.isnan(result.risk_sum), [True, False])
        np.testing.assert_array_equal(np.isnan(metrics.flip_risk(logits)), [True, other == 0])
        kept = metrics.decompose(logits, np.array([[[9, 1]], [[1, 1]]]), ignore_index=9)
        assert np.isfinite(kept.risk_sum).all()


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_infinite_logits_are_certain(classes):
    """An infinite logit stands for a limit: alone it is certain, two of them are a tie; one below is no class."""
    logits = np.zeros((1, 4, classes), np.float32)
    logits[0, :2, -1] = np.inf
    logits[0, 1, -2] = np.inf
    logits[0, 2:, 1:] = -np.inf
    logits[0, 2, 1] = 1
    np.testing.assert_allclose(metrics.risk_map(logits)[0, :3], [0, np.log(2), 0], atol=1e-6)
    result = metrics.decompose(logits, np.ones((1, 4), int))
    np.testing.assert_allclose(result.risk_sum, np.log(2), rtol=1e-6)
    assert result.confusion[1, [0, 1]].tolist() == [1, 1 + (classes == 3)]


def test_enabling_x64_changes_nothing():
    for classes in 3, 4:
        logits, labels = random_case(6, classes=classes)
        expected = metrics.decompose(logits, labels)
        with jax.enable_x64(True):
            result = metrics.decompose(logits.astype(np.float64), labels)
        assert result.confusion.dtype == jnp.int32 and result.risk_sum.dtype == jnp.float32
        np.testing.assert_array_equal(result.confusion, expected.confusion)


def test_numpy_leaves_give_exact_float64():
    device = metrics.decompose(*random_case(7))
    host = jax.tree.map(np.asarray, device)
    for name in "correct", "flip", "miss", "spill", "flip_risk":
        share = getattr(host, name)
        assert isinstance(share, np.ndarray) and share.dtype == np.float64
        assert getattr(device, name).dtype == jnp.float32
        np.testing.assert_allclose(getattr(device, name), share, rtol=1e-6)
    third = Decomposition(np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0]], np.int32), np.float32(1))
    assert third.flip == 1 / 3
    assert np.isnan(third.spill)
