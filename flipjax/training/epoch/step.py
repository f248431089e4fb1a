"""A member's training steps and epochs as pure functions; `flipjax.training.population.epochs` adds the member axis.

An `Experiment` is static and determines the program; a `Member` is data and determines the run.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from flipjax import augment
from flipjax.config import Experiment
from flipjax.config.groups import Groups
from flipjax.config.ranges import functions_of
from flipjax.data.pool import Pool, at_strength, gather, inputs_of
from flipjax.training import optimise
from flipjax.training.epoch import sampling
from flipjax.training.member import Member, State
from flipjax.training.network.forward import Weights, flat, loss_and_gradients


def make_batch(
    experiment: Experiment, member: Member, pool: Pool, batch: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Makes a training batch: scene swap, gather, mirror, crop, CutMix, jitter and own augmentations, as configured.

    Returns:
      Images (B, H, W, 3) in [0, 1], masks (B, H, W) int32 and groups (B,) int32.
    """
    knobs = member.knobs
    pool = at_strength(pool, member.cue_strength)
    flip_key, crop_key, jitter_key, mix_key, swap_key, own_key = jax.random.split(key, 6)
    rows = member.rows[batch]
    groups = member.groups[batch]
    if "swap" in experiment.active_knobs:
        rows, groups = _swap(experiment, member, swap_key, rows, groups)
    mirrored = jax.random.bernoulli(flip_key, member.augmentation.hflip, rows.shape[:1])
    images, masks = _flip_and_crop(experiment, member, pool, rows, mirrored, crop_key)
    groups = _mirrored_groups(experiment, groups, mirrored)
    if "cutmix" in experiment.active_knobs:
        mix = functools.partial(_cutmix, experiment, member, pool, groups)
        images = jax.lax.cond(knobs.cutmix > 0, mix, _same_images, mix_key, images, masks)
    if "jitter" in experiment.active_numbers:
        ordered = "cutmix_reference" in experiment.active_knobs and knobs.cutmix_reference > 0
        probability = member.augmentation.jitter
        jitter = functools.partial(augment.colour_jitter, probability=probability, ordered=ordered)
        images = jax.lax.cond(probability > 0, jitter, _same_images, jitter_key, images)
    own_augmentations = functions_of(experiment.train.augment)
    if own_augmentations:
        which = jnp.asarray(knobs.own_augment).astype(jnp.int32)
        images, masks = jax.lax.switch(which, [_unchanged, *own_augmentations], own_key, images, masks)
    return images, masks, groups


