"""Names of quantities: their columns, keys and titles, and the quantities of single images and of scores.

Quantities of many images are functions in `flipjax.metrics.quantities`. A key is that of
`flipjax.metrics.summarize`; its column in results.csv has `_` for `/`.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.registry import Condition, Quantity, always, has_classes_in_scenes
from flipjax.metrics.summary.evaluate import own_quantity, with_group
from flipjax.metrics.summary.measures import SCORE_QUANTITIES


def _by_key(*quantities: Quantity) -> dict[str, Quantity]:
    """Returns quantities by key."""
    return {quantity.key: quantity for quantity in quantities}


def _columns_of(*conditions: Condition) -> dict[str, Quantity]:
    """Returns the quantities of results.csv that need of images one of these conditions."""
    return _by_key(
        *(evaluator.quantity for evaluator in EVALUATORS if evaluator.swept and evaluator.exists in conditions)
    )


COLUMNS = _by_key(*(evaluator.quantity for evaluator in EVALUATORS if evaluator.swept))
"""All quantities of results.csv; those whose images lack what they need have no column."""
PIXEL_QUANTITIES = _columns_of(always, has_classes_in_scenes)
"""Those that every run has."""

OBJECT_QUANTITIES = _by_key(
    Quantity(
        "flip_gap/mean",
        "flip, rare minus common",
        "difference of shares",
        "down",
        "Flip of rare minus common groups within each class, averaged over the classes that have both.",
        across=True,
    ),
    Quantity(
        "seg_flip",
        "SegFlip",
        "share",
        "down",
        "Share of the true segments of which at least half is one other foreground class.",
    ),
    Quantity(
        "strict_flip",
        "StrictFlip",
        "share",
        "down",
        "Share with another class of the true segments that a predicted one matches at IoU above 1/2.",
    ),
    Quantity(
        "object_images",
        "images with a flipped or missed segment",
        "share",
        "down",
        "Share of the images with true segments in which one of them flips or is missed as a whole.",
    ),
    Quantity(
        "flipped_object_images",
        "images with a flipped segment",
        "share",
        "down",
        "Share of the images with true segments in which one of them flips as a whole.",
    ),
    Quantity(
        "missed_object_images",
        "images with a missed segment",
        "share",
        "down",
        "Share of the images with true segments in which one of them is missed as a whole.",
    ),
    Quantity(
        "flipped_segments/<foreground>",
        "flipped segments of <foreground>",
        "share",
        "down",
        "Share of the true segments of a class that flip as a whole.",
    ),
    Quantity(
        "missed_segments/<foreground>",
        "missed segments of <foreground>",
        "share",
        "down",
        "Share of the true segments of a class that are missed as a whole.",
    ),
    Quantity(
        "flip_mirror",
        "mirrored flips",
        "share",
        "down",
        "Share of the true foreground labelled as the mirror image of its class.",
    ),
    Quantity(
        "flip_shift",
        "shifted flips",
        "share",
        "down",
        "Share of the true foreground labelled as a class further along its chain.",
    ),
    Quantity(
        "flip_other",
        "other flips",
        "share",
        "down",
        "Share of the true foreground that flips neither to a mirror image nor along a chain.",
    ),
    Quantity(
        "group_difference/<foreground>",
        "flip in a group minus elsewhere, <foreground>",
        "difference of shares",
        "down",
        "Flip of a class in one group minus its Flip in all other groups.",
    ),
    Quantity(
        "group_q/<foreground>",
        "q of that difference, <foreground>",
        "share",
        "up",
        "q of the difference between a class's Flip in a group and elsewhere, by permutation of images or clusters.",
    ),
    Quantity(
        "least_group_q",
        "least q of a group's difference",
        "share",
        "up",
        "Smallest q over all classes and groups; below 0.05 the Flip of some class differs in one group.",
    ),
)
"""Quantities of an audit that follow from its segments, its anatomy, and its classes in groups."""
QUANTITIES = {
    **_by_key(*(evaluator.quantity for evaluator in EVALUATORS)),
    **OBJECT_QUANTITIES,
    **SCORE_QUANTITIES,
}
"""All quantities of many images, by key."""
AUDIT_KEYS = (
    "mean_iou",
    "flip/<foreground>",
    "miss/<foreground>",
    "flip_gap/mean",
    "flip_risk_mean",
    "flip_risk_share",
    "seg_flip",
    "strict_flip",
    "object_images",
    "flipped_object_images",
    "missed_object_images",
    "flip_mirror",
    "flip_shift",
    "flip_other",
    "least_group_q",
)
"""Keys of an audit that limits may name beside those of a sweep."""
PER_CLASS_OF_AUDITS = ("iou/", "dice/", "flip/", "miss/", "flipped_segments/", "missed_segments/")
"""Beginnings of the keys of an audit that each class has."""
AUDIT_QUANTITIES = {key: QUANTITIES[key] for key in AUDIT_KEYS}
"""Quantities of an audit beside those of a sweep, without deciles."""

IMAGE_QUANTITIES = _by_key(
    Quantity("correct", "correct", "share", "up", "Share of the image's true foreground labelled right."),
    Quantity("flip", "flip", "share", "down", "Share of it labelled as another foreground class."),
    Quantity("miss", "miss", "share", "down", "Share of it labelled as background."),
    Quantity("spill", "spill", "share", "down", "Share of the true background labelled as foreground."),
    Quantity(
        "flip_risk", "flip-risk", "nats", "", "Mean entropy of the foreground classes over the predicted foreground."
    ),
)
"""Quantities of one image: properties of `flipjax.metrics.Decomposition`."""
SCENE_IMAGE_QUANTITIES = _by_key(
    Quantity(
        "swap_risk",
        "scene-swap risk",
        "nats",
        "",
        "Log-odds against the label of the region on other scenes; above 0 the model predicts another class there.",
    ),
    Quantity(
        "repaired_flip",
        "flip after repair",
        "share",
        "down",
        "Flip once the whole region has the class predicted on other scenes.",
    ),
)
"""Quantities of one image whose scene was swapped: see `flipjax.metrics.summary.columns.image_columns`."""


@dataclasses.dataclass(frozen=True)
class Score(Quantity):
    """A score of an image, higher where errors are expected; those of logits are means over the predicted foreground.

    Its key is its column in images.parquet.
    """

    passes: str = "1"
    """Forward passes that it takes: a number, `seeds`, or `1 + scenes`."""


def _score(key: str, title: str, unit: str, passes: str, meaning: str) -> Score:
    """Returns a score: its fields in the order of a table of scores."""
    return Score(key=key, title=title, unit=unit, meaning=meaning, passes=passes)


FILL_NOTE = "Smooth ground is not neutral: it raises the log-odds of classes that training shows on smooth ground."
"""What the meaning of each score of filled surroundings says."""
SCORES = {
    score.key: score
    for score in (
        _score("flip_risk", "entropy flip-risk", "nats", "1", "Entropy of the foreground classes."),
        _score("max_softmax", "maximum softmax", "share", "1", "1 less the largest probability (arXiv 1610.02136)."),
        _score("margin", "margin", "share", "1", "1 less the gap between the two largest probabilities."),
        _score("energy", "energy", "log-odds", "1", "Minus the log of the summed exponentials (arXiv 2010.03759)."),
        _score(
            "p_norm", "p-norm of logits", "ratio", "1", "Minus the largest logit over their p-norm (arXiv 2305.15508)."
        ),
        _score("mirror", "mirror", "nats", "2", "Entropy of the mean with the mirrored image's prediction."),
        _score("disagreement", "seeds' disagreement", "share", "seeds", "How often other seeds predict another class."),
        _score("pairwise_dice", "pairwise Dice", "share", "seeds", "1 less the mean Dice of seeds (arXiv 2406.03323)."),
        _score(
            "grey_fill",
            "smooth: grey fill",
            "log-odds",
            "2",
            f"As scene swap, on the image's mean colour. {FILL_NOTE}",
        ),
        _score("blur_fill", "smooth: blur fill", "log-odds", "2", f"As scene swap, on the blurred image. {FILL_NOTE}"),
        _score(
            "swap_risk",
            "scene swap",
            "log-odds",
            "1 + scenes",
            "The region's identity on other scenes against its label.",
        ),
    )
}
"""Scores of an image by key."""

PER_CLASS = tuple(key.partition("/")[0] for key in COLUMNS if "<" in key)
"""Beginnings of the columns that each class has."""
OWN = "own"
"""The beginning of the columns of a user's own quantities."""

