"""A member's run as pure functions: epochs, selection rules, early stopping, JTT, DFR and testing.

`train_member` is the whole run in one program, for `flipjax.make_train`. Sweeps call the same `run_epoch`,
`second_run` and `refit`, with checkpoints between them.
"""

import dataclasses
import functools
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from flipjax import losses, metrics
from flipjax.config import Experiment
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, at_strength
from flipjax.support.arrays import Array
from flipjax.training import optimise
from flipjax.training.epoch import dfr
from flipjax.training.epoch.step import total_steps, train_epoch
from flipjax.training.epoch.validation import Validation, validate
from flipjax.training.member import Best, Member, State, Status, init_state
from flipjax.training.network.forward import NO_WEIGHTS, Weights, evaluate, nested

Tree = TypeVar("Tree")

FLIPPED = 0.5
"""JTT counts an image as flipped above this flip share."""
MARGIN = 2.0
"""A loss above this many times that of a uniform guess counts towards diverging."""
LOST_EPOCHS = 3
"""Consecutive epochs with such losses after which a member has diverged."""


def settle(experiment: Experiment, member: Member, state: State, loss: jax.Array, validation: Validation) -> State:
    """Ends an epoch: updates each rule's weights and stops a member that diverged, ran out of patience or finished.

    A member has diverged if a loss is not finite, or if both training and validation loss exceeded `MARGIN` times
    `flipjax.losses.guess_loss` for `LOST_EPOCHS` consecutive epochs or at the end. Selection and patience start only
    once SWA's average begins.
    """
    epoch = state.epoch + 1
    is_finite = jnp.isfinite(loss) & jnp.isfinite(validation.loss)
    limit = MARGIN * losses.guess_loss(member.knobs, num_classes=experiment.num_classes)
    lost = jnp.where((loss > limit) & (validation.loss > limit), state.lost + 1, 0)
    # `swa` is the fraction of a run's epochs before its average begins.
    selection_begins = state.restart + member.knobs.swa * experiment.train.epochs
    is_eligible = is_finite & (epoch > selection_begins)
    state = dataclasses.replace(state, epoch=epoch, lost=lost.astype(jnp.int32))
    best = _keep_best(state, validation.scores(epoch), is_eligible)
    epochs_without_gain = epoch - jnp.maximum(best[experiment.train.selection[0]].epoch, selection_begins)
    status = _status_after(experiment, member, state, epochs_without_gain=epochs_without_gain, is_finite=is_finite)
    return dataclasses.replace(state, status=status, best=best)


def _keep_best(state: State, scores: dict[str, jax.Array], is_eligible: jax.Array) -> dict[str, Best]:
    """Returns what each rule keeps: the weights of this epoch, if they are eligible and score lower than those kept."""
    best = {}
    for rule, kept in state.best.items():
        is_better = is_eligible & (scores[rule] < kept.score)
        new = Best(state.evaluated, scores[rule], state.epoch)
        best[rule] = jax.tree.map(functools.partial(jnp.where, is_better), new, kept)
    return best


def _status_after(
    experiment: Experiment, member: Member, state: State, *, epochs_without_gain: jax.Array, is_finite: jax.Array
) -> jax.Array:
    """Returns the `Status` after an epoch, int32.

    Args:
        experiment: with the most epochs and the patience.
        member: the one that trains.
        state: after the epoch, of which it reads `epoch`, `restart` and `lost`.
        epochs_without_gain: epochs since the first rule last kept weights, or since selection began.
        is_finite: whether the losses of the epoch are.
    """
    # Each line overrides those before.
    status = jnp.where(state.epoch - state.restart >= experiment.train.epochs, Status.FINISHED, Status.RUNNING)
    status = jnp.where(epochs_without_gain >= experiment.train.patience, Status.STOPPED, status)
    # JTT's first run ends by `jtt_epochs` alone.
    status = jnp.where((member.knobs.jtt_epochs > 0) & (state.restart == 0), Status.RUNNING, status)
    has_ended = status != Status.RUNNING
    status = jnp.where((state.lost >= LOST_EPOCHS) | (has_ended & (state.lost > 0)), Status.DIVERGED, status)
    status = jnp.where(is_finite, status, Status.DIVERGED)
    return status.astype(jnp.int32)


