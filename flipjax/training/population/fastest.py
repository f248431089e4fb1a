"""Which form of training members is fastest here: one after another in a loop, under vmap, or packed.

On a CPU the loop is. On an accelerator the forms are timed: `fastest_form` trains some of the run's own members for a
few steps in each form, on short copies of their tables. The loop is tried first: it works on one member at a time. From
it follow about what memory the other forms need, how long one of them compiles, and how long the run takes.
"""

import dataclasses
import math
import time
from collections.abc import Sequence

import jax
import numpy as np

from flipjax.config import Experiment, PopulationSpec
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool
from flipjax.support.arrays import Array
from flipjax.training.member import Member
from flipjax.training.network.forward import NO_WEIGHTS, Weights
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.population.devices import PACKED, Layout, make_layout, replicate
from flipjax.training.population.members import Population
from flipjax.training.population.memory import USED, Memory, device_bytes, memory_of
from flipjax.training.population.stacks import put, take_member

STEPS = 4
"""Training steps of a trial, at most."""
ROUNDS = 3
"""How often a trial trains them. The fastest round counts, since the first one warms the device up."""
COMPILATIONS = 3
"""A run that trains in less time than so many compilations is not worth a measurement."""


@dataclasses.dataclass(frozen=True)
class FormTiming:
    """A form that was timed, or the reason why it was not."""

    form: str
    """loop, vmap or packed."""
    seconds: float = math.inf
    """Time of a training step of one member, with its share of validation; infinite where the form was not timed."""
    compiling: float = 0.0
    """Seconds that compiling took."""
    memory: Memory | None = None
    """What it takes; None where it was not compiled."""
    problem: str = ""
    """Why it was not timed."""

    @property
    def outcome(self) -> str:
        """The time in words, or the reason why there is none."""
        if self.problem:
            return f"{self.form} {self.problem}"
        return f"{self.form} {1e3 * self.seconds:.3g} ms"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The form in which members train, and why."""

    form: str
    """loop, vmap or packed."""
    line: str
    """What was measured, and what is taken, in one line."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """Members that train at once, and what a trial trains them on."""

    experiment: Experiment
    """Determines the program."""
    spec: PopulationSpec
    """How members map to devices, in any form."""
    members: Sequence[Member]
    """The members, with all of their training images."""
    rows: np.ndarray
    """Positions of the training images of a trial, (n,) int."""
    pool: Pool
    """The images."""
    table: Table
    """The validation images of a trial."""
    start: Weights
    """The starting weights, as in `flipjax.training.member.init_state`."""

    @property
    def steps(self) -> int:
        """The number of training steps of a trial."""
        return len(self.rows) // self.experiment.train.batch_size


def fastest_form(
    experiment: Experiment,
    members: Sequence[Member],
    spec: PopulationSpec,
    *,
    pool: Pool,
    table: Table,
    start: Weights = NO_WEIGHTS,
) -> Choice:
    """Times the forms on a run's own members, and returns the fastest.

    A form whose memory does not suffice is not run, and not even compiled if the loop's memory tells. Under `auto` a
    run that is shorter than three compilations takes vmap.

    Args:
        experiment: determines the programs.
        members: all that this process trains.
        spec: how they map to devices. Only the value `measured` of its `map` counts: it measures short runs as well.
        pool: the images.
        table: the validation images.
        start: the starting weights.
    """
    sample = take_sample(experiment, members, spec, pool=pool, table=table, start=start)
    width = layout_in(sample, "vmap").width
    if width == 1:
        return Choice("loop", "one member at a time on each device, for which all forms are the same; taken: loop")
    limit = int(USED * device_bytes(spec))
    loop = try_form(sample, "loop", limit=limit)
    if spec.map != "measured":
        brief = choose_unmeasured(loop, seconds=loop.seconds * steps_of(experiment, members))
        if brief is not None:
            return brief
    trials = [loop]
    for form in ("vmap", "packed"):
        if form == "packed" and experiment.model.title not in PACKED:
            continue
        needed = estimated_memory(loop, width=layout_in(sample, form).width)
        if needed > limit:
            trials.append(FormTiming(form, problem=f"not compiled (about {_memory_in_words(needed, limit)})"))
        else:
            trials.append(try_form(sample, form, limit=limit))
    return choose(trials)


def choose(trials: Sequence[FormTiming]) -> Choice:
    """Returns the fastest form; the first where none was timed.

    Example:
        >>> packed = FormTiming("packed", problem="not compiled")
        >>> choose([FormTiming("loop", 0.25), FormTiming("vmap", 0.125), packed]).line
        'time of a step of a member: loop 250 ms, vmap 125 ms, packed not compiled; taken: vmap'
    """
    form = min(trials, key=lambda trial: trial.seconds).form
    outcomes = ", ".join(trial.outcome for trial in trials)
    return Choice(form, f"time of a step of a member: {outcomes}; taken: {form}")


def choose_unmeasured(loop: FormTiming, *, seconds: float) -> Choice | None:
    """Returns vmap for a run that the loop trains in less time than three compilations take, else None.

    Example:
        >>> loop = FormTiming("loop", seconds=0.01, compiling=20.0)
        >>> choose_unmeasured(loop, seconds=30.0).form, choose_unmeasured(loop, seconds=90.0)
        ('vmap', None)
    """
    compilations = COMPILATIONS * loop.compiling
    if seconds >= compilations:
        return None
    line = f"a run of about {seconds:.2g} s, less than {COMPILATIONS} compilations take ({compilations:.2g} s)"
    return Choice("vmap", f"{line}; taken: vmap")


def estimated_memory(loop: FormTiming, *, width: int) -> int:
    """Returns about how many bytes `width` members at once take, by the loop's; 0 where these are not known.

    Compiled for a TPU v5e, packed members take 0.65 of this and members under vmap 7 times as much. On an H100 both
    take 1.1 times as much. What a compiled form takes is therefore compared with the device's memory before it runs.

    Example:
        >>> estimated_memory(FormTiming("loop", memory=Memory(held=100, working=20)), width=16)
        420
    """
    if loop.memory is None:
        return 0
    return loop.memory.held + width * loop.memory.working


def steps_of(experiment: Experiment, members: Sequence[Member]) -> int:
    """Returns the training steps of members that run for all of their epochs."""
    steps = 0
    for member in members:
        epochs = experiment.train.epochs + int(member.knobs.jtt_epochs)
        steps += epochs * (len(member.groups) // experiment.train.batch_size)
    return steps


def take_sample(
    experiment: Experiment,
    members: Sequence[Member],
    spec: PopulationSpec,
    *,
    pool: Pool,
    table: Table,
    start: Weights = NO_WEIGHTS,
) -> Sample:
    """Returns as many members as train at once, with a few steps' images and as large a share of the validation."""
    layout = make_layout(
        dataclasses.replace(spec, map="vmap"), members=len(members), batch_size=experiment.train.batch_size
    )
    at_once = min(len(members), layout.devices * layout.width)
    chosen = [members[position] for position in _spread(len(members), at_once)]
    training_images = len(members[0].groups)
    batch_size = experiment.train.batch_size
    images = min(STEPS, training_images // batch_size) * batch_size
    validation_images = max(1, len(table.rows) * images // training_images)
    table = take_member(jax.tree.map(np.asarray, table), _spread(len(table.rows), validation_images))
    return Sample(experiment, spec, chosen, _spread(training_images, images), pool, table, start)


def _spread(count: int, size: int) -> np.ndarray:
    """Returns `size` of the positions 0 to `count` - 1, evenly spread."""
    return np.arange(size) * count // size


def layout_in(sample: Sample, form: str) -> Layout:
    """Returns the layout of a sample's members in a form."""
    experiment = sample.experiment
    return make_layout(
        dataclasses.replace(sample.spec, map=form),
        members=len(sample.members),
        model=experiment.model.title,
        batch_size=experiment.train.batch_size,
    )


def try_form(sample: Sample, form: str, *, limit: int) -> FormTiming:
    """Compiles a form and, if it takes at most `limit` bytes of a device, times it."""
    layout = layout_in(sample, form)
    shared = replicate(layout, (sample.pool, sample.table))
    try:
        current = _begin(sample, layout)
        begun = time.perf_counter()
        memory = _compile(current, *shared)
        compiling = time.perf_counter() - begun
        if memory.total > limit:
            problem = f"not run ({_memory_in_words(memory.total, limit)})"
            return FormTiming(form, compiling=compiling, memory=memory, problem=problem)
        rounds = [_seconds_of_round(_begin(sample, layout), *shared) for _ in range(ROUNDS)]
    except jax.errors.JaxRuntimeError as error:
        # Another form may do, and the run itself names what no form can do.
        return FormTiming(form, problem=f"failed ({str(error).splitlines()[0]})")
    return FormTiming(form, min(rounds) / (len(sample.members) * sample.steps), compiling, memory)


def _begin(sample: Sample, layout: Layout) -> Population:
    """Returns the sample's members before training, with the training images of a trial."""
    # Their first states are made of all images, so that the run needs the same program.
    current = population.create(sample.experiment, layout, sample.members, start=sample.start)

    def of_trial(leaf: Array) -> Array:
        return put(layout, np.asarray(leaf)[:, sample.rows])

    stacked = current.members
    members = dataclasses.replace(stacked, rows=of_trial(stacked.rows), groups=of_trial(stacked.groups))
    states = current.states
    if states.image_weights is not None:
        states = dataclasses.replace(states, image_weights=of_trial(states.image_weights))
    return dataclasses.replace(current, members=members, states=states)


def _compile(current: Population, pool: Pool, table: Table) -> Memory:
    """Compiles an epoch, which `run_next_epoch` then runs, and returns its memory."""
    layout = current.layout
    lowered = population_run.epoch_program(layout).lower(
        current.experiment, layout, current.members, current.states, pool, table
    )
    return memory_of(lowered.compile())


def _seconds_of_round(current: Population, pool: Pool, table: Table) -> float:
    """Returns the seconds of an epoch."""
    jax.block_until_ready(current.states)
    begun = time.perf_counter()
    after, _ = population_run.run_next_epoch(current, pool, table)
    jax.block_until_ready(after.states)
    return time.perf_counter() - begun


def _memory_in_words(needed: int, limit: int) -> str:
    """Returns the bytes that are needed, and those that there are."""
    return f"{needed / 1e6:,.1f} of {limit / 1e6:,.1f} MB"
