"""Metrics while a user debugs NaN, in 64 bits, and on a mesh of Explicit axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flipjax import metrics
from flipjax.audit import stream
from flipjax.metrics import Anatomy, FlipCounts, FlipMetric
from metrics.logits import random_case, softmax

LOGITS, LABELS = random_case(3, (2, 5, 6), 4)
LABELS[0] = 0  # An image without true foreground, whose shares are NaN.
DEVICE = jnp.asarray(LOGITS), jnp.asarray(LABELS)


def shares(decomposition):
    return [getattr(decomposition, name) for name in ("correct", "flip", "miss", "spill", "flip_risk")]


def rates_of_masks():
    return shares(metrics.decompose(LABELS, LABELS, kind="masks", num_classes=4))


def counts():
    whole = FlipCounts.empty(num_classes=4)
    for batch in (LOGITS[:1], LABELS[:1]), (LOGITS[1:], LABELS[1:]):
        whole = whole.merge(FlipCounts.from_model_output(*batch, mask=np.array([True])))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), whole)
    return [whole.compute(), stacked.reduce().compute()]


def metric():
    gathered = FlipMetric()
    gathered.update(LOGITS, LABELS)
    return gathered.compute()


def kinds():
    anatomy, images = Anatomy(mirror=((1, 2),), chains=((1, 2, 3),)), metrics.decompose(*DEVICE)
    found = metrics.flip_kinds(images, anatomy)
    return [*found, found.mirror, found.shift, *metrics.relabelling(images, anatomy)]


FUNCTIONS = {
    "decompose": lambda: metrics.decompose(LOGITS, LABELS),
    "decompose on a device": lambda: metrics.decompose(*DEVICE),
    "shares": lambda: shares(metrics.decompose(*DEVICE)),
    "shares of masks": rates_of_masks,
    "summarize": lambda: metrics.summarize(metrics.decompose(*DEVICE)),
    "flip_risk": lambda: [metrics.flip_risk(LOGITS), metrics.flip_risk(DEVICE[0])],
    "scores of probabilities": lambda: metrics.logit_scores(softmax(LOGITS), kind="probabilities"),
    "region_sums": lambda: metrics.region_sums(LOGITS, LABELS),
    "segments": lambda: metrics.segments(LOGITS, LABELS).select_dtypes("number").to_dict("list"),
    "kinds of flips": kinds,
    "FlipCounts": counts,
    "FlipMetric": metric,
}
"""What metrics compute, as trees of numbers."""


def compare(found, expected, **tolerance):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(value), np.asarray(wanted), **tolerance)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_nan_that_is_meant_stops_no_metric_while_nan_are_debugged(function):
    compute = FUNCTIONS[function]
    expected = compute()
    with jax.debug_nans(True):
        found = compute()
    compare(found, expected, rtol=0)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_metric_is_the_same_with_64_bits(function):
    compute = FUNCTIONS[function]
    expected = compute()
    with jax.enable_x64(True):
        found = compute()
    # Eager arithmetic is in float64.
    compare(found, expected, rtol=1e-5, atol=1e-7)


def rates_of_stream(folder):
    with stream(folder, class_names=["background", "cat", "dog", "cow"]) as audit:
        audit.add(LOGITS, LABELS)
    return {key: value for key, value in audit.summary.items() if isinstance(value, float)}


def test_an_audit_of_batches_is_the_same_with_64_bits(tmp_path, without_pictures):
    expected = rates_of_stream(tmp_path / "plain")
    assert expected
    with jax.enable_x64(True):
        found = rates_of_stream(tmp_path / "wide")
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)


def test_debugging_finds_what_a_user_computes():
    with jax.debug_nans(True):
        metrics.decompose(*DEVICE)
        with pytest.raises(FloatingPointError):
            jnp.zeros(1) / 0


def kernels_of(images):
    return [
        metrics.decompose(*images),
        shares(metrics.decompose(*images)),
        metrics.flip_risk(images[0]),
        metrics.error_map(*images),
        FlipCounts.from_model_output(*images).compute(),
        metrics.summarize(metrics.decompose(*images)),
    ]


def test_images_on_a_mesh_of_explicit_axes(two_devices):
    mesh = jax.make_mesh((2,), ("images",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        found = kernels_of([jax.device_put(array, jax.P("images")) for array in DEVICE])
    compare(found, kernels_of(DEVICE), rtol=1e-5)
