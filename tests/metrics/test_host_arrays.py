"""Arrays and numbers that summaries, rankings and counts refuse on the host, and types that they take."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from flipjax import metrics
from flipjax.config.groups import Groups, NamedGroups
from flipjax.metrics import Decomposition
from flipjax.metrics.pixels import channels
from flipjax.metrics.scenes import flips
from flipjax.metrics.statistics import selective
from metrics.logits import FakeTensor, random_case

CONFUSION = np.random.default_rng(0).integers(0, 50, (6, 3, 3))
RISK = np.random.default_rng(1).random(6)
IMAGES = Decomposition(CONFUSION, RISK)
NEGATIVE = np.where(np.arange(6)[:, None, None] == 2, -CONFUSION, CONFUSION)
MASKED = np.ma.masked_array(CONFUSION, CONFUSION > 25)

MADE_BY_HAND = {
    "not square": (Decomposition(CONFUSION[:, :, :2], RISK), "decomposition: expected confusion"),
    "two classes": (Decomposition(CONFUSION[:, :2, :2], RISK), "decomposition: expected two classes or more"),
    "negative counts": (Decomposition(NEGATIVE, RISK), "decomposition: expected counts of 0 or more"),
    "background beyond C": (Decomposition(CONFUSION, RISK, 7), r"background: expected classes in 0..2, found 7"),
    "one foreground class": (Decomposition(CONFUSION, RISK, (0, 1)), "decomposition: expected two classes or more"),
    "masked": (Decomposition(MASKED, RISK), "confusion: expected an array, found a masked one"),
    "complex risk": (Decomposition(CONFUSION, RISK + 1j), "risk_sum: expected real numbers, found complex128"),
    "no risk": (Decomposition(CONFUSION, None), "decomposition: expected"),
    "risk of others": (Decomposition(CONFUSION, RISK[:2]), "decomposition: expected"),
    "float counts": (Decomposition(CONFUSION * 1.0, RISK), "decomposition: expected integer counts"),
}


@pytest.mark.parametrize("function", [metrics.summarize, lambda part: metrics.concatenate([part])], ids=["sum", "join"])
@pytest.mark.parametrize(("images", "message"), MADE_BY_HAND.values(), ids=MADE_BY_HAND)
def test_a_decomposition_made_by_hand_is_refused(function, images, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as error:
        function(images)
    assert "\n" not in str(error.value)


def test_rates_know_the_classes_of_the_background():
    with pytest.raises(ValueError, match=r"^background: expected classes in 0..2, found 7"):
        _ = Decomposition(CONFUSION, RISK, 7).flip


def bootstrap(**options):
    return metrics.bootstrap(IMAGES, **{"statistic": "fg_flip", "key": jax.random.key(0), "samples": 5} | options)


def resampled(counts):
    return metrics.resampled(IMAGES, ["fg_flip"], counts=counts)


def masked(values):
    return np.ma.masked_array(values, np.arange(len(values)) == 0)


SCORES, LOSSES = np.linspace(0, 1, 6), np.array([0, 1, 0, 1, 0, 1.0])
CUBE = Groups()
REFUSED = {
    "masked groups": (lambda: metrics.summarize(IMAGES, masked([0, 1, 2, 3, 0, 1])), "groups: .* found a masked one"),
    "masked clusters": (lambda: bootstrap(clusters=masked([0, 1, 2, 3, 0, 1])), "clusters: .* found a masked one"),
    "time spans as clusters": (
        lambda: bootstrap(clusters=np.arange(6).astype("m8[s]")),
        "clusters: expected 6 integers",
    ),
    "a key as groups": (
        lambda: metrics.summarize(IMAGES, jax.random.key(0)),
        "groups: expected an array, found PRNGKey",
    ),
    "several keys": (lambda: bootstrap(key=jax.random.split(jax.random.key(0))), "key: expected one JAX PRNG key"),
    "no key": (lambda: bootstrap(key=np.ones(2)), "key: expected a JAX PRNG key"),
    "too many columns": (lambda: resampled(np.ones((2, 9))), r"counts: expected \(samples, 6\), found \(2, 9\)"),
    "no counts": (lambda: resampled(None), r"counts: expected \(samples, 6\), found \(\)"),
    "no resample": (lambda: resampled(np.ones((0, 6))), r"counts: expected \(samples, 6\)"),
    "negative": (lambda: resampled(-np.ones((2, 6))), "counts: expected whole numbers .* found -1.0"),
    "halves": (lambda: resampled(np.full((2, 6), 0.5)), "counts: expected whole numbers .* found 0.5"),
    "NaN": (lambda: resampled(np.full((2, 6), np.nan)), "counts: expected whole numbers .* found nan"),
    "huge": (lambda: resampled(np.full((2, 6), 1e300)), "counts: expected whole numbers"),
    "text": (lambda: resampled(np.full((2, 6), "1")), "counts: expected real numbers, found <U1"),
    "masked scores": (lambda: selective.auroc(masked(SCORES), LOSSES), "scores: .* found a masked one"),
    "masked losses": (lambda: selective.risk_coverage(SCORES, masked(LOSSES)), "losses: .* found a masked one"),
    "complex scores": (lambda: selective.risk_coverage(SCORES + 0j, LOSSES), "scores: expected real numbers"),
    "dates": (lambda: selective.risk_coverage(np.arange(6).astype("M8[s]"), LOSSES), "scores: expected real numbers"),
    "losses above 1": (
        lambda: selective.risk_coverage(SCORES, 2 * LOSSES),
        r"losses: expected numbers in 0..1, found 2",
    ),
    "losses below 0": (lambda: selective.threshold_at_risk(SCORES, -LOSSES, risk=0.5), "losses: .* found -1"),
    "endless losses": (
        lambda: selective.risk_coverage(SCORES, np.where(LOSSES > 0, np.inf, 0)),
        "losses: expected numbers",
    ),
    "negative weights": (
        lambda: selective.auroc(SCORES, LOSSES, weights=-np.ones((1, 6))),
        "weights: expected numbers",
    ),
    "NaN weights": (lambda: selective.auroc(SCORES, LOSSES, weights=np.full((1, 6), np.nan)), "weights: expected"),
    "no AUROC": (lambda: selective.auroc_ends(1.5, 2, 3), r"auroc: expected a number in 0..1, found 1.5"),
    "no events": (lambda: selective.auroc_ends(0.5, 0, 3), "events, others: expected 1 or more, found 0 and 3"),
    "float flips": (lambda: flips.flips_to(CONFUSION * 1.0), "confusion: expected integers, found float64"),
    "groups below 0": (lambda: flips.flip_cube(CONFUSION, [-1] * 6, all_groups=CUBE), r"groups: expected 0..3"),
    "groups beyond": (lambda: flips.pull_counts(CONFUSION, [9] * 6, CUBE), r"groups: expected 0..3, found \[9\]"),
    "few groups": (lambda: flips.pull_counts(CONFUSION, [0], CUBE), "groups: expected 6 integers"),
    "names twice": (lambda: NamedGroups(("a", "b", "a")), "names: expected different names of groups, found 'a' twice"),
    "scene twice": (lambda: Groups(2, 2, ((0, 0), (1,))), "usual: expected each usual scene of a class once"),
    "names in a set": (lambda: metrics.summarize(IMAGES, class_names={"a", "b"}), "class_names: expected a sequence"),
    "a boolean background": (lambda: metrics.LabelSpec(background=True), "background: expected a class"),
    "a huge background": (lambda: metrics.LabelSpec(background=10**30), r"background: expected classes below 2\^31"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_number_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [ml_dtypes.int4, ml_dtypes.uint4, jnp.int4, jnp.uint2, np.int8, ">u2"], ids=str)
@pytest.mark.parametrize("on_device", [False, True], ids=["numpy", "jax"])
@pytest.mark.parametrize("function", [metrics.decompose, metrics.error_map])
def test_labels_of_any_width(dtype, on_device, function):
    logits, labels = random_case(3, (2, 5, 6))
    narrow = labels.astype(dtype)
    if on_device:
        narrow = jnp.asarray(labels).astype(np.dtype(dtype).newbyteorder("="))
    expected, found = function(logits, labels), function(logits, narrow)
    for leaf, whole in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, whole, rtol=1e-5)


def test_tensors_in_bfloat16_are_scores():
    assert selective.auroc(FakeTensor(SCORES, "torch.bfloat16"), LOSSES) == selective.auroc(SCORES, LOSSES)


def test_more_classes_than_a_block_holds_are_read_a_pixel_at_a_time(monkeypatch):
    classes = channels._MOST_UNROLLED_CLASSES + 7
    monkeypatch.setattr(channels, "_MOST_OUTPUTS_OF_BLOCK", classes - 1)
    risk = metrics.flip_risk(np.full((2, 3, classes), 0.5, np.float32), background=None)
    np.testing.assert_allclose(risk, np.log(classes), rtol=1e-5)


def test_a_background_out_of_order_is_the_same():
    logits = jnp.asarray(random_case(2, (1, 1), 200)[0][0, 0])
    found = channels.foreground_channels(logits, (5, 0))
    np.testing.assert_array_equal(found, np.delete(logits, [0, 5]))
