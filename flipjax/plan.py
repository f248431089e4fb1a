"""From a configuration to cells (one compiled program each) and their members. Imports no JAX."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from flipjax.config import AXES, Config, ConfigError, Experiment, ModelSpec, check, experiment, leaves
from flipjax.methods import Knobs, knobs_of
from flipjax.pools import stored_bytes


@dataclasses.dataclass(frozen=True)
class Setting:
    """One member before it has arrays: its name, the value of every axis, static ones first, and its method's knobs."""

    name: str
    axes: Mapping[str, Any]
    knobs: Knobs


@dataclasses.dataclass(frozen=True)
class Cell:
    """One static experiment and the members that share its program; `rhos` are all levels of the grid."""

    name: str
    experiment: Experiment
    settings: tuple[Setting, ...]
    rhos: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(setting.name for setting in self.settings)

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs that each member runs at most: JTT's first run comes on top."""
        return tuple(self.experiment.train.epochs + int(setting.knobs.jtt_epochs) for setting in self.settings)


def plan(config: Config) -> list[Cell]:
    """Returns the cells of a configuration: the product of `config.grid`, each with the product of `config.axes`.

    Raises:
      ConfigError: for a field that cannot run.
    """
    check(config)
    grid, axes = leaves(config.grid), {name: config.axes[name] for name in AXES}
    cells: list[Cell] = []
    for static in itertools.product(*grid.values()):
        overrides = dict(zip(grid, static, strict=True))
        first = sum(len(cell.settings) for cell in cells)
        values = [dict(zip(axes, traced, strict=True)) for traced in itertools.product(*axes.values())]
        settings = tuple(
            Setting(f"m{first + index:03d}", overrides | chosen, knobs_of(chosen["method"], config.knobs))
            for index, chosen in enumerate(values)
        )
        cells.append(Cell(f"{len(cells):03d}", experiment(config, overrides), settings, tuple(axes["rho"])))
        _check_methods(cells[-1])
    return cells


def _check_methods(cell: Cell) -> None:
    spec = cell.experiment
    if "dfr" in spec.machinery and spec.split.n_val < 8:
        raise ConfigError(
            f"config.split.n_val: expected at least 8, half of them for dfr to refit on; found {spec.split.n_val}"
        )
    first = max(int(setting.knobs.jtt_epochs) for setting in cell.settings)
    if first > spec.train.epochs:
        raise ConfigError(
            f"config.knobs.jtt_epochs: expected at most config.train.epochs ({spec.train.epochs}); found {first}"
        )


def select(cell: Cell, *, rho: float) -> int:
    """Returns the index of the member whose rho is nearest to `rho`; the first of them."""
    return min(range(len(cell.settings)), key=lambda index: abs(cell.settings[index].axes["rho"] - rho))


def pool_bytes(cell: Cell) -> int | None:
    """Returns the size of the cell's pool on a device, or None where only reading or preparing it would tell."""
    pool = cell.experiment.pool
    if pool.name != "synthetic":
        return stored_bytes(pool)
    return pool.size**2 * (2 * pool.objects * 4 + 2 * pool.scenes * 3)


def working_bytes(cell: Cell) -> int:
    """Returns about what a member at work holds beside its state: nine float32 maps a block, for either dtype."""
    model, train, size = cell.experiment.model, cell.experiment.train, cell.experiment.pool.size
    pixels = [(size // 2**level) ** 2 for level in range(model.depth)]
    blocks = sum(model.width * 2**level * count for level, count in enumerate(pixels))
    blocks += sum(model.width * 2**level * count for level, count in enumerate(pixels[:-1]))
    return 9 * 4 * blocks * train.batch_size


def copies(spec: Experiment) -> int:
    """Returns how many times a member's state holds its parameters: weights, two moments, average, one a rule."""
    return 3 + bool({"ema", "swa"} & set(spec.machinery)) + len(spec.train.selection)


def state_bytes(cell: Cell, *, parameters: int) -> int:
    """Returns what one member's state takes, for its number of parameters."""
    return 4 * copies(cell.experiment) * parameters


def describe(cell: Cell, *, parameters: int, working: int) -> list[str]:
    """Returns lines that say what a cell will do, for `--dry_run`.

    Args:
      cell: of the plan.
      parameters: trained parameters of one member.
      working: bytes that a member at work holds beside its state.
    """
    spec = cell.experiment
    count = len(cell.settings)
    axes = {name: list(dict.fromkeys(s.axes[name] for s in cell.settings)) for name in cell.settings[0].axes}
    if spec.split.n_train:
        steps = [epochs * (spec.split.n_train // spec.train.batch_size) for epochs in cell.epochs]
        work = f"{max(steps)} steps of {spec.train.batch_size} a member at most, {sum(steps)} in all"
    else:
        work = f"{max(cell.epochs)} epochs a member at most, over the largest n_train that every rho allows"
    return [
        f"cell {cell.name}: {count} members, " + ", ".join(f"{name} {values}" for name, values in axes.items()),
        f"  model {_name_of(spec.model)}: {parameters:,} parameters",
        f"  work: {work}",
        f"  memory: pool {_pool_text(cell)}; "
        f"states {megabytes(count * state_bytes(cell, parameters=parameters))}; "
        f"about {megabytes(working)} for each member at work",
    ]


def _pool_text(cell: Cell) -> str:
    size = pool_bytes(cell)
    if size is not None:
        return f"{megabytes(size)}, shared"
    return f"not counted ({'read at the start' if cell.experiment.pool.name == 'folder' else 'none is prepared yet'})"


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


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Returns the first dotted field in which two configurations differ, with both values, or None."""
    before, after = leaves(old), leaves(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            return f"config.{name}: {before.get(name)!r} there, {after.get(name)!r} now"
    return None
