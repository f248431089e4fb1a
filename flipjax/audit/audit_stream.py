"""`flipjax.audit.stream`: an audit of batches, as a model makes them.

An `AuditStream` claims its folder when it is made, counts each batch when it is added, and concludes and writes when it
is closed, by the functions that an audit of files uses: `counting.tally`, `statistics.results`,
`page.folder`. A batch is checked as a whole before any of it is kept (`inputs.batches`).

One class is one file here: its methods have the images so far, one lock and one claim on the folder in common.
"""

import contextlib
import dataclasses
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from flipjax.audit.counting.describe import (
    describe_background,
    describe_clusters,
    describe_images,
    describe_missing,
    describe_weight,
)
from flipjax.audit.counting.measurements import Measurements, MinSize
from flipjax.audit.counting.tally import ImageCounts, Tally, count_records
from flipjax.audit.formats.names import check_texts
from flipjax.audit.inputs import batches
from flipjax.audit.inputs.records import Encoding, ImageRecord
from flipjax.audit.metadata.anatomy import find_anatomy
from flipjax.audit.metadata.clusters import likely_clusters
from flipjax.audit.metadata.image_groups import ImageGroups
from flipjax.audit.page import folder
from flipjax.audit.statistics.limits import LimitsByKey, check_limits, make_limits
from flipjax.audit.statistics.results import conclude_audit
from flipjax.audit.statistics.summary import SummaryInterval, SummaryValue, known_keys
from flipjax.config.groups import AnyGroups
from flipjax.metrics import Anatomy
from flipjax.metrics.anatomy.relations import check_anatomy, settle_anatomy
from flipjax.metrics.inputs.classes import LabelOptions, LabelSpec
from flipjax.metrics.inputs.groups import Membership, join_memberships, read_membership
from flipjax.metrics.inputs.host import Outputs
from flipjax.metrics.objects.units import UNITS


@dataclasses.dataclass(frozen=True)
class _Batch:
    """N images that were read and counted, but are not kept yet."""

    encoding: Encoding
    """How they were read, with the number of classes."""
    class_names: tuple[str, ...]
    """Names of the classes."""
    names: list[str]
    """The images' names."""
    counts: list[ImageCounts]
    """Counts of each image."""
    membership: Membership
    """Their groups and clusters."""


