"""Defaults and checks of a configuration, and the frozen specifications made from it. Imports no JAX.

`config.grid` holds static axes (every value is a program of its own), mirroring the tree:
`config.grid.model = {"width": (8, 16)}`. `config.axes` holds traced axes (values are data, no new program): rho, seed,
method, and the optimiser's learning_rate, weight_decay (above 0: AdamW), warmup (share of the steps), schedule and
clip_norm (0: gradients are not clipped). `config.knobs` holds how strongly the methods
do what they do (`flipjax.methods`): GroupDRO's step, probabilities, JTT's epochs; data too.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from flipjax.methods import METHODS, STRENGTHS, machinery, parts_of

Config = Any
"""A ConfigDict; its attributes are dynamic, so no type checker can follow them."""

POOL_NAMES = ("synthetic", "folder", "waterbirds_seg", "coco_cd")
MODEL_NAMES = ("unet", "smp_resnet50", "smp_mit_b2")
AXES = {
    "rho": 0.5,
    "seed": 0,
    "method": "ce",
    "learning_rate": 2e-3,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "schedule": "constant",
    "clip_norm": 0.0,
}
SCHEDULES = ("constant", "cosine")
SELECTIONS = ("val_loss", "val_worst_group_iou", "val_flip", "label_free_risk", "last")
GALLERY = {"rho": 0.9, "riskiest": 6, "typical": 6}
NORMS = ("batch", "group", "none")
DTYPES = ("float32", "bfloat16")
MAPS = ("auto", "loop", "vmap")


class ConfigError(ValueError):
    """A configuration that cannot run: names the field, what was expected and what was found."""


@dataclasses.dataclass(frozen=True)
class PoolSpec:
    """Where the images come from.

    `seed`, `objects` (per class) to `scene_strength` are for the synthetic pool, `root` to `scene_kinds` for a folder;
    `root` is also where `python -m flipjax.data prepare` wrote the pool of a data set (empty: its default).
    """

    name: str = "synthetic"
    size: int = 48
    seed: int = 0
    objects: int = 400
    scenes: int = 240
    identity_strength: float = 1.0
    scene_strength: float = 1.0
    root: str = ""
    cache: str = ""
    classes: tuple[str, ...] = ()
    scene_kinds: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SplitSpec:
    """Numbers of images in each part, the same at every rho; `n_train = 0`: the largest that every rho allows."""

    n_train: int = 512
    n_val: int = 128
    n_test: int = 400
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The small `unet`: `width` channels at full resolution, doubled at each of `depth - 1` further levels.

    The U-Nets `smp_*` have one size, and start from `weights`, a folder that `python -m flipjax.models convert` wrote
    (empty: drawn afresh). `dtype` is what a model computes in; parameters are float32.
    """

    name: str = "unet"
    width: int = 8
    depth: int = 3
    norm: str = "batch"
    dtype: str = "float32"
    weights: str = ""


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """The recipe that all members share: probabilities of the augmentations, and what selects the epoch.

    `selection` names one rule or more: the lowest validation loss, the highest worst-group IoU, the lowest Flip or the
    lowest mean flip-risk (which needs no labels) on the validation images, or the last epoch. Each has its rows in the
    results; reports show the first. Patience always waits for the validation loss.
    """

    epochs: int = 15
    batch_size: int = 16
    patience: int = 8
    hflip: float = 0.5
    crop: float = 0.0
    jitter: float = 0.0
    selection: tuple[str, ...] = ("val_loss",)


