"""Opens the predictions and labels of an audit: finds out from headers alone how to read them.

`open_pairs` opens both arguments as `flipjax.audit.sources.Source`, pairs their images by name, and returns them with
one `Encoding`. What the encoding says is taken from the options, then from the labels' file (a COCO file has classes of
its own), then from the label map, then from the shapes. The number of classes may stay open until values are read.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flipjax.audit import coco
from flipjax.audit.arrays import StoredArray
from flipjax.audit.coco import Coco
from flipjax.audit.label_maps import IGNORED, LabelMap, read_label_map
from flipjax.audit.names import read_pattern
from flipjax.audit.options import AuditOptions
from flipjax.audit.organs import AS_IMAGES, Overlaps
from flipjax.audit.pairs import Pair, check_spacing, fit_axes, in_options, pair_images
from flipjax.audit.problems import AuditError, raise_broken
from flipjax.audit.sources import Source, check_colours, open_source, predicted_source
from flipjax.metrics.classes import Background, LabelSpec, check_background
from flipjax.support.terminal import listed

MOST_BYTES = 1 << 32
"""Limit on the bytes of all confusion matrices."""
Predict = Callable[[np.ndarray], np.ndarray]
"""A function from a photo uint8 (H, W, 3) to logits float32 (H, W, C)."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How to read the values of all files of an audit."""

    spec: LabelSpec
    """Describes what is read: with classes on the last axis, and with their number once it is known."""
    channels: str
    """The class axis of stored scores, `first` or `last`; `none` of masks."""
    unit: str = "class"
    """Unit of segments: `class`, `component`, or `instance` (segments of a COCO file)."""
    spacing: tuple[float, ...] | None = None
    """Distance of pixels in mm along each axis of space, of images whose files do not say it."""
    unresolved_names: int = 0
    """The number of class names, if only values can show whether they are of all classes or of the foreground. Until
    then `classes` takes them for the foreground's. 0: nothing is open."""
    kind_is_default: bool = False
    """Whether scores are read as logits because nobody said what they are."""

    @property
    def classes(self) -> int:
        """The number of classes; 0 until it is known."""
        return self.spec.num_classes or 0

    @property
    def settled(self) -> bool:
        """Whether no value has to be read to know the number of classes."""
        return self.classes > 0 and self.unresolved_names == 0

    def with_classes(self, count: int) -> "Encoding":
        """Returns the encoding of this number of classes.

        Raises:
            ValueError: the background is not among them, or leaves fewer than two.
        """
        check_background(self.spec.background, count)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, num_classes=count), unresolved_names=0)

    def as_json(self) -> dict[str, object]:
        """Returns the options that summary.json stores."""
        options: dict[str, object] = {
            "kind": self.spec.kind,
            "channels": self.channels,
            "background": self.spec.background,
            "ignore_index": self.spec.ignore_index,
            "unit": self.unit,
        }
        if self.spacing is not None:
            options["spacing"] = list(self.spacing)
        return options


@dataclasses.dataclass(frozen=True)
class OpenedPairs:
    """The images of predictions and labels, before any values are read."""

    pairs: list[Pair]
    """The images, each with its prediction and its labels."""
    encoding: Encoding
    """How to read them."""
    coco: Coco | None = None
    """Categories of the labels, if they are a COCO file."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, from an option, a COCO file or a label map."""
    facts: tuple[str, ...] = ()
    """Sentences on files that were left out, and on how axes are read."""
    overlaps: tuple[Overlaps, ...] = ()
    """Counts of voxels in several organs, complete once all images were read."""


def open_pairs(options: AuditOptions, *, predict: Predict | None = None) -> OpenedPairs:
    """Finds the images of two folders or files, by headers only.

    Args:
        options: of the audit.
        predict: computes logits from a photo, in place of predictions.

    Raises:
        AuditError: an input is unusable, or an option does not fit it; broken files are listed together.
    """
    asked = _read_spec(options)
    to_class = None
    if options.label_map:
        to_class = read_label_map(options.label_map)

    # Which files there are, and which prediction is of which labels. Broken files are named before misfits.
    sources = _open_sources(options, asked.kind, to_class, predict)
    predictions = sources.predictions
    labels = sources.labels
    check_colours(predictions, labels)
    unit = _unit_of_segments(options.unit, labels)
    paired = pair_images(predictions, labels)
    fitted = fit_axes(paired, asked.kind, channels=options.channels, axis_order=options.axes)
    spacing = _read_spacing(options.spacing, labels)
    check_spacing(fitted.pairs, spacing)

    # Which classes there are: first their names, then their number, which names or scores may say.
    spec = _complete_spec(asked, labels, to_class)
    class_names = _settle_names(spec, sources, to_class)
    count = _count_classes(spec, fitted.classes, class_names, to_class)
    if count.classes:
        check_matrices(len(fitted.pairs), count.classes)
        with in_options():
            check_background(spec.background, count.classes, name=str(options.predictions or "--model"))
        spec = dataclasses.replace(spec, num_classes=count.classes)

    pairs = fitted.pairs
    if class_names and (predictions.organs or labels.organs):
        pairs = [_with_organ_classes(pair, sources, class_names, spec.background) for pair in pairs]
    encoding = Encoding(
        spec=spec,
        channels=fitted.class_axis,
        unit=unit,
        spacing=spacing,
        unresolved_names=count.unresolved_names,
        kind_is_default=options.kind is None,
    )
    return OpenedPairs(
        pairs=pairs,
        encoding=encoding,
        coco=labels.coco,
        class_names=class_names,
        facts=(*_facts(predictions, labels), fitted.fact),
        overlaps=tuple(source.overlaps for source in (predictions, labels) if source.overlaps is not None),
    )


