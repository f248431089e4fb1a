"""Defaults and checks of a configuration, and the frozen specifications made from it. Imports no JAX.

`config.grid` holds static axes (every value is a program of its own), mirroring the tree:
`config.grid.model = {"width": (8, 16)}`. `config.axes` holds traced axes (values are data, no new program): rho, seed,
method, and the optimiser's learning_rate, weight_decay (above 0: AdamW), warmup (share of the steps), schedule and
clip_norm (0: gradients are not clipped). `config.knobs` holds how strongly the methods do what they do
(`flipjax.methods`): GroupDRO's step, probabilities, JTT's epochs; `config.train` the augmentation. Both are data too:
`config.axes.dro_step = (0.01, 0.1)` or `config.axes.crop = (0.0, 1.0)` makes an axis of one, in place of its value.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from flipjax.config.ranges import CHECKS, check_axis, check_value
from flipjax.config.specs import (
    AUGMENTATION_AXES,
    AXES,
    DTYPES,
    GALLERY,
    INTERVENE,
    KNOB_AXES,
    MODEL_NAMES,
    OPTIONAL_AXES,
    SECTIONS,
    SELECTIONS,
    Config,
    ConfigError,
    Experiment,
    ModelSpec,
    PoolSpec,
    PopulationSpec,
    SplitSpec,
    TrainSpec,
    valid_rho,
)
from flipjax.methods import STRENGTHS, active_knobs

__all__ = [
    "AUGMENTATION_AXES",
    "AXES",
    "CHECKS",
    "DTYPES",
    "KNOB_AXES",
    "MODEL_NAMES",
    "OPTIONAL_AXES",
    "SELECTIONS",
    "Config",
    "ConfigError",
    "Experiment",
    "ModelSpec",
    "PoolSpec",
    "PopulationSpec",
    "SplitSpec",
    "TrainSpec",
    "check",
    "check_value",
    "default_config",
    "experiment",
    "leaves",
    "valid_rho",
]


def default_config() -> Config:
    """Returns the locked default configuration, which a file in `configs/` overrides."""
    # Loaded here: an audit needs the errors of this package and no configuration.
    from ml_collections import ConfigDict

    config = ConfigDict({name: dataclasses.asdict(spec()) for name, spec in SECTIONS.items()})
    config.axes = (
        {name: (value,) for name, value in AXES.items()} | {"rho": (0.5, 0.95)} | dict.fromkeys(OPTIONAL_AXES, ())
    )
    config.knobs = dict(STRENGTHS)
    # Sections that are empty: the command line can fill them, `--config.grid.model.width='(8, 16)'`.
    grid = config.grid = ConfigDict({name: {} for name in ("pool", "split", "model", "train")})
    config.gallery = dict(GALLERY)
    config.intervene = dict(INTERVENE)
    config.lock()
    grid.unlock()
    return config


def leaves(tree: Config, prefix: str = "") -> dict[str, Any]:
    """Flattens a nested mapping to dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if hasattr(value, "items"):
            flat.update(leaves(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def check(config: Config) -> None:
    """Raises ConfigError for the first field of `config` that cannot run."""
    _check_keys(config)
    varied = ("axes.", "grid.")
    fixed = {name: value for name, value in leaves(config).items() if not name.startswith(varied)}
    for field, value in fixed.items():
        check_value(field, value)
    used = active_knobs([method for method in config.axes.method if isinstance(method, str)])
    for name, values in config.axes.items():
        if name in OPTIONAL_AXES and values == ():
            continue
        check_axis(f"axes.{name}", values, OPTIONAL_AXES.get(name, f"axes.{name}"))
        if name in KNOB_AXES and name not in used:
            raise ConfigError(f"config.axes.{name}", f"a method with the knob {name} in config.axes.method")
    # All programs are reported by the same rules.
    sections = ("pool", "split", "model", "train")
    common = ("train.selection",)
    static = [name for name in fixed if name.split(".")[0] in sections and name not in common]
    for name, values in leaves(config.grid).items():
        if name not in static:
            near = difflib.get_close_matches(name, static, n=1)
            hint = f"; the nearest is config.grid.{near[0]}" if near else f"; valid are {', '.join(static)}"
            raise ConfigError(f"config.grid.{name}", f"the name of a static field{hint}")
        check_axis(f"grid.{name}", values, name)


def _check_keys(config: Config) -> None:
    """Raises ConfigError unless a configuration has the sections and the fields of the default one."""
    from ml_collections import ConfigDict

    default = default_config()
    for section in default:
        if not isinstance(config.get(section), ConfigDict):
            raise ConfigError(f"config.{section}", "a section, as default_config() has it", repr(config.get(section)))
    known, fields = leaves(default), leaves(config)
    for field in sorted(known.keys() ^ fields.keys()):
        if field in known:
            raise ConfigError(f"config.{field}", "a value, as default_config() has it", "none")
        if not field.startswith("grid."):
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"; the nearest is config.{near[0]}" if near else ""
            raise ConfigError(f"config.{field}", f"a field of default_config(){hint}")


def experiment(config: Config, overrides: Mapping[str, Any]) -> Experiment:
    """Returns the static half of `config`, with dotted `overrides` from its grid."""
    parts = {}
    for section in ("pool", "split", "model", "train"):
        values = {name: tuple(v) if isinstance(v, list | tuple) else v for name, v in config[section].items()}
        values |= {name.split(".", 1)[1]: v for name, v in overrides.items() if name.startswith(section + ".")}
        parts[section] = SECTIONS[section](**values)
    strongest = {name: max(config.axes[name]) for name in AUGMENTATION_AXES if config.axes[name]}
    parts["train"] = dataclasses.replace(parts["train"], **strongest)
    built = Experiment(**parts, active_knobs=active_knobs(config.axes.method))
    _check_model(built)
    n_train = built.split.n_train
    batch_size = built.train.batch_size
    if 0 < n_train < batch_size:
        raise ConfigError("config.split.n_train", f"at least train.batch_size ({batch_size}), or 0", n_train)
    return built


def _check_model(built: Experiment) -> None:
    model = built.model
    size = built.pool.size
    large = model.name != "unet"
    if large and "dfr" in built.active_knobs:
        raise ConfigError("config.axes.method", "model.name unet for dfr, which refits its head", model.name)
    for field in ("width", "depth", "norm") if large else ("weights",):
        default = getattr(ModelSpec(), field)
        value = getattr(model, field)
        if value != default:
            raise ConfigError(f"config.model.{field}", f"{default!r} for model.name {model.name}", repr(value))
    stride, reason = (
        (32, f"model.name {model.name}") if large else (2 ** (model.depth - 1), f"model.depth {model.depth}")
    )
    if size % stride:
        raise ConfigError("config.pool.size", f"a multiple of {stride} for {reason}", size)
