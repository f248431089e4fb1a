"""The file `decomposition.npz` of an audit: what was counted of each image, which `flipjax audit --compare` reads."""

from __future__ import annotations

import dataclasses

import numpy as np

from flipjax.audit.statistics.objects import SegmentCounts
from flipjax.audit.statistics.results import Audit
from flipjax.support.npz import NamedArrays, array

STORED = "decomposition.npz"
"""Name of the file in the folder of an audit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditedImages(NamedArrays):
    """What was counted of n images of C classes. Files of earlier versions lack segments and sizes of pixels.

    Attributes:
        confusion: pixels by truth and prediction.
        risk_sum: the entropy summed over the predicted foreground, nats; NaN for masks.
        names: of the images.
        class_names: of the classes.
        segments, ..., renamed_segments: as in `flipjax.audit.statistics.objects.SegmentCounts`.
        groups: the number of each image's group.
        group_names: its name.
        clusters: the number of each image's cluster.
        pixel_size: the area (mm2) or volume (mm3) of a pixel.
    """

    confusion: np.ndarray = array("image", "class", "predicted_class", dtype=np.int32)
    risk_sum: np.ndarray = array("image", dtype=np.float32)
    names: np.ndarray = array("image", dtype=np.str_)
    class_names: np.ndarray = array("class", dtype=np.str_)
    segments: np.ndarray | None = array("image", "class", dtype=np.int32, optional=True)
    flipped_segments: np.ndarray | None = array("image", "class", dtype=np.int32, optional=True)
    missed_segments: np.ndarray | None = array("image", "class", dtype=np.int32, optional=True)
    matched_segments: np.ndarray | None = array("image", "class", dtype=np.int32, optional=True)
    renamed_segments: np.ndarray | None = array("image", "class", dtype=np.int32, optional=True)
    groups: np.ndarray | None = array("image", dtype=np.int64, optional=True)
    group_names: np.ndarray | None = array("image", dtype=np.str_, optional=True)
    clusters: np.ndarray | None = array("image", dtype=np.int64, optional=True)
    pixel_size: np.ndarray | None = array("image", dtype=np.float64, optional=True)


def images_of(audit: Audit) -> AuditedImages:
    """Returns what the images of an audit left behind, in their order."""
    group_names = None
    if audit.groups is not None:
        group_names = np.array(audit.images.sort_index()["group"].tolist(), np.str_)
    return AuditedImages(
        confusion=np.asarray(audit.decomposition.confusion),
        risk_sum=np.asarray(audit.decomposition.risk_sum),
        names=np.array(audit.measured.names, np.str_),
        class_names=np.array(audit.class_names, np.str_),
        groups=audit.groups,
        group_names=group_names,
        clusters=audit.clusters,
        pixel_size=audit.measured.pixel_size,
        **vars(audit.objects.counts),
    )


def segments_of(images: AuditedImages) -> SegmentCounts | None:
    """Returns the segments of each image by class and outcome; None if they are not stored."""
    counts = {}
    for field in dataclasses.fields(SegmentCounts):
        counts[field.name] = getattr(images, field.name)
        if counts[field.name] is None:
            return None
    return SegmentCounts(**counts)
