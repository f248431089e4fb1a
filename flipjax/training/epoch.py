"""One member's epoch: training, validation, what each selection rule keeps, early stopping, and JTT's second run."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flipjax import losses, metrics
from flipjax.config import Experiment
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, gather
from flipjax.groups import Groups
from flipjax.ranges import functions_of
from flipjax.training import optimise
from flipjax.training.forms import logits_of
from flipjax.training.member import Best, Member, State, Status
from flipjax.training.predict import evaluation_batch, map_batches
from flipjax.training.step import total_steps, train_epoch

MARGIN = 2.0
"""How many times the loss of a guess a loss must be before it counts as lost."""
LOST_EPOCHS = 3


class Validation(NamedTuple):
    """A member on the validation images that select it: float32 scalars.

    `loss`: the member's own loss, the mean over groups, whose weights are equal so that epochs can be compared (the
    reference's GroupDRO: its robust loss, as its code has it); `loss_at_rho`: the groups weighted as in the member's
    training set; `worst_group_iou`: the least over groups of the IoU of the group's class; `flip`: share of the true
    foreground; `risk`: mean flip-risk in nats of the images that have one, which needs no labels.
    """

    loss: jax.Array
    loss_at_rho: jax.Array
    worst_group_iou: jax.Array
    flip: jax.Array
    risk: jax.Array

    def scores(self, epoch: jax.Array) -> dict[str, jax.Array]:
        """Returns what each selection rule minimises; one that does not exist is NaN and never chosen."""
        return {
            "val_loss": self.loss,
            "val_loss_at_rho": self.loss_at_rho,
            "val_worst_group_iou": -self.worst_group_iou,
            "val_flip": self.flip,
            "label_free_risk": self.risk,
            "last": -epoch.astype(jnp.float32),
        }


def validate(
    experiment: Experiment, member: Member, pool: Pool, state: State, table: Table
) -> tuple[Validation, jax.Array]:
    """Validates the member on the images of an evaluation table, in evaluation mode.

    A member that refits its head (DFR) is selected on the images that are not for the refit.

    Returns:
      The validation, and the group weights, which only the reference's GroupDRO moves here.
    """
    weights = state.evaluated
    rows, groups, _, refit = map(jnp.asarray, table)

    def of_batch(batch: jax.Array) -> tuple[jax.Array, metrics.Decomposition]:
        images, masks = gather(pool, batch[:, :2])
        logits = logits_of(experiment, weights, images)
        image_losses = losses.image_loss(
            logits, masks, batch[:, 2], member.knobs, own=functions_of(experiment.train.loss)
        )
        return image_losses, metrics.decompose(logits, masks)

    listed = jnp.concatenate([rows, groups[:, None]], axis=1)
    image_losses, decomposition = map_batches(of_batch, listed, largest=evaluation_batch(experiment))
    selecting = jnp.where(refit, 1 - member.knobs.dfr, 1.0)
    count = experiment.groups.count
    group_losses = losses.group_means(image_losses, groups, num_groups=count, weights=selecting)[0]
    loss = group_losses.mean()
    # One after another: compilers fuse across no loop, so that it is rounded alike, alone and in any population.
    counts = jax.nn.one_hot(member.groups, count).sum(0)
    total = jax.lax.fori_loop(0, count, lambda g, total: total + counts[g] * group_losses[g], jnp.float32(0))
    loss_at_rho = total / len(member.groups)
    group_weights = state.group_weights
    if "dro_reference" in experiment.active_knobs:
        robust, moved = losses.reference_validation(
            image_losses, groups, group_weights, step_size=member.knobs.dro_step, batch_size=experiment.train.batch_size
        )
        reference = member.knobs.dro_reference > 0
        loss = jnp.where(reference, robust, loss)
        group_weights = jnp.where(reference, moved, group_weights)
    measures = _measures(decomposition, groups, selecting, all_groups=experiment.groups)
    return Validation(loss, loss_at_rho, *measures), group_weights


def _measures(
    decomposition: metrics.Decomposition, groups: jax.Array, selecting: jax.Array, *, all_groups: Groups
) -> tuple[jax.Array, ...]:
    counts = decomposition.confusion * selecting[:, None, None]
    by_group = jnp.einsum("ng,nij->gij", jax.nn.one_hot(groups, all_groups.count), counts)
    group = jnp.arange(all_groups.count)
    label = 1 + all_groups.class_of(group)
    both = by_group[group, label, label]
    iou = both / (by_group.sum(2)[group, label] + by_group.sum(1)[group, label] - both)
    truth = counts[:, 1:].sum()
    flip = (counts[:, 1:, 1:] * ~jnp.eye(all_groups.classes, dtype=bool)).sum() / truth
    risky = (selecting > 0) & jnp.isfinite(decomposition.flip_risk)
    risk = jnp.where(risky, decomposition.flip_risk, 0.0).sum() / risky.sum()
    return iou.min(), flip, risk


def settle(
    experiment: Experiment, member: Member, state: State, train_loss: jax.Array, validation: Validation
) -> State:
    """Ends an epoch: keeps what each rule selects; stops a member that diverged, ran out of patience or is through.

    A member has diverged when a loss is not finite, or when training and validation loss both were above `MARGIN` times
    that of a guess (`flipjax.losses.guess_loss`) for `LOST_EPOCHS` epochs in a row or at its end. Nothing is selected,
    and patience does not wait, before SWA's average begins.
    """
    spec = experiment.train
    epoch = state.epoch + 1
    finite = jnp.isfinite(train_loss) & jnp.isfinite(validation.loss)
    limit = MARGIN * losses.guess_loss(member.knobs, num_classes=experiment.num_classes)
    lost = jnp.where((train_loss > limit) & (validation.loss > limit), state.lost + 1, 0)
    begins = state.restart + member.knobs.swa * spec.epochs
    eligible = finite & (epoch > begins)
    scores = validation.scores(epoch)
    awaited = scores[spec.selection[0]]
    better = eligible & (awaited < state.best_score)
    best_epoch = jnp.where(better, epoch, state.best_epoch)
    waited = epoch - jnp.maximum(best_epoch, begins)
    # Read in this order: a later line overrules an earlier one.
    status = jnp.where(epoch - state.restart >= spec.epochs, Status.FINISHED, Status.RUNNING)
    status = jnp.where(waited >= spec.patience, Status.STOPPED, status)
    status = jnp.where((member.knobs.jtt_epochs > 0) & (state.restart == 0), Status.RUNNING, status)
    ended = status != Status.RUNNING
    status = jnp.where((lost >= LOST_EPOCHS) | (ended & (lost > 0)), Status.DIVERGED, status)
    status = jnp.where(finite, status, Status.DIVERGED)

    def better_of(rule: str, best: Best) -> Best:
        score = scores[rule]
        wins = eligible & (score < best.score)
        return jax.tree.map(lambda new, old: jnp.where(wins, new, old), Best(state.evaluated, score, epoch), best)

    return dataclasses.replace(
        state,
        epoch=epoch,
        status=status.astype(jnp.int32),
        lost=lost.astype(jnp.int32),
        best_score=jnp.where(better, awaited, state.best_score),
        best_epoch=best_epoch,
        best={rule: better_of(rule, best) for rule, best in state.best.items()},
    )


def run_epoch(
    experiment: Experiment, member: Member, pool: Pool, state: State, table: Table
) -> tuple[State, dict[str, jax.Array]]:
    """Trains for one epoch, validates (see `validate`), and settles the member.

    Returns:
      The state and the epoch's record: scalars `train_loss`, `learning_rate` (of the last step) and `valid_` with each
      field of `Validation`, and `group_weights` (G,).
    """
    state, train_loss = train_epoch(experiment, member, pool, state)
    validation, group_weights = validate(experiment, member, pool, state, table)
    state = dataclasses.replace(state, group_weights=group_weights)
    rate = optimise.rate_at(state.step - 1, member.recipe, total=total_steps(experiment, member))
    record = {"train_loss": train_loss, "learning_rate": rate, "group_weights": group_weights}
    record |= {f"valid_{name}": value for name, value in validation._asdict().items()}
    return settle(experiment, member, state, train_loss, validation), record
