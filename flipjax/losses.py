"""Pure per-image losses and GroupDRO's group weights."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from flipjax.config.methods import Knobs

Scalar = float | Array
"""A number, perhaps traced."""


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Returns the cross-entropy of each image, the mean over its pixels.

    Args:
        logits: (B, H, W, C) float, computed in float32.
        labels: (B, H, W) integer in [0, C).

    Returns:
        (B,) float32, nats.

    Example:
        >>> round(float(cross_entropy(jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2), int))[0]), 4)
        1.0986
    """
    return _cross_entropy(_shifted_planes(logits), labels)


def _cross_entropy(shifted: list[Array], labels: Array) -> Array:
    """Returns `cross_entropy` from the planes of `_shifted_planes`."""
    total = functools.reduce(jnp.add, [jnp.exp(plane) for plane in shifted])
    # Multiply instead of gather, whose gradient is a scatter and slow on a CPU.
    of_truth = functools.reduce(jnp.add, [plane * (labels == c) for c, plane in enumerate(shifted)])
    return (jnp.log(total) - of_truth).mean((-2, -1))


def _shifted_planes(logits: Array) -> list[Array]:
    """Subtracts the largest logit of each pixel; returns a plane (B, H, W) float32 for each class.

    XLA vectorises operations over planes well, and those over the short axis of classes badly.
    """
    classes_first = jnp.moveaxis(logits.astype(jnp.float32), -1, 0)
    # The gradient of a slice is padded to all classes; those of a split are joined.
    planes = [plane[0] for plane in jnp.split(classes_first, logits.shape[-1])]
    largest = jax.lax.stop_gradient(functools.reduce(jnp.maximum, planes))
    return [plane - largest for plane in planes]


def soft_dice_loss(logits: Array, labels: Array, *, include_background: bool = False, smooth: float = 1e-5) -> Array:
    """Returns one minus the soft Dice of each image, the mean over classes (paper, `DICECE`; Milletari et al., 2016).

    Args:
        logits: (B, H, W, C) float, computed in float32.
        labels: (B, H, W) integer in [0, C); class 0 is the background.
        include_background: whether class 0 is one of the classes averaged.
        smooth: added to numerator and denominator; a class that an image lacks has a Dice near 0.

    Returns:
        (B,) float32 in [0, 1].

    Example:
        >>> labels = jnp.array([[[0, 1], [2, 2]]])
        >>> round(float(soft_dice_loss(50.0 * jax.nn.one_hot(labels, 3), labels)[0]), 4)
        0.0
    """
    shifted = _shifted_planes(logits)
    return _soft_dice_loss(shifted, labels, include_background=include_background, smooth=smooth)


def _soft_dice_loss(
    shifted: list[Array], labels: Array, *, include_background: bool = False, smooth: float = 1e-5
) -> Array:
    """Returns `soft_dice_loss` from the planes of `_shifted_planes`."""
    exponentials = [jnp.exp(plane) for plane in shifted]
    sum_of_all = functools.reduce(jnp.add, exponentials)

    def loss_of(label: int) -> Array:
        """Returns the loss (B,) of one class."""
        probabilities = exponentials[label] / sum_of_all
        truth = (labels == label).astype(jnp.float32)
        overlap = (probabilities * truth).sum((-2, -1))
        total = (probabilities + truth).sum((-2, -1))
        return 1 - (2 * overlap + smooth) / (total + smooth)

    averaged = range(1, len(exponentials))
    if include_background:
        averaged = range(len(exponentials))
    return functools.reduce(jnp.add, map(loss_of, averaged)) / len(averaged)


