"""Losses and the GroupDRO state against NumPy twins, hand-made cases, and the paper's reference implementation."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.logits import random_case, softmax

from flipjax import losses as kernels
from flipjax.config.methods import METHODS, Knobs, knobs_of
from flipjax.losses import image_loss, reference_validation

# One program each: operation by operation each shape would compile a dozen.
cross_entropy = jax.jit(kernels.cross_entropy)
soft_dice_loss = jax.jit(kernels.soft_dice_loss, static_argnames="include_background")
group_dro = jax.jit(kernels.group_dro, static_argnames="absent")
batch_loss = jax.jit(kernels.batch_loss)

EVEN = np.full(4, 0.25, np.float32)
SHAPE = (5, 6, 7)
REFERENCE = Knobs(dro=1.0, dro_step=0.01, dro_reference=1.0)


def traced(knobs):
    return jax.tree.map(np.float32, knobs)


def exact_group_dro(losses, groups, weights, step_size, absent):
    """Algorithm 1 of Sagawa et al. (2020) in float64."""
    means = np.array([losses[groups == g].mean(dtype=float) if g in groups else 0.0 for g in range(len(weights))])
    moved = weights * np.exp(step_size * means)
    if absent == "zero":
        moved *= np.isin(np.arange(len(weights)), groups)
    moved /= moved.sum()
    return moved @ means, moved


@pytest.mark.parametrize("classes", [3, 5])
def test_cross_entropy_is_that_of_float64(classes):
    logits, labels = random_case(0, SHAPE, classes)
    labels[0] = 0  # An image without foreground.
    exact, truth = softmax(logits.astype(np.float64)), np.eye(classes)[labels]
    wanted = -np.log((exact * truth).sum(-1)).mean((1, 2))
    np.testing.assert_allclose(cross_entropy(logits, labels), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("include_background", "smooth"),
    [(False, 1e-5), (True, 1e-5), (False, 1.0)],
    ids=["foreground", "all classes", "smoother"],
)
@pytest.mark.parametrize("classes", [3, 5])
def test_dice_is_that_of_float64(classes, include_background, smooth):
    """Dice of a class is (2 overlap + smooth) / (mass + smooth)."""
    logits, labels = random_case(0, SHAPE, classes)
    labels[0] = 0  # An image without foreground.
    exact, truth = softmax(logits.astype(np.float64)), np.eye(classes)[labels]
    overlap, mass = (exact * truth).sum((1, 2)), (exact + truth).sum((1, 2))
    wanted = 1 - (2 * overlap + smooth) / (mass + smooth)
    result = soft_dice_loss(logits, labels, include_background=include_background, smooth=smooth)
    np.testing.assert_allclose(result, wanted[:, 0 if include_background else 1 :].mean(1), rtol=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice_loss])
def test_half_precision_is_computed_in_float32_and_huge_logits_are_finite(loss):
    logits, labels = random_case(0, SHAPE)
    half = logits.astype(jnp.bfloat16)
    assert loss(half, labels).dtype == jnp.float32
    np.testing.assert_array_equal(loss(half, labels), loss(half.astype(np.float32), labels))
    value, gradient = jax.jit(jax.value_and_grad(lambda z: loss(z, labels).sum()))(1e4 * logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@settings(max_examples=40)
@given(
    losses=st.lists(st.floats(0, 8, width=32), min_size=6, max_size=6),
    groups=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    raw=st.lists(st.floats(0.125, 8, width=32), min_size=4, max_size=4),
    step_size=st.sampled_from([0.0, 0.01, 1.0]),
    absent=st.sampled_from(["keep", "zero"]),
)
def test_group_dro_equals_its_twin(losses, groups, raw, step_size, absent):
    losses, groups = np.array(losses, np.float32), np.array(groups)
    weights = (np.array(raw) / np.sum(raw)).astype(np.float32)
    loss, moved = group_dro(losses, groups, weights, step_size=step_size, absent=absent)
    wanted, wanted_weights = exact_group_dro(losses, groups, weights, step_size, absent)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved, wanted_weights, rtol=1e-5, atol=1e-7)


def test_a_group_that_was_absent_has_no_loss_under_the_references_rule():
    losses, groups, weights = np.ones(2, np.float32), np.array([1, 1]), np.eye(4, dtype=np.float32)[2]
    assert np.isnan(group_dro(losses, groups, weights, absent="zero")[0])
    with pytest.raises(ValueError, match="absent: expected 'keep' or 'zero'; found 'drop'"):
        group_dro(losses, groups, weights, absent="drop")


def test_the_references_validation_goes_on_learning():
    rng = np.random.default_rng(3)
    losses, groups = rng.exponential(size=22).astype(np.float32), np.arange(22) % 4
    validate = jax.jit(functools.partial(reference_validation, batch_size=8))
    result, moved = validate(losses, groups, EVEN, step_size=0.5)
    weights, batches = EVEN, []
    for start in (0, 8, 16):  # The last batch holds six images.
        batch = slice(start, start + 8)
        loss, weights = exact_group_dro(losses[batch], groups[batch], weights, 0.5, "zero")
        batches.append(loss)
    np.testing.assert_allclose(result, np.mean(batches), rtol=1e-5)
    np.testing.assert_allclose(moved, weights, rtol=1e-5)
    assert np.ptp(moved) > 0.05
    _, moved = validate(losses, groups * 0 + 2, EVEN, step_size=0.5)
    np.testing.assert_array_equal(moved, [0, 0, 1, 0])


def test_no_gradient_flows_through_the_weights():
    losses, groups = np.array([1.0, 3.0, 2.0], np.float32), np.array([0, 1, 1])
    loss, weights = group_dro(losses, groups, EVEN, step_size=1.0)
    gradient = np.asarray(jax.jit(jax.grad(lambda x: group_dro(x, groups, EVEN, step_size=1.0)[0]))(losses))
    # The loss is linear in the image losses once the weights are constants: weight over the group's count.
    np.testing.assert_allclose(gradient, np.asarray(weights)[[0, 1, 1]] / [1, 2, 2], rtol=1e-5)
    np.testing.assert_allclose(gradient @ losses, loss, rtol=1e-5)
    slopes = jax.jit(jax.jacobian(lambda x: group_dro(x, groups, EVEN)[1]))(losses)
    np.testing.assert_array_equal(slopes, np.zeros((4, 3)))


def test_all_methods_share_one_trace():
    logits, labels = random_case(0, SHAPE)
    groups, traces = np.array([0, 1, 2, 2, 0]), []  # Group 3 is absent.

    @jax.jit
    def compiled(knobs, weights):
        traces.append(knobs)
        return batch_loss(logits, labels, groups, knobs, weights)

    for knobs in (Knobs(), Knobs(dice=1.0), Knobs(dro=1.0, dro_step=0.5), REFERENCE):
        loss, weights = compiled(traced(knobs), EVEN)
        losses = jax.jit(image_loss)(logits, labels, groups, knobs)
        wanted = (losses.mean(), EVEN)
        if knobs.dro:
            absent = "zero" if knobs.dro_reference else "keep"
            wanted = group_dro(losses, groups, EVEN, step_size=knobs.dro_step, absent=absent)
        np.testing.assert_allclose(loss, wanted[0], rtol=1e-5)
        np.testing.assert_allclose(weights, wanted[1], rtol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize("method", METHODS)
def test_no_method_makes_a_guess_lose_more_than_its_bound(method):
    """Beyond the bound a member counts as diverged."""
    knobs, logits = traced(knobs_of(method)), np.zeros((*SHAPE, 3), np.float32)
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3
    loss, _ = batch_loss(logits, labels, np.array([0, 1, 2, 3, 0]), knobs, EVEN)
    assert loss <= kernels.guess_loss(knobs, num_classes=3) + 1e-5, "losses.guess_loss leaves a knob out"


def test_a_plain_member_is_untouched_by_weights_that_overflow():
    logits, labels = random_case(0, SHAPE)
    weights = np.zeros(4, np.float32)  # The unused branch divides by their sum.

    def loss_of(z):
        return batch_loss(z, labels, np.zeros(5, int), traced(Knobs()), weights)[0]

    assert np.isfinite(jax.jit(jax.grad(loss_of))(logits)).all()


def test_golden_losses():
    with np.load(GOLDEN / "losses.npz") as stored:
        arrays = [stored[name] for name in ("logits", "labels", "groups")]
    knobs, weights = traced(REFERENCE), jnp.asarray(EVEN)
    step = jax.jit(jax.value_and_grad(batch_loss, has_aux=True))
    # The fourth batch holds one group, the fifth only others: the reference ends in NaN there.
    for wanted in json.loads((GOLDEN / "losses.json").read_text()):
        logits, labels, groups = (array[wanted["index"]] for array in arrays)
        ce = np.mean(cross_entropy(logits, labels))
        foreground, whole = (soft_dice_loss(logits, labels, include_background=each).mean() for each in (False, True))
        (loss, weights), gradient = step(logits, labels, groups, knobs, weights)
        found = {"ce": ce, "dice_ce_foreground": ce + foreground, "dice_ce_all": ce + whole, "group_dro": loss}
        found |= {"group_weights_after": weights, "group_dro_grad_l2": np.linalg.norm(gradient)}
        for name, value in found.items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-5, err_msg=name)
