"""Opens the predictions and labels of an audit: finds out from headers alone how to read them.

`open_pairs` opens both arguments as `flipjax.audit.sources.Source`, pairs their images by name, and returns them with
one `Encoding`. What the encoding says is taken from the options, then from the labels' file (a COCO file has classes of
its own), then from the label map, then from the shapes. Which classes there are is found by `flipjax.audit.classes`;
their number may stay open until values are read.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from flipjax.audit.axes import fit_axes
from flipjax.audit.classes import complete_spec, find_class_names, name_all_classes, with_organ_classes
from flipjax.audit.label_maps import LabelMap, read_label_map
from flipjax.audit.names import read_pattern
from flipjax.audit.options import AuditOptions
from flipjax.audit.organs import Overlaps
from flipjax.audit.pairs import Pair, check_spacing, pair_images
from flipjax.audit.predictions import Predict, predicted_source
from flipjax.audit.problems import AuditError, in_options, raise_broken
from flipjax.audit.records import Encoding
from flipjax.audit.sources import Source, check_colours, open_source
from flipjax.metrics.classes import LabelSpec, check_background
from flipjax.support.terminal import listed

MOST_BYTES = 1 << 32
"""Limit on the bytes of all confusion matrices."""


@dataclasses.dataclass(frozen=True)
class OpenedPairs:
    """The images of predictions and labels, before any values are read."""

    pairs: list[Pair]
    """The images, each with its prediction and its labels."""
    encoding: Encoding
    """How to read them."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, from an option, a COCO file or a label map."""
    facts: tuple[str, ...] = ()
    """Sentences on files that were left out, and on how axes are read."""
    overlaps: tuple[Overlaps, ...] = ()
    """Counts of voxels in several organs, complete once all images were read."""

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names, in order."""
        return tuple(pair.name for pair in self.pairs)


def open_pairs(options: AuditOptions, *, predict: Predict | None = None) -> OpenedPairs:
    """Finds the images of two folders or files, by headers only.

    Args:
        options: of the audit.
        predict: computes logits from a photo, in place of predictions.

    Raises:
        AuditError: an input is unusable, or an option does not fit it; broken files are listed together.
    """
    asked = _read_spec(options)
    label_map = None
    if options.label_map:
        label_map = read_label_map(options.label_map)

    # Which files there are. Broken files are named before misfits.
    labels = _open_labels(options, label_map)
    predictions = _open_predictions(options, asked.kind, labels, predict)
    raise_broken((*predictions.broken, *labels.broken))

    # Which prediction is of which labels, and how their axes lie.
    check_colours(predictions, labels)
    unit = _unit_of_segments(options.unit, labels)
    paired = pair_images(predictions, labels)
    fitted = fit_axes(paired, asked.kind, channels=options.channels, axis_order=options.axes)
    spacing = _read_spacing(options.spacing, labels)
    check_spacing(fitted.pairs, spacing)

    # Which classes there are. Scores, an option or a label map say how many; else their names may.
    spec = complete_spec(asked, labels, label_map)
    class_names = find_class_names(spec.class_names, predictions, labels, label_map)
    classes = _count_classes(spec, fitted.classes, label_map)
    unresolved_names = 0
    if not classes and class_names:
        classes = len(class_names)
        if spec.background is not None and not name_all_classes(class_names):
            classes += len(spec.background_classes)
            unresolved_names = len(class_names)
    if classes:
        check_matrices(len(fitted.pairs), classes)
        with in_options():
            check_background(spec.background, classes, name=str(options.predictions or "--model"))
        spec = dataclasses.replace(spec, num_classes=classes)
    pairs = fitted.pairs
    if class_names and (predictions.organs or labels.organs):
        pairs = [with_organ_classes(pair, predictions, labels, class_names, spec.background) for pair in pairs]

    encoding = Encoding(
        spec=spec,
        channels=fitted.class_axis,
        unit=unit,
        spacing=spacing,
        unresolved_names=unresolved_names,
        kind_is_default=options.kind is None,
    )
    return OpenedPairs(
        pairs=pairs,
        encoding=encoding,
        class_names=class_names,
        facts=(*_facts(predictions), *_facts(labels), fitted.fact),
        overlaps=tuple(source.overlaps for source in (predictions, labels) if source.overlaps is not None),
    )


def _read_spec(options: AuditOptions) -> LabelSpec:
    """Returns what the options say of values.

    Raises:
        AuditError: a field is invalid, or an option that only masks have stands beside scores.
    """
    with in_options():
        asked = LabelSpec(
            background=options.background,
            ignore_index=options.ignore_index,
            kind=options.kind or "logits",
            num_classes=options.num_classes,
            class_names=options.class_names,
        )
    if asked.kind != "masks":
        for option, value in (("--prediction_map", options.prediction_map), ("--num_classes", asked.num_classes)):
            if value:
                raise AuditError(f"{option}: expected --kind masks beside it, found {asked.kind}")
    return asked


def check_matrices(images: int, classes: int) -> None:
    """Raises AuditError if the confusion matrices of so many images and classes are too large."""
    matrix_bytes = 4 * images * classes**2
    if matrix_bytes > MOST_BYTES:
        problem = f"{images} images and {classes} classes have confusion matrices of {matrix_bytes:,} bytes"
        raise AuditError(f"{problem}, expected at most {MOST_BYTES:,}; are these values classes?")


def settle_classes(opened: OpenedPairs, classes_needed: int) -> Encoding:
    """Returns the encoding with the number of classes, once all values were read.

    Args:
        opened: the images. An option, a label map or scores may say how many classes there are, or names may.
        classes_needed: the fewest classes that hold all values; the number of classes if nothing else says it.

    Raises:
        AuditError: the background leaves fewer than two of them, or their confusion matrices are too large.
    """
    encoding = opened.encoding
    classes = classes_needed
    if encoding.unresolved_names and classes_needed <= encoding.unresolved_names:
        # The names are of all classes.
        classes = encoding.unresolved_names
    elif encoding.classes:
        classes = encoding.classes
    check_matrices(len(opened.pairs), classes)
    with in_options():
        return encoding.with_classes(classes)


def _open_labels(options: AuditOptions, label_map: LabelMap | None) -> Source:
    """Finds the labels; raises AuditError if they are missing or unusable."""
    if options.labels is None:
        raise AuditError("--labels: expected a folder or a file, found none")
    labels = open_source(
        options.labels,
        kind="labels",
        spatial_ndim=options.spatial_ndim,
        label_map=label_map,
        pattern=read_pattern(options.names),
    )
    if labels.coco and (options.label_map or options.prediction_map):
        raise AuditError(f"{options.labels}: expected no label map beside a COCO JSON, which has its own categories")
    return labels


def _open_predictions(options: AuditOptions, kind: str, labels: Source, predict: Predict | None) -> Source:
    """Finds the predictions, or the photos that a model predicts.

    Raises:
        AuditError: predictions are missing or unusable; with a model, labels are broken.
    """
    prediction_map = None
    if options.prediction_map:
        prediction_map = read_label_map(options.prediction_map, option="--prediction_map")
    pattern = read_pattern(options.names)
    if predict:
        # A model predicts the images whose labels can be read, so broken labels are refused before it runs.
        raise_broken(labels.broken)
        return predicted_source(predict, options.images, labels, kind=kind, pattern=pattern)
    if options.predictions is None:
        raise AuditError("--predictions: expected a folder or a file, or --model with --images, found none")
    return open_source(
        options.predictions,
        kind=kind,
        spatial_ndim=labels.spatial_ndim,
        label_map=prediction_map,
        truth=labels.coco,
        pattern=pattern,
    )


def _unit_of_segments(unit: str | None, labels: Source) -> str:
    """Returns the unit of segments, by default that of the labels: instances of a COCO file, else classes."""
    if unit == "instance" and not labels.coco:
        expected = "labels in COCO's panoptic or instances format"
        raise AuditError(f"--unit instance: expected {expected}, found {labels.path}")
    if unit is not None:
        return unit
    if labels.coco:
        return "instance"
    return "class"


def _read_spacing(spacing: Sequence[float] | None, labels: Source) -> tuple[float, ...] | None:
    """Returns the spacing of an option.

    Raises:
        AuditError: it has another number of axes than the images, or is not positive.
    """
    if spacing is None:
        return None
    if len(spacing) != labels.spatial_ndim or not all(0 < size < np.inf for size in spacing):
        expected = f"{labels.spatial_ndim} distances above 0 in mm, one for each axis of {labels.path}"
        raise AuditError(f"--spacing: expected {expected}, found {', '.join(f'{size:g}' for size in spacing)}")
    return tuple(float(size) for size in spacing)


def _count_classes(spec: LabelSpec, score_classes: int, label_map: LabelMap | None) -> int:
    """Returns the number of classes that scores, an option or a label map say, in this order; 0 if none does."""
    if score_classes:
        return score_classes
    if spec.num_classes:
        return spec.num_classes
    if label_map:
        return label_map.count
    return 0


def _facts(source: Source) -> list[str]:
    """Returns sentences on the files of an argument that are left out."""
    lines = []
    if source.left_out:
        lines.append(f"Left out of {source.path}: {source.left_out} files that --names does not match.")
    if source.hidden:
        lines.append(f"Left out of {source.path}: hidden files, {listed(source.hidden)}.")
    return lines
