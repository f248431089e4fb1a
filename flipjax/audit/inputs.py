"""What the command line names: the images by headers alone, and what their values mean."""

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.encoding import Arrays, Encoding, check_matrices, find_encoding, read_pair
from flipjax.audit.label_maps import IGNORED, LabelMap, read_label_map
from flipjax.audit.panoptic import VOID, Panoptic, open_panoptic
from flipjax.audit.read import Pair, Source, open_source, pair_images
from flipjax.metrics.classes import Background, background_classes, check_background, read_background

MAPS = ("label_map", "prediction_map")


def count_classes(pairs: Sequence[Pair], encoding: Encoding, options: argparse.Namespace) -> Encoding:
    """Returns the encoding of masks with their number of classes: given, that of the names or of a map, or counted.

    Raises:
        AuditError: what `read_pair` raises, and a label 255 that looks like one of ignored pixels.
    """
    names = options.class_names
    least = encoding.label_map.count if isinstance(encoding.label_map, LabelMap) else 0
    if options.num_classes is None and not least and not (names and _names_background(names, encoding)):
        for each, arrays in zip(pairs, _values(pairs, encoding), strict=True):
            known = arrays[1] if encoding.ignore_index is None else arrays[1][arrays[1] != encoding.ignore_index]
            top, predicted = int(known.max(initial=0)), int(arrays[0].max(initial=0))
            if top == IGNORED and predicted < IGNORED and encoding.ignore_index is None:
                raise AuditError(f"{each.labels}: expected classes, found 255; pass --ignore_index 255")
            least = max(least, top + 1, predicted + 1)
    if names:
        others = len(names) + len(background_classes(encoding.background))
        least = len(names) if least <= len(names) else others
    return encoding._replace(classes=options.num_classes or least)


def _names_background(names: Sequence[str], encoding: Encoding) -> bool:
    """Says whether the names are those of all classes for sure."""
    return encoding.background is None or any("background" in name.lower() for name in names)


def _values(pairs: Sequence[Pair], encoding: Encoding) -> Iterator[Arrays]:
    with ArrayReader() as reader, ThreadPoolExecutor(1) as thread:
        yield from read_ahead(reader, pairs, encoding, thread)


def read_ahead(
    reader: ArrayReader, pairs: Sequence[Pair], encoding: Encoding, thread: ThreadPoolExecutor
) -> Iterator[Arrays]:
    """Reads the images in order, the next one while one is used."""
    following = thread.submit(read_pair, reader, pairs[0], encoding)
    for each in pairs[1:]:
        arrays = following.result()
        following = thread.submit(read_pair, reader, each, encoding)
        yield arrays
    yield following.result()


def open_pairs(options: argparse.Namespace) -> tuple[list[Pair], Encoding, bool]:
    """Finds the images by headers alone; the last says whether they are known by position."""
    limits = Limits(options.max_pixels, options.max_bytes, options.max_unpacked)
    masks = options.kind == "masks"
    maps: dict[str, Any] = {name: getattr(options, name) and read_label_map(getattr(options, name)) for name in MAPS}
    labels, maps["label_map"] = _open_side(options, "labels", maps["label_map"], 2, limits)
    truth = maps["label_map"]
    predictions, maps["prediction_map"] = _open_side(
        options, "predictions", maps["prediction_map"], 2 if masks else 3, limits, truth=truth
    )
    pairs = pair_images(predictions, labels)
    panoptic = isinstance(truth, Panoptic)
    unit = options.unit or ("instance" if panoptic else "class")
    if unit == "instance" and not panoptic:
        raise AuditError(f"--unit instance: expected labels in COCO's panoptic format, found {options.labels}")
    wanted = {name: getattr(options, name) for name in ("kind", "channels", "ignore_index")}
    wanted["background"] = _background(options, truth)
    if panoptic:
        wanted["ignore_index"] = VOID
    elif truth and wanted["ignore_index"] is None and IGNORED in truth.classes.values():
        wanted["ignore_index"] = IGNORED
    for name in ("prediction_map", "num_classes"):
        if getattr(options, name) and not masks:
            raise AuditError(f"--{name}: expected --kind masks beside it, found {options.kind}")
    encoding = find_encoding(pairs, limits=limits, **wanted)._replace(**maps, unit=unit)
    if masks:
        known = len(truth.class_names) + 1 if isinstance(truth, Panoptic) else 0
        encoding = encoding._replace(classes=known) if known else count_classes(pairs, encoding, options)
        try:
            check_background(encoding.background, encoding.classes)
        except ValueError as error:
            raise AuditError(f"--{error}".replace("background=None", "--background none")) from error
        check_matrices(len(pairs), encoding.classes, limits)
    return pairs, encoding, predictions.names is None and labels.names is None


def _open_side(
    options: argparse.Namespace, wanted: str, label_map: Any, rank: int, limits: Limits, *, truth: Any = None
) -> tuple[Source, LabelMap | Panoptic | None]:
    """Returns the images of one argument, and the map that goes with them: a panoptic JSON brings its own."""
    path = getattr(options, wanted)
    if path.suffix.lower() == ".json":
        if wanted == "predictions" and not (rank == 2 and isinstance(truth, Panoptic)):
            raise AuditError(f"{path}: expected --kind masks and labels in COCO's panoptic format, too")
        if label_map is not None:
            raise AuditError(f"{path}: expected no label map beside a panoptic JSON, which has its own categories")
        return open_panoptic(path, truth=truth)
    name = options.kind if wanted == "predictions" else wanted
    with ArrayReader() as reader:
        return open_source(path, wanted=name, rank=rank, reader=reader, limits=limits), label_map


def _background(options: argparse.Namespace, truth: Any) -> Background:
    """Returns the background; of panoptic labels pixels that are predicted to be no segment, and what is given."""
    try:
        given = read_background(options.background)
    except ValueError as error:
        raise AuditError(f"--{error}") from error
    if not isinstance(truth, Panoptic):
        return given
    own = () if options.background == 0 and isinstance(options.background, int) else background_classes(given)
    return read_background([*own, *([len(truth.class_names)] if options.kind == "masks" else [])])
