"""Audits predictions in files (`audit_files`) or a model's batches (`stream`)."""

import dataclasses
import functools
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from flipjax import metrics
from flipjax.audit import files
from flipjax.audit.arrays import AuditError, check_names, find_photos, read_photo
from flipjax.audit.compare import check_gates, failures, try_gates
from flipjax.audit.counts import ImageCounts, count_image, count_pairs, join_counts
from flipjax.audit.groups import ImageGroups, read_clusters, read_groups
from flipjax.audit.pairs import Encoding, Pair, in_options, open_pairs, read_pair
from flipjax.audit.results import Audit, conclude_audit, name_groups, with_names
from flipjax.audit.tables import make_document
from flipjax.groups import AnyGroups
from flipjax.metrics import Decomposition, summarize
from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import Background, LabelSpec
from flipjax.metrics.images import number_groups
from flipjax.metrics.segment_table import UNITS
from flipjax.report.document import terminal_text
from flipjax.results.quantities import AUDIT_QUANTITIES, REGION_QUANTITIES
from flipjax.support.threads import in_order

SHOWN_ABOVE = 0.1
"""Images with a larger flip share keep their maps for the page."""
HIGHEST = 12
"""Images of highest flip-risk that keep their maps as well."""
VOID_NAME = "void"
"""Name of the class of pixels without a panoptic segment."""


class Audited(NamedTuple):
    """A written audit, its tables as text, and a line per failed gate."""

    audit: Audit
    text: str
    failed: list[str]


def audit_files(
    predictions: Path | None,
    labels: Path,
    *,
    out: Path,
    model: Callable[[Any], Any] | None = None,
    groups: str | None = None,
    training_groups: Path | None = None,
    clusters: str | None = None,
    class_names: Sequence[str] | None = None,
    background: Background = 0,
    images: Path | None = None,
    fail_above: Mapping[str, float] | None = None,
    fail_below: Mapping[str, float] | None = None,
    jobs: int = 1,
    **encoding: Any,
) -> Audited:
    """Audits predictions in files, and writes the files listed in this folder's README.md.

    Args:
        predictions: a folder with one file per image, or one file with all; None with a model.
        labels: the same.
        model: maps a photo uint8 (1, H, W, 3) to logits (1, H, W, C), such as a `flipjax.Model`.
        out: a new folder, or the folder of an earlier audit.
        groups: a CSV, or a regular expression on the images' names.
        training_groups: a CSV of the training images by class and scene.
        clusters: a column of `groups`, or a regular expression on names: images of one cluster are resampled together.
        class_names: names of all classes, or of all except the background.
        background: the background class, several, or None.
        images: a folder of photos.
        fail_above: upper limits by key of the summary, or by `KEY:low` or `KEY:high` of its interval.
        fail_below: lower limits, likewise.
        jobs: number of processes.
        encoding: further arguments of `flipjax.audit.pairs.open_pairs`.

    Raises:
        AuditError: an input or an option cannot be used.
    """
    if model is not None:
        class_names = class_names or getattr(model, "class_names", None)
        encoding["predict"] = functools.partial(predict_photo, model)
        if jobs > 1:
            raise AuditError(f"--jobs: expected 1 beside a model, which has its own threads, found {jobs}")
    encoding |= {"background": background, "images": images}
    pairs, values, coco = open_pairs(predictions, labels, class_names=class_names, **encoding)
    C = values.classes
    all_names = _name_classes(class_names, values, coco, assumed=background == 0)
    names, foreground = [pair.name for pair in pairs], [all_names[c] for c in np.flatnonzero(values.spec.foreground(C))]
    found = read_groups(groups, names, foreground=foreground, training=training_groups)
    together = read_clusters(clusters, found, names) if clusters else None
    photos = find_photos(images, names) if images else {}
    if fail_above or fail_below:
        check_gates(fail_above, fail_below, _known_keys(all_names, foreground, values.spec.background, found))
    used = {"predictions": predictions, "labels": labels, "groups": groups, "training_groups": training_groups}
    used |= {"clusters": clusters, "jobs": jobs, **encoding, **values.as_json(), "class_names": list(all_names)}
    used = {name: str(value) if isinstance(value, Path) else value for name, value in used.items() if name != "predict"}
    facts = _describe(used, [pair.labels.shape for pair in pairs], values, found.fact)
    masks = files.collect_masks(out, classes=C, ignore_index=values.spec.ignore_index)
    with files.claimed(out), masks as keep:
        print(facts[0], file=sys.stderr, flush=True)
        measured = count_pairs(pairs, values, jobs=jobs, keep=keep if photos else None)
        measured = dataclasses.replace(measured, class_names=all_names, groups=found, clusters=together)
        audit = conclude_audit(measured)
        tried = try_gates(fail_above, fail_below, audit.summary, audit.intervals)
        document = make_document(audit, facts=facts, options=used)
        files.write_audit(out, audit, document, functools.partial(_maps, pairs, values, photos), gates=tried)
    if photos:
        files.write_samples(out, audit, photos, measured.shapes)
    return Audited(audit, terminal_text(document), failures(tried))


