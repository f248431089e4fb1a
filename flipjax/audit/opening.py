"""Opens the predictions and labels of an audit: finds out from headers alone how to read them.

`open_pairs` opens both arguments as `flipjax.audit.sources.Source`, pairs their images by name, and returns them with
one `Encoding`. What the encoding says is taken from the options, then from the labels' file (a COCO file has classes of
its own), then from the label map, then from the shapes. The number of classes may stay open until values are read.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from flipjax.audit import coco
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
    name_count: int = 0
    """The number of class names, if values must show whether these are of all classes or of the foreground; else 0."""
    kind_is_default: bool = False
    """Whether scores are read as logits because nobody said what they are."""

    @property
    def classes(self) -> int:
        """The number of classes; 0 until it is known."""
        return self.spec.num_classes or 0

    def with_classes(self, count: int) -> "Encoding":
        """Returns the encoding of this number of classes.

        Raises:
            ValueError: the background is not among them, or leaves fewer than two.
        """
        check_background(self.spec.background, count)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, num_classes=count), name_count=0)

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

    # Which files there are, and which prediction is of which labels. Broken files are told before misfits.
    labels, predictions = _open_sources(options, asked.kind, to_class, predict)
    raise_broken((*predictions.broken, *labels.broken))
    check_colours(predictions, labels)
    unit = _unit_of_segments(options.unit, labels)
    fitted = fit_axes(pair_images(predictions, labels), asked.kind, channels=options.channels, axes=options.axes)
    spacing = _read_spacing(options.spacing, labels)
    check_spacing(fitted.pairs, spacing)

    # Which classes there are: organs add names, and names or scores their number.
    spec = _complete_spec(asked, labels, to_class)
    class_names = spec.class_names or _names_of(labels.coco, to_class, spec)
    pairs = fitted.pairs
    if labels.organs or predictions.organs:
        class_names = _names_with_organs(class_names, predictions, labels)
        pairs = [_with_organ_classes(pair, predictions, labels, class_names, spec.background) for pair in pairs]
    count, name_count = _count_classes(spec, fitted.classes, class_names, to_class)
    if count:
        check_matrices(len(pairs), count)
        with in_options():
            check_background(spec.background, count, name=str(options.predictions or "--model"))
        spec = dataclasses.replace(spec, num_classes=count)
    encoding = Encoding(
        spec=spec,
        channels=fitted.class_axis,
        unit=unit,
        spacing=spacing,
        name_count=name_count,
        kind_is_default=options.kind is None,
    )
    return OpenedPairs(
        pairs=pairs,
        encoding=encoding,
        coco=labels.coco,
        class_names=tuple(class_names) if class_names else None,
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
        _check_without_masks(asked, options.prediction_map)
    return asked


def check_matrices(images: int, classes: int) -> None:
    """Raises AuditError if the confusion matrices of so many images and classes are too large."""
    size = 4 * images * classes**2
    if size > MOST_BYTES:
        problem = f"{images} images and {classes} classes have confusion matrices of {size:,} bytes"
        raise AuditError(f"{problem}, expected at most {MOST_BYTES:,}; are these values classes?")


def _open_sources(
    options: AuditOptions, kind: str, to_class: LabelMap | None, predict: Predict | None
) -> tuple[Source, Source]:
    """Finds the images of labels and of predictions, and returns both."""
    labels = options.labels
    if labels is None:
        raise AuditError("--labels: expected a folder or a file, found none")
    to_predicted = None
    if options.prediction_map:
        to_predicted = read_label_map(options.prediction_map, option="--prediction_map")
    pattern = read_pattern(options.names)
    truth = open_source(labels, kind="labels", axes=options.spatial_ndim, label_map=to_class, pattern=pattern)
    if truth.coco and (to_class or to_predicted):
        raise AuditError(f"{labels}: expected no label map beside a COCO JSON, which has its own categories")
    if predict:
        raise_broken(truth.broken)
        return truth, predicted_source(predict, options.images, truth, kind=kind, pattern=pattern)
    if options.predictions is None:
        raise AuditError("--predictions: expected a folder or a file, or --model with --images, found none")
    source = open_source(
        options.predictions,
        kind=kind,
        axes=truth.axes,
        label_map=to_predicted,
        truth=truth.coco,
        pattern=pattern,
    )
    return truth, source


def _names_with_organs(names: Sequence[str] | None, predictions: Source, labels: Source) -> tuple[str, ...]:
    """Returns the class names where a folder has a mask an organ: those given, or background and all organs.

    Raises:
        AuditError: only one side has organs, and nothing names the classes of the other.
    """
    organs = sorted({*(predictions.organs or ()), *(labels.organs or ())})
    if names is None:
        if predictions.organs is None or labels.organs is None:
            path = labels.path if labels.organs else predictions.path
            other = predictions.path if labels.organs else labels.path
            raise AuditError(
                f"{path}: holds a mask for each organ ({listed(organs)}), so expected --class_names, which name the "
                f"classes of {other} in order; {AS_IMAGES}"
            )
        return ("background", *organs)
    unknown = [organ for organ in organs if organ not in names]
    if unknown:
        raise AuditError(f"--class_names: expected the organs, each a file's name, found no {listed(unknown)}")
    return tuple(names)


def _with_organ_classes(
    pair: Pair, predictions: Source, labels: Source, names: Sequence[str], background: Background
) -> Pair:
    """Returns a pair whose label maps of organs have the classes that the names say."""
    first = 0
    if background is not None and not _name_background(names):
        # The names are of the foreground alone.
        first = 1
    changed = pair
    for field, source in (("prediction", predictions), ("labels", labels)):
        if source.organs is not None:
            numbers = {number: first + names.index(organ) for number, organ in enumerate(source.organs, 1)}
            array = dataclasses.replace(getattr(pair, field), label_map=LabelMap(str(source.path), {0: 0, **numbers}))
            changed = dataclasses.replace(changed, **{field: array})
    return changed


def _name_background(names: Sequence[str]) -> bool:
    """Returns whether class names are of all classes, the background among them."""
    return any("background" in name.lower() for name in names)


def _check_without_masks(asked: LabelSpec, prediction_map: str | None) -> None:
    """Raises AuditError for an option that only masks have."""
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
        complete = _of_coco(asked, labels.coco)
    elif to_class and asked.ignore_index is None and IGNORED in to_class.classes.values():
        complete = dataclasses.replace(asked, ignore_index=IGNORED)
    return dataclasses.replace(complete, spatial_ndim=labels.axes)


def _names_of(categories: Coco | None, to_class: LabelMap | None, spec: LabelSpec) -> tuple[str, ...] | None:
    """Returns the class names of a COCO file or of a label map."""
    if categories:
        names = categories.class_names
        if categories.panoptic:
            names = (*names, coco.VOID_NAME)
        return names[: spec.num_classes]
    if to_class:
        return to_class.class_names
    return None


def _of_coco(spec: LabelSpec, categories: Coco) -> LabelSpec:
    """Adds the classes of a COCO file. Panoptic masks have a further class, of pixels without predicted segment."""
    masks = spec.kind == "masks"
    classes = len(categories.class_names)
    background = spec.background
    if categories.panoptic:
        void = classes
        classes += 1
        background = spec.background_classes
        if background == (0,):
            # The default: panoptic labels have no background of their own.
            background = ()
        if masks:
            background = (*background, void)
    num_classes = None
    if masks:
        num_classes = classes
    with in_options():
        return dataclasses.replace(spec, ignore_index=coco.VOID, background=background, num_classes=num_classes)


def _count_classes(
    spec: LabelSpec, scores: int, names: Sequence[str] | None, to_class: LabelMap | None
) -> tuple[int, int]:
    """Returns the number of classes as far as it is known before values are read, and `Encoding.name_count`.

    Args:
        spec: whose `num_classes` is an option, or None.
        scores: the number of classes of scores, 0 of masks.
        names: of all classes or of the foreground.
        to_class: the map of labels, which has a number of classes.
    """
    if scores:
        return scores, 0
    if spec.num_classes:
        return spec.num_classes, 0
    if to_class:
        return to_class.count, 0
    if not names:
        return 0, 0
    if spec.background is None or _name_background(names):
        return len(names), 0
    return len(names) + len(spec.background_classes), len(names)


def _read_spacing(spacing: Sequence[float] | None, labels: Source) -> tuple[float, ...] | None:
    """Returns the spacing of an option.

    Raises:
        AuditError: it has another number of axes than the images, or is not positive.
    """
    if spacing is None:
        return None
    if len(spacing) != labels.axes or not all(0 < size < np.inf for size in spacing):
        expected = f"{labels.axes} distances above 0 in mm, one for each axis of {labels.path}"
        raise AuditError(f"--spacing: expected {expected}, found {', '.join(f'{size:g}' for size in spacing)}")
    return tuple(float(size) for size in spacing)
