"""Audits predictions in files, or a model's on photos and volumes (`audit_files`). `stream` takes batches.

An audit of files goes through these steps, so that whatever can be refused is refused before anything is counted:

1. `flipjax.audit.opening` reads headers: which images there are, and how to read them.
2. `settle` fits groups, anatomy and limits to the classes: now if options say how many classes there are, else
   after counting.
3. `_count_all` reads each image once, and adds its counts to a `Tally`.
4. `flipjax.audit.results` concludes, and `flipjax.audit.files` writes.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.audit import files
from flipjax.audit.anatomy import read_anatomy
from flipjax.audit.arrays import StoredArray
from flipjax.audit.batches import stream, takes_for_background
from flipjax.audit.clusters import fact_on_restarting, likely_clusters, read_clusters
from flipjax.audit.counts import Tally, count_pairs
from flipjax.audit.describe import describe_clusters, describe_images, describe_missing, describe_weight
from flipjax.audit.gates import Gate, Limits, check_gates, failures, limits_in_words, make_gates, try_gates, write_junit
from flipjax.audit.groups import ImageGroups, fact_on_absent_classes, read_groups
from flipjax.audit.image_table import read_image_table
from flipjax.audit.measurements import Measurements, MinSize
from flipjax.audit.names import check_texts, read_pattern
from flipjax.audit.opening import Encoding, OpenedPairs, check_matrices, open_pairs
from flipjax.audit.options import AuditOptions
from flipjax.audit.pairs import Pair, check_volume, in_options
from flipjax.audit.problems import BrokenFileError, raise_broken
from flipjax.audit.results import Audit, conclude_audit
from flipjax.audit.sources import find_photos, find_volumes
from flipjax.audit.summary import known_keys
from flipjax.audit.tables import make_document
from flipjax.metrics import Anatomy
from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import Background
from flipjax.report.document import terminal_text
from flipjax.support.terminal import Bar

__all__ = ["Audited", "audit_files", "predict_image", "stream"]

Predictor: TypeAlias = Callable[[np.ndarray], np.ndarray | jax.Array]
"""Maps a batch of photos or volumes to logits, an array of any framework, such as a `flipjax.Model`."""


@dataclasses.dataclass(frozen=True)
class Audited:
    """An audit whose files are written."""

    audit: Audit
    """Its results."""
    text: str
    """Its tables as text for a terminal."""
    failed: list[str]
    """A line for each limit that a number is beyond."""


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


def settle(
    options: AuditOptions,
    opened: OpenedPairs,
    encoding: Encoding,
    gates: Sequence[Gate],
    read_groups_of: Callable[[Sequence[str] | None], ImageGroups],
) -> Settled:
    """Returns what depends on the classes, once their number is known.

    Args:
        options: of the audit.
        opened: the images.
        encoding: with the number of classes.
        gates: limits on numbers of the summary.
        read_groups_of: reads the images' groups, given the names of the foreground classes.

    Raises:
        AuditError: names, groups, anatomy or limits do not fit the classes.
    """
    background = encoding.spec.background
    with in_options():
        names = metrics.class_names(opened.class_names, classes=encoding.classes, background=background)
    in_foreground = encoding.spec.foreground(len(names))
    foreground = [name for name, inside in zip(names, in_foreground, strict=True) if inside]
    groups = read_groups_of(foreground)
    anatomy, fact = read_anatomy(options.anatomy, names, background)
    if gates:
        check_gates(gates, known_keys(names, background, groups, anatomy))
    return Settled(names, groups, anatomy, fact)


def audit_files(
    predictions: Path | None,
    labels: Path,
    *,
    out: Path,
    model: Predictor | None = None,
    fail_above: Limits | None = None,
    fail_below: Limits | None = None,
    junit: Path | None = None,
    **options: Any,
) -> Audited:
    """Audits predictions in files, and writes a page, tables and a summary, as `flipjax audit` does.

    Args:
        predictions: a folder with one file per image, or one file with all; None with a model.
        labels: a folder or a file, likewise.
        model: maps a photo uint8 (1, H, W, 3) to logits (1, H, W, C), such as a `flipjax.Model`; of volumes, maps
            float32 (1, D, H, W) to logits (1, D, H, W, C).
        out: a new folder, or the folder of an earlier audit.
        fail_above: upper limits by key of the summary, or by `KEY:low` or `KEY:high` of its interval.
        fail_below: lower limits, likewise.
        junit: a file for the limits as JUnit test cases.
        **options: other options of the command by name, such as `kind`, `class_names`, `groups` or `clusters`
            (`flipjax.audit.options.AuditOptions`).

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
    return audit_with(asked, out=out, model=model, fail_above=fail_above, fail_below=fail_below, junit=junit)


