"""The result of an assay, and its record."""

import dataclasses
from pathlib import Path

import numpy as np

from flipjax.assays import remedy
from flipjax.assays.association import Association
from flipjax.assays.contrast import Contrast
from flipjax.assays.cues import CueAuroc
from flipjax.assays.record import MISFITS, from_plain
from flipjax.assays.schedule import Schedule
from flipjax.assays.verdict import USED, AssayVerdict, Learnt
from flipjax.support.files import DamagedError, read_json

RECORD = "assay.json"
"""The file of the record."""


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """The outcomes of a group: what is correct, flipped and missed.

    Attributes:
        class_name: of the group.
        value_name: of the attribute.
        common: whether the value is usual for the class.
        images: their number.
        correct: share of the true foreground, mean over seeds.
        flip: likewise.
        miss: likewise.
    """

    class_name: str
    value_name: str
    common: bool
    images: int
    correct: float
    flip: float
    miss: float


@dataclasses.dataclass(frozen=True, eq=False)
class Assay:
    """An assay: the verdict, what it rests on, and what ends the shortcut.

    See `flipjax.assay` for an example.

    Attributes:
        attribute: its name.
        source: where the images come from.
        class_names: the names of the classes.
        value_names: the names of the attribute's values.
        images: their number.
        clusters: the number of clusters, such as patients; as many as images if none are given.
        cluster_name: the column that holds them, or `clusters`.
        cluster_counts: clusters of each class with each value, int64 (F, V).
        size: side in pixels at which they were read.
        association: of class and attribute.
        cues: how well plain numbers of an image tell the class and the value.
        verdict: `used`, `not used` or `cannot be told`, with the reason.
        contrast: of the population; None if nothing was trained.
        learnt: whether it learnt the classes; None likewise.
        groups: what it made of each group.
        levels: the population with fewer counter-examples, fewest first; only the first is `all` unless used.
        methods: the population with methods against flips.
        counter_examples: how many bring Flip to the target; None unless used.
        schedule: what was trained.
        margin: the largest contrast that does not matter.
        notes: what else must be known, a sentence each.
        seconds: that the assay took.
        folder: where the page and the record lie.
        digest: of the images and options.
        software: of flipjax, jax and numpy.
    """

    attribute: str
    source: str
    class_names: tuple[str, ...]
    value_names: tuple[str, ...]
    images: int
    clusters: int
    cluster_name: str
    cluster_counts: np.ndarray
    size: int
    association: Association
    cues: tuple[CueAuroc, ...]
    verdict: AssayVerdict
    contrast: Contrast | None
    learnt: Learnt | None
    groups: tuple[GroupRow, ...]
    levels: tuple[remedy.Level, ...]
    methods: tuple[remedy.Level, ...]
    counter_examples: remedy.CounterExamples | None
    schedule: Schedule | None
    margin: float
    notes: tuple[str, ...]
    seconds: float
    folder: str
    digest: str
    software: tuple[str, ...]

    @property
    def clustered(self) -> bool:
        """Whether a cluster has more than one image."""
        return self.clusters < self.images

    @property
    def used(self) -> bool:
        """Whether the verdict is `used`."""
        return self.verdict.word == USED


def read_assay(folder: str | Path) -> Assay | None:
    """Returns the stored assay of a folder, or None.

    See `flipjax.assay` for an example.

    Raises:
        DamagedError: its record is no assay's.
    """
    path = Path(folder) / RECORD
    try:
        return from_plain(Assay, read_json(path))
    except FileNotFoundError:
        return None
    except MISFITS as error:
        raise DamagedError(
            f"{path}: no record of an assay ({type(error).__name__}); remove it to make it anew"
        ) from error
