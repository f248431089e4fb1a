"""`flipjax.audit.stream`: an audit of batches, as a model makes them.

An `AuditStream` claims its folder when it is made, counts each batch when it is added, and concludes and writes when it
is closed, by the functions that an audit of files uses: `counts`, `results`, `files`. A batch is checked as a whole
before any of it is kept.
"""

import dataclasses
import sys
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from flipjax.audit import files
from flipjax.audit.anatomy import NONE, read_anatomy
from flipjax.audit.clusters import likely_clusters
from flipjax.audit.counts import ImageCounts, Tally, count_image
from flipjax.audit.describe import describe_clusters, describe_images, describe_missing, describe_weight
from flipjax.audit.gates import Limits, check_gates, failures, limits_in_words, make_gates, try_gates, write_junit
from flipjax.audit.groups import ImageGroups
from flipjax.audit.measurements import MinSize, SwapLogOdds
from flipjax.audit.names import check_names, check_texts
from flipjax.audit.opening import Encoding
from flipjax.audit.records import ImageRecord
from flipjax.audit.results import conclude_audit
from flipjax.audit.summary import SummaryInterval, SummaryValue, known_keys
from flipjax.audit.tables import make_document
from flipjax.config.groups import AnyGroups
from flipjax.metrics import Anatomy
from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import Background, LabelSpec
from flipjax.metrics.groups import number_names, read_groups
from flipjax.metrics.segment_units import UNITS
from flipjax.report.document import terminal_text
from flipjax.support.threads import in_order


class SpecOptions(TypedDict, total=False):
    """Fields of `flipjax.metrics.LabelSpec`."""

    background: Background
    ignore_index: int | None
    kind: str
    channels: str
    num_classes: int | None
    class_names: Sequence[str] | None
    spatial_ndim: int


