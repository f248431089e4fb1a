"""The values that keys of a configuration may have: names to choose from, and ranges. Imports no JAX."""

from flipjax.config.ranges import Range, functions, one_of, within

POOL_NAMES = ("synthetic", "flips-1", "folder", "tfds", "waterbirds_seg", "coco_cd", "arrays")
"""Where images may come from: values of `config.pool.name`.

Example:
    >>> from flipjax.config import default_config
    >>> default_config().pool.name in POOL_NAMES
    True
"""
SMALL = ("unet",)
"""Networks of any width and depth, which start afresh.

Example:
    >>> from flipjax.config import ModelSpec
    >>> ModelSpec("unet", width=16).name in SMALL
    True
"""
LARGE = ("smp_resnet50", "smp_mit_b2", "smp_efficientnet_lite0")
"""Networks of fixed size, which may start from weights of segmentation_models_pytorch.

Example:
    >>> from flipjax.config import ModelSpec
    >>> {ModelSpec(name).stride for name in LARGE}
    {32}
"""
FROZEN = "frozen"
"""The decoder of features that are computed once an image; see `flipjax.models.frozen`.

Example:
    >>> from flipjax.config import ModelSpec
    >>> ModelSpec(FROZEN).stride
    32
"""
MODEL_NAMES = (*SMALL, *LARGE, FROZEN)
"""All networks by name: values of `config.model.name`.

Example:
    >>> set(MODEL_NAMES) == {*SMALL, *LARGE, FROZEN}
    True
"""
SELECTIONS = (
    "val_loss",
    "val_loss_at_rho",
    "val_worst_group_iou",
    "val_flip",
    "label_free_risk",
    "val_cross_entropy",
    "last",
)
"""Rules that choose the epoch of a member, see `flipjax.config.TrainSpec`: values in `config.train.selection`.

Example:
    >>> from flipjax.config import TrainSpec
    >>> set(TrainSpec().selection) <= set(SELECTIONS)
    True
"""
DTYPES = ("float32", "bfloat16")
"""Types that a network may compute in: values of `config.model.dtype`.

Example:
    >>> from flipjax.config import ModelSpec
    >>> ModelSpec().dtype in DTYPES
    True
"""


# The ranges of keys: what each may be, and how an error says so.


def _is_anything(value: object) -> bool:
    return True


def _is_rho(rho: float) -> bool:
    return 0 < rho <= 1


def _is_fold_count(count: int) -> bool:
    return count == 0 or 2 <= count <= 1000


def _are_names(names: tuple[object, ...]) -> bool:
    """Whether all are different names."""
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _are_two_names_or_none(names: tuple[object, ...]) -> bool:
    """Whether these are different names, and not a single one."""
    return len(names) != 1 and _are_names(names)


def _are_four_names(names: tuple[object, ...]) -> bool:
    return len(names) == 4 and _are_names(names)


def _are_rules(names: tuple[object, ...]) -> bool:
    """Whether these are different selection rules, one or more."""
    return len(names) > 0 and _are_names(names) and set(names) <= set(SELECTIONS)


def _are_usual_scenes(scenes_of_classes: tuple[object, ...]) -> bool:
    """Whether there is a scene, or are several, for each class."""
    return all(map(_are_scenes, scenes_of_classes))


def _are_scenes(scenes: object) -> bool:
    """Whether these are the usual scenes of a class: a name, or several."""
    if isinstance(scenes, str):
        return scenes != ""
    return isinstance(scenes, tuple) and len(scenes) > 0 and all(isinstance(name, str) for name in scenes)


ANY = Range(_is_anything, "")
SEED = within(0, 2**31 - 1)
RHO = Range(_is_rho, "a number in (0, 1]")
FOLDS = Range(_is_fold_count, "0, or 2 to 1000")
COLUMN = Range(bool, "the name of a column")
# `flipjax.config.checks` checks the names: a configuration may bring methods of its own.
METHOD = Range(bool, "a method, or several joined by +")
CUES = one_of("scene", "marker", "tint", "texture")
SCENES_OF_SWAPS = one_of("mean", "sampled", "both", "none")
NAMES = Range(_are_two_names_or_none, "two or more different names, or none")
FEATURES = Range(_are_four_names, "four names, of image, mask, class and scene")
USUAL = Range(_are_usual_scenes, "a scene, or a tuple of scenes, each")
RULES = Range(_are_rules, "a tuple of one or more different names among " + ", ".join(SELECTIONS))
LOSS = functions("(logits, labels, groups)", "(B,)")
AUGMENT = functions("(key, images, labels)", "(images, labels)")
BUILD = functions("(num_classes, rngs)", "nnx.Module")
QUANTITIES = functions("(logits, labels)", "(numerator, denominator), (B,) each")
