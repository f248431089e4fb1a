"""Writes the page of an audit: its report with charts, and pictures of images and segments."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from flipjax.audit.results import Audit
from flipjax.audit.tables import MATRIX, MOST_FLIPPED, matrix_classes, most_flipped
from flipjax.metrics.classes import Background, background_classes, is_foreground
from flipjax.metrics.decomposition import margins
from flipjax.report import gallery, panels
from flipjax.report.charts import Chart, fill_rows
from flipjax.report.document import Document, Section
from flipjax.report.gallery.items import Item, Palette
from flipjax.report.html import Gallery, write_page
from flipjax.report.style import IGNORED as IGNORED_COLOUR
from flipjax.report.style import class_colours
from flipjax.results.frames import records_of

RISKIEST = "The images of the highest flip-risk, and the most flipped of the others; risk is of predicted foreground."
CUT = "The largest flipped segments of the most frequent pairs, with a margin; flip is the share of the segment."
BARS, CELLS = 24, 40
"""Classes or groups that a chart of bars and a matrix show, at most."""
SHOWN = 6
LARGEST_SIDE = 256
NAMED = 12
PAIRS, EACH = 20, 3
"""Pairs of classes of which segments are shown, and how many of each."""
MARGIN = 8


def write_audit_page(
    folder: Path, audit: Audit, document: Document, items: Sequence[Item], segments: Sequence[Item] = ()
) -> None:
    """Writes a self-contained index.html, and its figures as SVG and PNG."""
    palette = palette_of(audit, items)
    caption = RISKIEST if audit.has_scores else "The images of the largest flip share."
    shares, *ranked, matrix = charts(audit)
    drawn: dict[str, list[Any]] = {
        "Results": fill_rows([shares]),
        "Flip-risk": fill_rows(ranked[::-1]),
        "Classes": [matrix],
        "Segments": [Gallery(segments, palette_of(audit, segments), CUT)] if segments else [],
        "Images": [Gallery(items, palette, caption)] if items else [],
    }
    # A number of segments leads to their pictures, which are in the order of the pairs.
    anchors, classes = [item.anchor for item in segments if item.anchor], matrix_classes(audit.objects)
    cells = {(i, j): f"flip-{c}-{d}" for i, c in enumerate(classes) for j, d in enumerate(classes, 1)}
    links = {MATRIX: {cell: anchor for cell, anchor in cells.items() if anchor in anchors}}
    links[MOST_FLIPPED] = {(row, 1): anchor for row, anchor in enumerate(anchors)}
    sections = []
    for section in document.sections:
        title = section.title
        more = drawn.get(title, [])
        blocks = [dataclasses.replace(block, links=links.get(block.caption, {})) for block in section.blocks]
        sections.append(Section(title, [*more, *blocks] if title == "Classes" else [*blocks, *more]))
    write_page(folder, dataclasses.replace(document, sections=sections))


def charts(audit: Audit) -> list[Chart]:
    """Returns charts of shares, of risk-coverage and deciles (not for masks), and of the flip matrix."""
    summary = audit.summary
    note = f"{len(audit.images)} images, {len(audit.foreground)} foreground classes."
    ranked = []
    if audit.has_scores:
        risk, flip = (np.array(summary[key]) for key in ("risk_decile", "flip_by_risk_decile"))
        kept = panels.remaining(audit.decomposition)
        ranking = {"": {"": {"risk_decile": risk, "flip_by_risk_decile": flip, "remaining": kept}}}
        bars = f"{note} Bars: 95% intervals over the images." if audit.intervals else note
        ranked = panels.ranking_charts(ranking, note=bars, mean=summary["flip_image_mean"], intervals=audit.intervals)
        ranked = ranked if audit.has_tenths else ranked[:1]
    return [_shares(audit, note), *ranked, _matrix(audit.confusion, audit.class_names, audit.background, note)]


def _matrix(confusion: np.ndarray, class_names: Sequence[str], background: Background, note: str) -> Chart:
    """Returns the chart of the flip matrix of the classes in the most flips."""
    classes = most_flipped(confusion, background=background, limit=CELLS)
    matrix = panels.matrix_panel(confusion, class_names, background=background, classes=classes)
    foreground = is_foreground(len(class_names), background)
    return panels.matrix_chart([matrix], note=_part(note, len(classes), foreground.sum()))


def _shares(audit: Audit, note: str) -> Chart:
    """Returns stacked shares of correct, flip and miss, for all images, each group and each true class."""
    keys = [key for key in audit.summary if key.startswith("group/") and key.endswith("/fg_flip")]
    groups = {"all": ""} | {key.split("/")[1]: key.removesuffix("fg_flip") for key in keys[:BARS]}
    by_group = [[audit.summary[f"{prefix}{name}"] for prefix in groups.values()] for name, *_ in panels.SHARES]
    classes = most_flipped(audit.confusion, background=audit.background, limit=BARS)
    truth, _, same, missed = (counts[classes] for counts in margins(audit.confusion, background=audit.background))
    by_class = np.stack([same, truth - same - missed, missed]) / np.maximum(truth, 1)
    labels = [name.replace("+", "\n") for name in groups]
    names = [audit.class_names[c] for c in classes]
    bars = [
        panels.bar_panel(by_group, labels, title="by group" if keys else "all images"),
        panels.bar_panel(by_class.tolist(), names, title="by true class"),
    ]
    return panels.shares_chart(bars, note=_part(note, len(classes), len(audit.foreground)))


def _part(note: str, shown: int, foreground: int) -> str:
    """Returns the note; if classes are omitted, adds how many are shown."""
    return note if shown == foreground else f"{note} Shown are the {shown} classes in the most flips."


def draw_items(audit: Audit, maps_of: Callable[[int], Mapping[str, Any] | None]) -> list[Item]:
    """Returns example images; for masks, those with the largest flip share. Requests maps in order of the images."""
    if audit.has_scores:
        indices, kinds = gallery.choose_images(audit.decomposition, riskiest=SHOWN, typical=0, confident=SHOWN)
    else:
        flip = np.nan_to_num(np.asarray(audit.decomposition.flip))
        indices = np.argsort(-flip, kind="stable")[: 2 * SHOWN]
        indices, kinds = indices[flip[indices] > 0], np.full(len(indices), "most flipped")
    items = []
    for index, kind in zip(indices.tolist(), kinds.tolist(), strict=False):
        maps = maps_of(index)
        if maps is not None:
            items.append(make_item(audit, index, kind, maps))
    return items


def draw_segments(audit: Audit, maps_of: Callable[[int], Mapping[str, Any] | None]) -> list[Item]:
    """Returns crops of the largest flipped segments of the most frequent class pairs."""
    pair, flips = ["class", "predicted"], audit.objects.flipped.sort_values("pixels", ascending=False, kind="stable")
    if "first" in flips:
        return []
    rows = audit.objects.flipped_pairs[:PAIRS][pair].merge(flips.groupby(pair).head(EACH))
    maps = {image: maps_of(image) for image in sorted(set(rows["image"]))}
    items = []
    for row, repeated in zip(records_of(rows), rows.duplicated(pair), strict=True):
        truth, predicted, own = row["class"], row["predicted"], maps[row["image"]]
        if own is None:
            continue
        name = f"{audit.class_names[truth]} as {audit.class_names[predicted]}"
        item = make_item(audit, row["image"], name, own, _cut(row, int(own["step"]), own["truth"].shape))
        shares = {"flip": float(row["predicted_share"]), "flip_risk": float(row["flip_risk"])}
        items.append(dataclasses.replace(item, anchor="" if repeated else f"flip-{truth}-{predicted}", **shares))
    return items


def _cut(row: Mapping[str, Any], step: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Returns the box of a segment in its maps, with a margin."""
    sides = []
    for low, high, size in zip(("top", "left"), ("bottom", "right"), shape, strict=True):
        first, last = row[low] // step, -(-row[high] // step)
        margin = max(MARGIN, (last - first) // 4)
        sides.append(slice(max(0, first - margin), min(size, last + margin)))
    return tuple(sides)


def make_item(audit: Audit, index: int, kind: str, maps: Mapping[str, Any], cut: Any = ...) -> Item:
    """Returns one image of an audit, or a cut of it, with its maps."""
    row: Any = audit.images.loc[index]
    shown = {name: values[cut] for name, values in maps.items() if name not in ("step", "slice_number")}
    place = f", slice {int(maps['slice_number'])}" if "slice_number" in maps else ""
    return Item(
        name=f"{row['name']}{place}",
        member="",
        group=row.get("group", ""),
        kind=kind,
        flip=float(audit.decomposition.flip[index]),
        flip_risk=float(audit.decomposition.flip_risk[index]),
        **shown,
    )


def palette_of(audit: Audit, items: Sequence[Item]) -> Palette:
    """Returns the class colours; the legend has the classes with the most pixels in the items."""
    classes = len(audit.class_names)
    colours = [*class_colours(classes, background=audit.background), IGNORED_COLOUR]
    maps = [values.ravel() for item in items for values in (item.truth, item.prediction)]
    pixels = np.bincount(np.concatenate([*maps, np.zeros(0, int)]), minlength=classes + 1)
    pixels[[*background_classes(audit.background)]] = 0
    names = [*audit.class_names, "ignored"]
    common = sorted(c for c in np.argsort(-pixels, kind="stable")[:NAMED].tolist() if pixels[c])
    return Palette(colours, {names[c]: to_hex(colours[c]) for c in common}, audit.background, classes)
