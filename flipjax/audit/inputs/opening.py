"""Opens the predictions and labels of an audit: finds out from headers alone how to read them.

`open_pairs` opens both arguments as `flipjax.audit.formats.sources.Source`, pairs their images by name, and returns
them with one `Encoding`: first which files there are, then which prediction is of which labels, then which classes
there are.

Classes are found by `flipjax.audit.inputs.classes`: their names in the options, in the labels' file (a COCO file has
its own) or in the label map, in this order; their number likewise, but that of scores in their shapes. Where a folder
has a mask for each organ, organs become the classes of their names. The number of classes of masks may stay open until
values are read; then `settle_classes` says it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from flipjax.audit.formats.label_maps import LabelMap, read_label_map
from flipjax.audit.formats.names import read_pattern
from flipjax.audit.formats.organs import Overlaps
from flipjax.audit.formats.problems import AuditError, raise_broken
from flipjax.audit.formats.sources import Source, check_colours, open_source
from flipjax.audit.inputs.axes import fit_axes
from flipjax.audit.inputs.classes import complete_spec, find_class_names, name_all_classes, with_organ_classes
from flipjax.audit.inputs.options import AuditOptions
from flipjax.audit.inputs.pairs import Pair, check_spacing, in_options, pair_images
from flipjax.audit.inputs.predictions import Predictor, predicted_source
from flipjax.audit.inputs.records import Encoding
from flipjax.metrics.inputs.classes import Background, LabelSpec, background_classes, check_background
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
    """Sentences on files that were left out, and on how axes are read; some are empty."""
    overlaps: tuple[Overlaps, ...] = ()
    """Voxels in several organs, of the arguments that have a mask for each organ. Reading an image adds its voxels, so
    that they are complete once all images were read."""

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names, in order."""
        return tuple(pair.name for pair in self.pairs)


def open_pairs(options: AuditOptions, *, model: Predictor | None = None) -> OpenedPairs:
    """Finds the images of two folders or files, by headers only.

    Args:
        options: of the audit.
        model: computes logits from photos or volumes, in place of predictions.

    Raises:
        AuditError: an input is unusable, or an option does not fit it; broken files are listed together.
    """
    asked = _read_spec(options)
    label_map = None
    if options.label_map:
        label_map = read_label_map(options.label_map)
    predictions, labels = _open_both(options, asked.kind, label_map, model)
    unit = _unit_of_segments(options.unit, labels)
    paired = pair_images(predictions, labels)
    fitted = fit_axes(paired, asked.kind, channels=options.channels, axis_order=options.axes)
    spacing = _read_spacing(options.spacing, labels)
    check_spacing(fitted.pairs, spacing)

    # What the options leave open of the classes, the labels say.
    spec = complete_spec(asked, labels, label_map)
    class_names = find_class_names(spec.class_names, predictions, labels, label_map)
    classes = _count_classes(spec, fitted.classes, label_map)
    unresolved_names = 0
    if not classes and class_names:
        classes, unresolved_names = _count_named(class_names, spec.background)
    if classes:
        check_matrices(len(fitted.pairs), classes)
        spec = _with_classes(spec, classes, predictions_in_errors=str(options.predictions or "--model"))
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


def _count_named(class_names: Sequence[str], background: Background) -> tuple[int, int]:
    """Returns the number of classes by their names, and how many names leave it open until values are read, or 0.

    Names of which one is the background are of all classes. Others may be of all, or of the foreground alone, which is
    taken for true at first, as it asks for more classes; `settle_classes` ends this.

    Example:
        >>> _count_named(["background", "cat", "dog"], 0), _count_named(["cat", "dog", "cow"], 0)
        ((3, 0), (4, 3))
    """
    outside = background_classes(background)
    if not outside or name_all_classes(class_names):
        return len(class_names), 0
    return len(class_names) + len(outside), len(class_names)


def _with_classes(spec: LabelSpec, classes: int, *, predictions_in_errors: str) -> LabelSpec:
    """Returns the spec with the number of classes; raises AuditError if the background does not fit it."""
    with in_options():
        check_background(spec.background, classes, name=predictions_in_errors)
    return dataclasses.replace(spec, num_classes=classes)


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
        AuditError: the background is none of them or leaves fewer than two foreground classes, or their confusion
            matrices are too large.
    """
    encoding = opened.encoding
    classes = classes_needed
    if encoding.unresolved_names and classes_needed <= encoding.unresolved_names:
        # No value lies beyond the names, so they are of all classes: of the foreground alone, the last would be in no
        # image.
        classes = encoding.unresolved_names
    elif encoding.classes:
        classes = encoding.classes
    check_matrices(len(opened.pairs), classes)
    with in_options():
        return encoding.with_classes(classes)


def _open_both(
    options: AuditOptions, kind: str, label_map: LabelMap | None, model: Predictor | None
) -> tuple[Source, Source]:
    """Finds the predictions and the labels.

    Raises:
        AuditError: either is missing or unusable; broken files of both are listed together, before misfits are named.
    """
    labels = _open_labels(options, label_map)
    predictions = _open_predictions(options, kind, labels, model)
    raise_broken((*predictions.broken, *labels.broken))
    check_colours(predictions, labels)
    return predictions, labels


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


def _open_predictions(options: AuditOptions, kind: str, labels: Source, model: Predictor | None) -> Source:
    """Finds the predictions, or the photos that a model predicts.

    Raises:
        AuditError: predictions are missing or unusable; with a model, labels are broken.
    """
    prediction_map = None
    if options.prediction_map:
        prediction_map = read_label_map(options.prediction_map, option="--prediction_map")
    pattern = read_pattern(options.names)
    if model is not None:
        # A model predicts the images whose labels can be read, so broken labels are refused before it runs.
        raise_broken(labels.broken)
        return predicted_source(model, options.images, labels, kind=kind, pattern=pattern)
    if options.predictions is None:
        raise AuditError("--predictions: expected a folder or a file, or --model with --images, found none")
    return open_source(
        options.predictions,
        kind=kind,
        spatial_ndim=labels.spatial_ndim,
        label_map=prediction_map,
        coco_labels=labels.coco,
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
    """Returns the number of classes that scores say, of masks an option, a COCO file or a label map; 0 if none does."""
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
