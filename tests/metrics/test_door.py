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
from metrics.logits import random_case


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
ONE_IGNORED = np.where(LABELS == 0, 255, LABELS + 2)
MILLION = np.where(LABELS == 2, 10**6, LABELS)
MASKS = {"kind": "masks", "num_classes": 3}
decompose, flip_risk = metrics.decompose, metrics.flip_risk


def zeros(*shape):
    return np.zeros(shape, np.float32)


DOOR = [
    (decompose, (LOGITS[0], LABELS[0]), {"spatial_ndim": 3}, "at least 4 axes"),
    (flip_risk, (LOGITS,), {"spatial_ndim": 1}, "spatial_ndim: expected 2"),
    (decompose, (LOGITS, LABELS[:1]), {}, r"expected shape \(2, 5, 6\).*\(1, 5, 6\)"),
    (flip_risk, (zeros(2, 3, 64, 64),), {}, r"channels-first.*\(0, 2, 3, 1\)"),
    (flip_risk, (zeros(4, 21, 64, 64),), {}, r"permute\(0, 2, 3, 1\)"),
    (decompose, (np.moveaxis(LOGITS, -1, 1), LABELS[:, None]), {}, r"squeeze\(1\)\. .*permute\(0, 2, 3, 1\)"),
    (decompose, (LOGITS, LABELS.astype(np.float32)), {}, r"labels: .*integer.*float32.*labels\.long\(\)"),
    (decompose, (LABELS, LOGITS), {}, "Predictions come first.*kind='masks'"),
    (decompose, (LABELS.astype(float), LABELS), {}, "kind='masks'"),
    (decompose, (LOGITS, LABELS + 253), {}, r"0..2.*253, 254, 255.*ignore_index=255"),
    (decompose, (LOGITS, jnp.asarray(LABELS - 1)), {}, "found -1.*ignore_index=-1"),
    (metrics.error_map, (LOGITS, ONE_IGNORED), {"ignore_index": 255}, "0..2 and ignore_index=255 .*found 3, 4."),
    (decompose, (LOGITS, LABELS + 2**32), {}, "4294967296"),
    (decompose, (LOGITS, LABELS), {"ignore_index": 2**31}, "ignore_index"),
    (flip_risk, (LOGITS[..., :2],), {}, "at least 3 classes.*found 2.*background=None"),
    (decompose, ({"aux": LOGITS, "out": LOGITS}, LABELS), {}, "logits: .*found dict with 'aux', 'out'"),
    (decompose, (zeros(2, 8, 12, 3), np.zeros((2, 32, 48), int)), {}, r"8 x 12, the labels 32 x 48: .*size=\(32, 48\)"),
    (
        decompose,
        (zeros(2, 3, 64, 64), np.zeros((2, 256, 256), int)),
        {},
        "'first'.*64 x 64, the labels 256 x 256: resize",
    ),
    (decompose, (LOGITS, LABELS), {"channels": "middle"}, "channels: expected"),
    (decompose, (LOGITS, np.ma.array(LABELS)), {}, "labels: .*filled"),
    (decompose, (LOGITS, LABELS), {"kind": "scores"}, "kind: expected .* or 'masks'"),
    (flip_risk, (LOGITS,), {"kind": "masks"}, "kind: expected 'logits' or 'probabilities'"),
    (metrics.region_sums, (LABELS, LABELS), {"kind": "masks"}, "kind: expected 'logits' or 'probabilities'"),
    (decompose, (LABELS, MILLION), {"kind": "masks"}, "num_classes: .* at most 4096.*1000001.*ignore_index=1000000"),
    (decompose, (LABELS, LABELS), {"kind": "masks", "num_classes": 2}, "num_classes: .* at least 3"),
    (decompose, (LABELS + 5, LABELS), MASKS, "predictions: .* found 5, 6, 7"),
    (decompose, (LABELS, LABELS + 5), MASKS, "labels: .* found 5, 6, 7"),
    (decompose, (LABELS[:1], LABELS), MASKS, "predictions: .* of the labels' shape"),
    (decompose, (LABELS.astype(float), LABELS), MASKS, r"predictions: expected integers.* predictions\.long\(\)"),
    (jax.jit(lambda p: decompose(p, LABELS, kind="masks")), (LABELS,), {}, "num_classes: .* under jit"),
    (jax.jit(decompose), (LOGITS, LABELS[:1]), {}, "expected shape"),
    (jax.jit(lambda x: decompose(x, CONSTANT)), (LOGITS,), {}, "found 3"),
]


@pytest.mark.parametrize(("function", "arrays", "options", "message"), DOOR, ids=range(len(DOOR)))
def test_errors_at_the_door(function, arrays, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        function(*arrays, **options)


def test_labels_say_that_a_last_axis_of_many_is_one_of_classes():
    assert decompose(zeros(2, 5, 40, 40), np.zeros((2, 5, 40), int)).confusion.shape == (2, 40, 40)


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
