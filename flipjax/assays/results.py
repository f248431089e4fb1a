"""The result of an assay, its record, and the rows of its groups and images."""

import dataclasses
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from flipjax.assays import remedy
from flipjax.assays.cues import CueAuroc
from flipjax.assays.inputs import AssayImages
from flipjax.assays.population import TrainedStage, by_setting, outcomes_of, seeds_of
from flipjax.assays.statistics.association import Association
from flipjax.assays.statistics.contrast import Contrast
from flipjax.assays.statistics.outcomes import Outcomes, group_shares
from flipjax.assays.statistics.verdict import USED, AssayVerdict, Learnt, Outlook
from flipjax.support.files import replacing, write_json
from flipjax.support.frames import write_csv

RECORD = "assay.json"
"""The file of the record."""
UNNAMED_CLUSTERS = "clusters"
"""Name of clusters without a column."""
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A value that JSON can hold."""


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """The outcomes of a group: what is correct, flipped and missed.

    Attributes:
        class_name: of the group.
        value_name: of the attribute.
        common: whether the value is usual for the class.
        images: those that were tested.
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


@dataclasses.dataclass(frozen=True)
class Training:
    """The training of an assay.

    Attributes:
        network: of `options.NETWORKS`.
        words: what the verdict calls many of them.
        folds: each tested by networks that trained on the others.
        tested_folds: those that were tested within the budget.
        seeds: networks for each tested fold of the population.
        epochs: of each network.
        tested: images that were tested.
        seconds: that training took, over all calls, of trials and of what ends the use, too.
        left_out: settings that the budget had no time for, in words.
        budget_for_all: budget in seconds that leaves none out.
    """

    network: str
    words: str
    folds: int
    tested_folds: int
    seeds: int
    epochs: int
    tested: int
    seconds: float
    left_out: tuple[str, ...] = ()
    budget_for_all: float = math.nan

    @property
    def sentence(self) -> str:
        """The population in words, and the time of all training."""
        folds = f"{self.folds} folds"
        if self.tested_folds < self.folds:
            folds = f"{self.tested_folds} of {folds}"
        return (
            f"The verdict is on {self.tested_folds * self.seeds} {self.words} ({folds} x {self.seeds} seeds, "
            f"{self.epochs} epochs each); all training took {self.seconds:.0f} s"
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Assay:
    """An assay: the verdict, what it rests on, and what ends the shortcut.

    The fields that rest on networks have defaults, for an assay that trained none.

    See `flipjax.assay` for an example.

    Attributes:
        attribute: the name of the attribute.
        source: where the images come from.
        class_names: the names of the classes.
        value_names: the names of the attribute's values.
        images: the number of images.
        clusters: the number of clusters, such as patients; as many as images if none are given.
        cluster_name: the column that holds them, or UNNAMED_CLUSTERS.
        cluster_counts: clusters of each class with each value, int64 (F, V).
        size: side in pixels at which they were read.
        association: of class and attribute.
        cues: how well plain numbers of an image tell the class and the value.
        verdict: `used`, `not used` or `cannot be told`, with the reason.
        contrast: of the population; None if nothing was trained.
        learnt: whether the population learnt the classes; None if nothing was trained.
        outlook: what would make the verdict clear; None if it is clear or rests on no contrast.
        groups: what is correct, flipped and missed in each group.
        levels: the population with fewer counter-examples, fewest first; only the first is `all` unless used.
        methods: the population with methods against flips.
        counter_examples: how many bring Flip to the target; None unless used.
        training: what was trained; None if nothing was.
        margin: the largest contrast that does not matter.
        notes: what else must be known, a sentence each.
        seconds: that this call took.
        folder: where the page and the record lie.
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
    contrast: Contrast | None = None
    learnt: Learnt | None = None
    outlook: Outlook | None = None
    groups: tuple[GroupRow, ...] = ()
    levels: tuple[remedy.Level, ...] = ()
    methods: tuple[remedy.Level, ...] = ()
    counter_examples: remedy.CounterExamples | None = None
    training: Training | None = None
    margin: float
    notes: tuple[str, ...]
    seconds: float = 0.0
    folder: str
    software: tuple[str, ...]

    @property
    def clustered(self) -> bool:
        """Whether a cluster has more than one image."""
        return self.clusters < self.images

    @property
    def used(self) -> bool:
        """Whether the verdict is `used`."""
        return self.verdict.word == USED

    @property
    def unit(self) -> str:
        """What intervals are over, beside seeds."""
        if self.clustered:
            return "clusters"
        return "images"


def write_record(assay: Assay, sentences: Sequence[str]) -> None:
    """Writes the record of an assay, with its findings in sentences, as plain JSON."""
    record = {"findings": list(sentences), **_fields_of(assay)}
    write_json(Path(assay.folder) / RECORD, record, indent=1)


def _fields_of(record: Any) -> dict[str, Json]:
    return {field.name: to_plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def to_plain(value: object) -> Json:
    """Returns a value of dataclasses, tuples, arrays and numbers as JSON's types, NaN and infinity as null.

    Example:
        >>> to_plain((np.arange(2), math.nan, "used"))
        [[0, 1], None, 'used']
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value)
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    # NumPy's float64 is also a float: this stands first, so that it becomes a plain one.
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"expected a value that JSON can hold, found {type(value).__name__}")


