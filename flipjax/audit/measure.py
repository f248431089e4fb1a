"""From files to tables and a page: predictions and labels are decomposed an image at a time, in bounded memory."""

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from flipjax.audit import files
from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.encoding import Arrays, Encoding, check_matrices, in_options, read_values
from flipjax.audit.gather import ImageCounts, Measured, count_image, join_counts
from flipjax.audit.groups import ImageGroups, read_groups
from flipjax.audit.inputs import open_pairs
from flipjax.audit.label_maps import Panoptic
from flipjax.audit.read import Pair
from flipjax.audit.results import Audit, conclude_audit
from flipjax.audit.tables import summary_text
from flipjax.metrics import Decomposition, class_names, summarize
from flipjax.metrics.classes import Background, is_foreground
from flipjax.results.quantities import AUDIT_QUANTITIES, REGION_QUANTITIES
from flipjax.terminal import Bar
from flipjax.threads import in_order


def measure_pairs(pairs: Sequence[Pair], encoding: Encoding) -> Measured:
    """Counts every image; the next one is read while one is counted, and masks on all cores.

    Raises:
        AuditError: a file is damaged, or values are not what they should be; names the image.
    """

    def count(job: tuple[Pair, Arrays]) -> ImageCounts:
        pair, (scores, labels, unit, predicted_unit) = job
        with in_options(pair):
            return count_image(scores, labels, encoding.options, unit=unit, predicted_unit=predicted_unit)

    parts = []
    with closing(read_values(pairs, encoding)) as values, Bar("images", total=len(pairs)) as bar:
        jobs = zip(pairs, values, strict=True)
        for part in in_order(count, jobs) if encoding.kind == "masks" else map(count, jobs):
            parts.append(part)
            bar.advance(1, f"{len(parts)} of {len(pairs)} images", last=len(parts) == len(pairs))
    return join_counts(parts, background=encoding.background, with_ids=encoding.unit == "instance")


def audit_files(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Does what the command line asks for; returns its tables as text for a terminal, and what is above a limit.

    Raises:
        AuditError: an input or an option cannot be used.
    """
    limits = Limits(options.max_pixels, options.max_bytes, options.max_unpacked)
    pairs, encoding, positional = open_pairs(options, limits)
    check_matrices(len(pairs), encoding.classes, limits)
    panoptic = encoding.label_map if isinstance(encoding.label_map, Panoptic) else None
    given = options.class_names or (panoptic and panoptic.names_of(encoding.classes))
    with in_options():
        all_names = class_names(given, classes=encoding.classes, background=encoding.background)
    if options.background == 0 and not panoptic and "background" not in all_names[0].lower():
        print(
            f"flipjax audit: class 0, {all_names[0]!r}, is taken for the background; where no class is, pass "
            "--background none, and --background 0 where it is.",
            file=sys.stderr,
        )
    names = [entry.name for entry in pairs]
    groups = ImageGroups(None)
    if options.training_groups and not options.groups:
        raise AuditError("--training_groups: expected --groups beside it, found none")
    if options.groups:
        inside = np.flatnonzero(is_foreground(encoding.classes, encoding.background))
        own = {"foreground": [all_names[c] for c in inside], "positional": positional}
        groups, names = read_groups(options.groups, names, **own, training=options.training_groups)
    photos = {}
    if options.images:
        from flipjax.audit import pictures

        photos = pictures.find_photos(options.images, names)
    check_limits(options.fail_above, all_names, encoding.background, groups)
    files.claim_folder(options.out)
    facts = [*_facts(pairs, encoding, options), *filter(None, [groups.fact])]
    print(facts[0], file=sys.stderr, flush=True)
    audit = conclude_audit(
        names,
        groups.numbers,
        measure_pairs(pairs, encoding),
        class_names=all_names,
        all_groups=groups.all_groups,
        scene_names=groups.scene_names,
        columns=groups.columns,
    )
    used = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    used |= {"channels": encoding.channels, "background": encoding.background, "class_names": list(all_names)}
    with ArrayReader() as reader:

        def maps_of(index: int) -> dict[str, np.ndarray]:
            from flipjax.audit import pictures

            return pictures.read_maps(reader, pairs[index], encoding, photo=photos.get(names[index]))

        files.write_audit(options.out, audit, maps_of, options=used, facts=facts)
    if photos:
        files.write_samples(options.out, audit, pairs, photos)
    return summary_text(audit, facts), above_limits(audit, options.fail_above)


def check_limits(
    limits: Sequence[tuple[str, float]], names: Sequence[str], background: Background, groups: ImageGroups
) -> None:
    """Raises AuditError where a key is none that an audit of such classes and groups has, before anything is read."""
    n, C = 1 if groups.numbers is None else len(groups.numbers), len(names)
    empty = Decomposition(np.zeros((n, C, C), np.int64), np.zeros(n), background)
    summary = summarize(empty, groups.numbers, class_names=names, all_groups=groups.all_groups) if limits else {}
    known = {key for key, value in summary.items() if not isinstance(value, list)}
    known |= {key for key in AUDIT_QUANTITIES | REGION_QUANTITIES if "<" not in key}
    for key, _ in limits:
        if key not in known:
            short = ", ".join(sorted(name for name in known if "/" not in name))
            raise AuditError(
                f"--fail_above: expected a key of the summary ({short}; iou/CLASS, flip/CLASS), found {key!r}"
            )


def above_limits(audit: Audit, limits: Sequence[tuple[str, float]]) -> list[str]:
    """Returns a line for each limit that is not kept; a number that does not exist keeps none."""
    lines = []
    for key, limit in limits:
        value = audit.summary.get(key, math.nan)
        if not value <= limit:
            found = "no number" if math.isnan(value) else f"{value:.6g}"
            lines.append(f"{key}: expected at most {limit:g}, found {found}")
    return lines


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