def audit_with(
    options: AuditOptions,
    *,
    out: Path,
    model: Predictor | None = None,
    fail_above: Limits | None = None,
    fail_below: Limits | None = None,
    junit: Path | None = None,
) -> Audited:
    """Audits files as `audit_files` does, with its options as one record."""
    predict = None
    if model is not None:
        class_names = options.class_names or getattr(model, "class_names", None)
        options = dataclasses.replace(options, class_names=class_names)
        predict = functools.partial(predict_image, model)
    with in_options():
        check_texts("class_names", options.class_names or ())
        smallest = MinSize.parse(options.min_size)
    opened = open_pairs(options, predict=predict)
    names = tuple(pair.name for pair in opened.pairs)
    table = None
    facts_on_tables: tuple[str, ...] = ()
    if options.tables:
        image_table = read_image_table(options.tables, names, clusters=options.clusters)
        table = image_table.rows
        facts_on_tables = image_table.facts
    read_groups_of = functools.partial(_read_groups, options.groups, names, table)
    gates = make_gates(fail_above, fail_below)
    settled = None
    if opened.encoding.settled:
        settled = settle(options, opened, opened.encoding, gates, read_groups_of)
    else:
        # What can be refused without the classes is refused before counting.
        read_groups_of(None)
    cluster_numbers = None
    if options.clusters is not None:
        cluster_numbers = read_clusters(options.clusters, table, names)
    photo_by_name = _find_photos(options, opened)
    volume_by_name = _find_volumes(options, opened)
    pairs = []
    for pair in opened.pairs:
        seen = {"photo": photo_by_name.get(pair.name), "volume": volume_by_name.get(pair.name)}
        pairs.append(dataclasses.replace(pair, **seen))
    _check_smallest(smallest, pairs, opened.encoding)
    tally = Tally(opened.encoding.spec, smallest)
    with files.claimed(out):
        print(describe_images([pair.labels.shape for pair in pairs], opened.encoding), file=sys.stderr, flush=True)
        _count_all(pairs, opened.encoding, tally, min_size=smallest)
        encoding = _with_classes(opened, tally)
        if settled is None:
            settled = settle(options, opened, encoding, gates, read_groups_of)
        _announce(settled.class_names, opened, options.background)
        counted = tally.measurements(settled.class_names)
        measured = dataclasses.replace(counted, groups=settled.groups, clusters=cluster_numbers)
        audit = conclude_audit(measured, anatomy=settled.anatomy)
        tried = try_gates(gates, audit.summary, audit.intervals)
        predicted = options.predictions or f"of a model, from {options.images}"
        sources = _describe_sources(predicted, options.labels, options.groups)
        on_overlaps = [overlaps.sentence() for overlaps in opened.overlaps]
        facts = _facts_on(measured, (sources, *opened.facts, *facts_on_tables, *on_overlaps), encoding, settled)
        stored = {**options.as_json(), **encoding.as_json(), "class_names": list(settled.class_names)}
        document = make_document(audit, facts=facts, options=stored, limits=limits_in_words(tried))
        files.write_audit(out, audit, document, tally.pictures(), gates=tried)
    if junit:
        write_junit(junit, "flipjax audit", tried)
    return Audited(audit, terminal_text(document), failures(tried))


def _facts_on(measured: Measurements, on_files: Sequence[str], encoding: Encoding, settled: Settled) -> list[str]:
    """Returns the sentences that come first in the report: on images, files, groups, anatomy and what is missing."""
    facts = [
        describe_images(measured.shapes, encoding),
        describe_weight(measured),
        describe_clusters(measured),
        *on_files,
        settled.groups.fact,
        settled.anatomy_fact,
        *describe_missing(measured),
        fact_on_absent_classes(
            settled.groups, measured.names, np.asarray(measured.decomposition.confusion).sum(2), settled.class_names
        ),
    ]
    groups = settled.groups.numbers
    if measured.clusters is None:
        facts.append(likely_clusters(measured.names))
    elif groups is not None:
        facts.append(fact_on_restarting(measured.clusters, groups))
    return [fact for fact in facts if fact]


