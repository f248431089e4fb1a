"""Audits predictions in files, or a model's on photos and volumes (`audit_files`). `stream` takes batches."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeAlias, Unpack

import jax
import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.audit import arrays, fiftyone, files
from flipjax.audit.anatomy import read_anatomy
from flipjax.audit.batches import stream, takes_for_background
from flipjax.audit.counts import Keep, Tally, count_pairs
from flipjax.audit.describe import describe_images, describe_missing
from flipjax.audit.gates import Gate, Limits, check_gates, failures, make_gates, try_gates, write_junit
from flipjax.audit.groups import ImageGroups, column_of, likely_clusters, read_clusters, read_groups, read_images
from flipjax.audit.measurements import Measurements, MinSize
from flipjax.audit.names import check_texts, read_pattern
from flipjax.audit.opening import Encoding, OpenedPairs, ReadingOptions, open_pairs
from flipjax.audit.pairs import Pair, in_options
from flipjax.audit.problems import AuditError, BrokenFileError, raise_broken
from flipjax.audit.results import Audit, conclude_audit
from flipjax.audit.sources import find_photos
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
    """A written audit."""

    audit: Audit
    """Its numbers."""
    text: str
    """Its tables as text."""
    failed: list[str]
    """A line for each failed gate."""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The groups and clusters that an audit was asked for."""

    names: tuple[str, ...]
    """The images' names."""
    groups: str | None
    """A column of the table, `class,scene`, or a regular expression on names."""
    clusters: str | None
    """Likewise, without `class,scene`."""
    table: pd.DataFrame | None
    """The images' rows."""
    training: Path | None
    """A table of training images by class and scene."""
    meaning: str
    """Of the values of a column of groups."""

    def read_groups(self, foreground: Sequence[str] | None) -> ImageGroups:
        """Returns the groups of images, given the names of the foreground classes if they are known."""
        return read_groups(
            self.groups,
            self.names,
            foreground=foreground,
            table=self.table,
            training=self.training,
            meaning=self.meaning,
        )

    def read_clusters(self) -> np.ndarray | None:
        """Returns the cluster of each image, if any."""
        if self.clusters is None:
            return None
        return read_clusters(self.clusters, self.table, self.names)


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


@dataclasses.dataclass(frozen=True)
class Asked:
    """What an audit was asked for, of images whose headers were read."""

    opened: OpenedPairs
    """The images."""
    assignment: Assignment
    """Their groups and clusters."""
    gates: Sequence[Gate]
    """Limits on numbers of the summary."""
    anatomy: Path | str | None
    """A file of mirror pairs and chains, `none`, or None to find them in the class names."""

    def settle(self, encoding: Encoding) -> Settled:
        """Returns what depends on the classes, once their number is known.

        Raises:
            AuditError: names, groups, anatomy or limits do not fit the classes.
        """
        background = encoding.spec.background
        with in_options():
            names = metrics.class_names(self.opened.class_names, classes=encoding.classes, background=background)
        inside = encoding.spec.foreground(len(names))
        foreground = [name for name, kept in zip(names, inside, strict=True) if kept]
        groups = self.assignment.read_groups(foreground)
        anatomy, fact = read_anatomy(self.anatomy, names, background)
        if self.gates:
            check_gates(self.gates, known_keys(names, background, groups, anatomy))
        return Settled(names, groups, anatomy, fact)


