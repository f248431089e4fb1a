"""Writes the page of an audit: its report with charts and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.pictures import anchor_of, palette_of
from flipjax.audit.results import Audit
from flipjax.audit.tables import LINKED, most_flipped, segment_matrix
from flipjax.report import panels
from flipjax.report.chart import Chart
from flipjax.report.document import Document, Numbers
from flipjax.report.html import Gallery, Picture, pictures_of, write_page
from flipjax.report.pictures import Item, save_items

RISKIEST = (
    "The images of the highest flip-risk, and the most flipped ones of the less risky half; where scenes are known, "
    "typical images and pairs, one object in both scenes. Flip-risk is drawn where foreground is predicted."
)
MOST_FLIPPED = "The images of the largest flip share."
CUT = "The largest flipped segments of the most frequent pairs, with a margin; flip is the share of the segment."
BARS, CELLS = 24, 40
"""Classes or groups that a chart of bars and a matrix show, at most."""
HINT = "Photos are shown where --images names their folder."


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
    path = folder / "figures" / "pictures.png"
    path.unlink(missing_ok=True)
    if items:
        save_items(path, items, palette, title="Images to look at", note=caption)
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
    cells = most_flipped(audit, limit=CELLS)
    matrix = panels.matrix_panel(audit.confusion, audit.class_names, background=audit.background, classes=cells)
    return [_shares(audit, note), *ranked, panels.matrix_chart([matrix], note=_part(audit, note, len(cells)))]


def _shares(audit: Audit, note: str) -> Chart:
    """Returns stacked shares of correct, flip and miss, for all images, each group and each true class."""
    keys = [key for key in audit.summary if key.startswith("group/") and key.endswith("/fg_flip")]
    groups = {"all": ""} | {key.split("/")[1]: key.removesuffix("fg_flip") for key in keys[:BARS]}
    names = ("fg_correct", "fg_flip", "fg_miss")
    by_group = [[audit.summary[f"{prefix}{name}"] for prefix in groups.values()] for name in names]
    classes = most_flipped(audit, limit=BARS)
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
    return panels.shares_chart(bars, note=_part(audit, note, len(classes)))


def _part(audit: Audit, note: str, shown: int) -> str:
    """Returns the note, with the number of classes shown if some are left out."""
    return note if shown == len(audit.foreground) else f"{note} Shown are the {shown} classes in the most flips."
