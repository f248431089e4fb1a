"""What the command line names: the images by headers alone, and what their values mean."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from flipjax.audit.arrays import AuditError, Limits
from flipjax.audit.encoding import Encoding, find_encoding, in_options, read_values
from flipjax.audit.label_maps import IGNORED, VOID, LabelMap, Panoptic, open_panoptic, read_label_map
from flipjax.audit.read import Pair, Source, open_source, pair_images
from flipjax.metrics.classes import Background, background_classes, check_background, read_background


def open_pairs(options: argparse.Namespace, limits: Limits) -> tuple[list[Pair], Encoding, bool]:
    """Finds the images by headers alone; the last says whether they are known by position.

    Raises:
        AuditError: an input cannot be used, or an option does not go with it.
    """
    masks = options.kind == "masks"
    for name in ("prediction_map", "num_classes"):
        if getattr(options, name) and not masks:
            raise AuditError(f"--{name}: expected --kind masks beside it, found {options.kind}")
    labels, truth = _open_side(options.labels, "labels", options.label_map, limits)
    own = truth if masks else None
    predictions, found = _open_side(options.predictions, options.kind, options.prediction_map, limits, truth=own)
    pairs = pair_images(predictions, labels)
    unit = options.unit or ("instance" if isinstance(truth, Panoptic) else "class")
    if unit == "instance" and not isinstance(truth, Panoptic):
        raise AuditError(f"--unit instance: expected labels in COCO's panoptic format, found {options.labels}")
    ignore_index = options.ignore_index
    if isinstance(truth, Panoptic):
        ignore_index = VOID
    elif truth and ignore_index is None and IGNORED in truth.classes.values():
        ignore_index = IGNORED
    background = _background(options, truth)
    encoding = Encoding(options.kind, options.channels, 0, background, ignore_index, truth, found, unit)
    encoding = find_encoding(pairs, encoding, limits)
    if masks:
        encoding = encoding._replace(classes=_count_classes(pairs, encoding, options))
    with in_options():
        check_background(background, encoding.classes, name=str(options.predictions))
    return pairs, encoding, predictions.names is None and labels.names is None


def _open_side(
    path: Path, wanted: str, label_map: str | None, limits: Limits, *, truth: LabelMap | Panoptic | None = None
) -> tuple[Source, LabelMap | Panoptic | None]:
    """Returns the images of one argument, and the map that goes with them: a panoptic JSON brings its own."""
    if path.suffix.lower() != ".json":
        return open_source(path, wanted=wanted, limits=limits), read_label_map(label_map) if label_map else None
    if wanted != "labels" and not isinstance(truth, Panoptic):
        raise AuditError(f"{path}: expected --kind masks and labels in COCO's panoptic format, too")
    if label_map is not None:
        raise AuditError(f"{path}: expected no label map beside a panoptic JSON, which has its own categories")
    return open_panoptic(path, truth=truth if isinstance(truth, Panoptic) else None)


def _background(options: argparse.Namespace, truth: LabelMap | Panoptic | None) -> Background:
    """Returns the background; of panoptic labels pixels that are predicted to be no segment, and what is given."""
    with in_options():
        given = read_background(options.background)
    if not isinstance(truth, Panoptic):
        return given
    own = () if options.background == 0 else background_classes(given)
    return read_background([*own, *([len(truth.class_names)] if options.kind == "masks" else [])])


def _count_classes(pairs: Sequence[Pair], encoding: Encoding, options: argparse.Namespace) -> int:
    """Returns the number of classes of masks: given, that of a map or of the names, or counted."""
    if isinstance(encoding.label_map, Panoptic):
        return len(encoding.label_map.class_names) + 1
    least = encoding.label_map.count if encoding.label_map else 0
    names = options.class_names or ()
    all_named = encoding.background is None or any("background" in name.lower() for name in names)
    if not (options.num_classes or least or (names and all_named)):
        with closing(read_values(pairs, encoding)) as values:
            for each, (predicted, labels, *_) in zip(pairs, values, strict=True):
                top = int(labels[labels != encoding.ignore_index].max(initial=0))
                if top == IGNORED and predicted.max(initial=0) < IGNORED and encoding.ignore_index is None:
                    raise AuditError(f"{each.labels}: expected classes, found 255; pass --ignore_index 255")
                least = max(least, top + 1, int(predicted.max(initial=0)) + 1)
    if names:
        least = len(names) + (0 if least <= len(names) else len(background_classes(encoding.background)))
    return options.num_classes or least
