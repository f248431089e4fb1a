"""The page of an assay: the verdict, the curve over counter-examples, the groups, the cues, and examples of flips."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from flipjax.assays.results import Assay
from flipjax.assays.sentences import findings, with_ends
from flipjax.report.document import Document, Numbers, Section
from flipjax.report.gallery.items import Item, items_of, palette_of
from flipjax.report.html import Gallery, write_report
from flipjax.report.panels import Chart, Panel, draw_reference
from flipjax.report.run import read_run
from flipjax.report.style import dress, legend
from flipjax.results.text import TextTable

SHOWN = 24
"""Images that the page shows, the most flipped first."""


def write_assay(assay: Assay, folder: Path) -> str:
    """Writes index.html, figures/ and summary.md of an assay, and returns the findings and tables as text."""
    sections = [Section("Verdict", [Numbers("The verdict and what it rests on", _verdict_table(assay), words=True)])]
    if assay.levels:
        sections.append(Section("What ends it", _remedy_blocks(assay)))
        sections.append(Section("Groups", [Numbers("What the networks made of each group", _group_table(assay))]))
    sections.append(Section("Class and attribute", [Numbers("Images of each class and value", _count_table(assay))]))
    cues = "How well a number of the image tells class and value: AUROC with 95% intervals over images or clusters"
    sections.append(Section("Cues", [Numbers(cues, _cue_table(assay))]))
    gallery = _gallery(assay, folder)
    if gallery is not None:
        sections.append(Section("Flips", [gallery]))
    clusters = f", {assay.clusters} clusters" if assay.clusters < assay.images else ""
    facts = [f"{assay.source}: {assay.images} images{clusters}, read at {assay.size} x {assay.size} pixels"]
    if assay.schedule is not None:
        facts.append(assay.schedule.sentence)
    facts.append(f"Took {assay.seconds:.0f} s; {', '.join(assay.software)}; images and options {assay.digest[:12]}")
    document = Document(
        title=f"Assay of {assay.attribute}: {assay.verdict.word}",
        facts=facts,
        lines=findings(assay),
        sections=sections,
        terms=("common, rare", "correct, flip, miss", "95% interval"),
    )
    return write_report(folder, document)


def _verdict_table(assay: Assay) -> TextTable:
    rows = [["verdict", assay.verdict.word, assay.verdict.reason]]
    contrast = assay.contrast
    if contrast is not None:
        p_seeds = f"p over seeds {assay.verdict.p_seeds:.3g}, by the rule of verdicts"
        rows.append(
            [
                "contrast of Flip",
                with_ends(contrast.estimate),
                f"rare less common, classes and values cancelled; {p_seeds}",
            ]
        )
        permuted = f"95th percentile over permuted {contrast.unit}; p {contrast.p:.3g}"
        rows.append(["with the attribute permuted", f"{contrast.permuted:.2f}", permuted])
        rows.append(["margin", f"{assay.margin:g}", "a contrast within it does not matter"])
    if assay.learnt is not None:
        needed = f"of the class in common groups; {assay.learnt.needed:.2f} are needed"
        rows.append(["accuracy", f"{assay.learnt.accuracy:.2f}", needed])
    return TextTable(["", "value", "meaning"], rows)


def _remedy_blocks(assay: Assay) -> list[Numbers | Chart]:
    rows = []
    for level in (*assay.levels, *assay.methods):
        kept = level.kept * assay.association.counter_examples.sum()
        rows.append(
            [
                level.name,
                f"{kept:.0f}",
                with_ends(level.flip_rare),
                with_ends(level.flip_common),
                f"{level.foreground_iou:.2f}",
            ]
        )
    header = ["counter-examples or method", "of the data", "Flip (rare)", "Flip (common)", "foreground IoU"]
    blocks: list[Numbers | Chart] = [
        Numbers("Flip with fewer counter-examples, and with methods", TextTable(header, rows))
    ]
    if len(assay.levels) > 1:
        blocks.insert(0, _curve(assay))
    return blocks


def _curve(assay: Assay) -> Chart:
    counts = np.array([level.kept for level in assay.levels]) * assay.association.counter_examples.sum()
    curves = {"rare groups": [level.flip_rare for level in assay.levels]}
    curves["common groups"] = [level.flip_common for level in assay.levels]

    def draw(axes: Axes) -> None:
        for (name, estimates), colour in zip(curves.items(), ("tab:orange", "tab:blue"), strict=True):
            means = np.array([estimate.value for estimate in estimates])
            low = np.array([estimate.low for estimate in estimates])
            high = np.array([estimate.high for estimate in estimates])
            axes.errorbar(counts, means, [means - low, high - means], marker="o", color=colour, label=name, capsize=2)
        dress(axes, title="Flip over counter-examples", x="counter-examples in the data", y="Flip")
        axes.set_ylim(0, 1)
        if assay.counter_examples is not None:
            draw_reference(axes, assay.counter_examples.target, "target")
        legend(axes, columns=2)

    ends = [f"{count:.0f}: {level.flip_rare.value:.2f}" for count, level in zip(counts, assay.levels, strict=True)]
    panel = Panel(draw, f"Flip in the rare groups over the number of counter-examples. {'; '.join(ends)}.", (5.2, 3.4))
    return Chart(
        "counter_examples",
        "Flip over the number of counter-examples",
        "Networks of all common images and some of the counter-examples, tested on images that they did not train on.",
        f"{assay.images} images, tested once for each seed; bars: 95% intervals over seeds and images.",
        [panel],
        columns=1,
    )


def _group_table(assay: Assay) -> TextTable:
    rows = []
    for row in assay.groups:
        kind = "common" if row.common else "rare"
        shares = [f"{row.correct:.2f}", f"{row.flip:.2f}", f"{row.miss:.2f}"] if row.images else ["-", "-", "-"]
        rows.append([f"{row.class_name}, {row.value_name}", kind, f"{row.images}", *shares])
    return TextTable(["group", "", "images", "correct", "Flip", "Miss"], rows)


def _count_table(assay: Assay) -> TextTable:
    table = pd.DataFrame(assay.association.counts, assay.class_names, assay.value_names)
    rows = [[name, *map(str, counts)] for name, counts in zip(table.index, table.to_numpy().tolist(), strict=True)]
    return TextTable(["class", *assay.value_names], rows)


def _cue_table(assay: Assay) -> TextTable:
    rows = []
    for cue in assay.cues:
        texts = [f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in (cue.of_value, cue.of_class)]
        rows.append([cue.name, *texts])
    return TextTable(["cue", assay.attribute, "class"], rows)


def _gallery(assay: Assay, folder: Path) -> Gallery | None:
    """Returns the most flipped images that the population's run kept, or None."""
    if assay.contrast is None:
        return None
    run = read_run(folder / "population")
    stored, _ = items_of(run)
    items: list[Item] = sorted(stored, key=lambda item: -item.flip)[:SHOWN]
    if not items:
        return None
    return Gallery(
        items, palette_of(run), "Test images that networks flip most: image, truth, prediction and flip-risk."
    )