@dataclasses.dataclass(frozen=True)
class PopulationSpec:
    """How members map to the machine: `width` members at once under vmap (0: 16), `devices` (0: all; a CPU: cores)."""

    map: str = "auto"
    width: int = 0
    devices: int = 0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that decides a compiled program, hashable: the static half of a run.

    `machinery` names the knobs that any method of the grid sets. The program holds every loss, and of samplers,
    augmentations and averages no more than these need.
    """

    pool: PoolSpec = PoolSpec()
    split: SplitSpec = SplitSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()
    machinery: tuple[str, ...] = ()


SECTIONS = {"pool": PoolSpec, "split": SplitSpec, "model": ModelSpec, "train": TrainSpec, "population": PopulationSpec}


def default_config() -> Config:
    """Returns the locked default configuration, which a file in `configs/` overrides."""
    config = ConfigDict({name: dataclasses.asdict(spec()) for name, spec in SECTIONS.items()})
    config.axes = {name: (value,) for name, value in AXES.items()} | {"rho": (0.5, 0.95)}
    config.knobs = dict(STRENGTHS)
    # Sections that are empty: the command line can fill them, `--config.grid.model.width='(8, 16)'`.
    grid = config.grid = ConfigDict({name: {} for name in ("pool", "split", "model", "train")})
    config.gallery = dict(GALLERY)
    config.lock()
    grid.unlock()
    return config


def _one_of(choices: tuple) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in choices), "one of " + ", ".join(map(str, choices))


def _at_least(low: float) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value >= low), f"a number >= {low}"


def _within(low: float, high: float) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: low <= value <= high), f"a number in [{low}, {high}]"


def _subset(choices: tuple) -> tuple[Callable[[Any], bool], str]:
    def accepts(value: Any) -> bool:
        return 0 < len(value) == len(set(value)) and set(value) <= set(choices)

    return accepts, "a tuple of one or more different names among " + ", ".join(choices)


def _multiple(of: int, low: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value % of == 0 and value >= low), f"a multiple of {of}, at least {low}"


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "pool.name": _one_of(POOL_NAMES),
    "pool.size": _multiple(8, 16),
    "pool.seed": _within(0, 2**31 - 1),
    "pool.objects": _at_least(4),
    "pool.scenes": _at_least(3),
    "pool.identity_strength": _within(0, 1),
    "pool.scene_strength": _within(0, 1),
    "split.n_train": _multiple(2, 0),
    "split.n_val": _multiple(4, 4),
    "split.n_test": _multiple(4, 4),
    "split.seed": _within(0, 2**31 - 1),
    "model.name": _one_of(MODEL_NAMES),
    "model.width": _at_least(1),
    "model.depth": _within(1, 6),
    "model.norm": _one_of(NORMS),
    "model.dtype": _one_of(DTYPES),
    "train.epochs": _at_least(1),
    "train.batch_size": _at_least(1),
    "train.patience": _at_least(1),
    "train.hflip": _within(0, 1),
    "train.crop": _within(0, 1),
    "train.jitter": _within(0, 1),
    "train.selection": _subset(SELECTIONS),
    "population.map": _one_of(MAPS),
    "population.width": _at_least(0),
    "population.devices": _at_least(0),
    "axes.rho": _within(0.5, 1),
    "axes.seed": _within(0, 2**31 - 1),
    "axes.method": (
        (lambda value: parts_of(value) is not None),
        f"one of {', '.join(METHODS)}, or several joined by + that do not exclude each other",
    ),
    "axes.learning_rate": ((lambda value: 0 < value < math.inf), "a finite number > 0"),
    "axes.weight_decay": _within(0, 1e3),
    "axes.warmup": _within(0, 1),
    "axes.schedule": _one_of(SCHEDULES),
    "axes.clip_norm": _within(0, 1e9),
    "knobs.dice": _within(0, 1e3),
    "knobs.dro_step": _within(0, 1e3),
    "knobs.cutmix": _within(0, 1),
    "knobs.swap": _within(0, 1),
    "knobs.ema": _within(0, 0.99999),
    "knobs.swa": _within(0, 0.99),
    "knobs.jtt_epochs": _at_least(1),
    "knobs.jtt_weight": _at_least(1),
    "gallery.rho": _within(0.5, 1),
    "gallery.riskiest": _at_least(0),
    "gallery.typical": _at_least(0),
}


def check_value(field: str, value: Any) -> None:
    """Raises ConfigError unless `value` is of the kind and in the range of the dotted `field`."""
    default = _default(field)
    accepts, expected = CHECKS.get(field, (lambda value: True, f"a value such as {default!r}"))
    kinds = (int, float) if isinstance(default, float) else type(default)
    if isinstance(value, bool) or not isinstance(value, kinds) or not accepts(value):
        whole = ", an integer" if isinstance(default, int) and isinstance(value, float) else ""
        raise ConfigError(f"config.{field}: expected {expected}{whole}; found {value!r}")


def _default(field: str) -> Any:
    section, name = field.split(".")
    tables = {"axes": AXES, "gallery": GALLERY, "knobs": STRENGTHS}
    return tables[section][name] if section in tables else getattr(SECTIONS[section](), name)


def leaves(tree: Config, prefix: str = "") -> dict[str, Any]:
    """Flattens a nested mapping to dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, (Mapping, ConfigDict)):
            flat.update(leaves(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _check_axis(field: str, values: Any, target: str) -> None:
    if not isinstance(values, tuple | list) or not values:
        raise ConfigError(f"config.{field}: expected a tuple with at least one value; found {values!r}")
    for value in values:
        check_value(target, value)
    if len(set(values)) < len(values):
        raise ConfigError(f"config.{field}: expected distinct values; found {tuple(values)!r}")


def check(config: Config) -> None:
    """Raises ConfigError for the first field of `config` that cannot run."""
    varied = ("axes.", "grid.")
    fixed = {name: value for name, value in leaves(config).items() if not name.startswith(varied)}
    for field, value in fixed.items():
        check_value(field, value)
    for name, values in config.axes.items():
        _check_axis(f"axes.{name}", values, f"axes.{name}")
    # All cells are reported by the same rules.
    sections, common = ("pool", "split", "model", "train"), ("train.selection",)
    static = [name for name in fixed if name.split(".")[0] in sections and name not in common]
    for name, values in leaves(config.grid).items():
        if name not in static:
            near = difflib.get_close_matches(name, static, n=1)
            hint = f"; the nearest is config.grid.{near[0]}" if near else f"; valid are {', '.join(static)}"
            raise ConfigError(f"config.grid.{name}: expected the name of a static field{hint}")
        _check_axis(f"grid.{name}", values, name)


def experiment(config: Config, overrides: Mapping[str, Any]) -> Experiment:
    """Returns the static half of `config`, with dotted `overrides` from its grid."""
    parts = {}
    for section in ("pool", "split", "model", "train"):
        values = {name: tuple(v) if isinstance(v, list | tuple) else v for name, v in config[section].items()}
        values |= {name.split(".", 1)[1]: v for name, v in overrides.items() if name.startswith(section + ".")}
        parts[section] = SECTIONS[section](**values)
    built = Experiment(**parts, machinery=machinery(config.axes.method))
    _check_model(built)
    n_train, batch_size = built.split.n_train, built.train.batch_size
    if 0 < n_train < batch_size:
        raise ConfigError(
            f"config.split.n_train: expected at least train.batch_size ({batch_size}), or 0; found {n_train}"
        )
    return built


def _check_model(built: Experiment) -> None:
    model, size = built.model, built.pool.size
    stride, of = 2 ** (model.depth - 1), f"model.depth {model.depth}"
    if model.name == "unet":
        own, whose = ("weights",), "unet, which is drawn afresh"
    else:
        stride, of = 32, f"model.name {model.name}"
        own, whose = ("width", "depth", "norm"), f"{model.name}, which has one size"
        if "dfr" in built.machinery:
            raise ConfigError(f"config.axes.method: dfr refits the head of unet; found model.name {model.name}")
    for field in own:
        default, found = getattr(ModelSpec(), field), getattr(model, field)
        if found != default:
            raise ConfigError(f"config.model.{field}: expected {default!r} for model.name {whose}; found {found!r}")
    if size % stride:
        raise ConfigError(f"config.pool.size: expected a multiple of {stride} for {of}; found {size}")
