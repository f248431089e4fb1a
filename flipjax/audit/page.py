"""Writes the page of an audit: its report with charts, and pictures of images and segments."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from flipjax.audit.results import Audit
from flipjax.audit.tables import LINKED, most_flipped, segment_matrix
from flipjax.metrics import Decomposition, error_map
from flipjax.metrics.classes import Background, LabelSpec, background_classes, is_foreground
from flipjax.metrics.kernels import read_pixels
from flipjax.report import panels
from flipjax.report.document import Document, Numbers, Section
from flipjax.report.html import Gallery, Picture, pictures_of, write_page
from flipjax.report.panels import Chart
from flipjax.report.pictures import Item, Palette
from flipjax.report.style import IGNORED as IGNORED_COLOUR
from flipjax.report.style import class_colours
from flipjax.results import gallery

RISKIEST = (
    "The images of the highest flip-risk, and the most flipped ones of the less risky half; where scenes are known, "
    "typical images and pairs, one object in both scenes. Flip-risk is drawn where foreground is predicted."
)
MOST_FLIPPED = "The images of the largest flip share."
CUT = "The largest flipped segments of the most frequent pairs, with a margin; flip is the share of the segment."
BARS, CELLS = 24, 40
"""Classes or groups that a chart of bars and a matrix show, at most."""
HINT = "Photos are shown where --images names their folder."
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
    caption = RISKIEST if audit.has_scores else MOST_FLIPPED
    caption += "" if any(item.image is not None for item in items) else f" {HINT}"
    shares, *ranked, matrix = charts(audit)
    drawn: dict[str, list[Any]] = {
        "Results": pictures_of([shares]),
        "Flip-risk": pictures_of(ranked[::-1]),
        "Classes": [Picture(matrix)],
        "Segments": [Gallery(segments, palette_of(audit, segments), CUT)] if segments else [],
        "Images": [Gallery(items, palette, caption)] if items else [],
    }
    sections = []
    for section in document.sections:
        blocks = [_linked(block, audit, segments) for block in section.blocks]
        before = section.title in ("Flip-risk", "Classes")
        more = drawn.get(section.title, [])
        sections.append(section._replace(blocks=[*more, *blocks] if before else [*blocks, *more]))
    write_page(folder, document._replace(sections=sections))


def _linked(block: Numbers, audit: Audit, segments: Sequence[Item]) -> Numbers:
    """Links the cells of the segment flip matrix to pictures; returns other tables unchanged."""
    classes, table = segment_matrix(audit.objects)
    if block.table != table:
        return block
    shown = {item.anchor for item in segments}
    places = [(row, column) for row in range(len(classes)) for column in range(len(classes))]
    links = {(row, column + 1): anchor_of(classes[row], classes[column]) for row, column in places}
    links = {cell: anchor for cell, anchor in links.items() if anchor in shown}
    return block._replace(caption=f"{block.caption}{LINKED if links else ''}", links=links)


def charts(audit: Audit) -> list[Chart]:
    """Returns charts of shares, of risk-coverage and deciles (not for masks), and of the flip matrix."""
    summary = audit.summary
    note = f"{len(audit.names)} images, {len(audit.foreground)} foreground classes."
    ranked = []
    if audit.has_scores:
        risk, flip = (np.array(summary[key]) for key in ("risk_decile", "flip_by_risk_decile"))
        ranking = {"": {"": panels.Ranking(risk, flip, panels.remaining(audit.decomposition))}}
        bars = f"{note} Bars: 95% intervals over the images." if audit.intervals else note
        ranked = panels.ranking_charts(ranking, note=bars, mean=summary["flip_image_mean"], intervals=audit.intervals)
        ranked = ranked if audit.has_tenths else ranked[:1]
    return [_shares(audit, note), *ranked, _matrix(audit.confusion, audit.class_names, audit.background, note)]


def _matrix(confusion: np.ndarray, class_names: Sequence[str], background: Background, note: str) -> Chart:
    """Returns the chart of the flip matrix of the classes in the most flips."""
    classes = most_flipped(confusion, background=background, limit=CELLS)
    matrix = panels.matrix_panel(confusion, class_names, background=background, classes=classes)
    foreground = int(is_foreground(len(class_names), background).sum())
    return panels.matrix_chart([matrix], note=_part(note, len(classes), foreground))


def write_context_page(
    folder: Path, document: Document, decomposition: Decomposition, class_names: Sequence[str]
) -> None:
    """Writes the page of `flipjax context`, with the flip matrix of an audit."""
    confusion = np.asarray(decomposition.confusion).sum(0, dtype=np.int64)
    chart = _matrix(confusion, class_names, decomposition.background, f"{len(decomposition.confusion)} images.")
    write_page(folder, document._replace(sections=[*document.sections, Section("Classes", [Picture(chart)])]))


def _shares(audit: Audit, note: str) -> Chart:
    """Returns stacked shares of correct, flip and miss, for all images, each group and each true class."""
    keys = [key for key in audit.summary if key.startswith("group/") and key.endswith("/fg_flip")]
    groups = {"all": ""} | {key.split("/")[1]: key.removesuffix("fg_flip") for key in keys[:BARS]}
    names = ("fg_correct", "fg_flip", "fg_miss")
    by_group = [[audit.summary[f"{prefix}{name}"] for prefix in groups.values()] for name in names]
    classes = most_flipped(audit.confusion, background=audit.background, limit=BARS)
    rows = audit.confusion[classes]
    correct = audit.confusion[classes, classes]
    miss = rows.sum(1) - rows[:, audit.foreground].sum(1)
    by_class = np.stack([correct, rows.sum(1) - correct - miss, miss]) / np.maximum(rows.sum(1), 1)
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


def choose_items(audit: Audit) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices of example images and the reason for each; for masks, those with the largest flip share."""
    if audit.has_scores:
        return gallery.choose_images(audit.decomposition, riskiest=SHOWN, typical=0, confident=SHOWN)
    flip = np.nan_to_num(np.asarray(audit.decomposition.flip))
    most = np.argsort(-flip, kind="stable")[: 2 * SHOWN]
    return most[flip[most] > 0], np.full(np.count_nonzero(flip[most]), "most flipped")


