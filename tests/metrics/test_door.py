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
from flipjax.metrics import checks
from metrics.logits import random_case


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
    (decompose, (LOGITS.astype(np.longdouble), LABELS), {}, "logits: .*at most float64"),
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
    assert checks.check_pair(zeros(2, 5, 40, 40), np.zeros((2, 5, 40), int), metrics.LabelSpec())[2] == 40


def test_other_arrays_of_one_image_give_the_same_numbers():
    rounded = jnp.asarray(LOGITS).astype(jnp.bfloat16)
    logits = np.asarray(rounded, np.float32)
    expected, risk, codes = decompose(logits, LABELS), metrics.risk_map(logits), metrics.error_map(logits, LABELS)
    moved = np.moveaxis(logits, -1, 1)
    for scores, labels, options in (
        (rounded, LABELS, {}),
        (logits.astype(np.float16), jnp.asarray(LABELS, jnp.uint8), {"ignore_index": -1}),
        (logits.astype(np.float64), LABELS.astype(np.uint8), {"ignore_index": 255}),
        (logits.astype(">f4"), jnp.asarray(LABELS, jnp.int8), {"ignore_index": 255}),
        (logits, LABELS.astype(">i4"), {}),
        (moved, LABELS, {"channels": "first"}),
        (jnp.asarray(moved), LABELS, {"channels": "first"}),
        (FakeTensor(logits, "torch.float32"), FakeTensor(LABELS, "torch.int64"), {}),
        (FakeTensor(logits, "torch.bfloat16"), FakeTensor(LABELS, "torch.int64"), {}),
    ):
        result, axis = decompose(scores, labels, **options), {"channels": options.get("channels", "last")}
        np.testing.assert_array_equal(result.confusion, expected.confusion)
        np.testing.assert_array_equal(metrics.error_map(scores, labels, **options), codes)
        found = result.risk_sum, metrics.risk_map(scores, **axis), flip_risk(scores, **axis)
        assert {each.dtype for each in found} == {jnp.dtype(jnp.float32)}
        for ours, wanted in zip(found, (expected.risk_sum, risk, expected.flip_risk), strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=1e-6)
    assert decompose(LABELS.astype(">i4"), LABELS, **MASKS).correct.tolist() == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_after_jax_had_started_refuses_and_does_not_hang():
    decompose(LOGITS, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of JAX's threads, and from Python 3.12 on of any.
        child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            decompose(LOGITS, LABELS)
        except RuntimeError as error:
            os._exit(7 if "multiprocessing_context='spawn'" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    decompose(LOGITS, LABELS)


def test_public_names_are_documented_with_an_example():
    for name in metrics.__all__:
        assert "Example:\n" in inspect.getdoc(getattr(metrics, name)), name
