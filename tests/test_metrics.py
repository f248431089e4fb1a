"""The kernels of flipjax.metrics against hand-computed cases, slow NumPy twins and limits."""

import inspect
import itertools
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


def slow_decompose(logits, labels, background, ignore_index):
    """One image, pixel by pixel."""
    classes = logits.shape[-1]
    confusion, risk_sum = np.zeros((classes, classes), int), 0.0
    for z, label in zip(logits.reshape(-1, classes), labels.ravel(), strict=True):
        if label == ignore_index:
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
    ignore_index = data.draw(st.sampled_from([None, 255, 0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    logits = rng.integers(-2, 3, (*lead, *spatial, classes)) * np.float32(rng.choice([0.5, 3.0]))  # ties abound
    labels = rng.integers(0, classes, (*lead, *spatial)).astype(np.uint8)
    if ignore_index == 255:
        labels[rng.random(labels.shape) < 0.3] = 255
    options = {"background": background, "spatial_ndim": len(spatial)}
    result = metrics.decompose(logits, labels, ignore_index=ignore_index, **options)
    codes = metrics.error_map(logits, labels, ignore_index=ignore_index, **options)
    risks = metrics.risk_map(logits, **options)
    assert result.confusion.shape == (*lead, classes, classes)
    assert codes.shape == risks.shape == labels.shape
    for image in np.ndindex(lead):
        confusion, risk_sum = slow_decompose(logits[image], labels[image], background, ignore_index)
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
    ignored = metrics.decompose(one_hot(labels), np.full((2, 2), 9), ignore_index=9)
    assert ignored.confusion.sum() == 0 and np.isnan(ignored.flip) and np.isnan(ignored.flip_risk)
    uncertain = metrics.decompose(np.ones((1, 1, 3), np.float32) * [0, 1, 1], np.ones((1, 1), int))
    np.testing.assert_allclose(uncertain.flip_risk, np.log(2), rtol=1e-6)


def test_ignored_pixels_leave_the_risk_of_decompose_alone():
    logits = np.array([[[0.0, 1.0, 1.0], [0.0, 60.0, 0.0]]])
    result = metrics.decompose(logits, np.array([[1, 255]]), ignore_index=255)
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
    eager = metrics.decompose(logits, labels, ignore_index=0)

    def kernel(x, y):
        return metrics.decompose(x, y, ignore_index=0)

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
        kept = metrics.decompose(logits, np.array([[[9, 1]], [[1, 1]]]), ignore_index=9)
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
    "range": (lambda: metrics.decompose(LOGITS, LABELS + 253), ValueError, r"0..2.*253, 254, 255.*ignore_index=255"),
    "negative": (lambda: metrics.decompose(LOGITS, jnp.asarray(LABELS - 1)), ValueError, "found -1.*ignore_index=-1"),
    "range, one ignored": (
        lambda: metrics.error_map(LOGITS, np.where(LABELS == 0, 255, LABELS + 2), ignore_index=255),
        ValueError,
        "0..2 and ignore_index=255 .*found 3, 4.",
    ),
    "wide integers": (lambda: metrics.decompose(LOGITS, LABELS + 2**32), ValueError, "4294967296"),
    "ignore_index": (lambda: metrics.decompose(LOGITS, LABELS, ignore_index=2**31), ValueError, "ignore_index"),
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


def test_ignore_index_need_not_fit_the_label_dtype():
    expected = metrics.decompose(LOGITS, LABELS).confusion
    for labels in LABELS.astype(np.uint8), jnp.asarray(LABELS, jnp.uint8), jnp.asarray(LABELS, jnp.int8):
        np.testing.assert_array_equal(metrics.decompose(LOGITS, labels, ignore_index=-1).confusion, expected)
        np.testing.assert_array_equal(metrics.decompose(LOGITS, labels, ignore_index=255).confusion, expected)


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