def group_rows(images: AssayImages, association: Association, outcomes: Outcomes) -> tuple[GroupRow, ...]:
    """Returns the outcomes of every group, means over seeds."""
    units = images.units
    tested = units.where(outcomes.tested).counts
    correct = group_shares(units, outcomes.foreground, outcomes.correct).mean(0)
    flip = group_shares(units, outcomes.foreground, outcomes.flip).mean(0)
    rows = []
    for y, class_name in enumerate(images.catalog.class_names):
        for value, value_name in enumerate(images.catalog.scene_names):
            share_correct = float(correct[y, value])
            share_flipped = float(flip[y, value])
            rows.append(
                GroupRow(
                    class_name=class_name,
                    value_name=value_name,
                    common=not association.rare[y, value],
                    images=int(tested[y, value]),
                    correct=share_correct,
                    flip=share_flipped,
                    # Rounded, so that nothing is -0.00.
                    miss=round(1 - share_correct - share_flipped, 9) + 0.0,
                )
            )
    return tuple(rows)


def image_rows(images: AssayImages, stages: Sequence[TrainedStage]) -> pd.DataFrame:
    """Returns a row for each image and each setting and seed that tested it.

    Columns are `image`, its name; `class`, `value`, `common`, whether the value is usual for the class; `cluster`,
    `fold`; `setting`, `seed`; `correct`, `flip` and `miss`, shares of the object's pixels; and `pixels`, their number.
    """
    units = images.units
    catalog = images.catalog
    plain = pd.DataFrame(
        {
            "image": [catalog.object_names[row] for row in images.found.rows[:, 0]],
            "class": np.array(catalog.class_names)[units.class_],
            "value": np.array(catalog.scene_names)[units.value],
            "common": ~images.found.rare,
            "cluster": [catalog.objects[row].cluster for row in images.found.rows[:, 0]],
            "fold": images.found.folds,
        }
    )
    tables = []
    for setting, trained in by_setting(stages).items():
        outcomes = outcomes_of(trained, images=images.count)
        with np.errstate(invalid="ignore"):
            correct = outcomes.correct / outcomes.foreground
            flip = outcomes.flip / outcomes.foreground
        for index, seed in enumerate(seeds_of(trained)):
            shares = {"correct": correct[index], "flip": flip[index], "miss": 1 - correct[index] - flip[index]}
            table = plain.assign(setting=setting.name, seed=seed, **shares, pixels=outcomes.foreground)
            tables.append(table[np.isfinite(flip[index])].astype({"pixels": np.int64}))
    return pd.concat(tables, ignore_index=True)


def write_image_rows(folder: Path, table: pd.DataFrame) -> None:
    """Writes the rows of `image_rows` to images.parquet, or to images.csv without pyarrow."""
    parquet = folder / "images.parquet"
    csv = folder / "images.csv"
    if importlib.util.find_spec("pyarrow") is None:
        write_csv(csv, table)
        parquet.unlink(missing_ok=True)
        return
    with replacing(parquet) as stream:
        table.to_parquet(stream, index=False)
    csv.unlink(missing_ok=True)
