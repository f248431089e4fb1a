"""The gallery of a run as a figure."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flipjax.report.gallery import Gallery
from flipjax.report.style import CLASSES, CORRECT, EMPTY, FLIP, INK, MISS, NOTE, SPILL, TITLE

ERRORS = {"background": EMPTY, "correct": CORRECT, "flip": FLIP, "miss": MISS, "spill": SPILL}
COLUMNS = ("image", "truth", "prediction", "errors", "flip-risk")


def gallery_figure(
    gallery: Gallery, *, class_names: Sequence[str], scene_names: Sequence[str], title: str, note: str
) -> Figure:
    """Draws a row per image: image, truth, prediction, errors, flip-risk; the riskiest left, typical ones right."""
    blocks = [(kind, np.flatnonzero(gallery.kind == kind)) for kind in ("riskiest", "typical")]
    blocks = [(kind, chosen) for kind, chosen in blocks if chosen.size]
    rows = max(chosen.size for _, chosen in blocks)
    figure = Figure(figsize=(6.0 * len(blocks), 0.92 * rows + 1.2), layout="constrained")
    figure.suptitle(title, **TITLE)
    figure.supxlabel(note, **NOTE)
    grid = figure.subplots(rows, 6 * len(blocks), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for block, (kind, chosen) in enumerate(blocks):
        for row, index in enumerate(chosen):
            _draw_row(grid[row, 6 * block : 6 * block + 6], gallery, int(index), class_names, scene_names)
        grid[0, 6 * block].set_title(kind, fontsize=9, fontweight="bold", color=INK)
        for axes, name in zip(grid[0, 6 * block + 1 : 6 * block + 6], COLUMNS, strict=True):
            axes.set_title(name, fontsize=8, color=INK)
    patches = [Patch(facecolor=colour, label=name) for name, colour in zip(class_names[1:], CLASSES[1:], strict=False)]
    patches += [Patch(facecolor=colour, label=name) for name, colour in ERRORS.items() if name != "background"]
    figure.legend(handles=patches, loc="outside upper right", ncols=3 * len(blocks), frameon=False, fontsize=8)
    return figure


def _draw_row(
    grid: np.ndarray, gallery: Gallery, index: int, class_names: Sequence[str], scene_names: Sequence[str]
) -> None:
    classes = len(class_names)
    label, scene = divmod(int(gallery.group[index]), 2)
    kind = "common" if label == scene else "rare"
    numbers = f"flip {gallery.flip[index]:.2f}\nrisk {gallery.flip_risk[index]:.2f}"
    text = f"{class_names[1 + label]} on\n{scene_names[scene]}\n({kind})\n{numbers}"
    grid[0].text(1, 0.5, text, transform=grid[0].transAxes, ha="right", va="center", fontsize=7, color=INK)
    coded: dict[str, Any] = {"cmap": ListedColormap(CLASSES[:classes]), "vmin": -0.5, "vmax": classes - 0.5}
    errors: dict[str, Any] = {"cmap": ListedColormap(list(ERRORS.values())), "vmin": -0.5, "vmax": 4.5}
    grid[1].imshow(gallery.image[index])
    grid[2].imshow(gallery.label[index], interpolation="nearest", **coded)
    grid[3].imshow(gallery.prediction[index], interpolation="nearest", **coded)
    grid[4].imshow(gallery.error_map[index], interpolation="nearest", **errors)
    grid[5].imshow(gallery.risk_map[index], interpolation="nearest", cmap="magma", vmin=0, vmax=math.log(classes - 1))
