"""Finds out which classes the files of an audit have: from options, a COCO file, a label map, or a folder's organs."""

import dataclasses
from collections.abc import Mapping, Sequence

from flipjax.audit.formats import coco
from flipjax.audit.formats.arrays import StoredArray
from flipjax.audit.formats.coco import Coco
from flipjax.audit.formats.label_maps import IGNORED, LabelMap
from flipjax.audit.formats.organs import IMAGES_HINT
from flipjax.audit.formats.problems import AuditError
from flipjax.audit.formats.sources import Source
from flipjax.audit.inputs.pairs import Pair, in_options
from flipjax.metrics.inputs.classes import Background, LabelSpec
from flipjax.support.terminal import listed


def complete_spec(asked: LabelSpec, labels: Source, label_map: LabelMap | None) -> LabelSpec:
    """Returns what the options say, with what the labels add: classes, ignored values and the number of axes.

    Args:
        asked: what the options say.
        labels: the labels, with the categories of a COCO file.
        label_map: the map from labels to classes, if there is one.
    """
    complete = asked
    if labels.coco:
        complete = _spec_of_coco(asked, labels.coco)
    elif label_map and asked.ignore_index is None and IGNORED in label_map.classes.values():
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


def find_class_names(
    option: Sequence[str] | None, predictions: Source, labels: Source, label_map: LabelMap | None
) -> tuple[str, ...] | None:
    """Returns the class names of the option, of a COCO file, of a label map or of organs; None if nothing names them.

    Args:
        option: the names of --class_names, if it was given.
        predictions: the predictions, with their organs if there is a mask for each.
        labels: the labels, with their organs or the categories of a COCO file.
        label_map: the map from labels to classes, if there is one.

    Raises:
        AuditError: folders have a mask for each organ, and the names do not fit them.
    """
    names = tuple(option or _stored_names(labels.coco, label_map))
    if predictions.organs or labels.organs:
        return _names_with_organs(names, predictions, labels)
    return names or None


def _stored_names(categories: Coco | None, label_map: LabelMap | None) -> tuple[str, ...]:
    """Returns the class names of a COCO file or of a label map; none if neither names classes."""
    if categories and categories.panoptic:
        return (*categories.class_names, coco.VOID_NAME)
    if categories:
        return categories.class_names
    if label_map:
        return label_map.class_names or ()
    return ()


def _names_with_organs(names: tuple[str, ...], predictions: Source, labels: Source) -> tuple[str, ...]:
    """Returns the class names where a folder has a mask for each organ: those given, or background and all organs.

    Raises:
        AuditError: only one side has organs, and nothing names the classes of the other; or a name is missing.
    """
    organs = sorted({*predictions.organs, *labels.organs})
    if not names and predictions.organs and labels.organs:
        return ("background", *organs)
    if not names:
        with_organs = predictions
        without_organs = labels
        if labels.organs:
            with_organs = labels
            without_organs = predictions
        raise AuditError(
            f"{with_organs.path}: holds a mask for each organ ({listed(organs)}), so expected --class_names, which "
            f"name the classes of {without_organs.path} in order; {IMAGES_HINT}"
        )
    unnamed = [organ for organ in organs if organ not in names]
    if unnamed:
        raise AuditError(f"--class_names: expected the organs, each a file's name, found no {listed(unnamed)}")
    return names


def with_organ_classes(
    pair: Pair, predictions: Source, labels: Source, names: Sequence[str], background: Background
) -> Pair:
    """Returns a pair whose organs, which are numbered from 1, become the classes of their names when they are read.

    Args:
        pair: an image.
        predictions: the predictions, with their organs if there is a mask for each.
        labels: the labels, likewise.
        names: the class names, with each organ's among them.
        background: of the classes.
    """
    first_named_class = 0
    if background is not None and not name_all_classes(names):
        # The names are of the foreground alone, which follows class 0.
        first_named_class = 1
    class_of_name = {name: c for c, name in enumerate(names, first_named_class)}
    return dataclasses.replace(
        pair,
        prediction=_as_organ_classes(pair.prediction, predictions, class_of_name),
        labels=_as_organ_classes(pair.labels, labels, class_of_name),
    )


def _as_organ_classes(array: StoredArray, source: Source, class_of_name: Mapping[str, int]) -> StoredArray:
    """Returns an array whose organs become classes when it is read; one without organs stays as it is."""
    if not source.organs:
        return array
    # A case is read with 0 where no organ is, and its organs numbered from 1.
    to_class = {0: 0}
    for number, organ in enumerate(source.organs, 1):
        to_class[number] = class_of_name[organ]
    return dataclasses.replace(array, label_map=LabelMap(str(source.path), to_class))


def name_all_classes(names: Sequence[str]) -> bool:
    """Returns whether class names are of all classes, the background among them."""
    return any("background" in name.lower() for name in names)
