"""One member's epoch: training, validation, what each selection rule keeps, early stopping, and JTT's second run."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flipjax import losses, metrics
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.training import optimise
from flipjax.training.member import NUM_GROUPS, Best, Member, State, Status, apply
from flipjax.training.predict import evaluation_batch, map_batches
from flipjax.training.step import total_steps, train_epoch


class Validation(NamedTuple):
    """A member on the validation images that select it: float32 scalars.

    `loss`: the member's own loss, the mean over groups, whose weights are equal so that epochs can be compared (the
    reference's GroupDRO: its robust loss, as its code has it); `worst_group_iou`: the least over
    groups of the IoU of the group's class; `flip`: share of the true foreground; `risk`: mean flip-risk in nats of the
    images that have one, which needs no labels.
    """

    loss: jax.Array
    worst_group_iou: jax.Array
    flip: jax.Array
    risk: jax.Array

    def scores(self, epoch: jax.Array) -> dict[str, jax.Array]:
        """Returns what each selection rule minimises; one that does not exist is NaN and never chosen."""
        return {
            "val_loss": self.loss,
            "val_worst_group_iou": -self.worst_group_iou,
            "val_flip": self.flip,
            "label_free_risk": self.risk,
            "last": -epoch.astype(jnp.float32),
        }


def validate(
    experiment: Experiment,
    member: Member,
    pool: Pool,
    state: State,
    rows: jax.Array,
    groups: jax.Array,
    refit: jax.Array,
) -> tuple[Validation, jax.Array]:
    """Validates the member on rows (n, 2) with groups (n,), in evaluation mode.

    A member that refits its head (DFR) is selected on the images that are not for the `refit` (n,) bool.

    Returns:
      The validation, and the group weights, which only the reference's GroupDRO moves here.
    """
    weights = state.evaluated

    def of_batch(batch: jax.Array) -> tuple[jax.Array, metrics.Decomposition]:
        images, masks = gather(pool, batch)
        logits, _ = apply(experiment, *weights, images, training=False)
        return losses.image_loss(logits, masks, member.knobs), metrics.decompose(logits, masks)

    image_losses, found = map_batches(of_batch, rows, largest=evaluation_batch(experiment))
    selecting = jnp.where(refit, 1 - member.knobs.dfr, 1.0)
    group_losses = losses.group_means(image_losses, groups, num_groups=NUM_GROUPS, weights=selecting)[0]
    loss, group_weights = group_losses.mean(), state.group_weights
    if "dro_reference" in experiment.active_knobs:
        options = {"step_size": member.knobs.dro_step, "batch_size": experiment.train.batch_size}
        moved = losses.reference_validation(image_losses, groups, group_weights, **options)
        chosen = member.knobs.dro_reference > 0
        loss, group_weights = (jnp.where(chosen, *pair) for pair in zip(moved, (loss, group_weights), strict=True))
    return Validation(loss, *_measures(found, groups, selecting)), group_weights


def _measures(found: metrics.Decomposition, groups: jax.Array, selecting: jax.Array) -> tuple[jax.Array, ...]:
    counts = found.confusion * selecting[:, None, None]
    by_group = jnp.einsum("ng,nij->gij", jax.nn.one_hot(groups, NUM_GROUPS), counts)
    own = 1 + jnp.arange(NUM_GROUPS) // 2
    group = jnp.arange(NUM_GROUPS)
    both = by_group[group, own, own]
    iou = both / (by_group.sum(2)[group, own] + by_group.sum(1)[group, own] - both)
    truth = counts[:, 1:].sum()
    flip = (counts[:, 1, 2] + counts[:, 2, 1]).sum() / truth
    risky = (selecting > 0) & jnp.isfinite(found.flip_risk)
    risk = jnp.where(risky, found.flip_risk, 0.0).sum() / risky.sum()
    return iou.min(), flip, risk


def settle(experiment: Experiment, member: Member, state: State, train_loss: jax.Array, found: Validation) -> State:
    """Ends an epoch: keeps what each rule selects; stops a member that diverged, ran out of patience or is through.

    Nothing is selected, and patience does not wait, before SWA's average begins.
    """
    spec, epoch = experiment.train, state.epoch + 1
    finite = jnp.isfinite(train_loss) & jnp.isfinite(found.loss)
    begins = state.restart + member.knobs.swa * spec.epochs
    eligible = finite & (epoch > begins)
    better = eligible & (found.loss < state.best_loss)
    best_epoch = jnp.where(better, epoch, state.best_epoch)
    waited = epoch - jnp.maximum(best_epoch, begins)
    # Read in this order: a later line overrules an earlier one.
    status = jnp.where(epoch - state.restart >= spec.epochs, Status.FINISHED, Status.RUNNING)
    status = jnp.where(waited >= spec.patience, Status.STOPPED, status)
    status = jnp.where((member.knobs.jtt_epochs > 0) & (state.restart == 0), Status.RUNNING, status)
    status = jnp.where(finite, status, Status.DIVERGED)

    def kept(rule: str, best: Best) -> Best:
        score = found.scores(epoch)[rule]
        wins = eligible & (score < best.score)
        return jax.tree.map(lambda new, old: jnp.where(wins, new, old), Best(state.evaluated, score, epoch), best)

    return dataclasses.replace(
        state,
        epoch=epoch,
        status=status.astype(jnp.int32),
        best_loss=jnp.where(better, found.loss, state.best_loss),
        best_epoch=best_epoch,
        best={rule: kept(rule, best) for rule, best in state.best.items()},
    )


def run_epoch(
    experiment: Experiment,
    member: Member,
    pool: Pool,
    state: State,
    rows: jax.Array,
    groups: jax.Array,
    refit: jax.Array,
) -> tuple[State, dict[str, jax.Array]]:
    """Trains for one epoch, validates (see `validate`), and settles the member.

    Returns:
      The state and the epoch's record: scalars `train_loss`, `valid_loss`, `valid_worst_group_iou`, `valid_flip`,
      `valid_risk`, `learning_rate` (of the last step), and `group_weights` (G,).
    """
    state, train_loss = train_epoch(experiment, member, pool, state)
    found, group_weights = validate(experiment, member, pool, state, rows, groups, refit)
    state = dataclasses.replace(state, group_weights=group_weights)
    record: dict[str, Any] = {f"valid_{name}": value for name, value in found._asdict().items()}
    record |= {"train_loss": train_loss, "group_weights": group_weights}
    total = total_steps(experiment, member)
    record["learning_rate"] = optimise.rate_at(state.step - 1, member.recipe, total=total)
    return settle(experiment, member, state, train_loss, found), record