GROUP_TITLES = {"all": "", "common": "common", "rare": "rare"}
"""What the title of a quantity says of its group; groups of a class and a scene are numbers."""


def of_classes(class_names: Sequence[str], *, background: Background = 0) -> dict[str, Quantity]:
    """Returns the quantities of every run, with `<class>` and `<foreground>` expanded to the named classes.

    Example:
        >>> list(of_classes(("background", "cat", "dog")))[7:11]
        ['iou/background', 'iou/cat', 'iou/dog', 'iou/foreground']
    """
    inside = is_foreground(len(class_names), background)
    foreground = list(itertools.compress(class_names, inside))
    quantities: list[Quantity] = []
    for key, quantity in PIXEL_QUANTITIES.items():
        if "<class>" in key:
            quantities += [_of_class(quantity, name) for name in class_names]
        elif "<foreground>" in key:
            quantities += [_of_class(quantity, name) for name in foreground]
        else:
            quantities.append(quantity)
    return _by_key(*quantities)


def _of_class(quantity: Quantity, name: str) -> Quantity:
    """Returns a quantity with the name of one class in place of `<class>` and `<foreground>`."""

    def fill(text: str) -> str:
        return text.replace("<class>", name).replace("<foreground>", name)

    return dataclasses.replace(
        quantity, key=fill(quantity.key), title=fill(quantity.title), meaning=fill(quantity.meaning)
    )


