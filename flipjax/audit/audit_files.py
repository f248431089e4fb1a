"""Audits predictions in files, or a model's on photos and volumes (`audit_files`); `audit_stream` takes batches.

An audit of files goes through these steps, so that whatever can be refused is refused before anything is counted:

1. `flipjax.audit.inputs.opening` reads headers: which images there are, and how to read them.
2. `settle` fits groups, anatomy and limits to the classes: now if options say how many classes there are, else
   after counting.
3. `_count_and_write` reads each image once, and adds its counts to a `Tally`.
4. `flipjax.audit.statistics.results` concludes, and `flipjax.audit.page.folder` tries the limits and writes.
"""

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.audit.counting.describe import (
    describe_background,
    describe_clusters,
    describe_images,
    describe_missing,
    describe_weight,
)
from flipjax.audit.counting.measurements import Measurements, MinSize
from flipjax.audit.counting.tally import Tally, count_pairs
from flipjax.audit.formats.names import check_texts, read_pattern
from flipjax.audit.formats.problems import BrokenFileError, raise_broken
from flipjax.audit.inputs.opening import OpenedPairs, open_pairs, settle_classes
from flipjax.audit.inputs.options import AuditOptions
from flipjax.audit.inputs.pairs import Pair, check_volume, in_options
from flipjax.audit.inputs.predictions import Predictor, find_photos, find_volumes
from flipjax.audit.inputs.records import Encoding
from flipjax.audit.metadata.anatomy import read_anatomy
from flipjax.audit.metadata.clusters import fact_on_restarting, likely_clusters, read_clusters
from flipjax.audit.metadata.groups import fact_on_absent_classes, read_groups
from flipjax.audit.metadata.image_groups import ImageGroups
from flipjax.audit.metadata.user_tables import read_user_tables
from flipjax.audit.page import folder
from flipjax.audit.page.folder import Audited
from flipjax.audit.statistics.limits import Limit, LimitsByKey, check_limits, make_limits
from flipjax.audit.statistics.results import conclude_audit
from flipjax.audit.statistics.summary import known_keys
from flipjax.metrics import Anatomy
from flipjax.support.terminal import Bar


