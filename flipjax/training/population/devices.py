"""Layout of members on a device mesh."""

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax.backend.convolutions import ONEDNN, XLA, check_library, faster_library, has_onednn
from flipjax.config import FROZEN, SMALL, ConfigError, PopulationSpec
from flipjax.config.program import Program
from flipjax.support.arrays import PyTree
from flipjax.training.network.forward import BATCH

Tree = TypeVar("Tree")

AXIS = "members"
"""The axis of a mesh over whose devices members are divided."""
PACKED = (*SMALL, FROZEN)
"""Networks whose members can run side by side in channels."""
DEFAULT_WIDTH = 16
"""Members at once on a device that is no CPU."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How members run on the devices of a mesh. Hashable, hence static.

    Several at once run packed or under a plain vmap. With two mesh axes, several devices share each batch.
    """

    mesh: Mesh
    """The mesh of the devices."""
    width: int
    """Members at once on each device; 1: a plain loop."""
    packed: bool = False
    """Whether they run side by side in channels."""
    convolutions: str = XLA
    """The library of convolutions, on a CPU."""

    @property
    def devices(self) -> int:
        """Number of devices over which members are divided; devices that share batches count as one."""
        return self.mesh.shape[AXIS]


def make_layout(spec: PopulationSpec, *, members: int, model: str = "unet", batch_size: int = 1) -> Layout:
    """Returns the layout for a number of members of a model, under vmap where their form has not been measured yet.

    `auto` convolutions are XLA's: the choice depends on a program's length, which this does not know.

    Raises:
      ConfigError: more devices requested than available, a model without a packed form, or unequal shares of a batch.
    """
    devices = jax.devices()
    platform = devices[0].platform
    if spec.devices > len(devices):
        raise ConfigError("config.population.devices", f"at most {len(devices)} ({platform})", spec.devices)
    available = spec.devices or len(devices)
    sharing = _devices_of_a_batch(spec, platform=platform, available=available, members=members, batch_size=batch_size)
    count = min(available // sharing, members)
    form = known_form(spec, model=model) or "vmap"
    width = min(spec.width or DEFAULT_WIDTH, math.ceil(members / count))
    if form == "packed":
        # A power of two, so that a pack's chunks hold equal numbers of members at every level.
        width = 2 ** math.ceil(math.log2(width))
    grid = np.array(devices[: count * sharing])
    if sharing > 1:
        mesh = Mesh(grid.reshape(count, sharing), (AXIS, BATCH))
    else:
        mesh = Mesh(grid, (AXIS,))
    check_library(spec.convolutions)
    convolutions = ONEDNN if spec.convolutions == ONEDNN else XLA
    if form == "loop":
        width = 1
    return Layout(mesh, width, packed=form == "packed", convolutions=convolutions)


def _devices_of_a_batch(spec: PopulationSpec, *, platform: str, available: int, members: int, batch_size: int) -> int:
    """Returns how many devices share each batch; see `PopulationSpec` for `auto`, which is 0.

    Raises:
        ConfigError: more devices than are available, or unequal shares of a batch.
    """
    if spec.batch_devices:
        if spec.batch_devices > available or batch_size % spec.batch_devices:
            expected = f"a divisor of train.batch_size ({batch_size}), at most {available} devices"
            raise ConfigError("config.population.batch_devices", expected, spec.batch_devices)
        return spec.batch_devices
    if platform == "cpu":
        # XLA:CPU already uses all cores for one device, and an unshared batch keeps a member's bits.
        return 1
    devices_per_member = max(1, available // members)
    return max(share for share in range(1, devices_per_member + 1) if batch_size % share == 0)


def library_of(program: Program, spec: PopulationSpec, *, n_train: int, started: bool = True) -> str:
    """Returns the library of a program's convolutions on a CPU; see `PopulationSpec` for `auto`.

    Args:
        program: with all of its members.
        spec: of the population.
        n_train: training images of a member.
        started: whether JAX has started, and knows its devices; otherwise the answer is for a CPU with all libraries.

    Raises:
        ConfigError: oneDNN is asked for and absent.
    """
    experiment = program.experiment
    if spec.convolutions != "auto":
        if started:
            check_library(spec.convolutions)
        return spec.convolutions
    if started and not has_onednn():
        return XLA
    passes = (3 * n_train + experiment.split.n_val) * sum(program.epochs)
    return faster_library(experiment.model, pixels=passes * experiment.pool.size**2)


def known_form(spec: PopulationSpec, *, model: str) -> str | None:
    """Returns how members of a model run on a device: loop, vmap or packed; None where it is to be measured.

    Raises:
      ConfigError: the model has no packed form.
    """
    form = spec.map
    if form == "packed" and model not in PACKED:
        raise ConfigError("config.population.map", f"auto, measured, loop or vmap for model.name {model}", form)
    if form == "auto" and jax.default_backend() == "cpu":
        return "loop"
    if form in ("auto", "measured"):
        return None
    return form


def replicate(layout: Layout, tree: Tree) -> Tree:
    """Copies every array to each device, for data shared by all members."""
    return jax.device_put(tree, NamedSharding(layout.mesh, P()))


def shapes_of(layout: Layout, tree: PyTree, *, members: int | None = None) -> PyTree:
    """Returns the shapes of a tree as `replicate` places it, or of one member as `members.create` stacks it."""
    if members is None:
        lead = ()
        sharding = NamedSharding(layout.mesh, P())
    else:
        lead = (members + -members % layout.devices,)
        sharding = NamedSharding(layout.mesh, P(AXIS))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype, sharding=sharding), tree)


def shard(layout: Layout, local: Callable, *specs: P) -> Callable:
    """Maps a function over each device's members; `specs` set which arguments are divided and which are shared."""
    # The compiler handles the batch axis, summing gradients and statistics over it.
    return jax.shard_map(local, mesh=layout.mesh, in_specs=specs, out_specs=P(AXIS), axis_names={AXIS}, check_vma=False)


def deal(running: np.ndarray, *, devices: int) -> np.ndarray | None:
    """Returns a permutation of slots that spreads running members evenly over devices, or None if not needed.

    `running` (slots,) is bool, device after device. The permutation, (slots,) int, gives the old slot of each new one.

    Example:
      >>> deal(np.array([True, True, False, False]), devices=2).tolist()
      [0, 2, 1, 3]
    """
    counts = running.reshape(devices, -1).sum(1)
    if counts.max() <= math.ceil(running.sum() / devices):
        return None
    ranked = np.concatenate([np.flatnonzero(running), np.flatnonzero(~running)])
    return ranked.reshape(-1, devices).T.reshape(-1)