def run_epoch(
    experiment: Experiment, member: Member, pool: Pool, state: State, table: Table
) -> tuple[State, dict[str, jax.Array]]:
    """Trains for one epoch, validates (see `validate`) and settles the member.

    `pool` is as it was loaded: `train_epoch` and `validate` set the strength of the member's cue themselves.

    Returns:
      The state and the epoch's record: scalars `train_loss`, `learning_rate` (of the last step) and `valid_` with each
      field of `Validation`, and `group_weights` (G,).
    """
    state, train_loss = train_epoch(experiment, member, pool, state)
    # The reference's GroupDRO moves its group weights by the validation losses.
    validation, group_weights = validate(experiment, member, pool, state, table)
    state = dataclasses.replace(state, group_weights=group_weights)
    rate = optimise.rate_at(state.step - 1, member.recipe, total=total_steps(experiment, member))
    record = {"train_loss": train_loss, "learning_rate": rate, "group_weights": group_weights}
    for name, value in validation._asdict().items():
        record[f"valid_{name}"] = value
    return settle(experiment, member, state, train_loss, validation), record


def second_run(experiment: Experiment, member: Member, pool: Pool, state: State, start: Weights = NO_WEIGHTS) -> State:
    """Restarts a member's training with the images that it now flips weighted up (JTT-by-flip).

    Liu et al. (2021) up-weight images that an early model misclassifies; here these are the images with more than half
    of the foreground flipped. The epoch count continues; weights (`start`: see `init_state`), optimiser, selection and
    patience are reset.
    """
    pool = at_strength(pool, member.cue_strength)
    # The early model is the network as trained, not its average.
    flip = evaluate(experiment, state.weights, pool, member.rows).flip
    image_weights = jnp.where(flip > FLIPPED, member.knobs.jtt_weight, 1.0)
    fresh = init_state(experiment, member, start)
    return dataclasses.replace(fresh, image_weights=image_weights, epoch=state.epoch, restart=state.epoch)


def refit(experiment: Experiment, member: Member, state: State, pool: Pool, halves: tuple[Array, Array]) -> State:
    """Refits the head of each rule's weights if the member has DFR; `halves` are as in `Data`.

    Not for an experiment without DFR in its `active_knobs`: its program is to leave the refit out.
    """
    pool = at_strength(pool, member.cue_strength)

    def refit_all(best: dict[str, Best]) -> dict[str, Best]:
        refitted = {}
        for rule, kept in best.items():
            refitted[rule] = kept._replace(weights=dfr.refit(experiment, kept.weights, pool, *halves))
        return refitted

    best = jax.lax.cond(member.knobs.dfr > 0, refit_all, _unchanged, state.best)
    return dataclasses.replace(state, best=best)


def _unchanged(tree: Tree) -> Tree:
    return tree


class Data(NamedTuple):
    """Data shared by the members of an experiment."""

    pool: Pool
    """The images."""
    val: Table
    """The validation images."""
    test: Array
    """Pool rows of the test images, int32 (n, 2)."""
    halves: tuple[Array, Array]
    """Pool rows of the validation images that fit DFR's head, and of those that select its ridge."""


class Trained(NamedTuple):
    """A trained member, a pytree whose leaves gain a leading axis with each map over members."""

    status: jax.Array
    """A `Status`, int32."""
    epochs: jax.Array
    """Number of epochs run, including JTT's first run, int32."""
    history: dict[str, jax.Array]
    """Curves by name, float32 (E, ...) for at most E epochs, NaN for those not run. See `run_epoch`."""
    best: dict[str, Best]
    """The kept weights by selection rule, with their score and epoch (0: the rule never had a value)."""
    test: dict[str, metrics.Decomposition]
    """The decomposition of the n test images, by selection rule; no pixels for a rule that kept no epoch."""


