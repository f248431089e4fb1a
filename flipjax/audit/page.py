"""Writes the page of an audit: its report with charts, and pictures of images and segments."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

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
from flipjax.report.document import Block, Document, Front, Numbers, Section
from flipjax.report.gallery.items import Item, Palette
from flipjax.report.html import Gallery, write_page
from flipjax.report.style import IGNORED as IGNORED_COLOUR
from flipjax.report.style import class_colours
from flipjax.results.frames import Row, records_of

RISKIEST = "The images of the highest flip-risk, and the most flipped of the others; risk is of predicted foreground."
"""Caption of the images of an audit with scores."""
MOST_FLIPPED_IMAGES = "The images of the largest flip share."
"""Caption of the images of an audit of masks."""
CUT = "The largest flipped segments of the most frequent pairs, with a margin; flip is the share of the segment."
"""Caption of the cut-outs of segments."""
FIRST_ITEMS = 2
"""Images beside the findings."""
SHOWN = 6
"""Images of the highest flip-risk that are shown, and as many of the most flipped."""
NAMED = 12
"""Classes in the legend, at most."""
PAIRS = 20
"""Pairs of classes of which segments are shown."""
EACH = 3
"""Segments of a pair that are shown."""
MARGIN = 8
"""Pixels of a map around a segment, at least."""
IMAGE_BOX = BOXES[2]
"""Columns of the box of a segment along the two axes of a map: their starts, then their ends."""
VOLUME_BOX = (*BOXES[3][:2], *BOXES[3][3:5])
"""Those columns for a segment of a volume, whose slices lie along its last axis."""


def write_audit_page(
    folder: Path, audit: Audit, document: Document, items: Sequence[Item], segments: Sequence[Item] = ()
) -> None:
    """Writes a self-contained index.html, and its figures as SVG and PNG."""
    after: dict[str, list[Block]] = {
        "Results": [*fill_rows([charts.shares_chart(audit)])],
        "Flip-risk": [*fill_rows(charts.ranking_charts(audit)[::-1])],
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
        blocks: list[Block] = [*before.get(title, [])]
        for block in section.blocks:
            if isinstance(block, Numbers) and block.caption in links:
                block = dataclasses.replace(block, links=links[block.caption])
            blocks.append(block)
        sections.append(Section(title, [*blocks, *after.get(title, [])]))
    beside = [chart for chart in (charts.heat_chart(audit), charts.kinds_chart(audit)) if chart is not None]
    front = Front(beside, _worst(audit, items))
    write_page(folder, dataclasses.replace(document, sections=sections, front=front))


def _worst(audit: Audit, items: Sequence[Item]) -> Gallery | None:
    """Returns the images with the largest flip share, which stand beside the findings."""
    flipped = sorted((item for item in items if item.flip > 0), key=_flip, reverse=True)[:FIRST_ITEMS]
    if not flipped:
        return None
    return Gallery(flipped, palette_of(audit, flipped), "The most flipped of the images below.")


def _flip(item: Item) -> float:
    return item.flip


def _links(audit: Audit, segments: Sequence[Item]) -> dict[str, dict[tuple[int, int], str]]:
    """Returns the anchors of cells, by table: a number of segments leads to their pictures, in the order of pairs."""
    anchors = [item.anchor for item in segments if item.anchor]
    classes = matrix_classes(audit.objects)
    in_matrix = {}
    for row, truth in enumerate(classes):
        # The first column names the true class.
        for column, predicted in enumerate(classes, 1):
            anchor = anchor_of(truth, predicted)
            if anchor in anchors:
                in_matrix[row, column] = anchor
    in_list = {(row, 1): anchor for row, anchor in enumerate(anchors)}
    return {MATRIX: in_matrix, MOST_FLIPPED: in_list}


def anchor_of(truth: int, predicted: int) -> str:
    """Returns the anchor of the first picture of a pair of classes."""
    return f"flip-{truth}-{predicted}"


def draw_items(audit: Audit, maps_of: ReadMaps) -> list[Item]:
    """Returns example images; for masks, those with the largest flip share. Requests maps in order of the images."""
    if audit.has_scores:
        indices, kinds = gallery.choose_images(audit.decomposition, riskiest=SHOWN, typical=0, confident=SHOWN)
    else:
        flip = np.nan_to_num(np.asarray(audit.decomposition.flip))
        indices = np.argsort(-flip, kind="stable")[: 2 * SHOWN]
        indices = indices[flip[indices] > 0]
        kinds = np.full(len(indices), "most flipped")
    items = []
    for index, kind in zip(indices.tolist(), kinds.tolist(), strict=True):
        maps = maps_of(index)
        if maps is not None:
            items.append(make_item(audit, index, kind, maps))
    return items


def draw_segments(audit: Audit, maps_of: ReadMaps) -> list[Item]:
    """Returns crops of the largest flipped segments of the most frequent class pairs; of volumes, of their slices."""
    pair = ["class", "predicted"]
    volumes = audit.measured.are_volumes
    flips = audit.objects.flipped.sort_values("pixels", ascending=False, kind="stable")
    if volumes:
        # The slice of the largest segment alone is kept.
        flips = flips.drop_duplicates(["image", *pair])
    rows = audit.objects.flipped_pairs[:PAIRS][pair].merge(flips.groupby(pair).head(EACH))
    items = []
    for row, repeated in zip(records_of(rows), rows.duplicated(pair), strict=True):
        truth = row["class"]
        predicted = row["predicted"]
        if volumes:
            maps = maps_of(row["image"], pair=(truth, predicted))
            box = VOLUME_BOX
        else:
            maps = maps_of(row["image"], pair=None)
            box = IMAGE_BOX
        if maps is None:
            continue
        name = f"{audit.class_names[truth]} as {audit.class_names[predicted]}"
        item = make_item(audit, row["image"], name, maps, cut=_cut(row, maps, box))
        item = dataclasses.replace(item, flip=float(row["predicted_share"]), flip_risk=float(row["flip_risk"]))
        if not repeated:
            item = dataclasses.replace(item, anchor=anchor_of(truth, predicted))
        items.append(item)
    return items


def _cut(segment: Row, maps: Mapping[str, np.ndarray], box: Sequence[str]) -> tuple[slice, ...]:
    """Returns the box of a segment in its maps, with a margin."""
    step = int(maps["step"])
    sides = []
    for low, high, size in zip(box[:2], box[2:], maps["truth"].shape, strict=True):
        first = segment[low] // step
        # Rounded up.
        last = -(-segment[high] // step)
        margin = max(MARGIN, (last - first) // 4)
        sides.append(slice(max(0, first - margin), min(size, last + margin)))
    return tuple(sides)


def make_item(
    audit: Audit, index: int, kind: str, maps: Mapping[str, np.ndarray], *, cut: tuple[slice, ...] = ()
) -> Item:
    """Returns one image of an audit, or a cut of it, with its maps."""
    name = str(audit.images["name"].loc[index])
    if "slice_number" in maps:
        name += f", slice {int(maps['slice_number'])}"
    group = ""
    if "group" in audit.images:
        group = str(audit.images["group"].loc[index])
    image = None
    if "image" in maps:
        image = maps["image"][cut]
    return Item(
        name=name,
        member="",
        group=group,
        kind=kind,
        flip=float(np.asarray(audit.decomposition.flip)[index]),
        flip_risk=float(np.asarray(audit.decomposition.flip_risk)[index]),
        truth=maps["truth"][cut],
        prediction=maps["prediction"][cut],
        errors=maps["errors"][cut],
        risk=maps["risk"][cut],
        image=image,
    )


def palette_of(audit: Audit, items: Sequence[Item]) -> Palette:
    """Returns the class colours; the legend has the classes with the most pixels in the items."""
    classes = len(audit.class_names)
    colours = [*class_colours(classes, background=audit.background), IGNORED_COLOUR]
    names = [*audit.class_names, "ignored"]
    pixels = np.zeros(classes + 1, np.int64)
    for item in items:
        for values in (item.truth, item.prediction):
            pixels += np.bincount(values.ravel(), minlength=classes + 1)
    pixels[[*background_classes(audit.background)]] = 0
    most = np.argsort(-pixels, kind="stable")[:NAMED].tolist()
    in_legend = sorted(c for c in most if pixels[c] > 0)
    return Palette(colours, {names[c]: to_hex(colours[c]) for c in in_legend}, audit.background, classes)
