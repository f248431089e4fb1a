"""The values that keys of a configuration may have: names to choose from, and ranges. Imports no JAX."""

from flipjax.config.ranges import Range, functions, name_or_function, one_of, within

POOL_NAMES = ("synthetic", "flips-1", "folder", "tfds", "waterbirds_seg", "coco_cd", "arrays")
"""Where images may come from: values of `config.pool.name`.

Example:
    >>> from flipjax import configure
    >>> config = configure("smoke", {"pool.name": "folder", "pool.root": "photos"})
    >>> config.pool.name in POOL_NAMES
    True
"""
SMALL = ("unet",)
"""Networks of any width and depth, which start afresh.

Example:
    >>> from flipjax.config import ModelSpec
    >>> [ModelSpec(name, width=16, depth=4).stride for name in SMALL]  # Sides of images are multiples of it.
    [8]
"""
LARGE = ("smp_resnet50", "smp_mit_b2", "smp_efficientnet_lite0")
"""Networks of fixed size, which may start from weights of segmentation_models_pytorch.

Example:
    >>> from flipjax.config import ModelSpec
    >>> [ModelSpec(name).stride for name in LARGE]  # Sides of images are multiples of it.
    [32, 32, 32]
"""
FROZEN = "frozen"
"""The decoder of features that are computed once an image; see `flipjax.models.networks.frozen`.

Example:
    >>> from flipjax import configure
    >>> configure("smoke", {"model.name": FROZEN, "pool.size": 64}).model.name
    'frozen'
"""
MODEL_NAMES = (*SMALL, *LARGE, FROZEN)
"""All networks by name: values of `config.model.name`.

Example:
    >>> from flipjax import configure
    >>> from flipjax.config.plan import plan
    >>> config = configure("smoke", {"grid.model.name": MODEL_NAMES[:2], "pool.size": 64})
    >>> [program.experiment.model.name for program in plan(config).programs]  # One run compares networks.
    ['unet', 'smp_resnet50']
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
    >>> rules = TrainSpec(selection=("val_loss", "last")).selection  # Both are tested.
    >>> set(rules) <= set(SELECTIONS)
    True
"""
OPTIMIZERS = ("adam", "sgd")
"""The built-in optimisers: values of `config.train.optimizer`, which may also be a function of the user.

Example:
    >>> from flipjax import configure
    >>> from flipjax.config.plan import plan
    >>> config = configure("smoke", {"grid.train.optimizer": OPTIMIZERS})
    >>> [program.experiment.train.optimizer for program in plan(config).programs]
    ['adam', 'sgd']
"""
DTYPES = ("float32", "bfloat16")
"""Types that a network may compute in: values of `config.model.dtype`.

Example:
    >>> from flipjax.config import ModelSpec
    >>> ModelSpec(dtype="bfloat16").dtype in DTYPES  # Parameters stay float32.
    True
"""


# The ranges of keys: what each may be, and how an error says so.


def _is_anything(value: object) -> bool:
    return True


def _is_not_empty(text: str) -> bool:
    return text != ""


def _is_rho(rho: float) -> bool:
    return 0 < rho <= 1


def _is_fold_count(count: int) -> bool:
    return count == 0 or 2 <= count <= 1000


def _are_names(names: tuple[object, ...]) -> bool:
    """Whether all are different names."""
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _are_several_names_or_none(names: tuple[object, ...]) -> bool:
    """Whether these are different names: none, or more than one."""
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
"""Keys whose value another module checks, or that take any text, such as `pool.root`."""
SEED = within(0, 2**31 - 1)
"""Seeds, such as `split.seed`."""
RHO = Range(_is_rho, "a number in (0, 1]")
"""The levels of `axes.rho`: the fraction of a class's training images that show its usual scene."""
FOLDS = Range(_is_fold_count, "0, or 2 to 1000")
"""`split.folds`; 0 is a split without folds."""
COLUMN = Range(_is_not_empty, "the name of a column")
"""`pool.scene_column`, a column of metadata.csv."""
METHOD = Range(_is_not_empty, "a method, or several joined by +")
"""The values of `axes.method`. `flipjax.config.checks` checks their names: a configuration may bring its own."""
CUES = one_of("scene", "marker", "tint", "texture")
"""`pool.cue`: what correlates with the class in synthetic images."""
SCENES_OF_SWAPS = one_of("mean", "sampled", "both", "none")
"""`intervene.scenes`: the scenes that objects are moved onto."""
NAMES = Range(_are_several_names_or_none, "two or more different names, or none")
"""`pool.classes` and `pool.scene_kinds`, in order; none are as found."""
FEATURES = Range(_are_four_names, "four names, of image, mask, class and scene")
"""`pool.features`: what a data set of TFDS calls them."""
USUAL = Range(_are_usual_scenes, "for each class a scene or a tuple of scenes")
"""`pool.usual`: the usual scene or scenes of each class, in the order of classes."""
RULES = Range(_are_rules, "a tuple of one or more different names among " + ", ".join(SELECTIONS))
"""`train.selection`, of `SELECTIONS`."""
LOSS = functions(takes="(logits, labels, groups)", returns="(B,)")
"""`train.loss`: losses of your own."""
AUGMENT = functions(takes="(key, images, labels)", returns="(images, labels)")
"""`train.augment`: augmentations of your own."""
OPTIMIZER = name_or_function(*OPTIMIZERS, takes="(learning_rate)", returns="optax.GradientTransformation")
"""`train.optimizer`: one of `OPTIMIZERS`, or an optimiser of your own."""
BUILD = functions(takes="(num_classes, rngs)", returns="nnx.Module")
"""`model.build`: a network of your own."""
QUANTITIES = functions(takes="(logits, labels)", returns="(numerator, denominator), (B,) each")
"""`quantities`: quantities of your own, which are tested beside the built-in ones."""