class AuditStream:
    """An audit that takes batches from any framework and writes the files of `flipjax audit`.

    Keeps confusion matrices, segment rows and pictures of the worst images in memory. Tables equal those of the command
    byte for byte; flip-risk of PyTorch's tensors agrees to rounding. A context manager: once closed, `summary` has
    the numbers of summary.json, `text` the first tables. Threads may share it: batches are added one after the other,
    each whole.

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
        fail_above: LimitsByKey | None = None,
        fail_below: LimitsByKey | None = None,
        junit: Path | None = None,
        class_names: Sequence[str] | None = None,
        **options: Unpack[LabelOptions],
    ):
        """Claims the folder.

        Args:
            out: a new folder, or the folder of an earlier audit.
            unit: of segments, `class` or `component`.
            min_size: smaller segments have no row: a number of pixels, or text as `3mm2` of images and `0.5mL` of
                volumes, which need a spacing; None counts every segment.
            spacing: distance of pixels in mm along each axis of space, of batches that do not say it.
            all_groups: what groups are, if not any names. With `Groups(F, S)` they are numbers, y * S + s of class y of
                the foreground in scene s: of `Groups(3, 2)`, 5 is the last class in the last scene. `NamedGroups` lists
                the names, also of groups without images.
            scene_names: names of its S scenes.
            anatomy: mirror pairs and chains of classes; `names` finds them in `class_names`, None leaves them out.
            fail_above: upper limits by key of the summary, or by `KEY:low` or `KEY:high` of its interval.
            fail_below: lower limits, likewise.
            junit: a file for the limits as JUnit test cases.
            class_names: of all C classes, or of the foreground alone.
            **options: `background`, `ignore_index`, `kind`, `channels`, `num_classes` and `spatial_ndim` (3: volumes)
                of `flipjax.metrics.LabelSpec`; masks need `num_classes` or `class_names`.

        Raises:
            AuditError: the folder cannot be used.
            TypeError, ValueError: options do not fit.
        """
        spec = _read_spec(class_names, options)
        check_anatomy(anatomy)
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
        self._limits = make_limits(fail_above, fail_below)
        self._junit = junit
        # Batches are stored as the caller said, and counted with classes on the last axis.
        self._encoding = Encoding(spec=dataclasses.replace(spec, channels="last"), channels=spec.channels, unit=unit)
        """How to read batches; it has the number of classes once one was added."""
        self._default_spacing = None
        """The spacing of batches that do not say theirs."""
        if spacing is not None:
            [self._default_spacing] = batches.read_spacings(spacing, 1, spec.spatial_ndim)
        self._min_size = MinSize.parse(min_size)
        self._folder = Path(out)
        # Also for 0 itself. (0,), which means the same class, says that the caller has thought of it.
        self._background_is_default = options.get("background", 0) == 0
        self._all_groups = all_groups
        self._scene_names = tuple(scene_names)
        self._anatomy = anatomy
        self._class_names: tuple[str, ...] = ()
        """Names of the classes, once a batch was added."""
        self._memberships: list[Membership] = []
        """The groups and clusters of each batch."""
        self._tally = Tally(self._encoding.spec, self._min_size)
        self._closed = False
        self._lock = threading.Lock()
        self._claim = contextlib.ExitStack()
        """Ends the claim on the folder: `close` as a success, `__exit__` as a failure if the stream is still open."""
        self._claim.enter_context(folder.claimed(self._folder))

    def add(
        self,
        predictions: ArrayLike,
        labels: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        groups: ArrayLike | None = None,
        clusters: ArrayLike | None = None,
        spacing: ArrayLike | None = None,
        images: ArrayLike | None = None,
    ) -> None:
        """Adds a batch of images.

        Args:
            predictions: (N, *spatial, C), with `channels="first"` (N, C, *spatial), or masks (N, *spatial), of any
                framework. `*spatial` is H, W, or D, H, W of volumes. Scores that are a tensor of PyTorch or an array of
                JAX are reduced on the device where they are to four numbers for each pixel, which the host reads.
            labels: integers (N, *spatial).
            names: N image names; None numbers images from 0.
            groups: N names of groups, such as sites, as texts or integers, for all batches or none; with `all_groups`
                what these name or number.
            clusters: N patients, films or other units within which images depend on each other, as texts or integers,
                for all batches or none. Intervals count the images of one as one.
            spacing: in mm, of all images or (N, axes).
            images: uint8 (N, H, W, 3), photos for the page.

        Raises:
            TypeError, ValueError: arrays do not fit, or the stream is closed; then no image of the batch is counted.
        """
        with self._lock:
            if self._closed:
                raise ValueError("stream: expected batches before it is closed, found one after it wrote its files.")
            is_first_batch = not self._class_names
            # The whole batch is read, checked and counted before anything of it is kept.
            batch = self._read_batch(
                predictions, labels, names=names, groups=groups, clusters=clusters, spacing=spacing, images=images
            )
            self._keep(batch)
            warning = ""
            if is_first_batch and self._background_is_default:
                warning = describe_background(self._class_names, none="background=None", zero="background=(0,)")
            if warning:
                warnings.warn(warning, stacklevel=2)

    def _read_batch(
        self,
        predictions: ArrayLike,
        labels: ArrayLike,
        *,
        names: Sequence[str] | None,
        groups: ArrayLike | None,
        clusters: ArrayLike | None,
        spacing: ArrayLike | None,
        images: ArrayLike | None,
    ) -> _Batch:
        """Reads, checks and counts a batch; arguments and errors are those of `add`."""
        scores, truth = batches.read_arrays(predictions, labels, self._encoding)
        count = len(truth)
        photos = batches.read_photos(images, truth.shape)
        spacings = [self._default_spacing] * count
        if spacing is not None:
            spacings = batches.read_spacings(spacing, count, self._encoding.spec.spatial_ndim)
        encoding, class_names = self._settle_classes(scores)
        earlier = None
        if self._memberships:
            earlier = self._memberships[0]
        membership = read_membership(
            groups,
            clusters,
            n_images=count,
            classes=encoding.classes,
            background=encoding.spec.background,
            all_groups=self._all_groups,
            earlier=earlier,
        )
        image_names = batches.read_image_names(names, count, self._tally.names)
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
        return _Batch(
            encoding=encoding,
            class_names=class_names,
            names=image_names,
            counts=count_records(records, encoding.spec, min_size=self._min_size),
            membership=membership,
        )

    def _keep(self, batch: _Batch) -> None:
        """Adds a batch to those before it."""
        self._encoding = batch.encoding
        self._class_names = batch.class_names
        self._tally.set_classes(batch.encoding.spec)
        self._memberships.append(batch.membership)
        for name, counts in zip(batch.names, batch.counts, strict=True):
            self._tally.add(name, counts)

    def _settle_classes(self, scores: Outputs) -> tuple[Encoding, tuple[str, ...]]:
        """Returns the encoding with the number of classes, and their names: those of the first batch.

        Raises:
            ValueError: scores have another number of classes, or the names are not as many.
        """
        spec = self._encoding.spec
        classes = scores.shape[-1]
        if spec.kind == "masks":
            # Their last axis is the width; the number of their classes is known from the beginning: see `_read_spec`.
            classes = self._encoding.classes
        return self._encoding.with_classes(classes), spec.settle(classes)

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

        Called again, returns the same numbers and writes nothing; after an error in a `with` block there are none.

        Args:
            facts: sentences on the images, which come first in the report.
            options: more options for summary.json.
            samples: number of resamples of the intervals.
            pairs: int (n,), the counterfactual pair of each image or -1; pairs are drawn together.
            scenes: `log_odds` and `center` of `Measurements`, for scene-swap quantities.

        Raises:
            ValueError: no image was added, or all are of one cluster.
        """
        with self._lock:
            if self._closed:
                return self.summary
            if not self._tally.names:
                raise ValueError("stream: expected at least one image, found none.")
            measured = self._measurements(pairs, scenes)
            anatomy, anatomy_fact = self._read_anatomy()
            keys = known_keys(self._class_names, self._encoding.spec.background, measured.groups, anatomy)
            check_limits(self._limits, keys)
            audited = folder.finish_audit(
                self._folder,
                conclude_audit(measured, anatomy=anatomy, samples=samples),
                self._tally.pictures(),
                limits=self._limits,
                facts=[*facts, *self._facts_on(measured, anatomy_fact)],
                options={
                    "out": str(self._folder),
                    **self._encoding.as_json(),
                    "class_names": list(self._class_names),
                    **(options or {}),
                },
                junit=self._junit,
                suite="flipjax.audit.stream",
            )
            self.summary = dict(audited.audit.summary)
            self.intervals = dict(audited.audit.intervals)
            self.failed = audited.failed
            self.text = audited.text
            self._closed = True
            self._claim.close()
            return self.summary

    def _measurements(self, pairs: np.ndarray | None, scenes: tuple[np.ndarray, np.ndarray] | None) -> Measurements:
        """Returns the record of all images; arguments are those of `close`."""
        log_odds = None
        center = None
        if scenes is not None:
            log_odds, center = scenes
        membership = join_memberships(self._memberships)
        return dataclasses.replace(
            self._tally.measurements(self._class_names),
            groups=self._numbered_groups(membership),
            clusters=_numbered_clusters(membership),
            pairs=pairs,
            log_odds=log_odds,
            center=center,
        )

    def _facts_on(self, measured: Measurements, anatomy_fact: str) -> list[str]:
        """Returns the sentences on the images, their pixels, clusters, groups and classes; some are empty."""
        facts = [
            describe_images(measured.shapes, self._encoding),
            describe_weight(measured),
            describe_clusters(measured),
            *describe_missing(measured),
            anatomy_fact,
        ]
        if measured.clusters is None and measured.pairs is None:
            facts.append(
                likely_clusters(
                    measured.names, advice="pass clusters to `add`, such as what '{pattern}' finds in each name"
                )
            )
        return facts

    def _read_anatomy(self) -> tuple[Anatomy, str]:
        """Returns the anatomy, and a sentence on one that was found."""
        background = self._encoding.spec.background
        if self._anatomy == "names":
            return find_anatomy(self._class_names, background)
        return settle_anatomy(self._anatomy, self._class_names, background), ""

    def _numbered_groups(self, membership: Membership) -> ImageGroups:
        """Returns the groups of the images: names, unless the caller said what they are."""
        numbers, all_groups = membership.numbered_groups(self._all_groups)
        if numbers is None:
            return ImageGroups(None)
        scene_names: tuple[str, ...] = ()
        if self._all_groups is not None:
            scene_names = self._scene_names
        return ImageGroups(numbers, all_groups, scene_names)

    def __enter__(self) -> Self:
        """Returns the stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the stream. After an error, writes nothing, and the folder says that the audit failed."""
        try:
            if kind is None:
                self.close()
        finally:
            self._closed = True
            # An error of the caller, or one that `close` raises here, ends the claim as a failure. A stream that was
            # closed has none any more, and keeps its files.
            self._claim.__exit__(*sys.exc_info())


stream = AuditStream
"""The name under which `flipjax.audit` has it."""


def _numbered_clusters(membership: Membership) -> np.ndarray | None:
    """Returns the number of each image's cluster, int64 (n,); raises a ValueError if all are one."""
    if membership.clusters is None:
        return None
    present = np.unique(membership.clusters)
    if len(present) < 2:
        raise ValueError(f"clusters: expected two or more, which are resampled, found {present[0]!r} alone.")
    return membership.numbered_clusters


def _read_spec(class_names: Sequence[str] | None, options: LabelOptions) -> LabelSpec:
    """Returns the `LabelSpec` of a stream, with the number of classes of masks."""
    spec = LabelSpec(class_names=class_names, **options)
    check_texts("class_names", spec.class_names or ())
    if spec.kind != "masks" or spec.num_classes is not None:
        return spec
    if spec.class_names is None:
        raise ValueError("num_classes: expected the number of classes, which masks do not give, found None.")
    return dataclasses.replace(spec, num_classes=len(spec.class_names))
