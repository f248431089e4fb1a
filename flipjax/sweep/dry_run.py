"""How much memory a program needs, from the shapes of its program alone: no backend starts."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from flipjax import losses
from flipjax.config import Experiment, ModelSpec, PopulationSpec
from flipjax.data import tfds
from flipjax.methods import Knobs
from flipjax.models.convolution import plain
from flipjax.plan import Program
from flipjax.training.member import Weights, apply, build, weights_of
from flipjax.training.placement import DEFAULT_WIDTH

GPU_BYTES = 80e9
MARGIN = 2.0
"""Shapes tell neither what XLA fuses nor in which order it works: a member's work is counted this many times."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`parameters` of the model, and two numbers of bytes for a training step.

    `activations` is what the forward pass keeps for the backward one, and `working` what a member at work holds beside
    its state: activations, gradients, and two of the largest arrays of the forward pass.
    """

    parameters: int
    activations: int
    working: int


def estimate(experiment: Experiment) -> Estimate:
    """Traces the loss of a training batch and adds up the arrays that its backward pass reads."""
    weights = jax.eval_shape(lambda: weights_of(build(experiment, jax.random.key(0))))
    size = experiment.pool.size
    batch = experiment.train.batch_size
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch, size, size), jnp.int32)

    def residuals(weights: Weights, images: Any, labels: Any) -> list[Any]:
        def loss(params: Any) -> jax.Array:
            logits, _ = apply(experiment, params, weights.statistics, images, training=True)
            return losses.image_loss(logits, labels, Knobs(dice=1.0)).mean()

        return jax.tree.leaves(jax.vjp(loss, weights.params)[1])

    with plain():
        traced = jax.make_jaxpr(residuals)(weights, images, labels).jaxpr
    given = set(map(id, traced.invars))
    saved = {id(var): _bytes(var.aval) for var in traced.outvars if id(var) not in given and isinstance(var, Var)}
    largest = max(_bytes(var.aval) for equation in traced.eqns for var in equation.outvars)
    gradients = sum(map(_bytes, jax.tree.leaves(weights.params)))
    activations = sum(saved.values())
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights.params))
    return Estimate(parameters, activations, activations + gradients + 2 * largest)


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize


def lines_of(program: Program, spec: PopulationSpec) -> list[str]:
    """Returns lines that say what a program will do, and for a large model how many members an 80 GB GPU holds."""
    shapes = estimate(program.experiment)
    large = program.experiment.model.name != "unet"
    working = shapes.working if large else unet_bytes(program)
    lines = describe(program, parameters=shapes.parameters, working=working)
    if large:
        width = min(spec.width or DEFAULT_WIDTH, len(program.settings))
        pool = pool_bytes(program)
        free = GPU_BYTES - (pool or 0) - MARGIN * width * working
        fit = max(0, int(free // state_bytes(program, parameters=shapes.parameters)))
        left_out = ", the pool not counted" if pool is None else ""
        lines.append(
            f"  80 GB GPU: {fit} members fit with {width} at work at once{left_out}; "
            f"an estimate from shapes, work counted {MARGIN:g} times"
        )
    return lines


def pool_bytes(program: Program) -> int | None:
    """Returns the size of the program's pool on a device, or None where only reading or preparing it would tell."""
    pool = program.experiment.pool
    if pool.name != "synthetic":
        return tfds.stored_bytes(pool)
    return pool.size**2 * (2 * pool.objects * 4 + 2 * pool.scenes * 3)


def unet_bytes(program: Program) -> int:
    """Returns about what a small U-Net at work holds beside its state: nine float32 maps a block, for either dtype.

    As fitted to XLA:CPU's plans, for any width and depth.
    """
    model = program.experiment.model
    size = program.experiment.pool.size
    pixels = [(size // 2**level) ** 2 for level in range(model.depth)]
    blocks = sum(model.width * 2**level * count for level, count in enumerate(pixels))
    blocks += sum(model.width * 2**level * count for level, count in enumerate(pixels[:-1]))
    return 9 * 4 * blocks * program.experiment.train.batch_size


def copies(spec: Experiment) -> int:
    """Returns how many times a member's state holds its parameters: weights, two moments, average, one a rule."""
    return 3 + bool({"ema", "swa"} & set(spec.active_knobs)) + len(spec.train.selection)


def state_bytes(program: Program, *, parameters: int) -> int:
    """Returns what one member's state takes, for its number of parameters."""
    return 4 * copies(program.experiment) * parameters


def describe(program: Program, *, parameters: int, working: int) -> list[str]:
    """Returns lines that say what a program will do, for `--dry_run`.

    Args:
      program: of the plan.
      parameters: trained parameters of one member.
      working: bytes that a member at work holds beside its state.
    """
    spec = program.experiment
    count = len(program.settings)
    axes = {name: list(dict.fromkeys(s.axes[name] for s in program.settings)) for name in program.settings[0].axes}
    if spec.split.n_train:
        steps = [epochs * (spec.split.n_train // spec.train.batch_size) for epochs in program.epochs]
        work = f"{max(steps)} steps of {spec.train.batch_size} a member at most, {sum(steps)} in all"
    else:
        work = f"{max(program.epochs)} epochs a member at most, over the largest n_train that every rho allows"
    return [
        f"cell {program.name}: {count} members, " + ", ".join(f"{name} {values}" for name, values in axes.items()),
        f"  model {_name_of(spec.model)}: {parameters:,} parameters",
        f"  work: {work}",
        f"  memory: pool {_pool_text(program)}; "
        f"states {megabytes(count * state_bytes(program, parameters=parameters))}; "
        f"about {megabytes(working)} for each member at work; estimated, --dry_run=compiled asks the compiler",
    ]


def _pool_text(program: Program) -> str:
    size = pool_bytes(program)
    if size is not None:
        return f"{megabytes(size)}, shared"
    folder = program.experiment.pool.name == "folder"
    return f"not counted ({'read at the start' if folder else 'no such data set yet'})"


def _name_of(model: ModelSpec) -> str:
    if model.name == "unet":
        return f"unet, width {model.width}, depth {model.depth}"
    return f"{model.name} in {model.dtype}, weights {model.weights or 'drawn afresh'}"


def megabytes(count: int) -> str:
    """Returns a number of bytes as text.

    Example:
      >>> megabytes(1_500_000)
      '1.5 MB'
    """
    return f"{count / 1e6:,.1f} MB"


def dry_run(programs: Sequence[Program], spec: PopulationSpec) -> list[str]:
    """Returns what a plan would do, in lines; starts no JAX backend."""
    lines = []
    for program in programs:
        lines += lines_of(program, spec)
    members = sum(len(program.settings) for program in programs)
    return [*lines, f"programs to compile: {len(programs)}; members: {members}; nothing was trained"]
