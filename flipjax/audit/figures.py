"""The figures of an audit: pure functions from what was found to matplotlib figures."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from flipjax.audit.pictures import Picture
from flipjax.audit.results import Audit, most_flipped
from flipjax.report.figures import draw_reference, draw_shares
from flipjax.report.pictures import caption, draw_maps, legend
from flipjax.report.style import (
    CORRECT,
    FLIP,
    IGNORED,
    INK,
    MISS,
    NOTE,
    TITLE,
    WHOLE,
    canvas,
    class_colours,
    dress,
    plain,
)

LABELLED = 12
BARS = 24
CELLS = 40
MAPS = ("truth", "prediction", "errors", "flip-risk")


def note(audit: Audit) -> str:
    """Says what the numbers are of."""
    return f"{len(audit.names)} images, {len(audit.foreground)} foreground classes."


def shares_figure(audit: Audit, *, title: str) -> Figure:
    """Draws correct, flip and miss as stacked shares: of all images and of each group, and of each true class."""
    keys = [key for key in audit.summary if key.startswith("group/") and key.endswith("/fg_flip")]
    groups = {"all": ""} | {key.split("/")[1]: key.removesuffix("fg_flip") for key in keys[:BARS]}
    names = ("fg_correct", "fg_flip", "fg_miss")
    by_group = [[audit.summary[f"{prefix}{name}"] for prefix in groups.values()] for name in names]
    shown = most_flipped(audit, limit=BARS)
    rows = audit.confusion[shown]
    whole = np.maximum(rows.sum(1), 1)
    correct, miss = audit.confusion[shown, shown], rows[:, audit.background]
    by_class = np.stack([correct, rows.sum(1) - correct - miss, miss]) / whole
    panels = [("by group" if keys else "", by_group, [_group_label(audit, name) for name in groups])]
    panels.append(("by true class", by_class, [audit.class_names[c] for c in shown]))
    widths = [max(2, len(labels)) for _, _, labels in panels]
    size = max(4.0, 0.4 * sum(widths)), 3.4
    figure, grid = canvas(1, 2, size=size, share="all", title=title, note=_part(audit, shown), widths=widths)
    for axes, (name, shares, labels) in zip(grid[0], panels, strict=True):
        draw_shares(axes, shares)
        y = "share of the true foreground" if axes is grid[0, 0] else ""
        dress(axes, title=name, x="", y=y, ticks=range(len(labels)), labels=labels)
        axes.set_xlim(-0.6, max(2, len(labels)) - 0.4)
        if axes is grid[0, 0] and len(labels) < LABELLED:
            axes.tick_params(axis="x", rotation=0)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False, fontsize=8
    )
    return figure


def _part(audit: Audit, shown: Sequence[int]) -> str:
    """Says which classes are left out."""
    if len(shown) == len(audit.foreground):
        return note(audit)
    return f"{note(audit)} Shown are the {len(shown)} classes in the most flips."


def _group_label(audit: Audit, name: str) -> str:
    """For two foreground classes groups are 2 * class + scene."""
    if len(audit.class_names) != 3 or not name.isdecimal():
        return name
    y, scene = divmod(int(name), 2)
    return f"{name}: {audit.class_names[audit.foreground[y]]}\nscene {scene}"


def deciles_figure(audit: Audit, *, title: str) -> Figure:
    """Draws mean flip share and mean flip-risk of each tenth of the images, sorted by flip-risk, with intervals."""
    text = f"{note(audit)} Bars: 95% bootstrap intervals over the images." if audit.intervals else note(audit)
    figure, grid = canvas(1, 2, size=(4.9, 3.3), share="col", title=title, note=text)
    mean = audit.summary["flip_image_mean"]
    panels = [
        (f"dashed: mean of all images, {mean:.2f}", "mean flip share", "flip_by_risk_decile", FLIP),
        ("", "mean flip-risk (nats)", "risk_decile", WHOLE),
    ]
    places = range(1, 11)
    for axes, (name, y, key, colour) in zip(grid[0], panels, strict=True):
        axes.plot(places, audit.summary[key], color=colour, linewidth=1.7, marker="o", markersize=4)
        if audit.intervals:
            axes.vlines(places, *audit.intervals[key], color=colour, linewidth=1.4, alpha=0.6)
        x = "flip-risk decile (10: the riskiest tenth of the images)"
        dress(axes, title=name, x=x, y=y, ticks=places, labels=[str(place) for place in places])
        axes.set_ylim(bottom=0)
    draw_reference(grid[0, 0], (mean, ""))
    return figure


def flip_matrix_figure(audit: Audit, *, title: str) -> Figure:
    """Draws which true class is predicted as which: shares of each true class, coloured by what they mean."""
    rows = most_flipped(audit, limit=CELLS)
    columns = sorted([*rows, audit.background])
    C, names = len(columns), [audit.class_names[c] for c in columns]
    counts = audit.confusion[np.ix_(rows, columns)]
    shares = counts / np.maximum(audit.confusion[rows].sum(1, keepdims=True), 1)
    tints = 1 - np.array(
        [[to_rgb(CORRECT if p == t else MISS if p == audit.background else FLIP) for p in columns] for t in rows]
    )
    cell = 0.95 if C <= 8 else 0.6 if C <= LABELLED else 0.25
    size = (max(4.8, cell * C + 2.2), max(2.6, cell * 0.75 * len(rows) + 1.2))
    text = f"Share of each row's pixels. {_part(audit, rows)}"
    figure, grid = canvas(1, 1, size=size, share="all", title=title, note=text)
    axes = grid[0, 0]
    # The root, so that small shares can be seen.
    axes.imshow(1 - np.sqrt(shares)[..., None] * tints, aspect="auto")
    dress(axes, title="", x="predicted as", y="truth", ticks=range(C), labels=names)
    axes.set_yticks(range(len(rows)), [plain(audit.class_names[c]) for c in rows])
    axes.grid(False)
    axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, C - 0.5, color="white", linewidth=1.5)
    axes.vlines(np.arange(C - 1) + 0.5, -0.5, len(rows) - 0.5, color="white", linewidth=1.5)
    if C > LABELLED:
        axes.tick_params(axis="x", rotation=90)
        return figure
    for (row, column), share in np.ndenumerate(shares):
        text = f"{share:.1%}" if C > 8 else f"{share:.1%}\n{counts[row, column]:,}"
        ink = "white" if share > 0.6 and columns[column] == rows[row] else INK
        axes.text(column, row, text if share else "", ha="center", va="center", fontsize=7.5, color=ink)
    return figure


def pictures_figure(audit: Audit, pictures: Sequence[Picture], *, title: str) -> Figure:
    """Draws a row per image: truth, prediction, errors, flip-risk; a block of columns for each reason to look at it."""
    blocks = {kind: [p for p in pictures if p.kind == kind] for kind in dict.fromkeys(p.kind for p in pictures)}
    rows = max(map(len, blocks.values()))
    tall = max(p.maps.truth.shape[0] / p.maps.truth.shape[1] for p in pictures)
    height = min(2.2, max(0.7, 1.04 * tall)) + 0.08
    figure = Figure(figsize=(max(7.5, 5.6 * len(blocks)), height * rows + 1.2), layout="constrained")
    figure.suptitle(title, **TITLE)
    C = len(audit.class_names)
    highest = math.log(C - 1)
    figure.supxlabel(f"Flip-risk where foreground is predicted, from 0 (black) to {highest:.2f} nats (bright).", **NOTE)
    grid = figure.subplots(rows, 5 * len(blocks), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    colours = class_colours(C, background=audit.background)
    for block, (kind, chosen) in enumerate(blocks.items()):
        columns = slice(5 * block, 5 * block + 5)
        for place, axes in zip(("", *MAPS), grid[0, columns], strict=True):
            axes.set_title(place or kind, fontsize=8 if place else 9, fontweight=None if place else "bold", color=INK)
        for picture, axes in zip(chosen, grid[:, columns], strict=False):
            caption(axes[0], _describe(audit, picture.index))
            draw_maps(axes[1:], picture.maps, colours=[*colours, IGNORED], highest=highest)
    seen = Counter(
        c for p in pictures for values in p.maps[:2] for c in values.ravel().tolist() if c != audit.background
    )
    names = [*audit.class_names, "ignored"]
    patches = legend({names[c]: [*colours, IGNORED][c] for c in sorted(c for c, _ in seen.most_common(LABELLED))})
    figure.legend(handles=patches, loc="outside upper right", ncols=4 * len(blocks), frameon=False, fontsize=8)
    return figure


def _describe(audit: Audit, index: int) -> str:
    name = audit.names[index]
    name = name if len(name) <= 18 else f"{name[:15]}..."
    group = "" if audit.groups is None else f"group {audit.groups[index]}\n"
    found = audit.decomposition
    return f"{name}\n{group}flip {found.flip[index]:.2f}\nrisk {found.flip_risk[index]:.2f}"