class AuditStream:
    """An audit that takes batches from any framework and writes the files of `flipjax audit`.

    Keeps confusion matrices, segment rows and pictures of the worst images in memory. Tables equal those of the command
    byte for byte. A context manager: once closed, `summary` has the numbers of summary.json, `text` the
    first tables. Threads may share it: batches are added one after the other, each whole.

    Example:
        >>> import tempfile
        >>> labels = np.array([[[0, 1, 2]]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with stream(f"{folder}/audit", class_names=["background", "cat", "dog"], kind="masks") as audit:
        ...         audit.add(labels, labels)
        >>> audit.summary["fg_correct"]
        1.0
    """

    def __init__(
        self,
        out: Path | str,
        *,
        unit: str = "class",
        min_size: str | float | None = None,
        spacing: Sequence[float] | None = None,
        all_groups: AnyGroups | None = None,
        scene_names: Sequence[str] = (),
        anatomy: Anatomy | str | None = "names",
        fail_above: Limits | None = None,
        fail_below: Limits | None = None,
        junit: Path | None = None,
        **spec: Unpack[SpecOptions],
    ):
        """Claims the folder.

        Args:
            out: a new folder, or the folder of an earlier audit.
            unit: of segments, `class` or `component`.
            min_size: smaller segments have no row: a number of pixels, or text as `3mm2` of images and `0.5mL` of
                volumes, which need a spacing; None counts every segment.
            spacing: distance of pixels in mm along each axis of space, of batches that do not say it.
            all_groups: what groups are, if not names: `Groups()` makes them numbers 2 * class + scene of two classes,
                as in `flipjax.metrics.summarize`; `NamedGroups` lists the names, also of groups without images.
            scene_names: names of its S scenes.
            anatomy: mirror pairs and chains of classes; `names` finds them in `class_names`, None leaves them out.
            fail_above: upper limits by key of the summary, or by `KEY:low` or `KEY:high` of its interval.
            fail_below: lower limits, likewise.
            junit: a file for the limits as JUnit test cases.
            **spec: `background`, `ignore_index`, `kind`, `channels`, `num_classes`, `class_names` and `spatial_ndim` (3
                for volumes) of `flipjax.metrics.LabelSpec`; masks need `num_classes` or `class_names`.

        Raises:
            AuditError: the folder cannot be used.
            TypeError, ValueError: options do not fit.
        """
        read = _read_spec(spec)
        if not isinstance(anatomy, Anatomy) and anatomy not in ("names", None):
            raise ValueError(f"anatomy: expected an Anatomy, 'names' or None, found {anatomy!r}.")
        if unit not in UNITS:
            raise ValueError(f"unit: expected one of {', '.join(UNITS)}, found {unit!r}.")
        self.summary: dict[str, SummaryValue] = {}
        """The numbers of summary.json, once closed."""
        self.intervals: dict[str, SummaryInterval] = {}
        """The 95% intervals of those that have one, by key, once closed."""
        self.failed: list[str] = []
        """A line for each limit that a number is beyond, once closed."""
        self.text = ""
        """The first tables, once closed."""
        self._gates = make_gates(fail_above, fail_below)
        self._junit = junit
        self._encoding = Encoding(dataclasses.replace(read, channels="last"), read.channels, unit)
        """How to read batches; it has the number of classes once one was added."""
        self._default_spacing = None
        """The spacing of batches that do not say theirs."""
        if spacing is not None:
            (self._default_spacing,) = _spacings(spacing, 1, read.spatial_ndim)
        self._min_size = MinSize.parse(min_size)
        self._folder = Path(out)
        self._background_is_default = spec.get("background", 0) == 0
        self._all_groups = all_groups
        self._scene_names = tuple(scene_names)
        self._anatomy = anatomy
        self._class_names: tuple[str, ...] = ()
        """Names of the classes, once a batch was added."""
        self._groups: list[np.ndarray] = []
        """The groups of each batch: names, or numbers of `all_groups`."""
        self._clusters: list[str] = []
        """The cluster of each image."""
        self._closed = False
        self._lock = threading.RLock()
        self._claim = files.claimed(self._folder)
        self._claim.__enter__()
        self._tally = Tally(self._encoding.spec, self._min_size)
        self._names = self._tally.names

    def add(
        self,
        predictions: ArrayLike,
        labels: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        groups: ArrayLike | None = None,
        clusters: Iterable[object] | None = None,
        spacing: ArrayLike | None = None,
        images: ArrayLike | None = None,
    ) -> None:
        """Adds a batch of images.

        Args:
            predictions: (N, *spatial, C), with `channels="first"` (N, C, *spatial), or masks (N, *spatial); of any
                framework. `*spatial` is H, W, of volumes D, H, W.
            labels: integers (N, *spatial).
            names: N image names; None numbers images from 0.
            groups: N names of groups, such as sites, as texts or integers, for all batches or none; with `all_groups`
                what these name or number.
            clusters: N patients, films or whatever images are not independent within, as text or numbers; for all
                batches or none. Intervals count the images of one as one.
            spacing: in mm, of all images or (N, axes).
            images: uint8 (N, H, W, 3), photos for the page.

        Raises:
            TypeError, ValueError: arrays do not fit, or the stream is closed; then no image of the batch is counted.
        """
        with self._lock:
            if self._closed:
                raise ValueError("stream: expected batches before it is closed, found one after it wrote its files.")
            self._add(predictions, labels, names, groups, clusters, spacing, images)

    def _add(
        self,
        predictions: ArrayLike,
        labels: ArrayLike,
        names: Sequence[str] | None,
        groups: ArrayLike | None,
        clusters: Iterable[object] | None,
        spacing: ArrayLike | None,
        images: ArrayLike | None,
    ) -> None:
        """Checks a whole batch, counts its images, and only then keeps anything of it."""
        truth, scores = self._read_batch(predictions, labels)
        count = len(truth)
        photos = _photos(images, truth.shape)
        spacings = [self._default_spacing] * count
        if spacing is not None:
            spacings = _spacings(spacing, count, self._encoding.spec.spatial_ndim)
        encoding, all_names = self._check_classes(scores)
        group_numbers = self._check_groups(groups, count, encoding)
        cluster_names = self._check_clusters(clusters, count)
        image_names = self._new_names(names, count)
        records = []
        for i in range(count):
            records.append(
                ImageRecord(
                    name=image_names[i],
                    prediction=scores[i],
                    labels=truth[i],
                    spacing=spacings[i],
                    unit=encoding.unit,
                    photo=photos[i],
                )
            )

        def counted(record: ImageRecord) -> ImageCounts:
            return count_image(record, encoding.spec, min_size=self._min_size)

        if encoding.spec.kind == "masks":
            # Counting masks takes one core an image.
            counts = list(in_order(counted, records))
        else:
            # Counting scores takes all cores.
            counts = [counted(record) for record in records]
        self._encoding = encoding
        self._class_names = all_names
        self._tally.set_classes(encoding.spec)
        if group_numbers is not None:
            self._groups.append(group_numbers)
        self._clusters += cluster_names
        for name, of_image in zip(image_names, counts, strict=True):
            self._tally.add(name, of_image)

    def _read_batch(self, predictions: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Returns labels (N, *spatial) and predictions, classes last, as NumPy arrays."""
        spec = self._encoding.spec
        truth = np.asarray(to_array(labels, name="labels"))
        scores = np.asarray(to_array(predictions, name="predictions"))
        if truth.ndim != spec.spatial_ndim + 1 or len(scores) != len(truth):
            form = "(N, H, W)"
            if spec.spatial_ndim == 3:
                form = "(N, D, H, W)"
            raise ValueError(f"labels: expected {form} beside predictions {scores.shape}, found {truth.shape}.")
        if spec.kind == "masks":
            return truth, scores
        if self._encoding.channels == "first":
            scores = np.moveaxis(scores, 1, -1)
        # Other types are refused by the kernels, with their names.
        dtype = scores.dtype
        if np.issubdtype(dtype, np.floating):
            dtype = np.float32
        return truth, np.asarray(scores, dtype, order="C")

    def _check_groups(self, groups: ArrayLike | None, count: int, encoding: Encoding) -> np.ndarray | None:
        """Returns a batch's groups, of its own memory."""
        if self._names and (groups is not None) != bool(self._groups):
            raise ValueError("groups: expected with every batch or with none.")
        if groups is None:
            return None
        return read_groups(
            groups,
            images=count,
            classes=encoding.classes,
            background=encoding.spec.background,
            all_groups=self._all_groups,
        )

    def _check_clusters(self, clusters: Iterable[object] | None, count: int) -> list[str]:
        """Returns a batch's clusters as texts."""
        if self._names and (clusters is not None) != bool(self._clusters):
            raise ValueError("clusters: expected with every batch or with none.")
        if clusters is None:
            return []
        elements = clusters
        if isinstance(clusters, np.ndarray):
            # So that its elements are Python's own types.
            elements = clusters.tolist()
        texts = [str(cluster) for cluster in elements]
        if len(texts) != count:
            raise ValueError(f"clusters: expected {count}, one an image, found {len(texts)}.")
        return texts

    def _new_names(self, names: Sequence[str] | None, count: int) -> list[str]:
        """Returns the names of a batch's images, by default their numbers."""
        if names is None:
            first = len(self._names)
            names = [str(number) for number in range(first, first + count)]
        texts = [str(name) for name in names]
        if len(texts) != count:
            raise ValueError(f"names: expected {count}, one an image, found {len(texts)}.")
        check_texts("names", texts, blank=True)
        check_names("names", [*self._names, *texts])
        return texts

    def _check_classes(self, scores: np.ndarray) -> tuple[Encoding, tuple[str, ...]]:
        """Returns the encoding with the number of classes, and their names; warns once of a background by default."""
        spec = self._encoding.spec
        classes = self._encoding.classes or scores.shape[-1]
        if spec.kind != "masks" and scores.shape[-1] != classes:
            raise ValueError(f"predictions: expected {classes} classes, found {scores.shape[-1]}.")
        if self._class_names:
            return self._encoding, self._class_names
        names = spec.names(classes)
        warning = ""
        if self._background_is_default:
            warning = takes_for_background(names, "background=None", "background=(0,)")
        if warning:
            warnings.warn(warning, stacklevel=4)
        return self._encoding.with_classes(classes), names

    def close(
        self,
        *,
        facts: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
        samples: int = 1000,
        pairs: np.ndarray | None = None,
        scenes: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> dict[str, SummaryValue]:
        """Writes all files, and returns the numbers of summary.json. A closed stream takes no batches.

        Args:
            facts: sentences on the images, which come first in the report.
            options: more options for summary.json.
            samples: number of resamples of the intervals.
            pairs: int (n,), the counterfactual pair of each image or -1; pairs are drawn together.
            scenes: log-odds (n, K, F) on other scenes and their split point (F,), for scene-swap quantities.

        Raises:
            ValueError: no image was added, or all are of one cluster.
        """
        with self._lock:
            if not self._closed:
                self._close(facts, options or {}, samples, pairs, scenes)
            return self.summary

    def _close(
        self,
        facts: Sequence[str],
        options: Mapping[str, object],
        samples: int,
        pairs: np.ndarray | None,
        scenes: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        """Writes all files."""
        if not self._names:
            raise ValueError("stream: expected at least one image, found none.")
        swap = None
        if scenes is not None:
            log_odds, center = scenes
            swap = SwapLogOdds(log_odds, center)
        measured = dataclasses.replace(
            self._tally.measurements(self._class_names),
            groups=self._numbered_groups(),
            clusters=self._numbered_clusters(),
            pairs=pairs,
            swap=swap,
        )
        anatomy, anatomy_fact = self._read_anatomy()
        keys = known_keys(self._class_names, self._encoding.spec.background, measured.groups, anatomy)
        check_gates(self._gates, keys)
        audit = conclude_audit(measured, anatomy=anatomy, samples=samples)
        tried = try_gates(self._gates, audit.summary, audit.intervals)
        used = {"out": str(self._folder), **self._encoding.as_json(), "class_names": list(self._class_names)}
        all_facts = [
            *facts,
            describe_images(measured.shapes, self._encoding),
            describe_weight(measured),
            describe_clusters(measured),
            *describe_missing(measured),
            anatomy_fact,
        ]
        if measured.clusters is None and pairs is None:
            advice = likely_clusters(measured.names)
            all_facts.append(advice.replace("--clusters", "clusters to `add`, as of"))
        all_facts = [fact for fact in all_facts if fact]
        document = make_document(audit, facts=all_facts, options={**used, **options}, limits=limits_in_words(tried))
        files.write_audit(self._folder, audit, document, self._tally.pictures(), gates=tried)
        if self._junit:
            write_junit(self._junit, "flipjax.audit.stream", tried)
        self.summary = dict(audit.summary)
        self.intervals = dict(audit.intervals)
        self.failed = failures(tried)
        self.text = terminal_text(document)
        self._closed = True

    def _read_anatomy(self) -> tuple[Anatomy, str]:
        """Returns the anatomy, and a sentence on one that was found."""
        if isinstance(self._anatomy, Anatomy):
            return self._anatomy, ""
        source = None
        if self._anatomy is None:
            source = NONE
        return read_anatomy(source, self._class_names, self._encoding.spec.background)

    def _numbered_groups(self) -> ImageGroups:
        """Returns the groups of the images: names, unless the caller said what they are."""
        if not self._groups:
            return ImageGroups(None)
        groups = np.concatenate(self._groups)
        if self._all_groups is not None:
            return ImageGroups(groups, self._all_groups, self._scene_names)
        return ImageGroups(*number_names(groups))

    def _numbered_clusters(self) -> np.ndarray | None:
        """Returns the number of each image's cluster, int64 (n,)."""
        if not self._clusters:
            return None
        numbers, present = pd.factorize(np.array(self._clusters, object), sort=True)
        if len(present) < 2:
            raise ValueError(f"clusters: expected two or more, which are resampled, found {present[0]!r} alone.")
        return numbers.astype(np.int64)

    def __enter__(self) -> Self:
        """Returns the stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the stream. After an error, writes nothing."""
        try:
            if kind is None:
                self.close()
        finally:
            self._closed = True
            self._claim.__exit__(*sys.exc_info())


stream = AuditStream
"""The name under which `flipjax.audit` has it."""


def _read_spec(options: SpecOptions) -> LabelSpec:
    """Returns the fields of a stream's `LabelSpec`, with the number of classes of masks."""
    class_names = options.get("class_names")
    if class_names is not None and not isinstance(class_names, str):
        check_texts("class_names", class_names)
    spec = LabelSpec(**options)
    if spec.kind != "masks" or spec.num_classes is not None:
        return spec
    if spec.class_names is None:
        raise ValueError("num_classes: expected the number of classes, which masks do not give, found None.")
    return dataclasses.replace(spec, num_classes=len(spec.class_names))


def takes_for_background(class_names: Sequence[str], none: str, zero: str) -> str:
    """Returns what to say where class 0 is taken for the background by default but not named so, or nothing."""
    if "background" in class_names[0].lower():
        return ""
    return f"class 0, {class_names[0]!r}, is taken for the background; pass {zero} if it is, {none} if no class is."


def _photos(images: ArrayLike | None, shape: tuple[int, ...]) -> Sequence[np.ndarray | None]:
    """Returns the photos of a batch of labels of this shape, of their own memory."""
    if images is None:
        return [None] * shape[0]
    photos = np.asarray(to_array(images, name="images"))
    if photos.dtype != np.uint8 or photos.shape != (*shape, 3) or len(shape) != 3:
        expected = f"uint8 of shape {(*shape, 3)}"
        raise ValueError(f"images: expected {expected}, found {photos.dtype} of shape {photos.shape}.")
    return list(photos)


def _spacings(spacing: ArrayLike, count: int, axes: int) -> list[tuple[float, ...] | None]:
    """Returns the spacing of each image of a batch."""
    sizes = np.asarray(spacing, np.float64)
    if sizes.shape not in ((axes,), (count, axes)) or not (np.isfinite(sizes) & (sizes > 0)).all():
        expected = f"{axes} distances above 0 in mm, or a row of them an image"
        raise ValueError(f"spacing: expected {expected}, found {spacing!r}.")
    return [tuple(row) for row in np.broadcast_to(sizes, (count, axes)).tolist()]