@dataclasses.dataclass(frozen=True)
class Settled:
    """What depends on the classes of an audit."""

    class_names: tuple[str, ...]
    """Names of all classes."""
    groups: ImageGroups
    """The images' groups, which may name classes."""
    anatomy: Anatomy
    """Mirror pairs and chains of classes."""
    anatomy_fact: str
    """A sentence on them, or nothing."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Prepared:
    """An audit before anything is counted."""

    options: AuditOptions
    """Its options, with the class names of its model."""
    opened: OpenedPairs
    """The images."""
    pairs: list[Pair]
    """The files of each image, with its photo or volume."""
    min_size: MinSize
    """Smaller segments do not count."""
    table: pd.DataFrame | None
    """Columns of the images."""
    facts_on_tables: tuple[str, ...]
    """Sentences on the tables that these are from."""
    settled: Settled | None
    """The parts that depend on the classes; None if their number is not known before counting."""
    clusters: np.ndarray | None
    """The cluster of each image, int64 (n,)."""


def settle(
    options: AuditOptions,
    opened: OpenedPairs,
    encoding: Encoding,
    *,
    table: pd.DataFrame | None,
    limits: Sequence[Limit],
) -> Settled:
    """Returns what depends on the classes, once their number is known.

    Args:
        options: of the audit.
        opened: the images.
        encoding: with the number of classes.
        table: columns of the images, which groups may be of.
        limits: limits on numbers of the summary.

    Raises:
        AuditError: names, groups, anatomy or limits do not fit the classes.
    """
    background = encoding.spec.background
    with in_options():
        class_names = metrics.class_names(opened.class_names, classes=encoding.classes, background=background)
    in_foreground = encoding.spec.foreground(len(class_names))
    foreground = [name for name, inside in zip(class_names, in_foreground, strict=True) if inside]
    groups = read_groups(options.groups, opened.names, foreground=foreground, table=table)
    anatomy, fact = read_anatomy(options.anatomy, class_names, background)
    if limits:
        check_limits(limits, known_keys(class_names, background, groups, anatomy))
    return Settled(class_names, groups, anatomy, fact)


def audit_files(
    predictions: Path | None,
    labels: Path,
    *,
    out: Path,
    model: Predictor | None = None,
    fail_above: LimitsByKey | None = None,
    fail_below: LimitsByKey | None = None,
    junit: Path | None = None,
    **options: Any,
) -> Audited:
    """Audits predictions in files, and writes a page, tables and a summary, as `flipjax audit` does.

    Args:
        predictions: a folder with one file per image, or one file with all; None with a model.
        labels: a folder or a file, likewise.
        model: maps a photo uint8 (1, H, W, 3) to logits (1, H, W, C), such as a `flipjax.Model`, or a volume
            float32 (1, D, H, W) to logits (1, D, H, W, C). A model with a method `logits`, as a `flipjax.Model` has, is
            given batches of photos of one size, uint8 (B, H, W, 3).
        out: a new folder, or the folder of an earlier audit.
        fail_above: upper limits by key of the summary, or by `KEY:low` or `KEY:high` of its interval.
        fail_below: lower limits, likewise.
        junit: a file for the limits as JUnit test cases.
        **options: other options of the command by name, such as `kind`, `class_names`, `groups` or `clusters`
            (`flipjax.audit.inputs.options.AuditOptions`).

    Returns:
        An `Audited`: its `audit` with the summary, its tables as `text`, and the limits that `failed`.

    Raises:
        AuditError: an input or an option cannot be used.

    Example:
        >>> import tempfile
        >>> labels = np.array([[[0, 1, 1], [0, 2, 2]]] * 4, np.uint8)  # Four images of two objects.
        >>> masks = labels.copy()
        >>> masks[0, 0] = [0, 2, 2]  # In the first, object 1 is taken for object 2.
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     np.save(folder / "labels.npy", labels)
        ...     np.save(folder / "masks.npy", masks)
        ...     audited = audit_files(
        ...         folder / "masks.npy",
        ...         folder / "labels.npy",
        ...         kind="masks",
        ...         out=folder / "audit",
        ...         fail_above={"fg_flip": 0.1},
        ...     )
        >>> audited.audit.summary["fg_flip"], audited.failed
        (0.125, ['--fail_above fg_flip=0.1: found 0.125'])
    """
    asked = AuditOptions(predictions=predictions, labels=labels, **options)
    limits = make_limits(fail_above, fail_below)
    prepared = _prepare(asked, model, limits)
    with folder.claimed(out):
        return _count_and_write(prepared, out, limits=limits, junit=junit)


def _prepare(options: AuditOptions, model: Predictor | None, limits: Sequence[Limit]) -> _Prepared:
    """Returns an audit before anything is counted: headers, user's tables, groups, clusters, photos and spacings.

    Raises:
        AuditError: an input or an option cannot be used.
    """
    if model is not None:
        class_names = options.class_names or getattr(model, "class_names", None)
        options = dataclasses.replace(options, class_names=class_names)
    with in_options():
        check_texts("class_names", options.class_names or ())
        min_size = MinSize.parse(options.min_size)
    opened = open_pairs(options, model=model)
    table = None
    facts_on_tables: tuple[str, ...] = ()
    if options.tables:
        table, facts_on_tables = read_user_tables(options.tables, opened.names, clusters=options.clusters)
    settled = None
    if opened.encoding.settled:
        settled = settle(options, opened, opened.encoding, table=table, limits=limits)
    else:
        # Groups that are wrong whatever the classes are.
        read_groups(options.groups, opened.names, foreground=None, table=table)
    clusters = None
    if options.clusters is not None:
        clusters = read_clusters(options.clusters, table, opened.names)
    pairs = _with_scans(options, opened)
    _check_spacings(min_size, pairs, opened.encoding)
    return _Prepared(options, opened, pairs, min_size, table, facts_on_tables, settled, clusters)


def _count_and_write(prepared: _Prepared, out: Path, *, limits: Sequence[Limit], junit: Path | None) -> Audited:
    """Counts all images, settles what waits for the number of classes, and writes the files.

    Raises:
        AuditError: values, classes or limits do not fit, or files are broken.
    """
    options = prepared.options
    opened = prepared.opened
    pairs = prepared.pairs
    print(describe_images([pair.labels.shape for pair in pairs], opened.encoding), file=sys.stderr, flush=True)
    tally = Tally(opened.encoding.spec, prepared.min_size)
    _count_all(pairs, opened.encoding, tally, min_size=prepared.min_size)
    encoding = settle_classes(opened, tally.classes_needed)
    tally.set_classes(encoding.spec)
    settled = prepared.settled
    if settled is None:
        settled = settle(options, opened, encoding, table=prepared.table, limits=limits)
    # A background that was given is (0,), and a COCO file may say another.
    if options.background == 0 and encoding.spec.background == 0:
        _announce_background(settled.class_names)
    counted = tally.measurements(settled.class_names)
    measured = dataclasses.replace(counted, groups=settled.groups, clusters=prepared.clusters)
    facts_on_files = [_describe_sources(options), *opened.facts, *prepared.facts_on_tables]
    facts_on_files += [overlaps.sentence() for overlaps in opened.overlaps]
    return folder.finish_audit(
        out,
        conclude_audit(measured, anatomy=settled.anatomy),
        tally.pictures(),
        limits=limits,
        facts=_facts_on(measured, facts_on_files, encoding, settled),
        options={**options.as_json(), **encoding.as_json(), "class_names": list(settled.class_names)},
        junit=junit,
        suite="flipjax audit",
    )


def _facts_on(measured: Measurements, on_files: Sequence[str], encoding: Encoding, settled: Settled) -> list[str]:
    """Returns the sentences on images, files, groups, anatomy and on what is missing; some are empty."""
    label_pixels = np.asarray(measured.decomposition.confusion).sum(2)
    facts = [
        describe_images(measured.shapes, encoding),
        describe_weight(measured),
        describe_clusters(measured),
        *on_files,
        settled.groups.fact,
        settled.anatomy_fact,
        *describe_missing(measured),
        fact_on_absent_classes(settled.groups, measured.names, label_pixels, settled.class_names),
    ]
    groups = settled.groups.numbers
    if measured.clusters is None:
        facts.append(likely_clusters(measured.names))
    elif groups is not None:
        facts.append(fact_on_restarting(measured.clusters, groups))
    return facts


def _announce_background(class_names: Sequence[str]) -> None:
    """Tells the user if class 0 is taken for the background but not named so."""
    text = describe_background(class_names, none="--background none", zero="--background 0")
    if text:
        print(f"flipjax audit: {text}", file=sys.stderr)


def _with_scans(options: AuditOptions, opened: OpenedPairs) -> list[Pair]:
    """Returns the pairs with the photos of --images, or with the volumes that labels were drawn on, if it is given.

    Raises:
        AuditError: a photo or volume is missing, or a volume has another shape or place than its labels.
    """
    if options.images is None:
        return opened.pairs
    pattern = read_pattern(options.names)
    if opened.encoding.spec.spatial_ndim == 2:
        photos = find_photos(options.images, opened.names, pattern)
        return [dataclasses.replace(pair, photo=photos[pair.name]) for pair in opened.pairs]
    volumes = find_volumes(options.images, opened.names, pattern)
    for pair in opened.pairs:
        check_volume(volumes[pair.name], pair.labels)
    return [dataclasses.replace(pair, volume=volumes[pair.name]) for pair in opened.pairs]


def _check_spacings(min_size: MinSize, pairs: Sequence[Pair], encoding: Encoding) -> None:
    """Raises AuditError if the smallest size needs a spacing that an image lacks."""
    for pair in pairs:
        with in_options(pair):
            min_size.pixels(pair.labels.spacing or pair.prediction.spacing or encoding.spacing)


def _count_all(pairs: Sequence[Pair], encoding: Encoding, tally: Tally, *, min_size: MinSize) -> None:
    """Counts all images into the tally.

    Raises:
        AuditError: values do not fit, or files are broken, which are listed once all were tried.
    """
    broken: list[BrokenFileError] = []
    counted = count_pairs(pairs, encoding, min_size=min_size)
    with closing(counted) as results, Bar(total=len(pairs)) as bar:
        for number, (pair, counts) in enumerate(zip(pairs, results, strict=True), 1):
            if isinstance(counts, BrokenFileError):
                broken.append(counts)
            elif not broken:
                tally.add(pair.name, counts)
            bar.advance(1, f"{number} of {len(pairs)} images", last=number == len(pairs))
    raise_broken(broken)


def _describe_sources(options: AuditOptions) -> str:
    """Returns a sentence on where the images come from."""
    predictions = options.predictions or f"of a model, from {options.images}"
    sentence = f"Predictions: {predictions}. Labels: {options.labels}."
    if options.groups:
        sentence += f" Groups: {options.groups}."
    return sentence
