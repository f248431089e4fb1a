"""Which values each field may have, and the check of one."""

import math
from collections.abc import Callable
from typing import Any

from flipjax.config.specs import (
    AXES,
    DTYPES,
    GALLERY,
    INTERVENE,
    MAPS,
    MODEL_NAMES,
    NORMS,
    POOL_NAMES,
    RHO,
    SCHEDULES,
    SECTIONS,
    SELECTIONS,
    ConfigError,
)
from flipjax.methods import METHODS, STRENGTHS, parts_of

MOST = 10**6
"""Of what is counted, far more than any machine has memory or time for."""


def _one_of(choices: tuple) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in choices), "one of " + ", ".join(map(str, choices))


def _within(low: float, high: float) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: low <= value <= high), f"a number in [{low}, {high}]"


def _subset(choices: tuple) -> tuple[Callable[[Any], bool], str]:
    def accepts(value: Any) -> bool:
        return 0 < len(value) == len(set(value)) and set(value) <= set(choices)

    return accepts, "a tuple of one or more different names among " + ", ".join(choices)


def _multiple(of: int, low: int, high: int = MOST) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value % of == 0 and low <= value <= high), f"a multiple of {of} in [{low}, {high}]"


CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "pool.name": _one_of(POOL_NAMES),
    "pool.size": _multiple(8, 16, 2**14),
    "pool.seed": _within(0, 2**31 - 1),
    "pool.objects": _within(4, MOST),
    "pool.scenes": _within(3, MOST),
    "pool.identity_strength": _within(0, 1),
    "pool.scene_strength": _within(0, 1),
    "pool.features": ((lambda value: len(set(value)) == 4), "four names, of image, mask, class and scene"),
    "pool.max_pixels": _within(1, 2**26 + 2**24),
    "split.n_train": _multiple(2, 0),
    "split.n_val": _multiple(4, 4),
    "split.n_test": _multiple(4, 4),
    "split.seed": _within(0, 2**31 - 1),
    "model.name": _one_of(MODEL_NAMES),
    "model.width": _within(1, 2**14),
    "model.depth": _within(1, 6),
    "model.norm": _one_of(NORMS),
    "model.dtype": _one_of(DTYPES),
    "train.epochs": _within(1, MOST),
    "train.batch_size": _within(1, MOST),
    "train.patience": _within(1, MOST),
    "train.hflip": _within(0, 1),
    "train.crop": _within(0, 1),
    "train.jitter": _within(0, 1),
    "train.crop_scale": _within(0.05, 1),
    "train.jitter_strength": _within(0, 1),
    "train.patience_rule": _one_of(SELECTIONS),
    "train.selection": _subset(SELECTIONS),
    "population.map": _one_of(MAPS),
    "population.width": _within(0, MOST),
    "population.devices": _within(0, MOST),
    "population.batch_devices": _within(0, MOST),
    "population.memory_gb": ((lambda value: 0 <= value < math.inf), "a finite number >= 0"),
    "axes.rho": RHO,
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
    "knobs.jtt_epochs": _within(1, MOST),
    "knobs.jtt_weight": _within(1, MOST),
    "intervene.scenes": _one_of(("mean", "sampled", "both", "none")),
    "intervene.count": _within(1, 16),
    "intervene.views": _within(1, 2),
    "intervene.scores": _one_of(("all", "logits", "none")),
    "intervene.center": _one_of(("auto", "clusters", "median")),
    "gallery.rho": RHO,
    "gallery.riskiest": _within(0, MOST),
    "gallery.typical": _within(0, MOST),
}


def check_value(field: str, value: Any) -> None:
    """Raises ConfigError unless `value` is of the kind and in the range of the dotted `field`."""
    default = _default(field)
    accepts, expected = CHECKS.get(field, (lambda value: True, f"a value such as {default!r}"))
    kinds = (int, float) if isinstance(default, float) else type(default)
    if isinstance(value, bool) or not isinstance(value, kinds) or not accepts(value):
        whole = ", an integer" if isinstance(default, int) and isinstance(value, float) else ""
        raise ConfigError(f"config.{field}", f"{expected}{whole}", repr(value))


def _default(field: str) -> Any:
    section, name = field.split(".")
    tables = {"axes": AXES, "gallery": GALLERY, "intervene": INTERVENE, "knobs": STRENGTHS}
    return tables[section][name] if section in tables else getattr(SECTIONS[section](), name)


def check_axis(field: str, values: Any, target: str) -> None:
    """Raises ConfigError unless `values` are one or more different ones, each as `check_value` wants of `target`."""
    if not isinstance(values, tuple | list) or not values:
        raise ConfigError(f"config.{field}", "a tuple with at least one value", repr(values))
    for value in values:
        check_value(target, value)
    if len(set(values)) < len(values):
        raise ConfigError(f"config.{field}", "distinct values", tuple(values))
