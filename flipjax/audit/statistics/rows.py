"""The rows of images.csv."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.audit.counting.measurements import Measurements
from flipjax.audit.statistics.kinds import AnatomyFlips
from flipjax.audit.statistics.objects import Objects
from flipjax.metrics.images import Images
from flipjax.metrics.summary.columns import image_columns
from flipjax.metrics.summary.names import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES
from flipjax.support.frames import DIGITS

SEPARATOR = "; "
"""What stands between the classes of a cell."""


def image_rows(
    columns: Mapping[str, Sequence[str]],
    measured: Measurements,
    images: Images,
    objects: Objects,
    *,
    anatomy: AnatomyFlips | None = None,
) -> pd.DataFrame:
    """Returns one row per image by decreasing flip-risk (undefined last), or by flip share for masks.

    Args:
        columns: the first columns, such as the name: a text an image.
        measured: what was counted of n images.
        images: the same images, as quantities take them, each pixel counted once.
        objects: their segments.
        anatomy: their mirrored and shifted labels, which have columns if there are any.

    Returns:
        A row an image, whose index holds the image's position, 0..n-1.
    """
    counts = image_columns(images)
    risk = counts["flip_risk"]
    masks = np.isnan(risk).all()
    if not masks:
        counts["flip_risk_share"] = risk / np.log(len(images.foreground))
    table: dict[str, object] = dict(columns)
    for name in (*IMAGE_QUANTITIES, *SCENE_IMAGE_QUANTITIES, "flip_risk_share"):
        if name in counts:
            # Adding 0 to -0 leaves 0.
            table[name] = counts[name].round(DIGITS) + 0.0
    table["foreground_pixels"] = counts["foreground_pixels"]
    table["pixels"] = counts["pixels"]
    table["ignored_pixels"] = measured.ignored_pixels
    volume = measured.millilitres(counts["foreground_pixels"])
    if volume is not None:
        table["foreground_ml"] = volume.round(DIGITS)
    table["largest_flip"] = counts["largest_flip"]
    table["segments"] = objects.counts.segments.sum(1)
    table["flipped_segments"] = objects.counts.flipped_segments.sum(1)
    table["missed_segments"] = objects.counts.missed_segments.sum(1)
    table["flipped_classes"] = _flipped_classes(objects, measured)
    table["missed_classes"] = _missed_classes(objects, measured)
    if anatomy is not None:
        table.update(anatomy.columns())
    rank = np.nan_to_num(risk, nan=-np.inf)
    if masks:
        rank = np.nan_to_num(counts["flip"])
    return pd.DataFrame(table).iloc[np.argsort(-rank, kind="stable")]


def _flipped_classes(objects: Objects, measured: Measurements) -> list[str]:
    """Returns which classes flip whole in each image, as `lesion as liver`."""
    class_names = measured.class_names
    # The keys of a dict are an ordered set: each flip is said once.
    flips_of_image: list[dict[str, None]] = [{} for _ in measured.names]
    flipped = objects.flipped
    for image, truth, predicted in zip(flipped["image"], flipped["class"], flipped["predicted"], strict=True):
        flips_of_image[image][f"{class_names[truth]} as {class_names[predicted]}"] = None
    return [SEPARATOR.join(flips) for flips in flips_of_image]


def _missed_classes(objects: Objects, measured: Measurements) -> list[str]:
    """Returns the classes of which a segment is missed whole in each image."""
    cells = []
    for is_missed in objects.counts.missed_segments > 0:
        cells.append(SEPARATOR.join(measured.class_names[c] for c in np.flatnonzero(is_missed)))
    return cells