def _describe(used: Mapping[str, Any], shapes: Sequence[tuple[int, ...]], encoding: Encoding, fact: str) -> list[str]:
    """Returns sentences on the images and where they come from."""
    predictions = used["predictions"] or f"of a model, from {used['images']}"
    groups = f" Groups: {used['groups']}." if used["groups"] else ""
    source = f"Predictions: {predictions}. Labels: {used['labels']}.{groups}"
    return [describe_images(shapes, encoding), source, *([fact] if fact else [])]


def _name_classes(given: Sequence[str] | None, encoding: Encoding, coco: Any, *, assumed: bool) -> tuple[str, ...]:
    """Returns the names of all classes; says so if class 0 is taken for the background by default."""
    C = encoding.classes
    with in_options():
        given = given or (coco and (*coco.class_names, VOID_NAME)[:C])
        names = metrics.class_names(given, classes=C, background=encoding.spec.background)
    if assumed and not coco and (text := _assumes(names, "--background none", "--background 0")):
        print(f"flipjax audit: {text}", file=sys.stderr)
    return names


def _assumes(class_names: Sequence[str], none: str, zero: str) -> str:
    """Returns what to say where class 0 is taken for the background by default but not named so, or nothing."""
    if "background" in class_names[0].lower():
        return ""
    return f"class 0, {class_names[0]!r}, is taken for the background; pass {zero} if it is, {none} if no class is."


def _maps(pairs: Sequence[Pair], encoding: Encoding, photos: Mapping[str, Path], index: int) -> dict[str, np.ndarray]:
    from flipjax.audit.page import draw_maps

    scores, truth, *_ = read_pair(pairs[index], encoding)
    image, photo = None, photos.get(pairs[index].name)
    if photo:
        image = read_photo(photo)
        if image.shape[:2] != truth.shape:
            raise AuditError(f"{photo}: expected the size of its labels, {truth.shape}, found {image.shape[:2]}")
    return draw_maps(scores, truth, encoding.spec, image=image)