def _swap(
    experiment: Experiment, member: Member, key: jax.Array, rows: jax.Array, groups: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Moves objects onto scenes of the member's training set, with the probability of its knob."""
    draw_key, swap_key, scene_key = jax.random.split(key, 3)
    scene_of = experiment.groups.scene_of
    scenes = sampling.directory(scene_of(member.groups), size=experiment.groups.scenes)
    moved = _in_another_scene(scene_key, groups, experiment.groups)
    positions, partnered = sampling.draw(draw_key, scenes, scene_of(moved))
    new_scenes = member.rows[positions, 1]
    return augment.background_swap(
        swap_key, rows, groups, new_scenes, moved, partnered=partnered, probability=member.knobs.swap
    )


def _flip_and_crop(
    experiment: Experiment, member: Member, pool: Pool, rows: jax.Array, mirrored: jax.Array, crop_key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Makes the images and masks of pool rows (B, 2), mirrors some and crops some."""
    probability = member.augmentation.crop
    images, masks = gather(pool, rows)
    images = inputs_of(pool, rows, images, mirrored)
    images, masks = augment.mirror(images, masks, mirrored, pairs=experiment.mirror)
    # In a loop over members `cond` is a real branch, so only augmented members pay for it.
    if "crop" in experiment.active_numbers:
        aspects = None
        if pool.aspects is not None and experiment.train.crop_in == "photo":
            aspects = pool.aspects[rows[:, 0]]
        crop = functools.partial(augment.random_resized_crop, probability=probability, aspects=aspects)
        images, masks = jax.lax.cond(probability > 0, crop, _unchanged, crop_key, images, masks)
    return images, masks


def _mirrored_groups(experiment: Experiment, groups: jax.Array, mirrored: jax.Array) -> jax.Array:
    """Returns groups (B,), where the mirrored image of a class of a pair is one of its partner in the same scene."""
    if not experiment.mirror:
        return groups
    all_groups = experiment.groups
    # Class y, from 0, has the label y + 1.
    partner = augment.exchanged(all_groups.class_of(groups) + 1, experiment.mirror) - 1
    return jnp.where(mirrored, all_groups.of(partner, all_groups.scene_of(groups)), groups)


def _unchanged(key: jax.Array, images: jax.Array, masks: jax.Array) -> tuple[jax.Array, jax.Array]:
    return images, masks


def _same_images(key: jax.Array, images: jax.Array, *masks: jax.Array) -> jax.Array:
    return images


def _in_another_scene(key: jax.Array, groups: jax.Array, all_groups: Groups) -> jax.Array:
    """Returns groups of the same classes, each in another scene drawn uniformly."""
    if all_groups.scenes == 2:
        return all_groups.moved(groups)
    return all_groups.moved(groups, jax.random.randint(key, groups.shape, 1, all_groups.scenes))


def _cutmix(
    experiment: Experiment,
    member: Member,
    pool: Pool,
    groups: jax.Array,
    key: jax.Array,
    images: jax.Array,
    masks: jax.Array,
) -> jax.Array:
    """Mixes images with partners of the same class in another scene, from the member's training set."""
    draw_key, mix_key, scene_key, partner_key = jax.random.split(key, 4)
    images_of = sampling.directory(member.groups, size=experiment.groups.count)
    partner_groups = _in_another_scene(scene_key, groups, experiment.groups)
    positions, partnered = sampling.draw(draw_key, images_of, partner_groups)
    rows = member.rows[positions]

    def mix(partners: tuple[jax.Array, jax.Array], *, reference: bool = False) -> jax.Array:
        return augment.background_cutmix(
            mix_key,
            images,
            masks,
            *partners,
            partnered=partnered,
            probability=member.knobs.cutmix,
            reference=reference,
        )

    def mix_plainly() -> jax.Array:
        return mix(gather(pool, rows))

    def mix_as_reference() -> jax.Array:
        flip_key, crop_key = jax.random.split(partner_key)
        mirrored = jax.random.bernoulli(flip_key, member.augmentation.hflip, rows.shape[:1])
        return mix(_flip_and_crop(experiment, member, pool, rows, mirrored, crop_key), reference=True)

    if "cutmix_reference" not in experiment.active_knobs:
        return mix_plainly()
    return jax.lax.cond(member.knobs.cutmix_reference > 0, mix_as_reference, mix_plainly)


def train_step(
    experiment: Experiment, member: Member, pool: Pool, state: State, batch: jax.Array, key: jax.Array
) -> tuple[State, jax.Array]:
    """Takes one optimiser step.

    Args:
      experiment: static.
      member: whose rows are trained on.
      pool: shared by all members.
      state: before the step.
      batch: (B,) int32 positions in `member.rows`.
      key: of this step's augmentation.

    Returns:
      The state after the step (`epoch`, `status` and `best*` unchanged) and the loss before it.
    """
    made = make_batch(experiment, member, pool, batch, key)
    loss, gradients, statistics, group_weights = loss_and_gradients(
        experiment, state.weights, made, member.knobs, state.group_weights
    )
    gradients, statistics = flat(Weights(gradients, statistics))
    step = state.step
    total = total_steps(experiment, member)
    rate = optimise.rate_at(step, member.recipe, total=total)
    params, opt_state = optimise.update(
        experiment, gradients, state.opt_state, state.weights.params, member.recipe, rate=rate
    )
    weights = Weights(params, statistics)
    average = state.average
    if average is not None:
        kept = optimise.kept_share(step, ema=member.knobs.ema, swa=member.knobs.swa, total=total)
        average = jax.tree.map(lambda new, old: _mixed(new, old, kept), weights, average)
    state = dataclasses.replace(state, weights=weights, average=average, opt_state=opt_state, step=step + 1)
    return dataclasses.replace(state, group_weights=group_weights), loss


def _mixed(new: jax.Array, old: jax.Array, kept: jax.Array) -> jax.Array:
    if not jnp.issubdtype(new.dtype, jnp.floating):
        # Counts and keys in the statistics are not averaged.
        return new
    return new + kept * (old - new)


def total_steps(experiment: Experiment, member: Member) -> int:
    """Returns the number of steps in a whole run, the span of schedules and averages.

    Example:
        >>> from flipjax.config import TrainSpec
        >>> from flipjax.config import Recipe
        >>> from flipjax.config.methods import Knobs
        >>> rows, groups = jnp.zeros((192, 2), jnp.int32), jnp.zeros(192, jnp.int32)
        >>> member = Member(jax.random.key(0), rows, groups, Recipe(), Knobs())
        >>> total_steps(Experiment(train=TrainSpec(epochs=4, batch_size=16)), member)
        48
    """
    return experiment.train.epochs * (member.rows.shape[0] // experiment.train.batch_size)


def train_epoch(experiment: Experiment, member: Member, pool: Pool, state: State) -> tuple[State, jax.Array]:
    """Trains for one epoch: a scan over batches in a new order, plain, weighted or balanced depending on the knobs.

    A last, incomplete batch is left out.

    Returns:
      The state after the last step and the mean training loss.
    """
    size = experiment.train.batch_size
    count = member.rows.shape[0]
    steps = count // size
    order_key, step_key, weights_key = jax.random.split(jax.random.fold_in(member.key, state.epoch + 1), 3)
    order = jax.random.permutation(order_key, count)
    if state.image_weights is not None:
        weighted = sampling.weighted_order(weights_key, state.image_weights)
        order = jnp.where(jnp.ptp(state.image_weights) > 0, weighted, order)
    if "balanced" in experiment.active_knobs:
        balanced = sampling.balanced_order(order, member.groups, num_groups=experiment.groups.count)
        order = jnp.where(member.knobs.balanced > 0, balanced, order)
    batches = order[: steps * size].reshape(steps, size)

    def step(state: State, inputs: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        batch, key = inputs
        return train_step(experiment, member, pool, state, batch, key)

    state, step_losses = jax.lax.scan(step, state, (batches, jax.random.split(step_key, steps)))
    return state, step_losses.mean()
