"""Methods as data: each sets knobs, numbers of a member, so that all methods share one program. Imports no JAX.

A field of `Knobs` names the methods that set it and says to what; `METHODS` is read from these fields. A configuration
names a method, or several joined by '+'.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from flipjax.config.keys import Scalar, keys_in, knob, knobs_in, switch, traced
from flipjax.config.ranges import functions_of, name_of, within

if TYPE_CHECKING:
    from flipjax.config.config_type import Config

_DRO = ("group_dro", "group_dro_reference")
_CUTMIX = ("bg_cutmix", "bg_cutmix_reference")


@dataclasses.dataclass(frozen=True)
class Knobs:
    """The numbers of a member by which its method differs from others.

    Each field names in `methods` those that set it. They set a `switch` to 1, and a `knob` to the value of its key in
    `config.knobs`, whose default is the first argument. Under all other methods a field has its own default: 0, or what
    `off` says.

    Example:
        >>> Knobs(dro=1.0, dro_step=0.1).dro_step, Knobs().dro
        (0.1, 0.0)
    """

    dice: Scalar = knob(
        1.0, within(0, 1e3), "weight of the foreground Dice loss. Vary it to tune dice_ce", methods=("dice_ce",)
    )
    dro: Scalar = switch("GroupDRO in place of the plain mean over images", methods=_DRO)
    dro_step: Scalar = knob(
        0.01, within(0, 1e3), "step size of the group weights' ascent. Vary it to tune group_dro", methods=_DRO
    )
    # In the paper's code a batch zeroes the weights of absent groups, and validation also updates weights.
    dro_reference: Scalar = switch("the rule of the paper's code", methods=("group_dro_reference",))
    balanced: Scalar = switch("every batch is drawn evenly over the groups", methods=("balanced",))
    cutmix: Scalar = knob(
        0.5, within(0, 1), "probability of background CutMix. Vary it to tune bg_cutmix", methods=_CUTMIX
    )
    # It also augments the partner, and fixes the order of the jitter.
    cutmix_reference: Scalar = switch("CutMix as the paper's code has it", methods=("bg_cutmix_reference",))
    swap: Scalar = knob(
        0.5, within(0, 1), "probability of background swap. Vary it to tune bg_swap", methods=("bg_swap",)
    )
    # Averages include the norms' running statistics (Izmailov et al., 2018, recompute them for SWA).
    ema: Scalar = knob(
        0.99, within(0, 0.99999), "decay per step of the average of the weights. Vary it to tune ema", methods=("ema",)
    )
    swa: Scalar = knob(
        0.5, within(0, 0.99), "fraction of the epochs before averaging starts. Vary it to tune swa", methods=("swa",)
    )
    # The other half of the validation images selects.
    dfr: Scalar = switch("the head is refit on a group-balanced half of the validation images", methods=("dfr",))
    jtt_epochs: Scalar = knob(4, within(1), "epochs of JTT's first run. Vary it to tune jtt", methods=("jtt",))
    jtt_weight: Scalar = knob(
        10.0, within(1), "weight of images that JTT's first run flips. Vary it to tune jtt", methods=("jtt",), off=1.0
    )
    # `methods_of` adds the methods of these two, which are named after the user's functions.
    own_loss: Scalar = switch("which of config.train.loss replaces the cross-entropy, from 1; 0: none", methods=())
    own_augment: Scalar = switch("which of config.train.augment changes the images, from 1; 0: none", methods=())


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A member's augmentation of training images: keys of `config.train`.

    Example:
        >>> Augmentation().hflip, Augmentation(crop=1.0).crop
        (0.5, 1.0)
    """

    hflip: Scalar = traced(
        0.5, within(0, 1), "probability that an image is mirrored. Set it to 0 where left and right differ"
    )
    crop: Scalar = traced(0.0, within(0, 1), "probability of the random resized crop", optional=True)
    jitter: Scalar = traced(0.0, within(0, 1), "probability of the colour jitter", optional=True)


MEANINGS = {
    "ce": "is plain cross-entropy",
    "dice_ce": "adds the soft Dice loss of the foreground classes",
    "group_dro": "weighs groups by their loss; groups that a batch lacks keep their weight (Sagawa et al., 2020)",
    "group_dro_reference": "GroupDRO as the paper's code has it (flipjax/PAPER.md)",
    "balanced": "draws every batch evenly over the groups",
    "bg_cutmix": "fills rectangles of background from an image of the same class in another scene",
    "bg_cutmix_reference": "background CutMix as the paper's code has it (flipjax/PAPER.md)",
    "bg_swap": "pastes the object onto another scene; composite pools only",
    "ema": "evaluates an exponential average of the weights",
    "swa": "evaluates the average of the weights of the last epochs",
    "dfr": "refits the head once, by ridge regression, on half the validation images (after Kirichenko et al., 2023)",
    "jtt": "trains twice: the second run draws images with Flip above 0.5 more often (after Liu et al., 2021)",
}
"""How each method differs from plain cross-entropy.

Example:
    >>> MEANINGS["dice_ce"]
    'adds the soft Dice loss of the foreground classes'
"""


