"""What flipjax.metrics takes: other libraries' tensors, precisions, and errors at the door."""

import inspect
import os
import signal
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax import metrics
from metrics.logits import one_hot, random_case


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
    "two classes, no background said": (lambda: metrics.flip_risk(LOGITS[..., :2]), ValueError, "background=None"),
    "model's dict": (
        lambda: metrics.decompose({"aux": LOGITS, "out": LOGITS}, LABELS),
        TypeError,
        r"logits: .*found dict with 'aux', 'out'; pass output\['out'\]",
    ),
    "quarter size": (
        lambda: metrics.decompose(np.zeros((2, 8, 12, 3), np.float32), np.zeros((2, 32, 48), int)),
        ValueError,
        r"8 x 12, the labels 32 x 48: resize first.*size=\(32, 48\)",
    ),
    "quarter size, channels first": (
        lambda: metrics.decompose(np.zeros((2, 3, 64, 64), np.float32), np.zeros((2, 256, 256), int)),
        ValueError,
        "channels='first'.*64 x 64, the labels 256 x 256: resize first",
    ),
    "quarter size, channels said": (
        lambda: metrics.decompose(np.zeros((2, 3, 8, 8), np.float32), np.zeros((2, 32, 32), int), channels="first"),
        ValueError,
        "resize first",
    ),
    "channels in the middle": (
        lambda: metrics.decompose(LOGITS, LABELS, channels="middle"),
        ValueError,
        "channels: expected",
    ),
    "float128": (lambda: metrics.flip_risk(LOGITS.astype(np.longdouble)), TypeError, "logits: .*at most float64"),
    "masked labels": (lambda: metrics.decompose(LOGITS, np.ma.array(LABELS)), TypeError, "labels: .*filled"),
    "class of a million": (
        lambda: metrics.decompose(LABELS, np.where(LABELS == 2, 10**6, LABELS), kind="masks"),
        ValueError,
        "num_classes: expected at most 4096.*1000001.*ignore_index=1000000",
    ),
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


def test_arrays_of_the_other_byte_order_are_read_right():
    logits = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    swapped, labels = logits.astype(">f4"), LABELS.astype(">i4")
    expected = metrics.decompose(logits, LABELS)
    for arrays in (swapped, LABELS), (logits, labels), (swapped, labels):
        result = metrics.decompose(*arrays)
        np.testing.assert_array_equal(result.confusion, expected.confusion)
        np.testing.assert_array_equal(result.risk_sum, expected.risk_sum)
        np.testing.assert_array_equal(metrics.error_map(*arrays), metrics.error_map(logits, LABELS))
    np.testing.assert_array_equal(metrics.risk_map(swapped), metrics.risk_map(logits))
    same = metrics.decompose(labels, LABELS, kind="masks", num_classes=3)
    assert same.correct.tolist() == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_after_jax_had_started_refuses_and_does_not_hang():
    logits, labels = random_case(1)
    metrics.decompose(logits, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of JAX's threads, and from Python 3.12 on of any.
        child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            metrics.decompose(logits, labels)
        except RuntimeError as error:
            os._exit(7 if "multiprocessing_context='spawn'" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    metrics.decompose(logits, labels)


def test_channels_first_is_the_same_image():
    logits = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    moved = np.moveaxis(logits, -1, 1)
    for array in moved, jnp.asarray(moved):
        result = metrics.decompose(array, LABELS, channels="first")
        np.testing.assert_array_equal(result.confusion, metrics.decompose(logits, LABELS).confusion)
        np.testing.assert_allclose(metrics.flip_risk(array, channels="first"), metrics.flip_risk(logits), rtol=1e-6)
        np.testing.assert_array_equal(
            metrics.error_map(array, LABELS, channels="first"), metrics.error_map(logits, LABELS)
        )


def test_public_names_are_documented_with_an_example():
    for name in metrics.__all__:
        assert "Example:\n" in inspect.getdoc(getattr(metrics, name)), name
