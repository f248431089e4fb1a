"""Writes the page of an audit: its report with charts, and pictures of images and segments."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex

from flipjax import metrics
from flipjax.audit.counting.maps import ImagePictures, Picture
from flipjax.audit.page import charts
from flipjax.audit.page.tables import PAIRS, WHOLE_SEGMENTS
from flipjax.audit.statistics.results import Audit
from flipjax.metrics.inputs.classes import background_classes
from flipjax.page.document import Document, Front, Numbers, PageBlock
from flipjax.page.html import Gallery, write_page
from flipjax.page.style import IGNORED as IGNORED_COLOUR
from flipjax.page.style import class_colours
from flipjax.page.tiles import Item, Palette
from flipjax.support.frames import records_of

CAPTION_OF_WORST = "The worst: the largest share of segments that flip or are missed whole, then of wrong foreground."
"""Caption of the images."""
CAPTION_OF_NEXT = "The next ones; all are in images.csv."
"""Caption of the images after those."""
CAPTION_OF_SEGMENTS = "The largest flipped segment of each frequent pair; flip is the share of it that flips."
"""Caption of the cut-outs of segments."""
FIRST_ITEMS = 2
"""Images beside the findings."""
MOST_WITHOUT_WHOLE = 4
"""Images that are shown where no segment is wrong as a whole, at most."""
MOST_IN_LEGEND = 12
"""Classes in the legend, at most."""
MOST_PAIRS = 4
"""Pairs of classes of which a segment is shown, at most."""
MARGIN = 8
"""Pixels of a map around a segment, at least."""


def write_audit_page(
    folder: Path, audit: Audit, document: Document, items: Sequence[Item], segments: Sequence[Item] = ()
) -> None:
    """Writes a self-contained index.html, and its figures as SVG and PNG."""
    # Blocks that follow the tables of a section, by its title. Deciles come before the curve of risk and coverage.
    after: defaultdict[str, list[PageBlock]] = defaultdict(list)
    after["Flip-risk"].extend(charts.flip_risk_charts(audit)[::-1])
    if segments:
        after["Flips"].append(Gallery(segments, palette_of(audit, segments), CAPTION_OF_SEGMENTS, filtered=False))
    further = items[FIRST_ITEMS:]
    if further:
        after["Images"].append(Gallery(further, palette_of(audit, further), CAPTION_OF_NEXT, filtered=False))
    sections = []
    for section in document.sections:
        if section.title == "Images" and items:
            # The pictures say what the table does.
            section = dataclasses.replace(section, blocks=[])
        blocks = [_with_links(audit, block, segments) for block in section.blocks]
        sections.append(dataclasses.replace(section, blocks=[*blocks, *after.pop(section.title, [])]))
    if any(after.values()):
        raise ValueError(f"charts follow sections that `audit.page.tables.make_document` lacks: {', '.join(after)}")
    charts_in_front = []
    heat = charts.heat_chart(audit)
    if heat is not None:
        charts_in_front.append(heat)
    front = Front(charts_in_front, _worst(audit, items))
    # The options are in summary.json; what was read is said first.
    write_page(folder, dataclasses.replace(document, sections=sections, front=front, config=None))


def _worst(audit: Audit, items: Sequence[Item]) -> Gallery | None:
    """Returns the worst images, which stand beside the findings."""
    if not items:
        return None
    return Gallery(items[:FIRST_ITEMS], palette_of(audit, items[:FIRST_ITEMS]), CAPTION_OF_WORST, filtered=False)


def _with_links(audit: Audit, block: PageBlock, segments: Sequence[Item]) -> PageBlock:
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


def draw_items(audit: Audit, pictures: Mapping[int, ImagePictures]) -> list[Item]:
    """Returns pictures of the images with whole segments that are wrong, the worst first.

    If there are none, returns those of the worst images, at most MOST_WITHOUT_WHOLE.
    """
    shown = [index for index in audit.worst_images if index in pictures]
    counts = audit.objects.counts
    segments = (counts.flipped_segments + counts.missed_segments).sum(1)
    wrong_whole = [index for index in shown if segments[index] > 0]
    if wrong_whole:
        shown = wrong_whole
    else:
        shown = shown[:MOST_WITHOUT_WHOLE]
    return [make_item(audit, index, _what_is_wrong(audit, index), pictures[index].whole) for index in shown]


def _what_is_wrong(audit: Audit, index: int) -> str:
    """Returns which segments of an image are missed, or flip, as a whole, and the fault that explains flips."""
    missed = str(audit.images["missed_classes"].loc[index])
    flipped = str(audit.images["flipped_classes"].loc[index])
    words = []
    if missed:
        words.append(f"{missed} missed")
    if audit.anatomy is not None and audit.anatomy.is_explained[index]:
        words.append(audit.anatomy.faults[index])
    elif flipped:
        words.append(flipped)
    return "; ".join(words) or "no whole segment wrong"


def draw_segments(audit: Audit, pictures: Mapping[int, ImagePictures]) -> list[Item]:
    """Returns cut-outs of the largest flipped segment of each of the most frequent class pairs, in the worst images."""
    pair = ["class", "predicted"]
    flips = audit.objects.flipped.sort_values("pixels", ascending=False, kind="stable")
    largest = flips[flips["image"].isin(pictures)].drop_duplicates(pair)
    items = []
    for row in records_of(audit.objects.flipped_pairs[:MOST_PAIRS][pair].merge(largest)):
        truth = row["class"]
        predicted = row["predicted"]
        picture = pictures[row["image"]].of_pair((truth, predicted))
        name = f"{audit.class_names[truth]} as {audit.class_names[predicted]}"
        item = make_item(audit, row["image"], name, picture, cut=picture.layout.box(row, MARGIN))
        of_segment = {"flip": float(row["predicted_share"]), "flip_risk": float(row["flip_risk"])}
        items.append(dataclasses.replace(item, anchor=anchor_of(truth, predicted), **of_segment))
    return items


ALL_OF_PICTURE = (slice(None), slice(None))
"""The cut that shows all of a picture."""


def make_item(
    audit: Audit, index: int, kind: str, picture: Picture, *, cut: tuple[slice, slice] = ALL_OF_PICTURE
) -> Item:
    """Returns what the gallery shows of an image.

    Args:
        audit: the audit.
        index: the image's position.
        kind: what is wrong in it, in words.
        picture: of the image, or of a slice of a volume.
        cut: the rows and columns of the picture that are shown.
    """
    classes = len(audit.class_names)
    name = str(audit.images["name"].loc[index])
    if picture.layout.title:
        name = f"{name}, {picture.layout.title}"
    truth = picture.truth.astype(np.int32)
    ignore_index = None
    if picture.ignored is not None:
        ignore_index = classes
        truth = np.where(picture.ignored, ignore_index, truth)
    errors = metrics.error_map(
        picture.prediction,
        truth,
        kind="masks",
        num_classes=classes,
        background=audit.background,
        ignore_index=ignore_index,
    )
    risk = picture.risk
    if risk is None:
        risk = np.full(truth.shape, np.nan, np.float32)
    group = ""
    if "group" in audit.images:
        group = str(audit.images["group"].loc[index])
    photo = None
    if picture.image is not None:
        photo = picture.image[cut]
    return Item(
        name=name,
        member="",
        group=group,
        kind=kind,
        flip=float(np.asarray(audit.decomposition.flip)[index]),
        flip_risk=float(np.asarray(audit.decomposition.flip_risk)[index]),
        truth=truth[cut],
        prediction=picture.prediction[cut],
        errors=np.asarray(errors)[cut],
        risk=risk[cut],
        image=photo,
        outlined=True,
        sides=picture.layout.sides,
    )


def palette_of(audit: Audit, items: Sequence[Item]) -> Palette:
    """Returns the class colours; the legend has the classes with the most pixels in the items."""
    classes = len(audit.class_names)
    # Ignored pixels of the items have a number after those of the classes.
    colours = [*class_colours(classes, background=audit.background), IGNORED_COLOUR]
    names = [*audit.class_names, "ignored"]
    pixels = np.zeros(classes + 1, np.int64)
    for item in items:
        for class_indices in (item.truth, item.prediction):
            pixels += np.bincount(class_indices.ravel(), minlength=classes + 1)
    pixels[[*background_classes(audit.background)]] = 0
    most_pixels = np.argsort(-pixels, kind="stable")[:MOST_IN_LEGEND].tolist()
    in_legend = sorted(c for c in most_pixels if pixels[c] > 0)
    return Palette(colours, {names[c]: to_hex(colours[c]) for c in in_legend}, audit.background, classes)
