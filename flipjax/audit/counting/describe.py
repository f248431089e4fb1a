"""Sentences on what an audit read: images, what pixels count by, classes and groups that are missing."""

from collections.abc import Sequence

import numpy as np

from flipjax.audit.counting.measurements import Measurements
from flipjax.audit.inputs.records import Encoding
from flipjax.config.groups import NamedGroups
from flipjax.metrics.inputs.classes import is_foreground
from flipjax.support.terminal import listed


def describe_images(shapes: Sequence[tuple[int, ...]], encoding: Encoding) -> str:
    """Describes images by their number, sizes, classes (if known) and form.

    Example:
        >>> from flipjax.metrics.inputs.classes import LabelSpec
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
    if encoding.settled:
        classes = f", {encoding.classes} classes"
    form = encoding.spec.kind
    if form != "masks":
        form += f", channels {encoding.channels}"
    return f"{len(shapes)} {images} of {size}{classes} ({form})."


def describe_background(class_names: Sequence[str], *, none: str, zero: str) -> str:
    """Returns what to say where class 0 is taken for the background by default but not named so, or nothing.

    Args:
        class_names: of all C classes.
        none: the option that says that no class is background.
        zero: the option that says that class 0 is.
    """
    if "background" in class_names[0].lower():
        return ""
    return f"class 0, {class_names[0]!r}, is taken for the background; pass {zero} if it is, {none} if no class is."


def describe_clusters(measured: Measurements) -> str:
    """Returns over how many clusters intervals and tests are; nothing where each image is one."""
    if measured.clusters is None:
        return ""
    return f"Intervals and q are over {len(np.unique(measured.clusters))} clusters."


def describe_missing(measured: Measurements) -> list[str]:
    """Returns sentences on what was measured of no images: classes and groups."""
    lines = []
    labels = np.asarray(measured.decomposition.confusion).sum((0, 2))
    inside = is_foreground(len(labels), measured.decomposition.background)
    absent = [name for c, name in enumerate(measured.class_names) if inside[c] and not labels[c]]
    if absent:
        lines.append(f"Classes without rates of their own, since the labels lack them: {listed(absent)}.")
    groups = measured.groups
    if groups.numbers is not None and isinstance(groups.all_groups, NamedGroups):
        present = set(groups.numbers.tolist())
        empty = [name for number, name in enumerate(groups.all_groups.names) if number not in present]
        if empty:
            lines.append(f"Groups without numbers, since they have no images: {listed(empty)}.")
    return lines


def describe_weight(measured: Measurements) -> str:
    """Returns the sentence on what pixels count by in every rate, with the distance of pixels where it is known."""
    begin = f"Every rate is by {measured.weight_noun}"
    spacing = measured.spacing
    if spacing is None:
        lacking = measured.without_spacing
        if not measured.are_volumes:
            return f"{begin}."
        if len(lacking) == len(measured.names):
            return f"{begin}: no spacing is known (--spacing X,Y,Z in mm)."
        return f"{begin}: no spacing is known of {listed(lacking)} (--spacing X,Y,Z in mm)."
    different = np.unique(spacing.round(4), axis=0)
    if len(different) == 1:
        return f"{begin}; spacing {' x '.join(f'{size:g}' for size in different[0])} mm."
    unit = "mm2"
    if measured.are_volumes:
        unit = "mm3"
    sizes = spacing.prod(axis=1)
    pixel = measured.pixel_noun.removesuffix("s")
    return f"{begin}: in {len(different)} spacings a {pixel} is {sizes.min():.3g} to {sizes.max():.3g} {unit}."
