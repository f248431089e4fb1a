"""From files to tables and a page: predictions and labels are decomposed an image at a time, in bounded memory."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from flipjax.audit import files
from flipjax.audit.arrays import ArrayReader, AuditError
from flipjax.audit.encoding import Arrays, Encoding, in_options
from flipjax.audit.gather import ImageCounts, Measured, count_image, join_counts
from flipjax.audit.groups import read_groups
from flipjax.audit.inputs import open_pairs, read_ahead
from flipjax.audit.limits import above_limits, check_limits
from flipjax.audit.panoptic import Panoptic
from flipjax.audit.read import Pair
from flipjax.audit.results import check_class_names, conclude_audit
from flipjax.audit.samples import write_samples
from flipjax.audit.tables import summary_text
from flipjax.metrics.classes import is_foreground
from flipjax.results.region_shares import region_quantities
from flipjax.terminal import Bar
from flipjax.threads import in_order


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


def measure_pairs(pairs: Sequence[Pair], encoding: Encoding) -> Measured:
    """Counts every image; the next one is read while one is counted, and masks on all cores.

    Raises:
        AuditError: a file is damaged, or values are not what they should be; names the image.
    """

    def count(job: tuple[Pair, Arrays]) -> ImageCounts:
        scores, labels, unit, predicted_unit = job[1]
        with naming(job[0]):
            return count_image(scores, labels, encoding.options, unit=unit, predicted_unit=predicted_unit)

    parts = []
    with ArrayReader() as reader, ThreadPoolExecutor(1) as thread, Bar("images", total=len(pairs)) as bar:
        jobs = zip(pairs, read_ahead(reader, pairs, encoding, thread), strict=True)
        for part in in_order(count, jobs) if encoding.kind == "masks" else map(count, jobs):
            parts.append(part)
            bar.advance(1, f"{len(parts)} of {len(pairs)} images", last=len(parts) == len(pairs))
    return join_counts(parts, background=encoding.background, with_ids=encoding.unit == "instance")


def audit_files(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Does what the command line asks for; returns its tables as text for a terminal, and what is above a limit.

    Raises:
        AuditError: an input or an option cannot be used.
    """
    pairs, encoding, positional = open_pairs(options)
    panoptic = encoding.label_map if isinstance(encoding.label_map, Panoptic) else None
    given = options.class_names or (panoptic and panoptic.names_of(encoding.classes))
    class_names = check_class_names(encoding.classes, encoding.background, given)
    if options.background == 0 and not panoptic and "background" not in class_names[0].lower():
        print(
            f"flipjax audit: class 0, {class_names[0]!r}, is taken for the background; where no class is, pass "
            "--background none, and --background 0 where it is.",
            file=sys.stderr,
        )
    names = [entry.name for entry in pairs]
    groups = None
    if options.training_groups and not options.groups:
        raise AuditError("--training_groups: expected --groups beside it, found none")
    if options.groups:
        inside = is_foreground(encoding.classes, encoding.background)
        own = {"foreground": [class_names[c] for c in np.flatnonzero(inside)], "positional": positional}
        groups, names = read_groups(options.groups, names, **own, training=options.training_groups)
    lacking = files.lacking_packages()
    if lacking and options.images:
        raise AuditError(f"--images: expected {', '.join(lacking)}, which show photos, found none of that name")
    photos = {}
    if options.images:
        from flipjax.audit import pictures

        photos = pictures.find_photos(options.images, names)
    numbers, all_groups = (None, None) if groups is None else groups[:2]
    check_limits(options.fail_above, class_names, encoding.background, numbers, all_groups)
    files.claim_folder(options.out)
    facts = _facts(pairs, encoding, options) + ([groups.fact] if groups is not None and groups.fact else [])
    print(facts[0], file=sys.stderr, flush=True)
    measured = measure_pairs(pairs, encoding)
    further = {}
    if measured.regions is not None:
        further = region_quantities(measured.regions, numbers, all_groups=all_groups)
    audit = conclude_audit(
        names,
        numbers,
        measured.decomposition,
        measured.ignored,
        class_names=class_names,
        further=further,
        segments=measured.segments,
        all_groups=all_groups,
        **({} if groups is None else {"scene_names": groups.scene_names, "columns": groups.columns}),
    )
    used = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    used |= {"channels": encoding.channels, "background": encoding.background, "class_names": list(class_names)}
    with ArrayReader() as reader:

        def maps_of(index: int) -> dict[str, np.ndarray]:
            from flipjax.audit import pictures

            return pictures.read_maps(reader, pairs[index], encoding, photo=photos.get(names[index]))

        files.write_audit(options.out, audit, maps_of, options=used, facts=facts)
    if photos:
        write_samples(options.out, audit, pairs, {name: photos[name] for name in names})
    return summary_text(audit, facts), above_limits(audit, options.fail_above)


def describe_images(shapes: Sequence[tuple[int, ...]], encoding: Encoding) -> str:
    """Returns how many images there are, of which sizes, classes and form."""
    sizes = sorted(set(shapes))
    size = f"{' x '.join(map(str, sizes[0]))} pixels" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    form = encoding.kind if encoding.kind == "masks" else f"{encoding.kind}, channels {encoding.channels}"
    return f"{len(shapes)} images of {size}, {encoding.classes} classes ({form})."


def _facts(pairs: Sequence[Pair], encoding: Encoding, options: argparse.Namespace) -> list[str]:
    groups = f" Groups: {options.groups}." if options.groups else ""
    first = describe_images([each.labels.shape for each in pairs], encoding)
    return [first, f"Predictions: {options.predictions}. Labels: {options.labels}.{groups}"]
