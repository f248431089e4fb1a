"""Whether a member has learnt to find the object, and which class it is: its Flip alone says neither.

A network that misses the object flips little of it. One that finds it and guesses its class has the same Flip at every
rho, which reads as robust.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from flipjax.metrics.decomposition import divide
from flipjax.results.arrays import MemberResults
from flipjax.results.cells import Cell
from flipjax.results.rows import CLASSES_NOT_LEARNT, NOT_LEARNT, kept_records

MARGIN = 0.2
"""How far above chance the accuracy of a member that has learnt the classes is.

Small U-Nets on photos at rho 0.5, which know little, are 0.09 to 0.15 above chance; members of the drawn default grid,
which know the classes, 0.40 or more (`sweeps/studies/coverage`, "Learnt or not").
"""
MOST_MISSED_SHARE = 0.5
"""Members that miss a larger share of the true foreground count as not learnt."""
TRAINED = ("finished", "stopped")
"""The statuses of members that trained to their end."""


def class_accuracy(results: MemberResults) -> np.ndarray:
    """Returns the accuracy of the class among found object pixels, in common groups of validation images.

    Returns:
        (rule, member), NaN where no object is found or nothing is stored.
    """
    quantities = results.quantity.tolist()
    groups = results.group.tolist()
    parts = results.part.tolist()
    if "val" not in parts or "common" not in groups or "fg_correct" not in quantities:
        return np.full(results.values.shape[:2], np.nan)
    common = results.values[:, :, parts.index("val"), groups.index("common")]
    correct = common[..., quantities.index("fg_correct")]
    flipped = common[..., quantities.index("fg_flip")]
    return divide(correct, correct + flipped)


def statuses(results: MemberResults) -> np.ndarray:
    """Returns the status of members under each rule, str (rule, member): trained ones may have learnt no classes."""
    accuracy = class_accuracy(results)
    chance = 1 / results.groups.classes
    guess = accuracy <= chance + MARGIN
    status = np.broadcast_to(results.status, accuracy.shape)
    return np.where(guess & np.isin(status, TRAINED), CLASSES_NOT_LEARNT, status)


def never_predicted(cells: Iterable[Cell]) -> dict[str, list[str]]:
    """Returns the foreground classes that a member predicts at no pixel of the test images, by member with any."""
    never = {}
    for cell in cells:
        confusion_of_members = cell.images.confusion[0][:, cell.images.inside("test")]
        for member, confusion in zip(cell.members, confusion_of_members, strict=True):
            predicted = confusion.sum((0, 1), dtype=np.int64)
            # Class 0 is the background.
            names = [cell.class_names[label] for label in np.flatnonzero(predicted == 0) if label > 0]
            if names:
                never[member] = names
    return never


def mark_unlearnt(rows: pd.DataFrame, cells: Mapping[str, Cell]) -> pd.DataFrame:
    """Returns rows of results.csv with status NOT_LEARNT for members that hardly find the object.

    Such a member misses more than MOST_MISSED_SHARE of the true foreground, or has a lower foreground IoU than a
    prediction of foreground everywhere.
    """
    share_of = _foreground_shares(cells)
    whole = kept_records(rows[(rows["split"] == "test") & (rows["group"] == "all")])
    least_iou = whole["member"].map(share_of).astype(np.float64)
    lost = whole[(whole["fg_miss"] > MOST_MISSED_SHARE) | (whole["iou_foreground"] < least_iou)]
    unlearnt = set(zip(lost["member"], lost["selection"], strict=True))
    marked = [pair in unlearnt for pair in zip(rows["member"], rows["selection"], strict=True)]
    return rows.assign(status=rows["status"].mask(np.array(marked, bool), NOT_LEARNT))


def _foreground_shares(cells: Mapping[str, Cell]) -> dict[str, float]:
    """Returns the foreground's share of the true test pixels of each member."""
    shares: dict[str, float] = {}
    for cell in cells.values():
        # The members of a result file share their test images, and so the true pixels.
        confusion = cell.images_of(cell.members[0], "test").confusion
        images_axis = 0
        predicted_axis = 2
        true_pixels = confusion.sum((images_axis, predicted_axis), dtype=np.int64)
        # Class 0 is the background.
        share = float(true_pixels[1:].sum() / max(1, true_pixels.sum()))
        shares.update(dict.fromkeys(cell.members, share))
    return shares
