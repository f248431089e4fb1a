"""The page of an audit and its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.files import TITLE
from flipjax.audit.pictures import anchor_of, palette_of
from flipjax.audit.results import Audit, findings, most_flipped
from flipjax.audit.tables import details, folded_tables, group_label, main_tables
from flipjax.groups import Groups
from flipjax.report import panels
from flipjax.report.chart import Chart
from flipjax.report.html import Gallery, Numbers, Picture, Section, pictures_of, write_index
from flipjax.report.pictures import Item, save_items
from flipjax.results.text import TextTable

CAPTION = (
    "The images of the highest flip-risk; the most flipped ones of the less risky half, where the model flips with "
    "confidence and flip-risk does not point at them; and, where scenes are known, typical ones and pairs, one object "
    "in both scenes. Flip-risk is drawn where foreground is predicted."
)
MOST_FLIPPED = "The images of the largest flip share; masks have no flip-risk."
SWAP = (
    "Flips that follow the scene are confident, and flip-risk does not see them. Scene-swap risk and repair do, but "
    "they ask the model: flipjax evaluate --intervene for converted weights, flipjax.intervene for any model."
)
BARS, CELLS = 24, 40
"""Classes or groups that a chart of bars and a matrix show, at most."""
LINKED = "; a number leads to pictures"
CUT = "The largest flipped segments of the most frequent pairs, and what is around them; flip is their own share."
HINT = "Photos are shown where --images names their folder."


def write_page(
    folder: Path,
    audit: Audit,
    items: Sequence[Item],
    segments: Sequence[Item] = (),
    *,
    options: Mapping[str, Any],
    facts: Sequence[str],
) -> None:
    """Writes index.html, which needs no other file, and its figures as SVG and PNG."""
    shares, *ranked, matrix = charts(audit)
    palette = palette_of(audit, items)
    caption = CAPTION if audit.has_scores else MOST_FLIPPED
    caption += "" if any(item.image is not None for item in items) else f" {HINT}"
    sections = [
        Section("Results", [*_numbers(main_tables(audit)), *pictures_of([shares])]),
        Section("Flip-risk", pictures_of(ranked[::-1]), "" if audit.swap else SWAP),
        Section("Classes", [Picture(matrix)]),
        Section("Segments", _segments(audit, segments)),
        Section("Images", [Gallery(items, palette, caption)] if items else []),
        Section("Details", _numbers(details(audit) | folded_tables(audit), folded=True)),
    ]
    path = folder / "figures" / "pictures.png"
    path.unlink(missing_ok=True)
    if items:
        save_items(path, items, palette, title="Images to look at", note=caption)
    terms = ["correct, flip, miss", "segment", "StrictFlip"]
    terms += ["common, rare", "IoU gap"] if isinstance(audit.all_groups, Groups) and audit.groups is not None else []
    terms += ["flip-risk", "risk-coverage"] if audit.has_scores else []
    terms += ["scene swap", "counterfactual pair"] if audit.swap else []
    write_index(folder, sections, title=TITLE, lines=findings(audit), facts=facts, terms=terms, config=options)


def _segments(audit: Audit, items: Sequence[Item]) -> list[Numbers | Gallery]:
    """Returns the flip matrix in segments, whose cells lead to the pictures, and the pictures."""
    if not audit.objects.flipped_pairs():
        return []
    classes, table = audit.objects.matrix()
    shown = {item.anchor for item in items}
    places = [(row, column) for row in range(len(classes)) for column in range(len(classes))]
    links = {(row, column + 1): anchor_of(classes[row], classes[column]) for row, column in places}
    links = {cell: anchor for cell, anchor in links.items() if anchor in shown}
    caption = f"Segments of a true class (row) that are taken for a class (column){LINKED if links else ''}"
    matrix = Numbers(caption, table, links=links)
    return [matrix, Gallery(items, palette_of(audit, items), CUT)] if items else [matrix]


def charts(audit: Audit) -> list[Chart]:
    """Returns the charts of shares, of risk-coverage and of deciles but for masks, and of the flip matrix."""
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
    """Returns correct, flip and miss as stacked shares: of all images and of each group, and of each true class."""
    keys = [key for key in audit.summary if key.startswith("group/") and key.endswith("/fg_flip")]
    groups = {"all": ""} | {key.split("/")[1]: key.removesuffix("fg_flip") for key in keys[:BARS]}
    names = ("fg_correct", "fg_flip", "fg_miss")
    by_group = [[audit.summary[f"{prefix}{name}"] for prefix in groups.values()] for name in names]
    classes = most_flipped(audit, limit=BARS)
    rows = audit.confusion[classes]
    correct = audit.confusion[classes, classes]
    miss = rows.sum(1) - rows[:, audit.foreground].sum(1)
    by_class = np.stack([correct, rows.sum(1) - correct - miss, miss]) / np.maximum(rows.sum(1), 1)
    labels = [group_label(audit, name).replace(", ", "\n") for name in groups]
    names = [audit.class_names[c] for c in classes]
    bars = [
        panels.bar_panel(by_group, labels, title="by group" if keys else "all images"),
        panels.bar_panel(by_class.tolist(), names, title="by true class"),
    ]
    return panels.shares_chart(bars, note=_part(audit, note, len(classes)))


def _part(audit: Audit, note: str, shown: int) -> str:
    """Says which classes are left out."""
    return note if shown == len(audit.foreground) else f"{note} Shown are the {shown} classes in the most flips."


def _numbers(tables: Mapping[str, TextTable], *, folded: bool = False) -> list[Numbers]:
    return [Numbers(caption, table, folded=folded) for caption, table in tables.items()]
