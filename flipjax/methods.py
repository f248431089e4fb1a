"""Methods as data: the knobs that a member carries, and what each method sets among them. Imports no JAX."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Knobs(NamedTuple):
    """What makes a member's training its method's: scalars, traced, so that all methods share one program.

    Attributes:
      dice: weight of the foreground Dice loss beside the cross-entropy.
      dro: 1 for GroupDRO, 0 for the plain mean over images.
      dro_step: step size of GroupDRO's ascent on the group weights.
      dro_reference: 1 for the rule of the paper's code: a batch zeroes the weight of a group that it lacks, and the
        validation pass moves the weights too.
      balanced: 1 to draw every batch evenly over the groups.
      cutmix: probability of background CutMix.
      swap: probability of a background swap: the object on a scene of the other kind.
      ema: decay, a step, of an exponential average of the weights, which is what is evaluated. Running statistics of
        norms are averaged along (not computed anew, as Izmailov et al., 2018, do for SWA).
      swa: share of the epochs after which a plain average of the weights starts, which is what is evaluated.
      dfr: 1 to refit the head on a group-balanced half of the validation set; the other half selects.
      jtt_epochs: epochs of a first run, after which training starts anew with the images it flips weighted up.
      jtt_weight: how many times as often such an image is drawn.
    """

    dice: Any = 0.0
    dro: Any = 0.0
    dro_step: Any = 0.0
    dro_reference: Any = 0.0
    balanced: Any = 0.0
    cutmix: Any = 0.0
    swap: Any = 0.0
    ema: Any = 0.0
    swa: Any = 0.0
    dfr: Any = 0.0
    jtt_epochs: Any = 0.0
    jtt_weight: Any = 1.0


class Augmentation(NamedTuple):
    """How a member's training images are changed: scalars, traced.

    Probabilities of mirror (`hflip`), random resized `crop` and colour `jitter`; `crop_scale`, the least share of the
    area that a crop keeps, and `jitter_strength`, the largest change of brightness, contrast and saturation.
    """

    hflip: Any = 0.5
    crop: Any = 0.0
    jitter: Any = 0.0
    crop_scale: Any = 0.8
    jitter_strength: Any = 0.2


METHODS: dict[str, tuple[str, ...]] = {
    "ce": (),
    "dice_ce": ("dice",),
    "group_dro": ("dro", "dro_step"),
    "group_dro_reference": ("dro", "dro_step", "dro_reference"),
    "balanced": ("balanced",),
    "bg_cutmix": ("cutmix",),
    "bg_swap": ("swap",),
    "ema": ("ema",),
    "swa": ("swa",),
    "dfr": ("dfr",),
    "jtt": ("jtt_epochs", "jtt_weight"),
}
"""Which of `Knobs` a method sets; the others keep their defaults. `a+b` is both: 'balanced+group_dro'."""

EXCLUSIVE = ({"ema", "swa"}, {"dfr", "group_dro_reference"})
"""Methods that cannot be joined: two averages; a refit, and a rule that goes on learning from all validation images."""

STRENGTHS: dict[str, float] = {
    "dice": 1.0,
    "dro_step": 0.01,
    "cutmix": 0.5,
    "swap": 0.5,
    "ema": 0.99,
    "swa": 0.5,
    "jtt_epochs": 4,
    "jtt_weight": 10.0,
}
"""The value of a knob where a method sets it, `config.knobs`; the knobs that are not here are switches, 1 when set."""


def parts_of(method: str) -> list[str] | None:
    """Returns the names that a method joins with '+'; None where one is unknown, or two exclude each other.

    Example:
      >>> parts_of("balanced+group_dro"), parts_of("group_dro+group_dro_reference")
      (['balanced', 'group_dro'], None)
    """
    parts = method.split("+")
    names = [knob for part in parts for knob in METHODS.get(part, ())]
    known = all(part in METHODS for part in parts) and len(set(parts)) == len(parts)
    apart = len(set(names)) == len(names) and not any(pair <= set(parts) for pair in EXCLUSIVE)
    return parts if known and apart else None


def knobs_of(method: str, strengths: Mapping[str, float] | None = None) -> Knobs:
    """Returns a method's knobs; `strengths` takes the place of `STRENGTHS` where it has a value.

    Example:
      >>> knobs_of("balanced+group_dro", {"dro_step": 0.1, "cutmix": 0.9})[:6]
      (0.0, 1.0, 0.1, 0.0, 1.0, 0.0)
    """
    values = STRENGTHS | dict(strengths or {})
    return Knobs(**{name: values.get(name, 1.0) for part in parts_of(method) or [] for name in METHODS[part]})


def active_knobs(methods: Iterable[str]) -> tuple[str, ...]:
    """Returns, sorted, the knobs that any of the methods sets: what their common program must hold.

    Example:
      >>> active_knobs(["ce", "balanced+group_dro"])
      ('balanced', 'dro', 'dro_step')
    """
    return tuple(sorted({name for method in methods for part in parts_of(method) or [] for name in METHODS[part]}))