def _read_spec(options: AuditOptions) -> LabelSpec:
    """Returns what the options say of values.

    Raises:
        AuditError: a field is invalid, or an option is of masks alone.
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
        _check_mask_options(asked, options.prediction_map)
    return asked


def check_matrices(images: int, classes: int) -> None:
    """Raises AuditError if the confusion matrices of so many images and classes are too large."""
    matrix_bytes = 4 * images * classes**2
    if matrix_bytes > MOST_BYTES:
        problem = f"{images} images and {classes} classes have confusion matrices of {matrix_bytes:,} bytes"
        raise AuditError(f"{problem}, expected at most {MOST_BYTES:,}; are these values classes?")


@dataclasses.dataclass(frozen=True)
class Sources:
    """Both arguments of an audit, opened."""

    predictions: Source
    """The predictions, in files or of a model."""
    labels: Source
    """The labels."""


def _open_sources(options: AuditOptions, kind: str, to_class: LabelMap | None, predict: Predict | None) -> Sources:
    """Finds the images of predictions and of labels.

    Raises:
        AuditError: an argument is missing or unusable; broken files of both are listed together.
    """
    if options.labels is None:
        raise AuditError("--labels: expected a folder or a file, found none")
    to_predicted = None
    if options.prediction_map:
        to_predicted = read_label_map(options.prediction_map, option="--prediction_map")
    pattern = read_pattern(options.names)
    labels = open_source(
        options.labels,
        kind="labels",
        spatial_ndim=options.spatial_ndim,
        label_map=to_class,
        pattern=pattern,
    )
    if labels.coco and (to_class or to_predicted):
        raise AuditError(f"{options.labels}: expected no label map beside a COCO JSON, which has its own categories")
    if predict:
        # A model predicts the images whose labels can be read, so broken labels are refused before it runs.
        raise_broken(labels.broken)
        return Sources(predicted_source(predict, options.images, labels, kind=kind, pattern=pattern), labels)
    if options.predictions is None:
        raise AuditError("--predictions: expected a folder or a file, or --model with --images, found none")
    predictions = open_source(
        options.predictions,
        kind=kind,
        spatial_ndim=labels.spatial_ndim,
        label_map=to_predicted,
        truth=labels.coco,
        pattern=pattern,
    )
    raise_broken((*predictions.broken, *labels.broken))
    return Sources(predictions, labels)


def _settle_names(spec: LabelSpec, sources: Sources, to_class: LabelMap | None) -> tuple[str, ...] | None:
    """Returns the class names of the option, of a COCO file, of a label map or of organs; None if nothing names them.

    Raises:
        AuditError: folders have a mask for each organ, and the names do not fit them.
    """
    names: Sequence[str] | None = spec.class_names
    if not names:
        names = _stored_names(sources.labels.coco, to_class)
    if sources.predictions.organs or sources.labels.organs:
        return _names_with_organs(names, sources)
    if not names:
        return None
    return tuple(names)


def _stored_names(categories: Coco | None, to_class: LabelMap | None) -> tuple[str, ...] | None:
    """Returns the class names of a COCO file or of a label map."""
    if categories and categories.panoptic:
        return (*categories.class_names, coco.VOID_NAME)
    if categories:
        return categories.class_names
    if to_class:
        return to_class.class_names
    return None


def _names_with_organs(names: Sequence[str] | None, sources: Sources) -> tuple[str, ...]:
    """Returns the class names where a folder has a mask for each organ: those given, or background and all organs.

    Raises:
        AuditError: only one side has organs, and nothing names the classes of the other; or a name is missing.
    """
    predictions = sources.predictions
    labels = sources.labels
    organs = sorted({*(predictions.organs or ()), *(labels.organs or ())})
    if names is None and (predictions.organs is None or labels.organs is None):
        with_organs = predictions
        without_organs = labels
        if labels.organs:
            with_organs = labels
            without_organs = predictions
        raise AuditError(
            f"{with_organs.path}: holds a mask for each organ ({listed(organs)}), so expected --class_names, which "
            f"name the classes of {without_organs.path} in order; {AS_IMAGES}"
        )
    if names is None:
        return ("background", *organs)
    unnamed = [organ for organ in organs if organ not in names]
    if unnamed:
        raise AuditError(f"--class_names: expected the organs, each a file's name, found no {listed(unnamed)}")
    return tuple(names)


def _with_organ_classes(pair: Pair, sources: Sources, names: Sequence[str], background: Background) -> Pair:
    """Returns a pair whose label maps of organs have the classes that the names say."""
    first_named_class = 0
    if background is not None and not _include_background(names):
        # The names are of the foreground alone, which follows class 0.
        first_named_class = 1
    class_of_organ = {}
    for organ in (*(sources.predictions.organs or ()), *(sources.labels.organs or ())):
        class_of_organ[organ] = first_named_class + names.index(organ)
    return dataclasses.replace(
        pair,
        prediction=_as_organ_classes(pair.prediction, sources.predictions, class_of_organ),
        labels=_as_organ_classes(pair.labels, sources.labels, class_of_organ),
    )


def _as_organ_classes(array: StoredArray, source: Source, class_of_organ: Mapping[str, int]) -> StoredArray:
    """Returns an array whose organs become classes when it is read; others stay as they are."""
    if source.organs is None:
        return array
    # A case is read with 0 where no organ is, and its organs numbered from 1.
    to_class = {0: 0}
    for number, organ in enumerate(source.organs, 1):
        to_class[number] = class_of_organ[organ]
    return dataclasses.replace(array, label_map=LabelMap(str(source.path), to_class))


def _include_background(names: Sequence[str]) -> bool:
    """Returns whether class names are of all classes, the background among them."""
    return any("background" in name.lower() for name in names)


def _check_mask_options(asked: LabelSpec, prediction_map: str | None) -> None:
    """Raises AuditError for an option that only masks have, beside scores."""
    for option, value in (("--prediction_map", prediction_map), ("--num_classes", asked.num_classes)):
        if value:
            raise AuditError(f"{option}: expected --kind masks beside it, found {asked.kind}")


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


def _facts(*sources: Source) -> tuple[str, ...]:
    """Returns sentences on the files of each argument that are left out."""
    lines = []
    for source in sources:
        if source.left_out:
            lines.append(f"Left out of {source.path}: {source.left_out} files that --names does not match.")
        if source.hidden:
            lines.append(f"Left out of {source.path}: hidden files, {listed(source.hidden)}.")
    return tuple(lines)


def _complete_spec(asked: LabelSpec, labels: Source, to_class: LabelMap | None) -> LabelSpec:
    """Returns what the options say, with what the labels add: classes, ignored values and the number of axes."""
    complete = asked
    if labels.coco:
        complete = _spec_of_coco(asked, labels.coco)
    elif to_class and asked.ignore_index is None and IGNORED in to_class.classes.values():
        complete = dataclasses.replace(asked, ignore_index=IGNORED)
    return dataclasses.replace(complete, spatial_ndim=labels.spatial_ndim)


def _spec_of_coco(spec: LabelSpec, categories: Coco) -> LabelSpec:
    """Adds the classes of a COCO file. Panoptic masks have a further class, of pixels without predicted segment."""
    masks = spec.kind == "masks"
    classes = len(categories.class_names)
    background = spec.background
    if categories.panoptic:
        void = classes
        classes += 1
        background = spec.background_classes
        if background == (0,):
            # Class 0 of panoptic labels is a category. As 0 is the option's default, it asks for no background here.
            background = ()
        if masks:
            background = (*background, void)
    num_classes = None
    if masks:
        num_classes = classes
    with in_options():
        return dataclasses.replace(spec, ignore_index=coco.VOID, background=background, num_classes=num_classes)


@dataclasses.dataclass(frozen=True)
class ClassCount:
    """The number of classes, as far as it is known before values are read."""

    classes: int = 0
    """The number; 0 until it is known."""
    unresolved_names: int = 0
    """As in `Encoding`."""


def _count_classes(
    spec: LabelSpec, score_classes: int, names: Sequence[str] | None, to_class: LabelMap | None
) -> ClassCount:
    """Returns the number of classes that scores, an option, a label map or names say, in this order.

    Args:
        spec: whose `num_classes` is an option, or None.
        score_classes: the number of classes of scores, 0 of masks.
        names: of all classes or of the foreground.
        to_class: the map of labels, which has a number of classes.
    """
    if score_classes:
        return ClassCount(score_classes)
    if spec.num_classes:
        return ClassCount(spec.num_classes)
    if to_class:
        return ClassCount(to_class.count)
    if not names:
        return ClassCount()
    if spec.background is None or _include_background(names):
        return ClassCount(len(names))
    return ClassCount(len(names) + len(spec.background_classes), unresolved_names=len(names))


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
