"""From files to tables and a page: predictions and labels are decomposed an image at a time, in bounded memory."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from flipjax.audit import files
from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.gather import ImageCounts, Measured, count_image, join_counts
from flipjax.audit.groups import read_groups
from flipjax.audit.label_maps import IGNORED, read_label_map
from flipjax.audit.limits import above_limits, check_limits
from flipjax.audit.read import (
    Encoding,
    Pair,
    check_matrices,
    find_encoding,
    in_options,
    open_source,
    pair_images,
    read_pair,
)
from flipjax.audit.results import check_class_names, conclude_audit
from flipjax.audit.tables import summary_text
from flipjax.groups import TWO_BY_TWO
from flipjax.metrics.classes import background_classes, check_background, read_background
from flipjax.results.region_shares import region_quantities
from flipjax.terminal import Bar
from flipjax.threads import in_order

MAPS = ("label_map", "prediction_map")


@contextlib.contextmanager
def naming(pair: Pair) -> Iterator[None]:
    """Names the file that a metric refuses, and spells its options as the command line does."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name = str(error).partition(": ")[0]
        option = f"--{name}: " if name == "background" else ""
        where = pair.labels if name == "labels" else pair.prediction
        raise AuditError(f"{option}{where}: {in_options(error)}") from error


def measure_pairs(pairs: Sequence[Pair], encoding: Encoding, *, unit: str = "class") -> Measured:
    """Counts every image; the next one is read while one is counted, and masks on all cores.

    Raises:
        AuditError: a file is damaged, or values are not what they should be; names the image.
    """

    def count(job: tuple[Pair, tuple[np.ndarray, np.ndarray]]) -> ImageCounts:
        with naming(job[0]):
            return count_image(*job[1], encoding.options, unit=unit)

    parts = []
    with ArrayReader() as reader, ThreadPoolExecutor(1) as thread, Bar("images", total=len(pairs)) as bar:
        jobs = zip(pairs, _read_ahead(reader, pairs, encoding, thread), strict=True)
        for part in in_order(count, jobs) if encoding.kind == "masks" else map(count, jobs):
            parts.append(part)
            bar.advance(1, f"{len(parts)} of {len(pairs)} images", last=len(parts) == len(pairs))
    return join_counts(parts, background=encoding.background)


