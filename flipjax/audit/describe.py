"""Sentences on what an audit read: images, spacing, classes and groups that are missing, likely clusters."""

from collections.abc import Sequence

import numpy as np

from flipjax.audit.measurements import Measurements
from flipjax.audit.opening import Encoding
from flipjax.config.groups import NamedGroups
from flipjax.metrics.classes import is_foreground
from flipjax.support.terminal import listed


def describe_images(shapes: Sequence[tuple[int, ...]], encoding: Encoding) -> str:
    """Describes images by their number, sizes, classes (if known) and form.

    Example:
        >>> from flipjax.metrics.classes import LabelSpec
        >>> describe_images([(4, 5), (4, 5)], Encoding(LabelSpec(kind="masks", num_classes=3), "none"))
        '2 images of 4 x 5 pixels, 3 classes (masks).'
    """
    images = "images"
    pixels = "pixels"
    if len(shapes[0]) == 3:
        images = "volumes"
        pixels = "voxels"
    size = f"{' x '.join(map(str, shapes[0]))} {pixels}"
    sizes = len(set(shapes))
    if sizes > 1:
        size = f"{sizes} different sizes"
    classes = ""
    if encoding.classes and not encoding.name_count:
        classes = f", {encoding.classes} classes"
    form = encoding.spec.kind
    if form != "masks":
        form += f", channels {encoding.channels}"
    return f"{len(shapes)} {images} of {size}{classes} ({form})."


def describe_missing(measured: Measurements) -> list[str]:
    """Returns sentences on what was measured of few or no images: spacings, classes and groups."""
    lines = _of_spacing(measured)
    labels = np.asarray(measured.decomposition.confusion).sum((0, 2))
    inside = is_foreground(len(labels), measured.decomposition.background)
    absent = [name for c, name in enumerate(measured.class_names) if inside[c] and not labels[c]]
    if absent:
        lines.append(f"Not in the labels, so without rates of their own: {listed(absent)}.")
    groups = measured.groups
    if groups.numbers is not None and isinstance(groups.all_groups, NamedGroups):
        present = set(groups.numbers.tolist())
        empty = [name for number, name in enumerate(groups.all_groups.names) if number not in present]
        if empty:
            lines.append(f"Groups without images, so without numbers: {listed(empty)}.")
    return lines


def _of_spacing(measured: Measurements) -> list[str]:
    """Returns a sentence on the distance of pixels, if the page must say it."""
    spacing = measured.spacing
    if spacing is None:
        lacking = measured.without_spacing
        if not measured.are_volumes:
            return []
        if len(lacking) == len(measured.names):
            return ["No spacing is known (--spacing X,Y,Z in mm), so sizes are in voxels alone."]
        return [f"Without spacing: {listed(lacking)}; sizes of all are in voxels alone (--spacing X,Y,Z in mm)."]
    different = np.unique(spacing.round(4), axis=0)
    if len(different) == 1:
        return [f"Spacing {' x '.join(f'{size:g}' for size in different[0])} mm."]
    if measured.are_volumes:
        weighed = "voxels by their volume"
        unit = "mm3"
    else:
        weighed = "pixels by their area"
        unit = "mm2"
    sizes = spacing.prod(axis=1)
    span = f"{sizes.min():.3g} to {sizes.max():.3g} {unit}"
    return [f"{len(different)} spacings: rates over images weigh {weighed}, {span}."]