def predict_photo(model: Callable[[Any], Any], photo: np.ndarray) -> np.ndarray:
    """Returns a model's logits float32 (H, W, C) for a photo, edge-padded to a multiple of the model's stride."""
    height, width = photo.shape[:2]
    stride = getattr(model, "stride", 1)
    padded = np.pad(photo, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    logits = getattr(model, "logits", model)(padded[None])
    return np.asarray(to_array(logits, name="predictions"), np.float32)[0, :height, :width]


def _known_keys(names: Sequence[str], classes: Sequence[str], background: Background, groups: ImageGroups) -> set[str]:
    """Returns the keys of the summary for these classes and groups."""
    empty = Decomposition(np.zeros((1, len(names), len(names)), np.int64), np.zeros(1), background)
    first = None if groups.numbers is None else groups.numbers[:1]
    summary = summarize(empty, first, class_names=names, all_groups=groups.all_groups)
    named = name_groups(groups.all_groups, classes, groups.scene_names, present=groups.numbers)
    known = {key for key, value in with_names(summary, named).items() if np.ndim(value) == 0}
    return known | {key for key in AUDIT_QUANTITIES | REGION_QUANTITIES if "<" not in key}


def describe_images(shapes: Sequence[tuple[int, ...]], encoding: Encoding) -> str:
    """Describes the images: their number, sizes, classes and form."""
    sizes, kind = set(shapes), encoding.spec.kind
    size = f"{' x '.join(map(str, shapes[0]))} pixels" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    form = kind if kind == "masks" else f"{kind}, channels {encoding.channels}"
    return f"{len(shapes)} images of {size}, {encoding.classes} classes ({form})."


class AuditStream:
    """An audit that takes batches from any framework and writes the files of `flipjax audit`.

    Keeps confusion matrices and segment rows in memory, and maps for the page in a temporary folder. Tables equal those
    of the command byte for byte. A context manager: once closed, `summary` has the numbers of summary.json, `text` the
    first tables.

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
        all_groups: AnyGroups | None = None,
        scene_names: Sequence[str] = (),
        **spec: Any,
    ):
        """Claims the folder.

        Args:
            out: a new folder, or the folder of an earlier audit.
            unit: of segments, `class` or `component`.
            all_groups: the groups that are numbered, as in `flipjax.metrics.summarize`.
            scene_names: names of its S scenes.
            **spec: `background`, `ignore_index`, `kind`, `channels`, `num_classes` and `class_names` of
                `flipjax.metrics.LabelSpec`; masks need one of the last two.

        Raises:
            AuditError: the folder cannot be used.
            TypeError, ValueError: options do not fit.
        """
        read = LabelSpec(**spec)
        if unit not in UNITS:
            raise ValueError(f"unit: expected one of {', '.join(UNITS)}, found {unit!r}.")
        if read.kind == "masks" and read.num_classes is None:
            if read.class_names is None:
                raise ValueError("num_classes: expected the number of classes, which masks do not give, found None.")
            read = dataclasses.replace(read, num_classes=len(read.class_names))
        self.summary: dict[str, Any] = {}
        self.text = ""
        self._encoding = Encoding(dataclasses.replace(read, channels="last"), read.channels, unit)
        self._folder, self._assumed = Path(out), spec.get("background", 0) == 0
        self._all_groups, self._scene_names = all_groups, tuple(scene_names)
        self._class_names: tuple[str, ...] = ()
        self._parts: list[ImageCounts] = []
        self._names: list[str] = []
        self._groups: list[np.ndarray] = []
        self._ranks: list[float] = []
        self._claim = files.claimed(self._folder)
        self._claim.__enter__()
        self._maps = tempfile.TemporaryDirectory(prefix="flipjax-audit-")

    def add(
        self,
        predictions: Any,
        labels: Any,
        *,
        names: Sequence[str] | None = None,
        groups: Any = None,
        images: Any = None,
    ) -> None:
        """Adds a batch of images.

        Args:
            predictions: (N, H, W, C), with `channels="first"` (N, C, H, W), or masks (N, H, W); of any framework.
            labels: integers (N, H, W).
            names: N image names; None numbers images from 0.
            groups: integers (N,) as in `flipjax.metrics.summarize`, for all batches or none.
            images: uint8 (N, H, W, 3), photos for the page.

        Raises:
            TypeError, ValueError: arrays do not fit; then no image of the batch is counted.
        """
        truth, scores = to_array(labels, name="labels"), to_array(predictions, name="predictions")
        masks = self._encoding.spec.kind == "masks"
        if truth.ndim != 3 or len(scores) != len(truth):
            raise ValueError(f"labels: expected (N, H, W) beside predictions {scores.shape}, found {truth.shape}.")
        if not masks:
            scores = np.moveaxis(np.asarray(scores), 1, -1) if self._encoding.channels == "first" else scores
            scores = np.asarray(scores, np.float32 if np.issubdtype(scores.dtype, np.floating) else None, order="C")
        photos = [None] * len(truth) if images is None else np.asarray(to_array(images, name="images"))
        if isinstance(photos, np.ndarray) and (photos.dtype != np.uint8 or photos.shape != (*truth.shape, 3)):
            expected = f"uint8 of shape {(*truth.shape, 3)}"
            raise ValueError(f"images: expected {expected}, found {photos.dtype} of shape {photos.shape}.")
        encoding, all_names = self._check_classes(scores)
        numbers = [] if groups is None else [np.array(to_array(groups, name="groups"))]
        if self._parts and bool(numbers) != bool(self._groups):
            raise ValueError("groups: expected with every batch or with none.")
        for each in numbers:
            own: dict[str, Any] = {"classes": encoding.classes, "background": encoding.spec.background}
            number_groups(each, images=len(truth), all_groups=self._all_groups, **own)
        new = [str(len(self._names) + i) for i in range(len(truth))] if names is None else list(map(str, names))
        if len(new) != len(truth):
            raise ValueError(f"names: expected {len(truth)}, one an image, found {len(new)}.")
        check_names("names", [*self._names, *new])

        def count(job: tuple[np.ndarray, np.ndarray]) -> ImageCounts:
            return count_image(*job, encoding.spec, unit=encoding.unit)

        jobs = list(zip(np.asarray(scores), np.asarray(truth), strict=True))
        parts = list(in_order(count, jobs) if masks else map(count, jobs))
        self._encoding, self._class_names = encoding, all_names
        self._names += new
        self._groups += numbers
        for job, part, photo in zip(jobs, parts, photos, strict=True):
            self._keep_maps(job, part, photo)
            self._parts.append(part)

    def _check_classes(self, scores: Any) -> tuple[Encoding, tuple[str, ...]]:
        spec = self._encoding.spec
        classes = self._encoding.classes or scores.shape[-1]
        if spec.kind != "masks" and scores.shape[-1] != classes:
            raise ValueError(f"predictions: expected {classes} classes, found {scores.shape[-1]}.")
        if self._class_names:
            return self._encoding, self._class_names
        names = spec.names(classes)
        if self._assumed and (text := _assumes(names, "background=None", "background=(0,)")):
            warnings.warn(text, stacklevel=3)
        return self._encoding._replace(spec=dataclasses.replace(spec, num_classes=classes)), names

    def _keep_maps(self, job: tuple[np.ndarray, np.ndarray], part: ImageCounts, photo: np.ndarray | None) -> None:
        """Stores the maps of an image for the page."""
        spec = self._encoding.spec
        one = Decomposition(part.confusion, np.float32(part.risk_sum), spec.background)
        flip, risk = (float(np.nan_to_num(each)) for each in (one.flip, one.flip_risk))
        rank = flip if spec.kind == "masks" else risk
        self._ranks = sorted([*self._ranks, rank])[-HIGHEST:]
        flipped = (part.segments.true["outcome"] == "flip").any()
        if (flipped or flip > SHOWN_ABOVE or rank >= self._ranks[0]) and files.draws_pages(quiet=True):
            from flipjax.audit.page import draw_maps

            maps = draw_maps(*job, spec, image=photo)
            np.savez_compressed(f"{self._maps.name}/{len(self._parts)}.npz", allow_pickle=False, **maps)

    def _maps_of(self, index: int) -> dict[str, np.ndarray]:
        with np.load(f"{self._maps.name}/{index}.npz", allow_pickle=False) as stored:
            return dict(stored)

    def close(
        self,
        *,
        facts: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        samples: int = 1000,
        pairs: np.ndarray | None = None,
        scenes: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Writes all files, and returns the numbers of summary.json.

        Args:
            facts: sentences on the images, which come first in the report.
            options: more options for summary.json.
            samples: number of resamples of the intervals.
            pairs: int (n,), the counterfactual pair of each image or -1; pairs are drawn together.
            scenes: log-odds (n, K, F) on other scenes and their split point (F,), for scene-swap quantities.

        Raises:
            ValueError: no image was added.
        """
        if not self._parts:
            raise ValueError("stream: expected at least one image, found none.")
        groups = np.concatenate(self._groups) if self._groups else None
        background = self._encoding.spec.background
        measured = join_counts(self._parts, self._names, self._class_names, background=background)
        found = ImageGroups(groups, self._all_groups, self._scene_names)
        audit = conclude_audit(dataclasses.replace(measured, groups=found, pairs=pairs, scenes=scenes), samples=samples)
        used = {"out": str(self._folder), **self._encoding.as_json(), "class_names": list(self._class_names)}
        facts = [*facts, describe_images(measured.shapes, self._encoding)]
        document = make_document(audit, facts=facts, options=used | dict(options or {}))
        files.write_audit(self._folder, audit, document, self._maps_of)
        self._maps.cleanup()
        self.summary, self.text = dict(audit.summary), terminal_text(document)
        return self.summary

    def __enter__(self) -> Self:
        """Returns the stream."""
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        """Closes the stream. After an error, writes nothing."""
        try:
            if kind is None and not self.summary:
                self.close()
        finally:
            self._maps.cleanup()
            self._claim.__exit__(*sys.exc_info())


stream = AuditStream