def _read_ahead(
    reader: ArrayReader, pairs: Sequence[Pair], encoding: Encoding, thread: ThreadPoolExecutor
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    following = thread.submit(read_pair, reader, pairs[0], encoding)
    for each in pairs[1:]:
        arrays = following.result()
        following = thread.submit(read_pair, reader, each, encoding)
        yield arrays
    yield following.result()


def count_classes(pairs: Sequence[Pair], encoding: Encoding, options: argparse.Namespace) -> Encoding:
    """Returns the encoding of masks with their number of classes: given, that of the names or of a map, or counted.

    Raises:
        AuditError: what `read_pair` raises, and a label 255 that looks like one of ignored pixels.
    """
    names = options.class_names
    least = 0 if encoding.label_map is None else encoding.label_map.count
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


def _values(pairs: Sequence[Pair], encoding: Encoding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with ArrayReader() as reader, ThreadPoolExecutor(1) as thread:
        yield from _read_ahead(reader, pairs, encoding, thread)


def open_pairs(options: argparse.Namespace) -> tuple[list[Pair], Encoding, bool]:
    """Finds the images by headers alone; the last says whether they are known by position."""
    limits = Limits(options.max_pixels, options.max_bytes, options.max_unpacked)
    masks = options.kind == "masks"
    with ArrayReader() as reader:
        rank = 2 if masks else 3
        predictions = open_source(options.predictions, wanted=options.kind, rank=rank, reader=reader, limits=limits)
        labels = open_source(options.labels, wanted="labels", rank=2, reader=reader, limits=limits)
    pairs = pair_images(predictions, labels)
    wanted = {name: getattr(options, name) for name in ("kind", "channels", "ignore_index")}
    try:
        wanted["background"] = read_background(options.background)
    except ValueError as error:
        raise AuditError(f"--{error}") from error
    maps = {name: getattr(options, name) and read_label_map(getattr(options, name)) for name in MAPS}
    if maps["label_map"] and wanted["ignore_index"] is None and IGNORED in maps["label_map"].classes.values():
        wanted["ignore_index"] = IGNORED
    if maps["prediction_map"] and not masks:
        raise AuditError(f"--prediction_map: expected --kind masks beside it, found {options.kind}")
    if options.num_classes and not masks:
        raise AuditError(f"--num_classes: expected --kind masks beside it, found {options.kind}")
    encoding = find_encoding(pairs, limits=limits, **wanted)._replace(**maps)
    if masks:
        encoding = count_classes(pairs, encoding, options)
        try:
            check_background(encoding.background, encoding.classes)
        except ValueError as error:
            raise AuditError(f"--{error}") from error
        check_matrices(len(pairs), encoding.classes, limits)
    return pairs, encoding, predictions.names is None and labels.names is None


def audit_files(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Does what the command line asks for; returns its tables as text for a terminal, and what is above a limit.

    Raises:
        AuditError: an input or an option cannot be used.
    """
    pairs, encoding, positional = open_pairs(options)
    class_names = check_class_names(encoding.classes, encoding.background, options.class_names)
    if options.background == 0 and "background" not in class_names[0].lower():
        print(
            f"flipjax audit: class 0, {class_names[0]!r}, is taken for the background; where no class is, pass "
            "--background none, and --background 0 where it is.",
            file=sys.stderr,
        )
    names = [entry.name for entry in pairs]
    groups = None
    if options.groups:
        groups, names = read_groups(options.groups, names, classes=encoding.classes, positional=positional)
    lacking = files.lacking_packages()
    if lacking and options.images:
        raise AuditError(f"--images: expected {', '.join(lacking)}, which show photos, found none of that name")
    photos = {}
    if options.images:
        from flipjax.audit import pictures

        photos = pictures.find_photos(options.images, names)
    check_limits(options.fail_above, class_names, encoding.background, groups)
    files.claim_folder(options.out)
    facts = _facts(pairs, encoding, options)
    print(facts[0], file=sys.stderr, flush=True)
    measured = measure_pairs(pairs, encoding, unit=options.unit)
    further = {}
    if measured.regions is not None:
        further = region_quantities(measured.regions, groups, all_groups=TWO_BY_TWO if encoding.classes == 3 else None)
    audit = conclude_audit(
        names,
        groups,
        measured.decomposition,
        measured.ignored,
        class_names=class_names,
        further=further,
        segments=measured.segments,
    )
    used = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    used |= {"channels": encoding.channels, "background": encoding.background, "class_names": list(class_names)}
    with ArrayReader() as reader:

        def maps_of(index: int) -> dict[str, np.ndarray]:
            from flipjax.audit import pictures

            return pictures.read_maps(reader, pairs[index], encoding, photo=photos.get(names[index]))

        files.write_audit(options.out, audit, maps_of, options=used, facts=facts)
    return summary_text(audit, facts), above_limits(audit, options.fail_above)


def describe_images(shapes: Sequence[tuple[int, ...]], encoding: Encoding) -> str:
    """Returns how many images there are, of which sizes, classes and form."""
    sizes = sorted(set(shapes))
    size = f"{sizes[0][0]} x {sizes[0][1]} pixels" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    form = encoding.kind if encoding.kind == "masks" else f"{encoding.kind}, channels {encoding.channels}"
    return f"{len(shapes)} images of {size}, {encoding.classes} classes ({form})."


def _facts(pairs: Sequence[Pair], encoding: Encoding, options: argparse.Namespace) -> list[str]:
    groups = f" Groups: {options.groups}." if options.groups else ""
    first = describe_images([each.labels.shape for each in pairs], encoding)
    return [first, f"Predictions: {options.predictions}. Labels: {options.labels}.{groups}"]
