"""Writes the page of an audit: its report with charts, and pictures of images and segments."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from flipjax.audit import charts
from flipjax.audit.maps import ReadMaps
from flipjax.audit.results import Audit
from flipjax.audit.segment_tables import MATRIX, MOST_FLIPPED, matrix_classes
from flipjax.metrics.classes import background_classes
from flipjax.metrics.segment_units import BOXES
from flipjax.report import gallery
from flipjax.report.charts import fill_rows
from flipjax.report.document import Document, Front, Section
from flipjax.report.gallery.items import Item, Palette
from flipjax.report.html import Gallery, write_page
from flipjax.report.style import IGNORED as IGNORED_COLOUR
from flipjax.report.style import class_colours
from flipjax.results.frames import records_of

RISKIEST = "The images of the highest flip-risk, and the most flipped of the others; risk is of predicted foreground."
MOST_FLIPPED_IMAGES = "The images of the largest flip share."
CUT = "The largest flipped segments of the most frequent pairs, with a margin; flip is the share of the segment."
FIRST_ITEMS = 2
"""Images beside the findings."""
SHOWN = 6
NAMED = 12
PAIRS, EACH = 20, 3
"""Pairs of classes of which segments are shown, and how many of each."""
MARGIN = 8
IMAGE_BOX = BOXES[2]
"""Columns of the box of a segment along the two axes of a map: their starts, then their ends."""
VOLUME_BOX = (*BOXES[3][:2], *BOXES[3][3:5])
"""The same of a volume, whose slices lie along its last axis."""


def write_audit_page(
    folder: Path, audit: Audit, document: Document, items: Sequence[Item], segments: Sequence[Item] = ()
) -> None:
    """Writes a self-contained index.html, and its figures as SVG and PNG."""
    after: dict[str, list[Any]] = {
        "Results": fill_rows([charts.shares_chart(audit)]),
        "Flip-risk": fill_rows(charts.ranking_charts(audit)[::-1]),
    }
    if segments:
        after["Segments"] = [Gallery(segments, palette_of(audit, segments), CUT)]
    if items:
        caption = RISKIEST if audit.has_scores else MOST_FLIPPED_IMAGES
        after["Images"] = [Gallery(items, palette_of(audit, items), caption)]
    before = {"Classes": [charts.matrix_chart(audit)]}
    links = _links(audit, segments)
    sections = []
    for section in document.sections:
        title = section.title
        linked = [dataclasses.replace(block, links=links.get(block.caption, {})) for block in section.blocks]
        sections.append(Section(title, [*before.get(title, []), *linked, *after.get(title, [])]))
    beside = [chart for chart in (charts.heat_chart(audit), charts.kinds_chart(audit)) if chart is not None]
    front = Front(beside, _worst(audit, items))
    write_page(folder, dataclasses.replace(document, sections=sections, front=front))


def _worst(audit: Audit, items: Sequence[Item]) -> Gallery | None:
    """Returns the images with the largest flip share, which stand beside the findings."""
    flipped = sorted((item for item in items if item.flip > 0), key=lambda item: -item.flip)[:FIRST_ITEMS]
    if not flipped:
        return None
    return Gallery(flipped, palette_of(audit, flipped), "The most flipped of the images below.")


def _links(audit: Audit, segments: Sequence[Item]) -> dict[str, dict[tuple[int, int], str]]:
    """Returns the anchors of cells, by table: a number of segments leads to their pictures, in the order of pairs."""
    anchors = [item.anchor for item in segments if item.anchor]
    classes = matrix_classes(audit.objects)
    cells = {(i, j): f"flip-{c}-{d}" for i, c in enumerate(classes) for j, d in enumerate(classes, 1)}
    return {
        MATRIX: {cell: anchor for cell, anchor in cells.items() if anchor in anchors},
        MOST_FLIPPED: {(row, 1): anchor for row, anchor in enumerate(anchors)},
    }


def draw_items(audit: Audit, maps_of: ReadMaps) -> list[Item]:
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


def draw_segments(audit: Audit, maps_of: ReadMaps) -> list[Item]:
    """Returns crops of the largest flipped segments of the most frequent class pairs; of volumes, of their slices."""
    pair = ["class", "predicted"]
    volumes = audit.measured.volumes
    flips = audit.objects.flipped.sort_values("pixels", ascending=False, kind="stable")
    if volumes:
        # The slice of the largest segment alone is kept.
        flips = flips.drop_duplicates(["image", *pair])
    rows = audit.objects.flipped_pairs[:PAIRS][pair].merge(flips.groupby(pair).head(EACH))
    items = []
    for row, repeated in zip(records_of(rows), rows.duplicated(pair), strict=True):
        truth, predicted = row["class"], row["predicted"]
        maps = maps_of(row["image"], pair=(truth, predicted) if volumes else None)
        if maps is None:
            continue
        name = f"{audit.class_names[truth]} as {audit.class_names[predicted]}"
        cut = _cut(row, int(maps["step"]), maps["truth"].shape, VOLUME_BOX if volumes else IMAGE_BOX)
        item = make_item(audit, row["image"], name, maps, cut)
        shares = {"flip": float(row["predicted_share"]), "flip_risk": float(row["flip_risk"])}
        items.append(dataclasses.replace(item, anchor="" if repeated else f"flip-{truth}-{predicted}", **shares))
    return items


def _cut(row: Mapping[str, Any], step: int, shape: tuple[int, ...], box: Sequence[str]) -> tuple[slice, ...]:
    """Returns the box of a segment in its maps, with a margin."""
    sides = []
    for low, high, size in zip(box[:2], box[2:], shape, strict=True):
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