def group_dro(
    image_losses: Array, groups: Array, weights: Array, *, step_size: Scalar = 0.01, absent: str = "keep"
) -> tuple[Array, Array]:
    """Returns the GroupDRO loss of a batch and the updated weights (Sagawa et al., 2020, Algorithm 1).

    Args:
        image_losses: (B,) float32.
        groups: (B,) integer in [0, G).
        weights: (G,) float32, non-negative, sum 1.
        step_size: of the exponentiated-gradient ascent on the weights.
        absent: "keep": a group that the batch lacks keeps its weight (up to the normalisation), as published. "zero":
            its weight becomes 0, as in the paper's reference code; once only such groups are left, the result is NaN.

    Returns:
        The scalar loss, sum over groups of weight times mean loss, and the weights (G,), which pass no gradient.

    Raises:
        ValueError: for another `absent`.

    Example:
        >>> loss, weights = group_dro(jnp.array([1.0, 3.0]), jnp.array([0, 1]), jnp.array([0.5, 0.5]), step_size=1.0)
        >>> round(float(loss), 3), [round(float(w), 3) for w in weights]
        (2.762, [0.119, 0.881])
    """
    if absent not in ("keep", "zero"):
        raise ValueError(f"group_dro: absent: expected 'keep' or 'zero'; found {absent!r}")
    coefficients, weights = _dro_coefficients(image_losses, groups, weights, step_size, float(absent == "zero"))
    return (coefficients * image_losses).sum(), weights


def group_means(
    image_losses: Array, groups: Array, *, num_groups: int = 4, weights: Array | None = None
) -> tuple[Array, Array]:
    """Returns each group's mean loss (0 without images) and number of images.

    Args:
        image_losses: (B,) float32.
        groups: (B,) integer in [0, num_groups).
        num_groups: length of the results.
        weights: (B,) float32, how much each image counts; 1 by default.

    Returns:
        Two (num_groups,) float32.

    Example:
        >>> group_means(jnp.array([1.0, 3.0]), jnp.array([2, 2]))[0].tolist()
        [0.0, 0.0, 2.0, 0.0]
    """
    in_group = jax.nn.one_hot(groups, num_groups)
    if weights is not None:
        in_group = in_group * weights[:, None]
    counts = in_group.sum(0)
    return (image_losses[:, None] * in_group).sum(0) / jnp.where(counts > 0, counts, 1), counts


def _move_weights(means: Array, counts: Array, weights: Array, step_size: Scalar, zero_absent: Scalar) -> Array:
    """Returns GroupDRO's weights (G,) after a step of ascent.

    Args:
        means: (G,), the mean loss of each group in the batch.
        counts: (G,), the images of each group in the batch.
        weights: (G,), before the step.
        step_size: of the ascent.
        zero_absent: where it is not 0, the weights of groups without images become 0.
    """
    kept = jnp.where((counts > 0) | (jnp.asarray(zero_absent) == 0), weights, 0.0)
    grown = kept * jnp.exp(step_size * means)
    return grown / grown.sum()


def _dro_coefficients(
    image_losses: Array, groups: Array, weights: Array, step_size: Scalar, zero_absent: Scalar
) -> tuple[Array, Array]:
    """Returns the factor of each image's loss in the loss of the batch, (B,), and the moved weights (G,)."""
    means, counts = group_means(jax.lax.stop_gradient(image_losses), groups, num_groups=weights.shape[0])
    weights = _move_weights(means, counts, weights, step_size, zero_absent)
    return (weights / jnp.maximum(counts, 1))[groups], weights


def batch_loss(
    logits: Array, labels: Array, groups: Array, knobs: Knobs, weights: Array, *, own_losses: Sequence[Callable] = ()
) -> tuple[Array, Array]:
    """Returns a member's training loss on a batch and its updated group weights.

    Args:
        logits: (B, H, W, C) float.
        labels: (B, H, W) integer.
        groups: (B,) integer in [0, G).
        knobs: of the member's method.
        weights: (G,) float32; returned unchanged unless the method is GroupDRO.
        own_losses: losses among which `knobs.own_loss` chooses; see `image_loss`.

    Returns:
        The scalar loss and the weights (G,).

    Example:
        >>> logits, labels, groups = jnp.zeros((2, 2, 2, 3)), jnp.ones((2, 2, 2), int), jnp.array([0, 3])
        >>> loss, _ = jax.jit(batch_loss)(logits, labels, groups, Knobs(), jnp.full(4, 0.25))
        >>> round(float(loss), 4)
        1.0986
    """
    losses = image_loss(logits, labels, groups, knobs, own_losses=own_losses)
    dro_coefficients, moved_weights = _dro_coefficients(losses, groups, weights, knobs.dro_step, knobs.dro_reference)
    is_dro = jnp.asarray(knobs.dro) > 0
    coefficients = jnp.where(is_dro, dro_coefficients, 1 / losses.shape[0])
    return (coefficients * losses).sum(), jnp.where(is_dro, moved_weights, weights)