def column(key: str) -> str:
    """Returns a key's column in results.csv.

    Example:
        >>> column("iou/cat")
        'iou_cat'
    """
    return key.replace("/", "_")


def key_of(column: str, group: str = "all") -> str:
    """Returns the key of a column of results.csv in the rows of a group.

    Example:
        >>> key_of("iou_cat"), key_of("fg_flip", "rare"), key_of("gap_in_dice_cat")
        ('iou/cat', 'group/rare/fg_flip', 'gap_in_dice/cat')
    """
    key = column
    for prefix in (*PER_CLASS, OWN):
        if column.startswith(f"{prefix}_") and column not in QUANTITIES:
            key = f"{prefix}/{column.removeprefix(f'{prefix}_')}"
    return with_group(key, group)


def quantity_of(key: str) -> Quantity:
    """Returns the quantity of a key of `summarize`, with or without a group; a KeyError lists the valid keys.

    Example:
        >>> quantity_of("group/rare/fg_flip").title, quantity_of("group/1/iou/cat").title, quantity_of("gap/mean").title
        ('flip', 'IoU of cat', 'IoU gap')
    """
    quantity = find_quantity(key)
    if quantity is None:
        raise KeyError(f"quantity: expected one of {', '.join(QUANTITIES)}; found {key!r}")
    return quantity


def find_quantity(key: str) -> Quantity | None:
    """Returns the quantity of a key, with or without a group, or None."""
    _, base = _split_group(key)
    if "<" not in base and base in QUANTITIES:
        return QUANTITIES[base]
    # Of a class, such as iou/cat, which is listed as iou/<class>; or a user's own, such as own/edge_flip.
    prefix, _, name = base.partition("/")
    if not name:
        return None
    if prefix == OWN:
        return own_quantity(name)
    for placeholder in ("<class>", "<foreground>"):
        if f"{prefix}/{placeholder}" in QUANTITIES:
            return _of_class(QUANTITIES[f"{prefix}/{placeholder}"], name)
    return None


def own_keys(keys: Iterable[str]) -> list[str]:
    """Returns the keys of a user's own quantities.

    Example:
        >>> own_keys(["fg_flip", "own/edge_flip", "group/rare/own/edge_flip"])
        ['own/edge_flip', 'group/rare/own/edge_flip']
    """
    found = []
    for key in dict.fromkeys(keys):
        _, base = _split_group(key)
        if base.startswith(f"{OWN}/"):
            found.append(key)
    return found


def title_of(key: str) -> str:
    """Returns the title of a quantity, with its group.

    Example:
        >>> title_of("group/rare/fg_flip"), title_of("group/1/iou/cat"), title_of("risk_auroc")
        ('flip, rare', 'IoU of cat, group 1', 'flip-risk AUROC')
    """
    group, _ = _split_group(key)
    title = quantity_of(key).title
    group_title = GROUP_TITLES.get(group, f"group {group}")
    if not group_title:
        return title
    return f"{title}, {group_title}"


def _split_group(key: str) -> tuple[str, str]:
    """Splits a key into its group and the key within the group."""
    if key.startswith("group/") and key.count("/") > 1:
        _, group, base = key.split("/", 2)
        return group, base
    return "all", key