class Progress(NamedTuple):
    """A run between two epochs."""

    state: State
    """The state of the member."""
    history: dict[str, jax.Array]
    """Curves by name, as in `Trained`."""

    def is_running(self) -> jax.Array:
        """Whether another epoch follows, bool."""
        return self.state.status == Status.RUNNING


def train_member(experiment: Experiment, member: Member, data: Data, start: Weights = NO_WEIGHTS) -> Trained:
    """Trains a member until it stops, and tests each rule's weights.

    The whole run is one program, a pure function of arrays. Under vmap a stopped member idles until the last one has
    stopped.

    Example:
        >>> from flipjax import make_train
        >>> train = make_train("smoke", {"axes.rho": (0.5,), "pool.size": 16, "train.epochs": 3})
        >>> trained = jax.eval_shape(train, train.member(rho=0.9))  # Shapes alone; nothing is compiled.
        >>> trained.history["train_loss"].shape, list(trained.best)
        ((3,), ['val_loss'])
    """
    # Keep the compiler from folding constant members into the program, which would round differently.
    member = jax.lax.optimization_barrier(member)
    state = init_state(experiment, member, start)
    # `jit` remembers its trace, for the shapes and for each loop; inline, it leaves no call in the program.
    one_epoch = jax.jit(functools.partial(run_epoch, experiment), inline=True)
    _, record_shapes = jax.eval_shape(one_epoch, member, data.pool, state, data.val)
    progress = Progress(state, _empty_history(experiment, record_shapes))

    def train(progress: Progress) -> Progress:
        epoch = progress.state.epoch
        state, record = one_epoch(member, data.pool, progress.state, data.val)
        history = jax.tree.map(lambda rows, row: rows.at[epoch].set(row), progress.history, record)
        return Progress(state, history)

    def is_in_first_run(progress: Progress) -> jax.Array:
        return progress.is_running() & (progress.state.epoch < member.knobs.jtt_epochs)

    # `active_knobs` says of all members what the program holds; a traced knob then decides for this one.
    if "jtt_epochs" in experiment.active_knobs:
        # A separate loop, so that under vmap the second run starts once for all members, not in every epoch.
        progress = jax.lax.while_loop(is_in_first_run, train, progress)
        due = progress.is_running() & (member.knobs.jtt_epochs > 0)
        start_again = functools.partial(second_run, experiment, member, data.pool, start=start)
        progress = progress._replace(state=jax.lax.cond(due, start_again, _unchanged, progress.state))
    progress = jax.lax.while_loop(Progress.is_running, train, progress)
    state = progress.state
    if "dfr" in experiment.active_knobs:
        state = refit(experiment, member, state, data.pool, data.halves)
    pool = at_strength(data.pool, member.cue_strength)
    best = {rule: kept._replace(weights=nested(experiment, kept.weights)) for rule, kept in state.best.items()}
    test = {rule: _test(experiment, kept, pool, data.test) for rule, kept in best.items()}
    return Trained(state.status, state.epoch, progress.history, best, test)


def _empty_history(experiment: Experiment, record_shapes: dict[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Returns curves of NaN, for the most epochs that any member of the experiment runs."""
    most_epochs = experiment.train.epochs
    if "jtt_epochs" in experiment.active_knobs:
        most_epochs = 2 * most_epochs
    return jax.tree.map(lambda leaf: jnp.full((most_epochs, *leaf.shape), jnp.nan, leaf.dtype), record_shapes)


def _test(experiment: Experiment, kept: Best, pool: Pool, rows: Array) -> metrics.Decomposition:
    """Returns the decomposition of pool rows; without pixels where a rule kept no weights."""
    decomposition = evaluate(experiment, kept.weights, pool, rows)

    def zero_unless_kept(leaf: jax.Array) -> jax.Array:
        return jnp.where(kept.epoch > 0, leaf, jnp.zeros_like(leaf))

    return jax.tree.map(zero_unless_kept, decomposition)