Method: TypeAlias = Mapping[str, float]
"""A method: the value of each knob that it sets, by the knob's name."""


def _knobs_of_built_in(method: str) -> Method:
    """Returns the knobs whose fields name a method, with the values that it sets them to."""
    return {name: knob.on for name, knob in knobs_in(Knobs).items() if method in knob.methods}


METHODS: dict[str, Method] = {method: _knobs_of_built_in(method) for method in MEANINGS}
"""The built-in methods by name.

Example:
    >>> METHODS["ce"], METHODS["jtt"]
    ({}, {'jtt_epochs': 4, 'jtt_weight': 10.0})
"""

OWN = {"loss": "own_loss", "augment": "own_augment"}
"""The knob of methods that are the user's own functions, by their key of `config.train`.

Example:
    >>> {*OWN.values()} <= {field.name for field in dataclasses.fields(Knobs)}
    True
"""

EXCLUSIVE = ({"ema", "swa"}, {"dfr", "group_dro_reference"})
"""Methods that exclude each other: the two averages; DFR and the reference's GroupDRO, which use the same images.

Example:
    >>> parts_of("ema+swa"), parts_of("ema+balanced")
    (None, ['ema', 'balanced'])
"""

KNOB_DEFAULTS: dict[str, float] = {key.field: knobs_in(Knobs)[key.field].on for key in keys_in("knobs", Knobs)}
"""The defaults of `config.knobs`.

Example:
    >>> KNOB_DEFAULTS["dro_step"], KNOB_DEFAULTS["jtt_weight"]
    (0.01, 10.0)
"""


def methods_of(config: "Config") -> dict[str, Method]:
    """Returns the methods by name: built-in ones, then those named after the configuration's own functions.

    Example:
        >>> from flipjax import configure
        >>> def focal(logits, labels, groups):
        ...     return ((logits.max(-1) - 1) ** 2).mean((1, 2))
        >>> methods = methods_of(configure("smoke", {"train.loss": focal}))
        >>> methods["focal"], len(methods) - len(METHODS)
        ({'own_loss': 1.0}, 1)
    """
    methods = dict(METHODS)
    for key, knob_name in OWN.items():
        for number, function in enumerate(functions_of(config.train[key]), start=1):
            methods[name_of(function)] = {knob_name: float(number)}
    return methods


def parts_of(name: str, methods: Mapping[str, Method] = METHODS) -> list[str] | None:
    """Returns the methods that a name joins by '+'; None if one is unknown, or two cannot be combined.

    Two cannot be combined that are the same, that set one knob, or that are `EXCLUSIVE`.

    Example:
      >>> parts_of("balanced+group_dro"), parts_of("group_dro+group_dro_reference")
      (['balanced', 'group_dro'], None)
    """
    parts = name.split("+")
    if not methods.keys() >= set(parts):
        return None
    knobs = [knob_name for part in parts for knob_name in methods[part]]
    if len(set(parts)) < len(parts) or len(set(knobs)) < len(knobs):
        return None
    if any(pair <= set(parts) for pair in EXCLUSIVE):
        return None
    return parts


def knobs_set_by(name: str, methods: Mapping[str, Method] = METHODS) -> Method:
    """Returns all knobs that a method, or several joined by '+', sets; none for an unknown name.

    Example:
        >>> knobs_set_by("balanced+group_dro"), knobs_set_by("ce"), knobs_set_by("gdro")
        ({'balanced': 1.0, 'dro': 1.0, 'dro_step': 0.01}, {}, {})
    """
    knobs: dict[str, float] = {}
    for part in parts_of(name, methods) or []:
        knobs.update(methods[part])
    return knobs


def knobs_of(name: str, values: Mapping[str, Scalar] | None = None, methods: Mapping[str, Method] = METHODS) -> Knobs:
    """Returns the knobs of a member with a method, or several joined by '+'.

    Args:
        name: of the method.
        values: of knobs, in place of the method's own; those of knobs that it does not set are not read.
        methods: by name.

    Example:
      >>> knobs = knobs_of("balanced+group_dro", {"dro_step": 0.1, "cutmix": 0.9})
      >>> knobs.balanced, knobs.dro, knobs.dro_step, knobs.cutmix
      (1.0, 1.0, 0.1, 0.0)
    """
    values = values or {}
    set_by_method = knobs_set_by(name, methods)
    return Knobs(**{knob_name: values.get(knob_name, on) for knob_name, on in set_by_method.items()})


def active_knobs(names: Iterable[str], methods: Mapping[str, Method] = METHODS) -> tuple[str, ...]:
    """Returns the sorted knobs set by any of the named methods, which their common program must hold.

    Example:
      >>> active_knobs(["ce", "balanced+group_dro"])
      ('balanced', 'dro', 'dro_step')
    """
    active: set[str] = set()
    for name in names:
        active.update(knobs_set_by(name, methods))
    return tuple(sorted(active))
