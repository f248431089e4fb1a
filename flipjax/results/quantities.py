"""Names, units, directions and definitions of all quantities.

A quantity has the key of `flipjax.metrics.summarize`, in which `<class>` stands for each class and `<foreground>` for
each foreground class. Its column in results.csv is the key with `_` for `/`. Tables, figures and pages take titles from
here, so adding a quantity takes a row of quantities.csv and a function that computes it.
"""

import csv
import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flipjax.metrics.classes import Background, is_foreground
from flipjax.results.evaluators import EVALUATORS, Quantity, has_pairs, has_regions, has_rivals, has_scenes

RANGES = {
    "share": (0.0, 1.0),
    "difference of shares": (-1.0, 1.0),
    "nats": (0.0, math.inf),
    "images": (0.0, math.inf),
    "log-odds": (-math.inf, math.inf),
    "ratio": (-math.inf, math.inf),
}
"""Units, and the least and the largest value that a quantity of it can have."""


def _tables() -> dict[str, dict[str, Quantity]]:
    """Returns the quantities of each table of quantities.csv by key."""
    tables: dict[str, dict[str, Quantity]] = {}
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        for name, *texts in itertools.islice(csv.reader(stream), 1, None):
            key, title, unit, better, across, passes, meaning = texts
            tables.setdefault(name, {})[key] = Quantity(key, title, unit, better, meaning, across == "yes", passes)
    return tables


def _registered(*needs: Any) -> dict[str, Quantity]:
    """Returns the quantities of `flipjax.results.evaluators` that exist under any of the conditions `needs`."""
    return {each.quantity.key: each.quantity for each in EVALUATORS if each.exists in needs}


_TABLES = _tables()
CONDITIONS = (has_rivals, has_scenes, has_pairs, has_regions)
QUANTITIES = {each.quantity.key: each.quantity for each in EVALUATORS if each.exists not in CONDITIONS}
PULL_QUANTITIES = _registered(has_rivals)
"""Columns of a run of three classes or more: of two, every rare flip goes to the class of the scene."""
SCENE_QUANTITIES = _registered(has_scenes)
"""Quantities of `flipjax.intervene`: columns of a run whose scenes were swapped."""
PAIR_QUANTITIES = _registered(has_pairs)
"""Quantities of pairs: a column of a run whose images are composed."""
REGION_QUANTITIES = _registered(has_regions)
"""Quantities of rims and interiors, and of calibration: columns of every run, of an audit and of an evaluation."""
SCORE_QUANTITIES = _TABLES["score"]
"""Quantities of a score of images: columns of scores.csv, as `<key>_<side>`."""
AUDIT_QUANTITIES = _TABLES["audit"]
"""Quantities of an audit beside those of a sweep: no columns of results.csv."""
DECILES = _TABLES["decile"]
"""Quantities that are lists of ten: no columns of results.csv."""
IMAGE_QUANTITIES = _TABLES["image"]
"""Quantities of one image: properties of `flipjax.metrics.Decomposition`."""
SCENE_IMAGE_QUANTITIES = _TABLES["scene image"]
"""Quantities of one image whose scene was swapped: see `flipjax.results.rows`."""
SCORES = _TABLES["image score"]
"""Scores of an image, higher where errors are expected, by their column in images.parquet; those of logits are means
over the predicted foreground."""

COLUMNS = QUANTITIES | PULL_QUANTITIES | SCENE_QUANTITIES | PAIR_QUANTITIES | REGION_QUANTITIES
"""All that is a column of results.csv."""
KNOWN = COLUMNS | SCORE_QUANTITIES | AUDIT_QUANTITIES | DECILES
PER_CLASS = ("iou", "gap")
"""Beginnings of the columns that each class has."""

GROUP_TITLES = {"all": "", "common": "common", "rare": "rare"}
"""Titles of groups; others are numbers."""


def of_classes(class_names: Sequence[str], *, background: Background = 0) -> dict[str, Quantity]:
    """Returns QUANTITIES in order, with `<class>` and `<foreground>` expanded to the named classes.

    Example:
        >>> list(of_classes(("background", "cat", "dog")))[7:11]
        ['iou/background', 'iou/cat', 'iou/dog', 'iou/foreground']
    """
    foreground = list(itertools.compress(class_names, is_foreground(len(class_names), background)))
    table: dict[str, Quantity] = {}
    for key, quantity in QUANTITIES.items():
        names = class_names if "<class>" in key else foreground if "<foreground>" in key else [""]
        named = (_named(quantity, name) for name in names)
        table |= {each.key: each for each in named}
    return table


def _named(quantity: Quantity, name: str) -> Quantity:
    def filled(text: str) -> str:
        return text.replace("<class>", name).replace("<foreground>", name)

    return dataclasses.replace(
        quantity, key=filled(quantity.key), title=filled(quantity.title), meaning=filled(quantity.meaning)
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
        >>> key_of("iou_cat"), key_of("fg_flip", "rare")
        ('iou/cat', 'group/rare/fg_flip')
    """
    prefix, mark, name = column.partition("_")
    key = f"{prefix}/{name}" if mark and prefix in PER_CLASS else column
    return key if group == "all" else f"group/{group}/{key}"


def quantity_of(key: str) -> Quantity:
    """Returns the quantity of a key of `summarize`, with or without a group; a KeyError lists the valid keys.

    Example:
        >>> quantity_of("group/rare/fg_flip").title, quantity_of("group/1/iou/cat").title, quantity_of("gap/mean").title
        ('flip', 'IoU of cat', 'IoU gap')
    """
    quantity = find_quantity(key)
    if quantity is None:
        raise KeyError(f"quantity: expected one of {', '.join(COLUMNS | DECILES)}; found {key!r}")
    return quantity


def find_quantity(key: str) -> Quantity | None:
    """Returns the quantity of a key, or None."""
    base = _split(key)[1]
    if "<" not in base and base in KNOWN:
        return KNOWN[base]
    prefix, _, name = base.partition("/")
    found = [KNOWN[f"{prefix}/{each}"] for each in ("<class>", "<foreground>") if f"{prefix}/{each}" in KNOWN]
    return _named(found[0], name) if found and name else None


def title_of(key: str) -> str:
    """Returns the title of a quantity, with its group.

    Example:
        >>> title_of("group/rare/fg_flip"), title_of("group/1/iou/cat"), title_of("risk_auroc")
        ('flip, rare', 'IoU of cat, group 1', 'flip-risk AUROC')
    """
    group = _split(key)[0]
    words = [quantity_of(key).title, GROUP_TITLES.get(group, f"group {group}")]
    return ", ".join(word for word in words if word)


def _split(key: str) -> tuple[str, str]:
    """Splits a key into its group and the key within the group."""
    _, group, base = key.split("/", 2) if key.startswith("group/") and key.count("/") > 1 else ("", "all", key)
    return group, base
