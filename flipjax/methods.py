"""Methods as data: a member's knobs and the values that each method sets. Imports no JAX."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, get_type_hints

from flipjax.support.ranges import functions_of, name_of, within


class Knobs(NamedTuple):
    """The knobs of a member's method, traced scalars so that all methods share one program.

    A knob that the method does not set has its default. Knobs with a strength and a range are keys of `config.knobs`;
    a method sets them to that strength. The others are switches, which a method sets to 1.
    """

    dice: Annotated[Any, 1.0, within(0, 1e3), "weight of the foreground Dice loss; for tuning dice_ce"] = 0.0
    dro: Annotated[Any, "1 for GroupDRO, 0 for the plain mean over images"] = 0.0
    dro_step: Annotated[Any, 0.01, within(0, 1e3), "step size of the group weights' ascent; for tuning group_dro"] = 0.0
    # In the paper's code a batch zeroes the weights of absent groups, and validation also updates weights.
    dro_reference: Annotated[Any, "1 for the rule of the paper's code"] = 0.0
    balanced: Annotated[Any, "1 to draw every batch evenly over the groups"] = 0.0
    cutmix: Annotated[Any, 0.5, within(0, 1), "probability of background CutMix; for tuning bg_cutmix"] = 0.0
    # `cutmix_reference` also augments the partner, and fixes the order of the jitter.
    cutmix_reference: Annotated[Any, "1 for CutMix as the paper's code has it"] = 0.0
    swap: Annotated[Any, 0.5, within(0, 1), "probability of background swap; for tuning bg_swap"] = 0.0
    # Averages include the norms' running statistics (Izmailov et al., 2018, recompute them for SWA).
    ema: Annotated[Any, 0.99, within(0, 0.99999), "decay per step of the average of the weights; for tuning ema"] = 0.0
    swa: Annotated[Any, 0.5, within(0, 0.99), "fraction of the epochs before averaging starts; for tuning swa"] = 0.0
    # The other half of the validation images selects.
    dfr: Annotated[Any, "1 to refit the head on a group-balanced half of the validation images"] = 0.0
    jtt_epochs: Annotated[Any, 4, within(1), "epochs of JTT's first run; for tuning jtt"] = 0.0
    jtt_weight: Annotated[Any, 10.0, within(1), "weight of images that JTT's first run flips; for tuning jtt"] = 1.0
    own_loss: Annotated[Any, "which of config.train.loss takes the place of the cross-entropy, from 1; 0: none"] = 0.0
    own_augment: Annotated[Any, "which of config.train.augment changes the images, from 1; 0: none"] = 0.0


class Augmentation(NamedTuple):
    """A member's augmentation of training images: traced scalars and keys of `config.train`."""

    hflip: Annotated[Any, within(0, 1), "probability of the horizontal flip; for symmetric classes"] = 0.5
    crop: Annotated[Any, within(0, 1), "probability of the random resized crop"] = 0.0
    jitter: Annotated[Any, within(0, 1), "probability of the colour jitter"] = 0.0


class Method(NamedTuple):
    """The knobs that a method sets, how it differs from plain cross-entropy, and the value of its switches."""

    knobs: tuple[str, ...]
    meaning: str
    value: float = 1.0


METHODS: dict[str, Method] = {
    "ce": Method((), "nothing: cross-entropy"),
    "dice_ce": Method(("dice",), "adds the soft Dice loss of the foreground classes"),
    "group_dro": Method(("dro", "dro_step"), "weighs groups by loss; absent ones keep theirs (Sagawa et al., 2020)"),
    "group_dro_reference": Method(("dro", "dro_step", "dro_reference"), "that of the paper's code (flipjax/PAPER.md)"),
    "balanced": Method(("balanced",), "draws every batch evenly over the groups"),
    "bg_cutmix": Method(("cutmix",), "fills rectangles of background from an image of the same class in another scene"),
    "bg_cutmix_reference": Method(("cutmix", "cutmix_reference"), "that of the paper's code (flipjax/PAPER.md)"),
    "bg_swap": Method(("swap",), "pastes the object onto another scene; composite pools only"),
    "ema": Method(("ema",), "evaluates an exponential average of the weights"),
    "swa": Method(("swa",), "evaluates the average of the weights of the last epochs"),
    "dfr": Method(("dfr",), "refits the head on half of validation, once, by ridge (Kirichenko et al., 2023: ten, l1)"),
    "jtt": Method(
        ("jtt_epochs", "jtt_weight"), "restarts; draws images with Flip > 0.5 more (Liu et al., 2021: errors)"
    ),
}
"""Methods by name; `a+b` is both: 'balanced+group_dro'."""

OWN = {
    "loss": ("own_loss", "the configuration's own loss in place of the cross-entropy"),
    "augment": ("own_augment", "the configuration's own augmentation, after the built-in ones"),
}
"""The knob and the meaning of the user's functions, by their key of `config.train`."""

EXCLUSIVE = ({"ema", "swa"}, {"dfr", "group_dro_reference"})
"""Methods that exclude each other: the two averages; DFR and the reference's GroupDRO, which use the same images."""

STRENGTHS: dict[str, float] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Knobs, include_extras=True).items()
    if len(hint.__metadata__) == 3
}
"""Value of each knob when a method sets it (`config.knobs`). All other knobs are switches, set to 1."""


def methods_of(config: Any) -> dict[str, Method]:
    """Returns the methods by name: built-in ones, then those named after the configuration's own functions."""
    return METHODS | {
        name_of(function): Method((knob,), meaning, float(place))
        for field, (knob, meaning) in OWN.items()
        for place, function in enumerate(functions_of(config.train[field]), start=1)
    }


def parts_of(method: str, methods: Mapping[str, Method] = METHODS) -> list[str] | None:
    """Splits a method at '+'; None if a name is unknown or two exclude each other.

    Example:
      >>> parts_of("balanced+group_dro"), parts_of("group_dro+group_dro_reference")
      (['balanced', 'group_dro'], None)
    """
    parts = method.split("+")
    if not methods.keys() >= set(parts):
        return None
    names = [knob for part in parts for knob in methods[part].knobs]
    doubled = len(set(parts)) < len(parts) or len(set(names)) < len(names)
    return None if doubled or any(pair <= set(parts) for pair in EXCLUSIVE) else parts


def knobs_of(
    method: str, strengths: Mapping[str, float] | None = None, methods: Mapping[str, Method] = METHODS
) -> Knobs:
    """Returns a method's knobs; `strengths` overrides `STRENGTHS`.

    Example:
      >>> knobs_of("balanced+group_dro", {"dro_step": 0.1, "cutmix": 0.9})[:6]
      (0.0, 1.0, 0.1, 0.0, 1.0, 0.0)
    """
    values = STRENGTHS | dict(strengths or {})
    parts = [methods[part] for part in parts_of(method, methods) or []]
    return Knobs(**{name: values.get(name, part.value) for part in parts for name in part.knobs})


def active_knobs(names: Iterable[str], methods: Mapping[str, Method] = METHODS) -> tuple[str, ...]:
    """Returns the sorted knobs set by any of the named methods, which their common program must hold.

    Example:
      >>> active_knobs(["ce", "balanced+group_dro"])
      ('balanced', 'dro', 'dro_step')
    """
    parts = {part for name in names for part in parts_of(name, methods) or []}
    return tuple(sorted({knob for part in parts for knob in methods[part].knobs}))
