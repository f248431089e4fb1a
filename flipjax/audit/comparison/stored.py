"""Reads two stored audits of the same images and labels, which are compared (`read_compared`)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.counting.measurements import SAME_SIZE, weigh_pixels
from flipjax.audit.formats.problems import AuditError, naming
from flipjax.audit.statistics.objects import SegmentCounts
from flipjax.audit.statistics.stored import STORED, AuditedImages, segments_of
from flipjax.config.groups import NamedGroups
from flipjax.metrics import Decomposition
from flipjax.metrics.decomposition import read_leaves
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.inputs.classes import Background
from flipjax.support.files import read_json
from flipjax.support.npz import read_arrays
from flipjax.support.terminal import listed


@dataclasses.dataclass(frozen=True)
class StoredAudit:
    """A stored audit of n images, in order of their names."""

    names: list[str]
    """The images' names."""
    decomposition: Decomposition
    """Counts of pixels, leaves (n, C, C) and (n,)."""
    class_names: tuple[str, ...]
    """The C classes' names."""
    group_names: np.ndarray | None
    """The group of each image, or None."""
    clusters: np.ndarray | None
    """The cluster of each image, or None."""
    segments: SegmentCounts | None
    """Segments of each image by class and outcome; None if they are not stored."""
    pixel_size: np.ndarray | None
    """The area (mm2) or volume (mm3) of a pixel of each image; None if it is not known, or not stored."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes and their background, for messages."""
        return (*self.class_names, f"background {self.decomposition.background}")

    @property
    def label_pixels(self) -> np.ndarray:
        """Pixels of each image by true class, int (n, C)."""
        return np.asarray(self.decomposition.confusion).sum(-1)


@dataclasses.dataclass(frozen=True)
class ComparedAudits:
    """Two audits of the same n images and labels."""

    names: Sequence[str]
    """The images' names."""
    old: Images
    """The images of the old audit, in the groups of the new one."""
    new: Images
    """The images of the new audit."""
    old_segments: SegmentCounts | None
    """Segments of the old audit; None if it did not store them."""
    new_segments: SegmentCounts | None
    """Segments of the new audit; None if it did not store them."""
    clusters: np.ndarray | None
    """The cluster of each image in the new audit, int (n,); images of one cluster count as one. None: each alone."""
    identical: bool
    """Whether both predictions have the same counts and scores in every image."""

    @property
    def unit(self) -> str:
        """What counts as one, in words."""
        if self.clusters is None:
            return "images"
        return "clusters"


def read_audit(folder: Path) -> StoredAudit:
    """Reads a stored audit.

    Raises:
        AuditError: the folder holds no audit.
    """
    path = folder / STORED
    if not path.is_file():
        raise AuditError(f"--compare: expected the folder of an audit, which has {path.name}, found {folder}")
    background = _read_background(folder)
    with naming(path):
        # Earlier versions wrote no schema.
        stored = read_arrays(path, AuditedImages, needs_schema=False)
        images = stored.select("image", np.argsort(stored.names, kind="stable"))
        decomposition = Decomposition(images.confusion, images.risk_sum, background)
        # Raises an error for counts that are damaged.
        read_leaves(decomposition)
        return StoredAudit(
            names=images.names.tolist(),
            decomposition=decomposition,
            class_names=tuple(images.class_names.tolist()),
            group_names=images.group_names,
            clusters=images.clusters,
            segments=segments_of(images),
            pixel_size=images.pixel_size,
        )


def _read_background(folder: Path) -> Background:
    """Returns the background of a finished audit, from its summary."""
    path = folder / "summary.json"
    with naming(path):
        summary = read_json(path)
        if "error" in summary:
            raise AuditError(f"--compare: expected an audit that was finished in {folder}, found {summary['error']}")
        background = summary["options"]["background"]
    if isinstance(background, list):
        return tuple(background)
    return background


def read_compared(old_folder: Path, new_folder: Path) -> ComparedAudits:
    """Reads two audits.

    Raises:
        AuditError: a folder holds no audit, or they differ in images, classes, labels or sizes of pixels.
    """
    old = read_audit(old_folder)
    new = read_audit(new_folder)
    _check_same_images(old, new, f"{old_folder} and {new_folder}")
    pixel_size = new.pixel_size
    if pixel_size is None:
        pixel_size = old.pixel_size
    same_risk = np.array_equal(old.decomposition.risk_sum, new.decomposition.risk_sum, equal_nan=True)
    same_counts = np.array_equal(old.decomposition.confusion, new.decomposition.confusion)
    return ComparedAudits(
        names=new.names,
        old=_images_of(old, new.group_names, pixel_size),
        new=_images_of(new, new.group_names, pixel_size),
        old_segments=old.segments,
        new_segments=new.segments,
        clusters=new.clusters,
        identical=same_counts and same_risk,
    )


def _check_same_images(old: StoredAudit, new: StoredAudit, folders: str) -> None:
    """Raises AuditError if two audits differ in images, classes, labels or sizes of pixels.

    Args:
        old: an audit.
        new: another one.
        folders: of both, for messages.
    """
    in_one_alone = sorted({*old.names} ^ {*new.names})
    if in_one_alone:
        listing = listed(in_one_alone)
        raise AuditError(f"--compare: expected the same images in {folders}; in one alone are {listing}")
    if old.classes != new.classes:
        raise AuditError(f"--compare: expected the same classes in {folders}, found {old.classes} and {new.classes}")
    relabelled = _names_where(new.names, (old.label_pixels != new.label_pixels).any(-1))
    if relabelled:
        raise AuditError(f"--compare: expected the same labels; {folders} have others in {listed(relabelled)}")
    if old.pixel_size is not None and new.pixel_size is not None:
        resized = _names_where(new.names, ~np.isclose(old.pixel_size, new.pixel_size, rtol=SAME_SIZE))
        if resized:
            raise AuditError(f"--compare: expected the same spacing; {folders} have others in {listed(resized)}")


def _names_where(names: Sequence[str], is_chosen: np.ndarray) -> list[str]:
    """Returns the names that are chosen, by a bool for each, (n,)."""
    return [names[image] for image in np.flatnonzero(is_chosen).tolist()]


def _images_of(stored: StoredAudit, group_names: np.ndarray | None, pixel_size: np.ndarray | None) -> Images:
    """Returns the images of an audit in these groups, with pixels that count by their size."""
    numbers = None
    all_groups = None
    if group_names is not None:
        present, numbers = np.unique(group_names, return_inverse=True)
        all_groups = NamedGroups(tuple(map(str, present)))
    counts = weigh_pixels(stored.decomposition, pixel_size)
    return read_images(counts, numbers, class_names=stored.class_names, all_groups=all_groups)
