"""flipjax.metrics against hand-computed cases, slow NumPy twins, limits, and the paper's reference implementation."""

import inspect
import itertools
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.metrics import Decomposition

GOLDEN = pathlib.Path(__file__).parents[2] / "shared" / "golden"
EXAMPLES = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def one_hot(prediction, classes=3, scale=1.0):
    return scale * np.eye(classes, dtype=np.float32)[np.asarray(prediction)]


def random_case(seed, shape=(2, 6, 7), classes=3, scale=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, (*shape, classes)).astype(np.float32), rng.integers(0, classes, shape)


def slow_entropy(foreground):
    """Float64 entropy of one pixel's foreground logits."""
    z = np.sort(np.asarray(foreground, np.float64))[::-1]
    e = np.exp(z - z[0])
    return np.log1p(e[1:].sum()) + (e * (z[0] - z)).sum() / e.sum()


def slow_decompose(logits, labels, background, ignore_label):
    """One image, pixel by pixel."""
    classes = logits.shape[-1]
    confusion, risk_sum = np.zeros((classes, classes), int), 0.0
    for z, label in zip(logits.reshape(-1, classes), labels.ravel(), strict=True):
        if label == ignore_label:
            continue
        prediction = int(np.argmax(z))
        confusion[label, prediction] += 1
        if prediction != background:
            risk_sum += slow_entropy(np.delete(z, background))
    return confusion, risk_sum