def audit_files(
    predictions: Path | None,
    labels: Path,
    *,
    out: Path,
    model: Predictor | None = None,
    table: Path | None = None,
    groups: str | None = None,
    groups_are: str = "names",
    training_groups: Path | None = None,
    clusters: str | None = None,
    class_names: Sequence[str] | None = None,
    background: Background = 0,
    images: Path | None = None,
    min_size: str | float | None = None,
    anatomy: Path | str | None = None,
    fail_above: Limits | None = None,
    fail_below: Limits | None = None,
    junit: Path | None = None,
    jobs: int = 1,
    max_bytes: int = arrays.MAX_BYTES,
    **reading: Unpack[ReadingOptions],
) -> Audited:
    """Audits predictions in files, and writes the files listed in this folder's README.md.

    Args:
        predictions: a folder with one file per image, or one file with all; None with a model.
        labels: the same.
        model: maps a photo uint8 (1, H, W, 3) to logits (1, H, W, C), such as a `flipjax.Model`; of volumes, maps
            float32 (1, D, H, W) to logits (1, D, H, W, C).
        out: a new folder, or the folder of an earlier audit.
        table: a CSV with the column `name` and columns of the images.
        groups: a column of the table or `class,scene`; the path of a CSV; or a regular expression on the images' names.
        groups_are: `names`; or `class_scene`, numbers 2 * class + scene of two classes in two scenes.
        training_groups: a CSV of the training images by class and scene.
        clusters: a column of the table, or a regular expression on names: images of one cluster are resampled together.
        class_names: names of all classes, or of all except the background.
        background: the background class, several, or None.
        images: a folder of photos, or of volumes for a model.
        min_size: smaller segments have no row: a number of pixels, or text as `3mm2` or `0.5mL`; None counts all.
        anatomy: a JSON file of mirror pairs and chains, or `none`; None finds them in the class names.
        fail_above: upper limits by key of the summary, or by `KEY:low` or `KEY:high` of its interval.
        fail_below: lower limits, likewise.
        junit: a file for the limits as JUnit test cases.
        jobs: number of processes.
        max_bytes: most bytes of an image's values, of an unpacked npz, and of the confusion matrices.
        **reading: how values are read: further arguments of `flipjax.audit.opening.open_pairs`.

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
    predict = None
    if model is not None:
        class_names = class_names or getattr(model, "class_names", None)
        predict = functools.partial(predict_image, model)
        if jobs > 1:
            raise AuditError(f"--jobs: expected 1 beside a model, which has its own threads, found {jobs}")
    with in_options():
        check_texts("class_names", class_names or ())
        smallest = MinSize.parse(min_size)
    opened = open_pairs(
        predictions,
        labels,
        predict=predict,
        images=images,
        background=background,
        class_names=class_names,
        max_bytes=max_bytes,
        **reading,
    )
    names = tuple(pair.name for pair in opened.pairs)
    asked = Asked(
        opened=opened,
        assignment=_assign(names, table, groups, clusters, training_groups, groups_are),
        gates=make_gates(fail_above, fail_below),
        anatomy=anatomy,
    )
    settled = None
    if opened.encoding.classes and not opened.encoding.name_count:
        settled = asked.settle(opened.encoding)
    else:
        # What does not depend on the classes is refused before anything is counted.
        asked.assignment.read_groups(None)
    cluster_numbers = asked.assignment.read_clusters()
    photos = _find_photos(images, opened, reading.get("names"))
    pairs = [dataclasses.replace(pair, photo=photos.get(pair.name)) for pair in opened.pairs]
    _check_smallest(smallest, pairs, opened.encoding)
    spec = opened.encoding.spec
    ignored = fiftyone.ignored_value(spec.num_classes)
    masks = fiftyone.collect_masks(out, ignored=ignored, ignore_index=spec.ignore_index)
    with files.claimed(out), masks as keep, closing(Tally(spec, smallest)) as tally:
        print(describe_images([pair.labels.shape for pair in pairs], opened.encoding), file=sys.stderr, flush=True)
        _count_all(pairs, opened.encoding, tally, min_size=smallest, jobs=jobs, keep=keep if photos else None)
        final = _with_classes(opened, tally, max_bytes)
        if settled is None:
            settled = asked.settle(final)
        _announce(settled.class_names, opened, background)
        measured = dataclasses.replace(
            tally.measurements(settled.class_names), groups=settled.groups, clusters=cluster_numbers
        )
        audit = conclude_audit(measured, anatomy=settled.anatomy)
        tried = try_gates(asked.gates, audit.summary, audit.intervals)
        options = {
            "predictions": predictions,
            "labels": labels,
            "table": table,
            "groups": groups,
            "groups_are": groups_are,
            "training_groups": training_groups,
            "clusters": clusters,
            "min_size": min_size,
            "anatomy": anatomy,
            "jobs": jobs,
            **reading,
            "background": background,
            "images": images,
            "max_bytes": max_bytes,
            **final.as_json(),
            "class_names": list(settled.class_names),
        }
        sources = _describe_sources(predictions or f"of a model, from {images}", labels, groups)
        facts = _facts_on(measured, (sources, *opened.facts), final, settled)
        document = make_document(audit, facts=facts, options=_as_json(options))
        files.write_audit(out, audit, document, tally.maps_of, gates=tried)
    if photos:
        fiftyone.write_samples(out, audit, photos, shapes=measured.shapes, ignored=ignored)
    if junit:
        write_junit(junit, "flipjax audit", tried)
    return Audited(audit, terminal_text(document), failures(tried))


def _facts_on(measured: Measurements, on_files: Sequence[str], encoding: Encoding, settled: Settled) -> list[str]:
    """Returns the sentences that come first in the report: on images, files, groups, anatomy and what is missing."""
    facts = [
        describe_images(measured.shapes, encoding),
        *on_files,
        settled.groups.fact,
        settled.anatomy_fact,
        *describe_missing(measured),
    ]
    if measured.clusters is None:
        facts.append(likely_clusters(measured.names))
    return [fact for fact in facts if fact]


def _assign(
    names: tuple[str, ...],
    table: Path | None,
    groups: str | None,
    clusters: str | None,
    training: Path | None,
    meaning: str,
) -> Assignment:
    """Reads the table of images, which `--groups` may name in place of a column."""
    path = table
    if path is None and groups is not None and (Path(groups).exists() or Path(groups).suffix.lower() == ".csv"):
        path = Path(groups)
    rows = None
    if path is not None:
        rows = read_images(path, names)
        if table is None:
            groups = column_of(path, rows)
    return Assignment(names, groups, clusters, rows, training, meaning)


def _announce(class_names: Sequence[str], opened: OpenedPairs, background: Background) -> None:
    """Says so if class 0 is taken for the background by default."""
    if background == 0 and not opened.coco:
        text = takes_for_background(class_names, "--background none", "--background 0")
        if text:
            print(f"flipjax audit: {text}", file=sys.stderr)


def _find_photos(images: Path | None, opened: OpenedPairs, pattern: str | None) -> dict[str, Path]:
    """Returns the photos of images by name; none of volumes."""
    if images is None or opened.encoding.spec.spatial_ndim == 3:
        return {}
    return find_photos(images, [pair.name for pair in opened.pairs], read_pattern(pattern))


def _check_smallest(smallest: MinSize, pairs: Sequence[Pair], encoding: Encoding) -> None:
    """Raises AuditError if the smallest size needs a spacing that an image lacks."""
    for pair in pairs:
        with in_options(pair):
            smallest.pixels(pair.labels.spacing or pair.prediction.spacing or encoding.spacing)


def _count_all(
    pairs: Sequence[Pair], encoding: Encoding, tally: Tally, *, min_size: MinSize, jobs: int, keep: Keep | None
) -> None:
    """Counts all images into the tally.

    Raises:
        AuditError: values do not fit, or files are broken, which are listed once all were tried.
    """
    broken: list[BrokenFileError] = []
    counted = count_pairs(pairs, encoding, min_size=min_size, jobs=jobs, keep=keep)
    with closing(counted) as results, Bar(total=len(pairs)) as bar:
        for number, (pair, counts) in enumerate(zip(pairs, results, strict=True), 1):
            if isinstance(counts, BrokenFileError):
                broken.append(counts)
            elif not broken:
                tally.add(pair.name, counts)
            bar.advance(1, f"{number} of {len(pairs)} images", last=number == len(pairs))
    raise_broken(broken)


def _with_classes(opened: OpenedPairs, tally: Tally, max_bytes: int) -> Encoding:
    """Returns the encoding with the number of classes, which values or names say if no option does.

    Raises:
        AuditError: the background leaves fewer than two of them, or their confusion matrices are too large.
    """
    encoding = opened.encoding
    needed = tally.needed
    if encoding.name_count and needed <= encoding.name_count:
        # The names are of all classes.
        needed = encoding.name_count
    elif encoding.classes:
        needed = encoding.classes
    arrays.check_size(f"confusion matrices of {needed} classes", 4 * len(opened.pairs) * needed**2, max_bytes)
    with in_options():
        encoding = encoding.with_classes(needed)
    tally.set_classes(encoding.spec)
    return encoding


def _as_json(options: Mapping[str, object]) -> dict[str, object]:
    """Returns options as summary.json stores them."""
    stored = {}
    for name, value in options.items():
        stored[name] = str(value) if isinstance(value, Path) else value
    return stored


def _describe_sources(predictions: Path | str, labels: Path, groups: str | None) -> str:
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