def image_loss(
    logits: Array, labels: Array, groups: Array, knobs: Knobs, *, own_losses: Sequence[Callable] = ()
) -> Array:
    """Returns each image's loss before group weighting: cross-entropy plus `knobs.dice` times the Dice loss.

    Shapes as in `batch_loss`; (B,) float32. `own_losses` are functions (logits, labels, groups) -> (B,) float32;
    `knobs.own_loss`, counted from 1, chooses one to replace the cross-entropy (0: none).

    Example:
        >>> def weighted(logits, labels, groups):
        ...     return cross_entropy(logits, labels) * (1.0 + groups)
        >>> logits, labels, groups = jnp.zeros((2, 2, 2, 3)), jnp.ones((2, 2, 2), int), jnp.array([0, 3])
        >>> losses = image_loss(logits, labels, groups, Knobs(own_loss=1.0), own_losses=[weighted])
        >>> [round(float(loss), 3) for loss in losses]
        [1.099, 4.394]
    """
    # Both losses read the same planes, so that their gradients are joined once.
    shifted = _shifted_planes(logits)
    loss = _cross_entropy(shifted, labels)
    if own_losses:
        number_of_loss = jnp.asarray(knobs.own_loss).astype(jnp.int32)
        loss = jax.lax.switch(number_of_loss, [_built_in, *own_losses], logits, labels, groups)
    return loss + knobs.dice * _soft_dice_loss(shifted, labels)


def _built_in(logits: Array, labels: Array, groups: Array) -> Array:
    """Returns the cross-entropy, from the arguments of a user's loss."""
    return cross_entropy(logits, labels)


def guess_loss(knobs: Knobs, *, num_classes: int) -> Array:
    """Returns an upper bound on the loss of a uniform prediction.

    Its cross-entropy is log(num_classes) and its Dice loss at most 1. Infinite for a user's loss, whose bound is
    unknown.

    Example:
        >>> round(float(guess_loss(Knobs(dice=1.0), num_classes=3)), 4)
        2.0986
    """
    return jnp.where(jnp.asarray(knobs.own_loss) > 0, jnp.inf, jnp.log(num_classes) + jnp.asarray(knobs.dice))


def reference_validation(
    image_losses: Array, groups: Array, weights: Array, *, step_size: Scalar, batch_size: int
) -> tuple[Array, Array]:
    """Returns the validation loss and the group weights, which the paper's code also updates in validation.

    Args:
        image_losses: (n,) float32, in the order of the validation table.
        groups: (n,) integer in [0, G).
        weights: (G,) float32.
        step_size: of the ascent.
        batch_size: images between two updates; the last batch may be smaller.

    Returns:
        The mean over batches of the robust loss, and the weights (G,). Non-finite if all groups of a batch have
        weight zero.

    Source: Achara et al., arXiv 2604.13326, `GROUPDRO` of the reference code.

    Example:
        >>> losses, groups = jnp.array([1.0, 1.0, 3.0]), jnp.array([0, 1, 1])
        >>> loss, weights = reference_validation(losses, groups, jnp.full(2, 0.5), step_size=0.0, batch_size=2)
        >>> float(loss), weights.tolist()
        (2.0, [0.0, 1.0])
    """
    count = image_losses.shape[0]
    padding = -count % batch_size

    def of_batch(weights: Array, batch: tuple[Array, ...]) -> tuple[Array, Array]:
        """Returns the weights after a batch, and its robust loss."""
        losses, groups, is_image = batch
        means, counts = group_means(losses, groups, num_groups=weights.shape[0], weights=is_image)
        weights = _move_weights(means, counts, weights, step_size, 1.0)
        return weights, (weights * means).sum()

    # The last column is 0 for the rows that pad the last batch.
    columns = (image_losses, groups, jnp.ones(count))
    batches = [jnp.pad(column, (0, padding)).reshape(-1, batch_size) for column in columns]
    weights, batch_losses = jax.lax.scan(of_batch, weights, tuple(batches))
    return batch_losses.mean(), weights
