"""The options of an audit of files: each is declared once, for the command line, the call and summary.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flipjax import command
from flipjax.audit.inputs.axes import ORDERS
from flipjax.metrics.inputs.classes import Background

INPUTS = "what is audited"
FORMS = "how values are read"
GROUPS = "groups, clusters and segments"
KINDS = ("logits", "probabilities", "masks")
"""What predictions may be."""
MAPS = "a CSV with the columns from, to and maybe name, or ade20k, cityscapes or cityscapes_train"
"""What a map of labels may be."""


def option(default: Any, section: str, meaning: str, *more_flags: str, **of_parser: Any) -> Any:
    """Returns a field of `AuditOptions`, with its section, its help and further arguments of `add_argument`."""
    return command.option(default, meaning, *more_flags, about={"section": section}, **of_parser)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What is audited, and how it is read.

    Example:
        >>> AuditOptions(labels=Path("labels"), kind="masks").as_json()["labels"]
        'labels'
    """

    predictions: Path | None = option(
        None,
        INPUTS,
        "scores in floating point, or with --kind masks class indices",
        "--logits",
        type=Path,
        metavar="DIR|FILE",
    )
    labels: Path | None = option(None, INPUTS, "class indices, as integers", type=Path, metavar="DIR|FILE")
    images: Path | None = option(
        None,
        INPUTS,
        "photos, PNG or JPEG, of the same names and sizes as the labels",
        type=Path,
        metavar="DIR",
    )
    names: str | None = option(
        None,
        INPUTS,
        "a regular expression of one group: the image's name in a file's path without suffix (default all of it)",
        metavar="REGEX",
    )
    kind: str | None = option(None, FORMS, "content of --predictions (default logits)", choices=KINDS)
    channels: str | None = option(
        None, FORMS, "position of the class axis, if shapes are ambiguous", choices=("first", "last")
    )
    axes: str | None = option(
        None, FORMS, "axes of npy and npz volumes beside NIfTI, such as zyx, if shapes are ambiguous", choices=ORDERS
    )
    num_classes: int | None = option(
        None, FORMS, "number of classes in masks (default: from names or values)", type=int, metavar="C"
    )
    label_map: str | None = option(None, FORMS, f"labels to classes: {MAPS}", metavar="CSV|NAME")
    prediction_map: str | None = option(None, FORMS, "the same for predicted masks", metavar="CSV|NAME")
    ignore_index: int | None = option(
        None, FORMS, "label of pixels to ignore, such as 255", "--ignore_label", type=int, metavar="LABEL"
    )
    background: Background = option(
        0, FORMS, "classes: 0 (default), 0,2, none", type=command.read_classes, metavar="CLASSES"
    )
    class_names: Sequence[str] | None = option(
        None, FORMS, "of all classes, or of all but the background", type=command.read_names, metavar="A,B,C"
    )
    anatomy: Path | str | None = option(
        None,
        FORMS,
        "mirror pairs and chains of classes: a JSON file, or none (default: found in the class names)",
        metavar="FILE|none",
    )
    spacing: Sequence[float] | None = option(
        None,
        FORMS,
        "size of a pixel in mm, where no NIfTI header says it",
        type=command.read_spacing,
        metavar="X,Y[,Z]",
    )
    spatial_ndim: int | None = option(
        None, FORMS, "2 for images, 3 for volumes (default: as the labels say)", type=int, choices=(2, 3)
    )
    table: Sequence[Path] | Path | None = option(
        None,
        GROUPS,
        "CSVs with columns for --groups and --clusters; the first has the column name, or one row for each patient",
        type=Path,
        nargs="+",
        metavar="CSV",
    )
    groups: str | None = option(
        None,
        GROUPS,
        "a column of --table; or class,scene (and the column usual, if there is one); or a regular expression on names",
        metavar="COLUMN|REGEX",
    )
    clusters: str | None = option(
        None,
        GROUPS,
        "a column of --table, or a regular expression on names: images of one patient or film, which count as one",
        metavar="COLUMN|REGEX",
    )
    unit: str | None = option(
        None,
        GROUPS,
        "what a segment is (default class; for COCO's instances, instance)",
        choices=("class", "component", "instance"),
    )
    min_size: str | float | None = option(
        None, GROUPS, "smaller segments do not count: pixels, or 3mm2, or 0.5mL (default none)", metavar="SIZE"
    )

    def as_json(self) -> dict[str, object]:
        """Returns the options as summary.json stores them."""
        stored = dataclasses.asdict(self)
        for name, value in stored.items():
            if isinstance(value, Path):
                stored[name] = str(value)
        if self.table is not None:
            stored["table"] = [str(path) for path in self.tables]
        return stored

    @property
    def tables(self) -> tuple[Path, ...]:
        """The tables of images and patients."""
        if self.table is None:
            return ()
        if isinstance(self.table, Path):
            return (self.table,)
        return tuple(self.table)
