"""Writes the page of an audit: its report with charts, and pictures of images and segments."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex

from flipjax.audit import charts
from flipjax.audit.maps import ReadMaps
from flipjax.audit.results import Audit
from flipjax.audit.tables import PAIRS, WHOLE_SEGMENTS
from flipjax.metrics.classes import background_classes
from flipjax.metrics.segment_units import BOXES
from flipjax.report.charts import fill_rows
from flipjax.report.document import Block, Document, Front, Numbers
from flipjax.report.gallery.items import Item, Palette
from flipjax.report.html import Gallery, write_page
from flipjax.report.style import IGNORED as IGNORED_COLOUR
from flipjax.report.style import class_colours
from flipjax.results.frames import Row, records_of

WORST = "The worst: the largest share of segments that flip or are missed whole, then of wrong foreground."
"""Caption of the images."""
CUT = "The largest flipped segments of the most frequent pairs, with a margin; flip is the share of the segment."
"""Caption of the cut-outs of segments."""
FIRST_ITEMS = 2
"""Images beside the findings."""
SHOWN = 12
"""Images that are shown, at most."""
NAMED = 12
"""Classes in the legend, at most."""
PAIRS_SHOWN = 12
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
    after: dict[str, list[Block]] = {"Flip-risk": [*fill_rows(charts.ranking_charts(audit)[::-1])]}
    if segments:
        after["Flips"] = [Gallery(segments, palette_of(audit, segments), CUT)]
    if items[FIRST_ITEMS:]:
        after["Images"] = [Gallery(items, palette_of(audit, items), WORST)]
    sections = []
    for section in document.sections:
        blocks = [_with_links(audit, block, segments) for block in section.blocks]
        sections.append(dataclasses.replace(section, blocks=[*blocks, *after.get(section.title, [])]))
    heat = charts.heat_chart(audit)
    front = Front([] if heat is None else [heat], _worst(audit, items))
    write_page(folder, dataclasses.replace(document, sections=sections, front=front))


def _worst(audit: Audit, items: Sequence[Item]) -> Gallery | None:
    """Returns the worst images, which stand beside the findings."""
    if not items:
        return None
    return Gallery(items[:FIRST_ITEMS], palette_of(audit, items[:FIRST_ITEMS]), WORST)


def _with_links(audit: Audit, block: Block, segments: Sequence[Item]) -> Block:
    """Returns the table of pairs with links from numbers of segments to their pictures; any other block as it is."""
    if not isinstance(block, Numbers) or not block.caption.startswith(PAIRS):
        return block
    anchors = [item.anchor for item in segments if item.anchor]
    column = block.table.header.index(WHOLE_SEGMENTS)
    links = {}
    for row, pair in enumerate(records_of(audit.pairs[: len(block.table.rows)])):
        anchor = anchor_of(*(audit.class_names.index(pair[name]) for name in ("truth", "prediction")))
        if anchor in anchors:
            links[row, column] = anchor
    return dataclasses.replace(block, links=links)


def anchor_of(truth: int, predicted: int) -> str:
    """Returns the anchor of the first picture of a pair of classes."""
    return f"flip-{truth}-{predicted}"


def draw_items(audit: Audit, maps_of: ReadMaps) -> list[Item]:
    """Returns the worst images that kept their maps, the worst first."""
    items = []
    for index in audit.worst_images[:SHOWN]:
        maps = maps_of(index)
        if maps is not None:
            items.append(make_item(audit, index, _what_is_wrong(audit, index), maps))
    return items


def _what_is_wrong(audit: Audit, index: int) -> str:
    """Returns which segments of an image are missed, or flip, as a whole."""
    missed = str(audit.images["missed_classes"].loc[index])
    flipped = str(audit.images["flipped_classes"].loc[index])
    words = []
    if missed:
        words.append(f"{missed} missed")
    if flipped:
        words.append(flipped)
    return "; ".join(words) or "no whole segment wrong"


def draw_segments(audit: Audit, maps_of: ReadMaps) -> list[Item]:
    """Returns crops of the largest flipped segments of the most frequent class pairs; of volumes, of their slices."""
    pair = ["class", "predicted"]
    volumes = audit.measured.are_volumes
    flips = audit.objects.flipped.sort_values("pixels", ascending=False, kind="stable")
    if volumes:
        # The slice of the largest segment alone is kept.
        flips = flips.drop_duplicates(["image", *pair])
    rows = audit.objects.flipped_pairs[:PAIRS_SHOWN][pair].merge(flips.groupby(pair).head(EACH))
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