def test_decompose_by_hand():
    labels = np.array([[[0, 0, 0, 1], [1, 1, 2, 2]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    predicted = np.array([[[0, 1, 2, 1], [2, 0, 2, 2]], [[0, 0, 0, 0], [0, 0, 0, 2]]])
    result = metrics.decompose(one_hot(predicted, scale=np.log(3.0)), labels)
    assert result.confusion.dtype == jnp.int32 and result.risk_sum.dtype == jnp.float32
    np.testing.assert_array_equal(result.confusion[0], [[1, 1, 1], [1, 1, 1], [0, 0, 2]])
    np.testing.assert_array_equal(result.confusion[1], [[7, 0, 1], [0, 0, 0], [0, 0, 0]])
    entropy = np.log(4.0) - 0.75 * np.log(3.0)
    np.testing.assert_allclose(result.risk_sum, [6 * entropy, entropy], rtol=1e-6)
    np.testing.assert_allclose(result.flip_risk, [entropy, entropy], rtol=1e-6)
    np.testing.assert_allclose(result.correct, [3 / 5, np.nan], rtol=1e-6)
    np.testing.assert_allclose(result.flip, [1 / 5, np.nan], rtol=1e-6)
    np.testing.assert_allclose(result.miss, [1 / 5, np.nan], rtol=1e-6)
    np.testing.assert_allclose(result.spill, [2 / 3, 1 / 8], rtol=1e-6)
    expected = [[[0, 4, 4, 1], [2, 3, 1, 1]], [[0, 0, 0, 0], [0, 0, 0, 4]]]
    codes = metrics.error_map(one_hot(predicted), labels)
    assert codes.dtype == jnp.uint8
    np.testing.assert_array_equal(codes, expected)


@EXAMPLES
@given(
    lead=st.sampled_from([(), (2,), (2, 1)]),
    spatial=st.sampled_from([(1, 1), (3, 5), (2, 3, 2)]),
    classes=st.integers(3, 5),
    data=st.data(),
)
def test_kernels_equal_their_slow_twins(lead, spatial, classes, data):
    background = data.draw(st.integers(0, classes - 1))
    ignore_label = data.draw(st.sampled_from([None, 255, 0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    logits = rng.integers(-2, 3, (*lead, *spatial, classes)) * np.float32(rng.choice([0.5, 3.0]))  # ties abound
    labels = rng.integers(0, classes, (*lead, *spatial)).astype(np.uint8)
    if ignore_label == 255:
        labels[rng.random(labels.shape) < 0.3] = 255
    options = {"background": background, "spatial_ndim": len(spatial)}
    result = metrics.decompose(logits, labels, ignore_label=ignore_label, **options)
    codes = metrics.error_map(logits, labels, ignore_label=ignore_label, **options)
    risks = metrics.risk_map(logits, **options)
    assert result.confusion.shape == (*lead, classes, classes)
    assert codes.shape == risks.shape == labels.shape
    for image in np.ndindex(lead):
        confusion, risk_sum = slow_decompose(logits[image], labels[image], background, ignore_label)
        np.testing.assert_array_equal(result.confusion[image], confusion)
        np.testing.assert_allclose(result.risk_sum[image], risk_sum, rtol=2e-6, atol=1e-6)
        foreground = np.arange(classes) != background
        on_foreground = confusion[foreground]
        counts = {
            1: np.trace(on_foreground[:, foreground]),
            2: on_foreground[:, foreground].sum() - np.trace(on_foreground[:, foreground]),
            3: on_foreground[:, background].sum(),
            4: confusion[background, foreground].sum(),
        }
        assert {code: int((codes[image] == code).sum()) for code in counts} == counts
    found = np.argmax(logits, -1) != background
    expected = [risks[i][found[i]].mean() if found[i].any() else np.nan for i in np.ndindex(lead)]
    flip_risk = metrics.flip_risk(logits, **options)
    np.testing.assert_allclose(np.ravel(flip_risk), expected, rtol=1e-5, atol=1e-6)


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
    swapped = np.array([0, 2, 1])[labels]
    right = metrics.decompose(one_hot(labels), labels)
    wrong = metrics.decompose(one_hot(swapped), labels)
    nothing = metrics.decompose(one_hot(np.zeros((2, 2), int)), labels)
    assert (right.correct, right.flip, right.miss, right.spill) == (1, 0, 0, 0)
    assert (wrong.correct, wrong.flip, wrong.miss, wrong.spill) == (0, 1, 0, 0)
    assert (nothing.correct, nothing.flip, nothing.miss) == (0, 0, 1)
    assert nothing.risk_sum == 0 and np.isnan(nothing.flip_risk)
    assert np.isnan(metrics.flip_risk(one_hot(np.zeros((2, 2), int))))
    all_foreground = metrics.decompose(one_hot(labels), np.ones((2, 2), int))
    assert np.isnan(all_foreground.spill) and all_foreground.correct == 0.5
    ignored = metrics.decompose(one_hot(labels), np.full((2, 2), 9), ignore_label=9)
    assert ignored.confusion.sum() == 0 and np.isnan(ignored.flip) and np.isnan(ignored.flip_risk)
    uncertain = metrics.decompose(np.ones((1, 1, 3), np.float32) * [0, 1, 1], np.ones((1, 1), int))
    np.testing.assert_allclose(uncertain.flip_risk, np.log(2), rtol=1e-6)


def test_ignored_pixels_leave_the_risk_of_decompose_alone():
    logits = np.array([[[0.0, 1.0, 1.0], [0.0, 60.0, 0.0]]])
    result = metrics.decompose(logits, np.array([[1, 255]]), ignore_label=255)
    np.testing.assert_allclose(result.flip_risk, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(metrics.flip_risk(logits), np.log(2) / 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
def test_other_precisions_compute_in_float32(dtype):
    logits, labels = random_case(1)
    logits = np.asarray(jnp.asarray(logits).astype(jnp.bfloat16).astype(jnp.float32))
    expected = metrics.decompose(logits, labels)
    result = metrics.decompose(logits.astype(dtype), labels)
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    assert metrics.risk_map(logits.astype(dtype)).dtype == metrics.flip_risk(logits.astype(dtype)).dtype == jnp.float32


class FakeTensor:
    """A PyTorch tensor that requires a gradient, as NumPy sees it: readable once detached, and never in bfloat16."""

    def __init__(self, array, dtype, detached=False):
        self.array, self.dtype, self.detached = array, dtype, detached

    def detach(self):
        return FakeTensor(self.array, self.dtype, detached=True)

    def cpu(self):
        return self

    def float(self):
        return FakeTensor(self.array, "torch.float32", self.detached)

    def __array__(self, dtype=None, copy=None):
        if not self.detached or self.dtype == "torch.bfloat16":
            raise TypeError("cannot read")
        return self.array


def test_torch_tensors_by_their_methods_alone():
    logits, labels = random_case(2)
    expected = metrics.decompose(logits, labels)
    for dtype in "torch.float32", "torch.bfloat16":
        result = metrics.decompose(FakeTensor(logits, dtype), FakeTensor(labels, "torch.int64"))
        jax.tree.map(np.testing.assert_array_equal, result, expected)


def test_real_torch_tensors():
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    logits, labels = random_case(2)
    tensor = torch.tensor(logits, dtype=torch.bfloat16, requires_grad=True)
    channels_first = tensor.permute(0, 3, 1, 2).contiguous()
    result = metrics.decompose(channels_first.permute(0, 2, 3, 1), torch.tensor(labels))
    expected = metrics.decompose(tensor.detach().float().numpy(), labels)
    jax.tree.map(np.testing.assert_array_equal, result, expected)


@pytest.mark.parametrize("classes", [3, 4])
def test_jit_and_vmap_equal_eager(classes):
    logits, labels = random_case(4, (3, 2, 8, 8), classes)
    eager = metrics.decompose(logits, labels, ignore_label=0)

    def kernel(x, y):
        return metrics.decompose(x, y, ignore_label=0)

    def compare(result):
        np.testing.assert_array_equal(result.confusion, eager.confusion)
        np.testing.assert_allclose(result.risk_sum, eager.risk_sum, rtol=1e-6)

    compare(jax.jit(kernel)(logits, labels))
    compare(jax.vmap(kernel)(logits, labels))
    compare(jax.vmap(jax.vmap(kernel))(logits, labels))
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
        kept = metrics.decompose(logits, np.array([[[9, 1]], [[1, 1]]]), ignore_label=9)
        assert np.isfinite(kept.risk_sum).all()


def test_infinite_logits_never_make_nan():
    logits = np.array([[[0, 1, -np.inf], [5, -np.inf, -np.inf], [-np.inf, -np.inf, 0]]])
    result = metrics.decompose(logits, np.array([[1, 1, 1]]))
    assert result.risk_sum == 0
    np.testing.assert_array_equal(result.confusion[1], [1, 1, 1])


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


LOGITS, LABELS = random_case(8, (2, 5, 6))
CONSTANT = jnp.asarray(LABELS + 1)
DOOR = {
    "rank": (lambda: metrics.decompose(LOGITS[0, 0], LABELS[0, 0]), ValueError, "at least 3 axes"),
    "volume": (lambda: metrics.decompose(LOGITS[0], LABELS[0], spatial_ndim=3), ValueError, "at least 4 axes"),
    "spatial_ndim": (lambda: metrics.flip_risk(LOGITS, spatial_ndim=1), ValueError, "spatial_ndim: expected 2"),
    "shape": (lambda: metrics.decompose(LOGITS, LABELS[:1]), ValueError, r"expected shape \(2, 5, 6\).*\(1, 5, 6\)"),
    "channels": (
        lambda: metrics.decompose(LOGITS.transpose(0, 3, 1, 2), LABELS),
        ValueError,
        r"np.transpose\(logits, \(0, 2, 3, 1\)\)",
    ),
    "channels unlabelled": (
        lambda: metrics.flip_risk(np.zeros((2, 3, 64, 64), np.float32)),
        ValueError,
        r"channels-first.*\(0, 2, 3, 1\)",
    ),
    "channels, volume": (
        lambda: metrics.risk_map(np.zeros((3, 8, 40, 40), np.float32), spatial_ndim=3),
        ValueError,
        r"np.transpose\(logits, \(1, 2, 3, 0\)\)",
    ),
    "one-hot": (lambda: metrics.error_map(LOGITS, one_hot(LABELS).astype(int)), ValueError, r"labels.argmax\(-1\)"),
    "label axis": (lambda: metrics.error_map(LOGITS, LABELS[..., None]), ValueError, r"labels\[..., 0\]"),
    "label dtype": (lambda: metrics.decompose(LOGITS, LABELS.astype(np.float32)), TypeError, "integer.*float32"),
    "swapped": (lambda: metrics.decompose(LABELS, LOGITS), TypeError, "Predictions come first"),
    "range": (lambda: metrics.decompose(LOGITS, LABELS + 253), ValueError, r"0..2.*253, 254, 255.*ignore_label=255"),
    "negative": (lambda: metrics.decompose(LOGITS, jnp.asarray(LABELS - 1)), ValueError, "found -1.*ignore_label=-1"),
    "range, one ignored": (
        lambda: metrics.error_map(LOGITS, np.where(LABELS == 0, 255, LABELS + 2), ignore_label=255),
        ValueError,
        "0..2 and ignore_label=255 .*found 3, 4.",
    ),
    "wide integers": (lambda: metrics.decompose(LOGITS, LABELS + 2**32), ValueError, "4294967296"),
    "ignore_label": (lambda: metrics.decompose(LOGITS, LABELS, ignore_label=2**31), ValueError, "ignore_label"),
    "background": (lambda: metrics.decompose(LOGITS, LABELS, background=3), ValueError, "background: .*0..2, found 3"),
    "background below": (lambda: metrics.flip_risk(LOGITS, background=-1), ValueError, "found -1"),
    "classes": (lambda: metrics.flip_risk(LOGITS[..., :2]), ValueError, "at least 3 classes.*found 2"),
    "shape in jit": (lambda: jax.jit(metrics.decompose)(LOGITS, LABELS[:1]), ValueError, "expected shape"),
    "constant labels in jit": (
        lambda: jax.jit(lambda x: metrics.decompose(x, CONSTANT))(LOGITS),
        ValueError,
        "found 3",
    ),
}


@pytest.mark.parametrize("case", DOOR)
def test_errors_at_the_door(case):
    call, error, message = DOOR[case]
    with pytest.raises(error, match=message):
        call()


def test_ignore_label_need_not_fit_the_label_dtype():
    expected = metrics.decompose(LOGITS, LABELS).confusion
    for labels in LABELS.astype(np.uint8), jnp.asarray(LABELS, jnp.uint8), jnp.asarray(LABELS, jnp.int8):
        np.testing.assert_array_equal(metrics.decompose(LOGITS, labels, ignore_label=-1).confusion, expected)
        np.testing.assert_array_equal(metrics.decompose(LOGITS, labels, ignore_label=255).confusion, expected)


def images(flip, risk, foreground=20):
    """A decomposition whose images have the given flip shares (of 20 foreground pixels) and flip-risks."""
    flip, risk = np.asarray(flip, float), np.asarray(risk, float)
    confusion = np.zeros((len(flip), 3, 3), np.int32)
    confusion[:, 1, 2] = np.round(flip * foreground)
    confusion[:, 1, 1] = foreground - confusion[:, 1, 2]
    return Decomposition(confusion, risk * foreground)


def slow_ranking(flip, risk):
    """The ranking's statistics by loops."""
    order = sorted(range(len(risk)), key=lambda i: risk[i])
    n = len(order)
    parts = [order[d * n // 10 : (d + 1) * n // 10] for d in range(10)]
    pairs = [(risk[i], risk[j]) for i in range(n) for j in range(n) if flip[i] > 0.5 >= flip[j]]
    return {
        "risk_decile": [np.mean([risk[i] for i in part]) if part else np.nan for part in parts],
        "flip_by_risk_decile": [np.mean([flip[i] for i in part]) if part else np.nan for part in parts],
        "top_decile_flip_share": sum(flip[i] for i in parts[-1]) / sum(flip) if sum(flip) else np.nan,
        "risk_auroc": np.mean([(a > b) + (a == b) / 2 for a, b in pairs]) if pairs else np.nan,
        "risk_aurc": np.mean([np.mean([flip[i] for i in order[:k]]) for k in range(1, n + 1)]) if n else np.nan,
    }


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), min_size=0, max_size=35))
def test_ranking_equals_its_slow_twin(pairs):
    flip, risk = [f / 20 for f, _ in pairs], [r / 8 for _, r in pairs]
    summary = metrics.summarize(images(flip, risk))
    assert summary["n_images"] == len(pairs) and summary["n_images_without_risk"] == 0
    for key, expected in slow_ranking(flip, risk).items():
        np.testing.assert_allclose(summary[key], expected, rtol=1e-12, atol=1e-15)


def test_summary_by_hand():
    confusion = np.array(
        [
            [[4, 1, 0], [1, 6, 1], [0, 0, 0]],
            [[2, 0, 0], [0, 1, 3], [0, 0, 0]],
            [[3, 0, 0], [0, 0, 0], [0, 2, 2]],
            [[0, 0, 0], [0, 0, 0], [2, 0, 6]],
        ]
    )
    summary = metrics.summarize(
        Decomposition(confusion, np.array([0.8, 2.0, 1.2, 0.6])), np.arange(4), class_names=("background", "cat", "dog")
    )
    expected = {
        "n_images": 4,
        "n_images_without_risk": 0,
        "fg_correct": 15 / 24,
        "fg_flip": 6 / 24,
        "fg_miss": 3 / 24,
        "flip_image_mean": (1 / 8 + 3 / 4 + 2 / 4 + 0) / 4,
        "iou/background": 9 / 13,
        "iou/cat": 7 / (12 + 10 - 7),
        "iou/dog": 8 / (12 + 12 - 8),
        "iou/foreground": 21 / 25,
        "risk_auroc": 1.0,
        "top_decile_flip_share": 0.75 / 1.375,
        "group/0/iou/cat": 6 / 9,
        "group/1/iou/cat": 1 / 4,
        "group/3/iou/dog": 6 / 8,
        "group/2/iou/dog": 2 / 4,
        "group/common/fg_flip": 1 / 16,
        "group/rare/fg_flip": 5 / 8,
        "gap/cat": 6 / 9 - 1 / 4,
        "gap/dog": 6 / 8 - 2 / 4,
    }
    assert {key: summary[key] for key in expected} == pytest.approx(expected, rel=1e-12)
    assert all(isinstance(value, (int, float, list)) for value in summary.values())
    per_set = [key for key in summary if not key.startswith(("group/", "gap/"))]
    assert len(summary) == 7 * len(per_set) + 2


def test_images_without_true_or_predicted_foreground_are_not_ranked():
    result = images([0.0, 0.5, 1.0, 0.5, 1.0], [0.1, 0.2, 0.3, 0.4, np.nan])
    result.confusion[1] = [[20, 5, 0], [0, 0, 0], [0, 0, 0]]  # no true foreground
    result.confusion[3] = [[20, 0, 0], [9, 0, 0], [0, 0, 0]]  # nothing predicted
    summary = metrics.summarize(result)
    assert summary["n_images"] == 5 and summary["n_images_without_risk"] == 3
    assert summary["flip_image_mean"] == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert summary["risk_auroc"] == 1.0 and summary["top_decile_flip_share"] == 1.0
    np.testing.assert_allclose(summary["risk_decile"], [np.nan] * 4 + [0.1] + [np.nan] * 4 + [0.3])


def test_no_flips_no_images_and_no_group():
    summary = metrics.summarize(images([0.0] * 12, np.arange(12)))
    assert np.isnan(summary["top_decile_flip_share"]) and np.isnan(summary["risk_auroc"])
    assert summary["risk_aurc"] == 0 and summary["flip_by_risk_decile"] == [0.0] * 10
    empty = metrics.summarize(images([], []), np.array([], int))
    assert empty["n_images"] == 0 and empty["group/rare/n_images"] == 0
    assert np.isnan([empty["fg_flip"], empty["iou/class1"], empty["gap/class1"], *empty["risk_decile"]]).all()


def test_summary_of_more_classes_and_another_background():
    logits, labels = random_case(9, (6, 5, 5), 4)
    summary = metrics.summarize(metrics.decompose(logits, labels, background=2), [7, 7, 7, -1, -1, -1])
    assert [key for key in summary if key.startswith("iou/")] == [
        "iou/class0",
        "iou/class1",
        "iou/background",
        "iou/class3",
        "iou/foreground",
    ]
    prediction = logits.argmax(-1)
    both = ((prediction != 2) & (labels != 2)).sum() / ((prediction != 2) | (labels != 2)).sum()
    assert summary["iou/foreground"] == pytest.approx(both)
    assert "group/7/fg_flip" in summary and "group/-1/fg_flip" in summary
    assert not any("common" in key or "gap/" in key for key in summary)
    flip = ((labels != 2) & (prediction != 2) & (prediction != labels))[:3].sum() / (labels != 2)[:3].sum()
    assert summary["group/7/fg_flip"] == pytest.approx(flip)


def test_errors_at_the_door_of_summarize():
    result = images([0.0, 1.0], [0.1, 0.2])
    with pytest.raises(ValueError, match="one leading image axis"):
        metrics.summarize(jax.tree.map(lambda leaf: leaf[None], result))
    with pytest.raises(TypeError, match="integer counts"):
        metrics.summarize(Decomposition(result.confusion / 2, result.risk_sum))
    with pytest.raises(ValueError, match="groups: expected 2 integers"):
        metrics.summarize(result, [0])
    with pytest.raises(ValueError, match=r"in 0..3 .*found \[1, 4\]"):
        metrics.summarize(result, [1, 4])
    for names in ["cat"], ["a", "a", "b"], ["background", "foreground", "b"]:
        with pytest.raises(ValueError, match="class_names: expected 3 different names"):
            metrics.summarize(result, class_names=names)


def test_bootstrap_of_a_key_equals_that_of_a_function():
    logits, labels = random_case(10, (40, 6, 6))
    result, groups, key = metrics.decompose(logits, labels), np.arange(40) % 4, jax.random.key(3)
    options = {"key": key, "samples": 60, "groups": groups}
    for name in "fg_flip", "flip_image_mean", "iou/foreground", "risk_auroc", "risk_aurc", "top_decile_flip_share":
        vectorised = metrics.bootstrap(result, name, **options)
        looped = metrics.bootstrap(result, lambda d, name=name: metrics.summarize(d)[name], **options)
        np.testing.assert_allclose(vectorised, looped, rtol=1e-12)
    for name in "group/1/fg_flip", "group/rare/risk_aurc", "gap/class2", "flip_by_risk_decile":
        vectorised = metrics.bootstrap(result, name, **options)
        looped = metrics.bootstrap(result, lambda d, name=name: metrics.summarize(d, groups)[name], **options)
        np.testing.assert_allclose(vectorised, looped, rtol=1e-12)


def test_bootstrap_covers_as_the_normal_theory_says():
    rng = np.random.default_rng(0)
    flip = rng.integers(0, 21, 400) / 20
    low, high = metrics.bootstrap(images(flip, rng.random(400)), "flip_image_mean", key=jax.random.key(0))
    error = 1.96 * flip.std() / 20
    np.testing.assert_allclose([low, high], [flip.mean() - error, flip.mean() + error], atol=0.1 * error)
    assert isinstance(low, float)
    again = metrics.bootstrap(images(flip, rng.random(400)), "flip_image_mean", key=jax.random.key(0))
    other = metrics.bootstrap(images(flip, rng.random(400)), "flip_image_mean", key=jax.random.key(1))
    assert again == (low, high) != other


def test_bootstrap_keeps_the_groups_and_leaves_nan_out():
    result = images([0.0, 0.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.4])
    fixed = metrics.bootstrap(result, "fg_flip", key=jax.random.key(0), samples=50, groups=[0, 0, 1, 1])
    free = metrics.bootstrap(result, "fg_flip", key=jax.random.key(0), samples=50)
    assert fixed == (0.5, 0.5) and free.low < 0.5 < free.high
    auroc = metrics.bootstrap(result, "risk_auroc", key=jax.random.key(0), samples=50)
    assert auroc == (1.0, 1.0)
    never = metrics.bootstrap(images([0.0], [0.1]), "risk_auroc", key=jax.random.key(0), samples=5)
    assert np.isnan(never).all()
    with pytest.raises(ValueError, match=r"found 'fg_flop'. Valid: n_images, .*need groups="):
        metrics.bootstrap(result, "fg_flop", key=jax.random.key(0))
    with pytest.raises(ValueError, match="one image and one resample"):
        metrics.bootstrap(result, "fg_flip", key=jax.random.key(0), samples=0)


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_golden(case):
    path = GOLDEN / f"metrics_{case}.npz"
    if not path.exists():
        pytest.skip(f"golden cases are not at {GOLDEN}")
    data, expected = np.load(path), json.loads(path.with_suffix(".json").read_text())
    summary = metrics.summarize(metrics.decompose(data["logits"], data["labels"]), data["groups"])
    for ours, theirs in {
        "fg_correct": "fg_corr",
        "fg_flip": "fg_flip",
        "fg_miss": "fg_miss",
        "flip_image_mean": "flip_image_mean",
    }.items():
        assert summary[ours] == pytest.approx(expected[theirs], abs=5e-7), ours
    classes = [summary[f"iou/{name}"] for name in ("background", "class1", "class2")]
    printed = {
        "class_iou": classes,
        "binary_iou": summary["iou/foreground"],
        "decile_risk": summary["risk_decile"],
        "decile_mean_flip": summary["flip_by_risk_decile"],
        "top10_flip_share": summary["top_decile_flip_share"],
    }
    for key, value in printed.items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=5.001e-5, err_msg=key)
    for name, common, rare in ("class1", 0, 1), ("class2", 3, 2):
        value = [summary[f"group/{common}/iou/{name}"], summary[f"group/{rare}/iou/{name}"], summary[f"gap/{name}"]]
        np.testing.assert_allclose(value, expected["group_iou"][name], rtol=0, atol=5.001e-5)


def test_public_names_are_documented_with_an_example():
    for name in metrics.__all__:
        assert "Example:\n" in inspect.getdoc(getattr(metrics, name)), name


def test_import_brings_jax_and_numpy_only():
    code = (
        "import sys, flipjax.metrics\n"
        "heavy = ('flax', 'matplotlib', 'tensorflow', 'tensorflow_datasets', 'torch', 'optax', 'orbax', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