def draw_items(audit: Audit, maps_of: Callable[[int], Mapping[str, Any]]) -> list[Item]:
    """Returns example images in the order chosen, requesting their maps in the order of the images."""
    indices, kinds = choose_items(audit)
    maps = {index: maps_of(index) for index in sorted(indices.tolist())}
    return [make_item(audit, i, kind, maps[i]) for i, kind in zip(indices.tolist(), kinds.tolist(), strict=True)]


def anchor_of(truth: int, predicted: int) -> str:
    """Returns the page anchor of segments of one class predicted as another."""
    return f"flip-{truth}-{predicted}"


def draw_segments(audit: Audit, maps_of: Callable[[int], Mapping[str, Any]]) -> list[Item]:
    """Returns crops of the largest flipped segments of the most frequent class pairs."""
    true = audit.objects.tables.true
    if "first" in true:
        return []
    flips = true[true["outcome"] == "flip"].sort_values("pixels", ascending=False, kind="stable")
    found: dict[Any, list[Any]] = {tuple(pair[:2]): [] for pair in audit.objects.flipped_pairs()[:PAIRS]}
    for row in flips.to_dict("records"):
        own = found.get((row["class"], row["predicted"]), [])
        if len(own) < EACH:
            own.append(row)
    drawn: dict[tuple[int, int, int], Item] = {}
    chosen = [(*pair, place, row) for pair, own in found.items() for place, row in enumerate(own)]
    for image in sorted({row["image"] for *_, row in chosen}):
        maps = maps_of(image)
        for truth, predicted, place, row in chosen:
            if row["image"] == image:
                cut = _cut(row, int(maps["step"]), maps["truth"].shape)
                parts = {name: values[cut] for name, values in maps.items() if name != "step"}
                pair = f"{audit.class_names[truth]} as {audit.class_names[predicted]}"
                item = make_item(audit, image, pair, parts)
                drawn[truth, predicted, place] = item._replace(
                    flip=float(row["predicted_share"]),
                    flip_risk=float(row["flip_risk"]),
                    anchor="" if place else anchor_of(truth, predicted),
                )
    return [drawn[truth, predicted, place] for truth, predicted, place, _ in chosen]