def _read_groups(
    selector: str | None,
    names: tuple[str, ...],
    table: pd.DataFrame | None,
    foreground: Sequence[str] | None,
) -> ImageGroups:
    """Returns the groups of images, given the names of the foreground classes if they are known."""
    return read_groups(selector, names, foreground=foreground, table=table)


def _announce(class_names: Sequence[str], opened: OpenedPairs, background: Background) -> None:
    """Tells the user if class 0 is taken for the background by default."""
    if background == 0 and not opened.coco:
        text = takes_for_background(class_names, "--background none", "--background 0")
        if text:
            print(f"flipjax audit: {text}", file=sys.stderr)


def _find_photos(options: AuditOptions, opened: OpenedPairs) -> dict[str, Path]:
    """Returns the photos of images by name; none of volumes, whose images are `Pair.volume`."""
    if options.images is None or opened.encoding.spec.spatial_ndim == 3:
        return {}
    return find_photos(options.images, [pair.name for pair in opened.pairs], read_pattern(options.names))


def _find_volumes(options: AuditOptions, opened: OpenedPairs) -> dict[str, StoredArray]:
    """Returns the volumes that labels were drawn on, by name; none of photos.

    Raises:
        AuditError: a volume is missing, or has another shape or place than its labels.
    """
    if options.images is None or opened.encoding.spec.spatial_ndim == 2:
        return {}
    names = [pair.name for pair in opened.pairs]
    volumes = find_volumes(options.images, names, read_pattern(options.names))
    for pair in opened.pairs:
        check_volume(volumes[pair.name], pair.labels)
    return volumes


def _check_smallest(smallest: MinSize, pairs: Sequence[Pair], encoding: Encoding) -> None:
    """Raises AuditError if the smallest size needs a spacing that an image lacks."""
    for pair in pairs:
        with in_options(pair):
            smallest.pixels(pair.labels.spacing or pair.prediction.spacing or encoding.spacing)


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


def _with_classes(opened: OpenedPairs, tally: Tally) -> Encoding:
    """Returns the encoding with the number of classes, which values or names say if no option does.

    Raises:
        AuditError: the background leaves fewer than two of them, or their confusion matrices are too large.
    """
    encoding = opened.encoding
    # As many as the values need, unless there are more names or an option says it.
    count = tally.needed
    if encoding.unresolved_names and count <= encoding.unresolved_names:
        # The names are of all classes.
        count = encoding.unresolved_names
    elif encoding.classes:
        count = encoding.classes
    check_matrices(len(opened.pairs), count)
    with in_options():
        encoding = encoding.with_classes(count)
    tally.set_classes(encoding.spec)
    return encoding


def _describe_sources(predictions: Path | str, labels: Path | None, groups: str | None) -> str:
    """Returns a sentence on where the images come from."""
    sentence = f"Predictions: {predictions}. Labels: {labels}."
    if groups:
        sentence += f" Groups: {groups}."
    return sentence


def predict_image(model: Predictor, image: np.ndarray) -> np.ndarray:
    """Returns a model's logits float32 for a photo uint8 (H, W, 3) or a volume (D, H, W), with classes last.

    A photo is padded to a multiple of the model's stride by its edge pixels, and its logits are cut to its size.
    """
    predict = getattr(model, "logits", model)
    if image.ndim == 3 and image.dtype == np.uint8:
        height, width = image.shape[:2]
        stride = stride_of(model)
        image = np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
        logits = np.asarray(to_array(predict(image[None]), name="predictions"), np.float32)
        return logits[0, :height, :width]
    return np.asarray(to_array(predict(image[None]), name="predictions"), np.float32)[0]


def stride_of(model: object) -> int:
    """Returns what a model's height and width must be multiples of: its `stride`, or that of its `spec`, or 1."""
    spec = getattr(model, "spec", None)
    return int(getattr(model, "stride", getattr(spec, "stride", 1)))
