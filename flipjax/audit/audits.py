"""Audits predictions in files, or a model's on photos and volumes (`audit_files`). `stream` takes batches.

An audit of files goes through these steps, so that whatever can be refused is refused before anything is counted:

1. `flipjax.audit.opening` reads headers: which images there are, and how to read them.
2. `Asked.settle` fits groups, anatomy and limits to the classes: now if options say how many classes there are, else
   after counting.
3. `_count_all` reads each image once, and adds its counts to a `Tally`.
4. `flipjax.audit.results` concludes, and `flipjax.audit.files` writes.
"""

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
from flipjax.audit.clusters import likely_clusters, read_clusters
from flipjax.audit.counts import Keep, Tally, count_pairs
from flipjax.audit.describe import describe_images, describe_missing
from flipjax.audit.gates import Gate, Limits, check_gates, failures, make_gates, try_gates, write_junit
from flipjax.audit.groups import ImageGroups, read_groups, selector_of
from flipjax.audit.image_table import read_image_rows
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
    """An audit whose files are written."""

    audit: Audit
    """Its results."""
    text: str
    """Its tables as text for a terminal."""
    failed: list[str]
    """A line for each limit that a number is beyond."""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """The groups and clusters that an audit was asked for."""

    names: tuple[str, ...]
    """The images' names."""
    groups: str | None
    """A column of the table, `class,scene`, or a regular expression on names; None for no groups."""
    clusters: str | None
    """A column of the table, or a regular expression on names; None for no clusters."""
    table: pd.DataFrame | None
    """The images' rows, if there is a table."""
    training: Path | None
    """A table of training images by class and scene."""
    meaning: str
    """How values of a column of groups are read: one of `flipjax.audit.groups.MEANINGS`."""

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
    """The images' groups and clusters."""
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
        in_foreground = encoding.spec.foreground(len(names))
        foreground = [name for name, inside in zip(names, in_foreground, strict=True) if inside]
        groups = self.assignment.read_groups(foreground)
        anatomy, fact = read_anatomy(self.anatomy, names, background)
        if self.gates:
            check_gates(self.gates, known_keys(names, background, groups, anatomy))
        return Settled(names, groups, anatomy, fact)

    def settle_before_counting(self) -> Settled | None:
        """Returns what depends on the classes if their number is known; else checks the rest, and returns None."""
        encoding = self.opened.encoding
        if encoding.classes and not encoding.name_count:
            return self.settle(encoding)
        self.assignment.read_groups(None)
        return None


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
        if jobs > 1:
            raise AuditError(f"--jobs: expected 1 beside a model, which has its own threads, found {jobs}")
        class_names = class_names or getattr(model, "class_names", None)
        predict = functools.partial(predict_image, model)
    with in_options():
        check_texts("class_names", class_names or ())
        smallest = MinSize.parse(min_size)
    options: dict[str, object] = {
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
    }
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
    settled = asked.settle_before_counting()
    cluster_numbers = asked.assignment.read_clusters()
    photo_by_name = _find_photos(images, opened, reading.get("names"))
    pairs = [dataclasses.replace(pair, photo=photo_by_name.get(pair.name)) for pair in opened.pairs]
    _check_smallest(smallest, pairs, opened.encoding)
    spec = opened.encoding.spec
    ignored = fiftyone.ignored_value(spec.num_classes)
    mask_files = fiftyone.collect_masks(out, ignored=ignored, ignore_index=spec.ignore_index)
    with files.claimed(out), mask_files as keep_mask, closing(Tally(spec, smallest)) as tally:
        print(describe_images([pair.labels.shape for pair in pairs], opened.encoding), file=sys.stderr, flush=True)
        # FiftyOne shows masks over photos, so without photos none are kept.
        keep = keep_mask if photo_by_name else None
        _count_all(pairs, opened.encoding, tally, min_size=smallest, jobs=jobs, keep=keep)
        encoding = _with_classes(opened, tally, max_bytes)
        if settled is None:
            settled = asked.settle(encoding)
        _announce(settled.class_names, opened, background)
        counted = tally.measurements(settled.class_names)
        measured = dataclasses.replace(counted, groups=settled.groups, clusters=cluster_numbers)
        audit = conclude_audit(measured, anatomy=settled.anatomy)
        tried = try_gates(asked.gates, audit.summary, audit.intervals)
        sources = _describe_sources(predictions or f"of a model, from {images}", labels, groups)
        facts = _facts_on(measured, (sources, *opened.facts), encoding, settled)
        options.update(encoding.as_json())
        options["class_names"] = list(settled.class_names)
        document = make_document(audit, facts=facts, options=_as_json(options))
        files.write_audit(out, audit, document, tally.maps_of, gates=tried)
    if photo_by_name:
        fiftyone.write_samples(out, audit, photo_by_name, shapes=measured.shapes, ignored=ignored)
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
    rows = None
    if table is not None:
        rows = read_image_rows(table, names)
    elif groups is not None and _is_table(Path(groups)):
        rows = read_image_rows(Path(groups), names)
        groups = selector_of(Path(groups), rows)
    return Assignment(names, groups, clusters, rows, training, meaning)


def _is_table(path: Path) -> bool:
    """Whether `--groups` means a file: one that exists, or whose name says that it should."""
    return path.exists() or path.suffix.lower() == ".csv"


def _announce(class_names: Sequence[str], opened: OpenedPairs, background: Background) -> None:
    """Tells the user if class 0 is taken for the background by default."""
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
    # As many as the values need, unless there are more names or an option says it.
    count = tally.needed
    if encoding.name_count and count <= encoding.name_count:
        # The names are of all classes.
        count = encoding.name_count
    elif encoding.classes:
        count = encoding.classes
    arrays.check_size(f"confusion matrices of {count} classes", 4 * len(opened.pairs) * count**2, max_bytes)
    with in_options():
        encoding = encoding.with_classes(count)
    tally.set_classes(encoding.spec)
    return encoding


def _as_json(options: Mapping[str, object]) -> dict[str, object]:
    """Returns options as summary.json stores them."""
    stored = {}
    for name, value in options.items():
        if isinstance(value, Path):
            value = str(value)
        stored[name] = value
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