def _cut(row: Mapping[str, Any], step: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Returns the box of a segment in its maps, with a margin."""
    sides = []
    for low, high, size in zip(("top", "left"), ("bottom", "right"), shape, strict=True):
        first, last = row[low] // step, -(-row[high] // step)
        margin = max(MARGIN, (last - first) // 4)
        sides.append(slice(max(0, first - margin), min(size, last + margin)))
    return tuple(sides)


def draw_maps(
    scores: np.ndarray, labels: np.ndarray, options: LabelSpec, *, image: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Returns the maps of one image by name, at most LARGEST_SIDE pixels per side.

    Args:
        scores: float (H, W, C) or class indices (H, W).
        labels: integers (H, W).
        options: kernel options.
        image: the photo uint8 (H, W, 3), shown beside them.
    """
    if labels.ndim == 3:
        # For volumes of masks, shows the slice along the last axis with the most wrong voxels.
        wrong = (scores != labels) & (True if options.ignore_index is None else labels != options.ignore_index)
        scores, labels = (values[..., wrong.sum((0, 1)).argmax()] for values in (scores, labels))
    masks = options.kind == "masks"
    # The program that counted the image.
    found = None if masks else read_pixels(scores, options)
    prediction, risk = (scores, np.full(labels.shape, np.nan)) if found is None else (found.prediction, found.risk)
    step = math.ceil(max(labels.shape) / LARGEST_SIDE)
    labels, prediction, risk = (np.asarray(values)[::step, ::step] for values in (labels, prediction, risk))
    classes = options.num_classes or scores.shape[-1]
    ignored = False if options.ignore_index is None else labels == options.ignore_index
    own = {"background": options.background, "ignore_index": options.ignore_index, "num_classes": classes}
    return ({} if image is None else {"image": image[::step, ::step]}) | {
        "step": np.array(step),
        "truth": np.where(ignored, classes, labels),
        "prediction": prediction,
        "errors": np.asarray(error_map(prediction, labels, kind="masks", **own)),
        "risk": risk,
    }


def make_item(audit: Audit, index: int, kind: str, maps: Mapping[str, Any]) -> Item:
    """Returns one image of an audit with its maps."""
    return Item(
        name=audit.names[index],
        member="",
        group="" if audit.groups is None else audit.group_names[int(audit.groups[index])],
        kind=kind,
        flip=float(audit.decomposition.flip[index]),
        flip_risk=float(audit.decomposition.flip_risk[index]),
        **{name: values for name, values in maps.items() if name != "step"},
    )


def palette_of(audit: Audit, items: Sequence[Item]) -> Palette:
    """Returns the class colours; the legend has the classes with the most pixels in the items."""
    classes = len(audit.class_names)
    colours = [*class_colours(classes, background=audit.background), IGNORED_COLOUR]
    maps = [values.ravel() for item in items for values in (item.truth, item.prediction)]
    pixels = np.bincount(np.concatenate([*maps, np.zeros(0, int)]), minlength=classes + 1)
    names = [*audit.class_names, "ignored"]
    first = np.argsort(-pixels, kind="stable")[: NAMED + 1].tolist()
    common = sorted(c for c in first if pixels[c] and c not in background_classes(audit.background))
    return Palette(colours, {names[c]: to_hex(colours[c]) for c in common}, audit.background, classes)
