"""Whether a member has learnt the classes, which its Flip alone does not say.

A network that finds the object and guesses its class has the same Flip at every rho, which reads as robust.
"""

import numpy as np

from flipjax.metrics.decomposition import divide
from flipjax.results.arrays import MemberResults
from flipjax.results.cells import Cell
from flipjax.results.rows import CLASSES_NOT_LEARNT

MARGIN = 0.2
"""How far above chance the accuracy of a member that has learnt the classes is.

Small U-Nets on photos at rho .5, which know little, are .09 to .15 above chance; members of the drawn default grid,
which know the classes, .40 or more (`sweeps/studies/coverage`, "Learnt or not").
"""
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


def never_predicted(cell: Cell) -> dict[str, list[str]]:
    """Returns the foreground classes that a member predicts at no pixel of the test images, by member with any."""
    images = cell.images
    test = images.inside("test")
    predicted = images.confusion[0][:, test].sum((1, 2), dtype=np.int64)
    never = {}
    for member, counts in zip(images.member.tolist(), predicted, strict=True):
        names = [name for name, count in zip(cell.class_names[1:], counts[1:].tolist(), strict=True) if not count]
        if names:
            never[member] = names
    return never
