"""The page of an assay: the verdict, the curve over counter-examples, the groups, the cues, and examples of flips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flipjax.assays.results import UNNAMED_CLUSTERS, Assay, to_plain
from flipjax.assays.sentences import findings
from flipjax.assays.statistics.association import usual_mask
from flipjax.assays.statistics.contrast import Contrast
from flipjax.assays.statistics.estimates import FlipEstimate
from flipjax.assays.statistics.interim import level_of_analysis, spent_level
from flipjax.page.document import Document, Numbers, Section
from flipjax.page.html import Gallery, write_report
from flipjax.page.panels import Chart, Panel, ReferenceLevel, draw_reference
from flipjax.page.style import dress, legend
from flipjax.page.tables import TextTable
from flipjax.page.tiles import Item
from flipjax.report.run_gallery import items_of, palette_of
from flipjax.results.run import StoredRun
from flipjax.results.statistics.verdicts import FEWEST_SEEDS

SHOWN = 24
"""Images that the page shows, at most."""


def write_assay(assay: Assay, shown: StoredRun | None) -> str:
    """Writes index.html, figures/ and summary.md of an assay, and returns the findings and tables as text.

    Args:
        assay: with the folder of the page.
        shown: the run whose flipped images are shown, if any.
    """
    sections = [Section("Verdict", [_verdict_block(assay)])]
    if assay.levels:
        title = "Flip"
        if assay.used:
            title = "What ends the use"
        sections.append(Section(title, _remedy_blocks(assay)))
        sections.append(Section("Groups", [Numbers("What the networks made of each group", _group_table(assay))]))
    sections.append(Section("Class and attribute", [_count_block(assay)]))
    cues = f"How well a number of the image tells class and value: AUROC with 95% intervals over {assay.unit}"
    if assay.cues:
        sections.append(Section("Cues", [Numbers(cues, _cue_table(assay))]))
    gallery = _gallery(shown)
    if gallery is not None:
        sections.append(Section("Flips", [gallery]))
    document = Document(
        title=f"Assay of {assay.attribute}: {assay.verdict.word}",
        facts=_facts(assay),
        lines=findings(assay),
        sections=sections,
        terms=(),
        definitions=_definitions(assay),
        config={"margin": assay.margin, "training": to_plain(assay.training)},
        findings_shown=6,
    )
    return write_report(Path(assay.folder), document)


def _facts(assay: Assay) -> list[str]:
    """Returns what was assayed and how, and for which networks the answer holds."""
    clusters = ""
    if assay.clustered:
        clusters = f", {assay.clusters} clusters"
        if assay.cluster_name != UNNAMED_CLUSTERS:
            clusters += f" ({assay.cluster_name})"
    facts = [f"{assay.source}: {assay.images} images{clusters}, read at {assay.size} x {assay.size} pixels"]
    if assay.training is not None:
        facts.append(assay.training.sentence)
        words = assay.training.words
        facts.append(f"The answer is about {words}; a deployed model is tested by flipjax audit, on its predictions")
    facts.append(f"Took {assay.seconds:.0f} s; {', '.join(assay.software)}")
    return facts


def _verdict_block(assay: Assay) -> Numbers:
    """Returns the table of the numbers that the verdict rests on."""
    rows = []
    if assay.contrast is not None:
        rows += _contrast_rows(assay, assay.contrast)
    if assay.learnt is not None:
        meaning = (
            "of the class among the object pixels that are found, mean over the common groups and seeds; "
            f"{assay.learnt.needed:.2f} is needed"
        )
        rows.append(["accuracy", f"{assay.learnt.accuracy:.2f}", meaning])
    if not rows:
        rows.append(["nothing trained", "-", assay.verdict.reason])
    return Numbers("What the verdict rests on", TextTable(["", "value", "meaning"], rows), words=True)


def _contrast_rows(assay: Assay, contrast: Contrast) -> list[list[str]]:
    """Returns the rows of the contrast; each interim analysis tests it, with the seeds trained so far."""
    p_over_seeds = _probability(contrast.estimate.p)
    p_over_permutations = _probability(contrast.p)
    count = 0
    analyses = f"tests of the contrast so far; the first comes after {FEWEST_SEEDS} seeds"
    significant = ""
    if contrast.analyses[-1] >= FEWEST_SEEDS:
        count = len(contrast.analyses)
        after = ", ".join(map(str, contrast.analyses))
        threshold = f"{level_of_analysis(contrast.analyses):.3f}"
        analyses = f"tests of the contrast, after {after} seeds; the last is significant if its p <= {threshold}"
        significant = f", significant if p <= {spent_level(contrast.analyses[-1]):.3f}"
    return [
        [
            "contrast",
            contrast.estimate.text,
            "how much more the rare groups flip than the common ones, beyond what class and value alone explain; "
            f"one-sided p {p_over_seeds}",
        ],
        ["interim analyses", f"{count}", analyses],
        ["spread", *_spread_row(assay)],
        [
            "permuted",
            f"{contrast.permuted:.2f}",
            f"the contrast is at most that in 95% of cases with the attribute permuted over {contrast.unit}; "
            f"p {p_over_permutations}{significant}",
        ],
        ["margin", f"{assay.margin:g}", "a contrast within it does not matter"],
    ]


def _spread_row(assay: Assay) -> list[str]:
    """Returns the share of the contrast's variance that is over images or clusters, and what it is."""
    outlook = assay.outlook
    if outlook is None or np.isnan(outlook.image_share):
        return ["-", "of the contrast's variance; unknown without two seeds and two images of each group"]
    share = f"{outlook.image_share:.0%}"
    return [share, f"of the contrast's variance is over {assay.unit}, the rest over seeds"]


def _probability(p: float) -> str:
    """Returns p as text, a dash for NaN."""
    if np.isnan(p):
        return "-"
    if p < 0.001:
        return "<0.001"
    return f"{p:.2g}"


def _definitions(assay: Assay) -> dict[str, str]:
    """Returns what the words of the page mean, with this assay's names."""
    usual = usual_mask(assay.association.usual, len(assay.value_names))
    pairs = []
    for y, name in enumerate(assay.class_names):
        shown = [value for value, is_usual in zip(assay.value_names, usual[y], strict=True) if is_usual]
        pairs.append(f"{' or '.join(shown)} for {name}")
    attribute = assay.attribute
    unit = assay.unit
    return {
        "common, rare": f"Images of a class with a {attribute} that the class has more often than the others have it "
        f"({', '.join(pairs)}), and its other images, the counter-examples.",
        "correct, flip, miss": "Shares of the object's pixels, by networks that did not train on the image: found with "
        "the right class, found with another class, and taken for background.",
        "contrast": "How much more the rare groups flip than the common ones, beyond what a harder class and a harder "
        f"{attribute} explain.",
        "used": f"Networks take {attribute} for the class: the contrast is above 0 over seeds and {unit}, and beyond "
        "that of permuted attributes. Where nothing is used, the probability of this verdict over all interim analyses "
        "is 0.05 at most.",
        "not used": f"The whole interval of the contrast lies within the margin of {assay.margin:g}: evidence that "
        f"networks of this kind do not take {attribute} for the class.",
        "cannot be told": "Networks do not learn the classes, or the interval is too wide, or no counter-example "
        "exists: evidence of nothing.",
        "Flip of groups": "Of each group, the flipped share of the pixels of all its objects; the mean over groups, "
        "each counted once, and over seeds.",
        "cue, AUROC": "A number of each image, such as its brightness, and the probability that it is larger in an "
        "image of one value or class than in one of another: 0.5 tells nothing, 1 tells all.",
        "95% interval": f"Over networks of different seeds and over {unit}. That of an AUROC is over {unit} alone.",
    }


def _remedy_blocks(assay: Assay) -> list[Numbers | Chart]:
    """Returns Flip with fewer counter-examples and with methods, as a table and, of several levels, a curve."""
    rows = []
    for remedy in (*assay.levels, *assay.methods):
        kept_images = remedy.kept * assay.association.counter_examples.sum()
        rows.append(
            [
                remedy.name,
                f"{kept_images:.0f}",
                remedy.flip_rare.text,
                remedy.flip_common.text,
                f"{remedy.foreground_iou:.2f}",
            ]
        )
    header = ["networks trained with", "counter-examples", "Flip (rare)", "Flip (common)", "foreground IoU"]
    caption = "Flip of the networks that the verdict is on"
    if len(rows) > 1:
        caption = "Flip with fewer counter-examples, and with methods"
    blocks: list[Numbers | Chart] = [Numbers(caption, TextTable(header, rows))]
    if len(assay.levels) > 1:
        blocks.insert(0, _curve(assay))
    return blocks


def _curve(assay: Assay) -> Chart:
    """Returns the chart of Flip over the number of counter-examples."""
    kept_images = np.array([level.kept for level in assay.levels]) * assay.association.counter_examples.sum()
    needed = assay.counter_examples

    def draw_curve(axes: Axes, estimates: Sequence[FlipEstimate], *, name: str, colour: str) -> None:
        means = np.array([estimate.value for estimate in estimates])
        low = np.array([estimate.low for estimate in estimates])
        high = np.array([estimate.high for estimate in estimates])
        axes.errorbar(kept_images, means, [means - low, high - means], marker="o", color=colour, label=name, capsize=2)

    def draw(axes: Axes) -> None:
        draw_curve(axes, [level.flip_rare for level in assay.levels], name="rare groups", colour="tab:orange")
        draw_curve(axes, [level.flip_common for level in assay.levels], name="common groups", colour="tab:blue")
        dress(axes, title="Flip over counter-examples", x="counter-examples in the data", y="Flip")
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if needed is not None:
            draw_reference(axes, ReferenceLevel(needed.target, "target"))
        legend(axes, columns=2)

    points = []
    for count, level in zip(kept_images, assay.levels, strict=True):
        points.append(f"{count:.0f}: {level.flip_rare.value:.2f}")
    text = f"Flip in the rare groups over the number of counter-examples. {'; '.join(points)}."
    panel = Panel(draw, text, (5.2, 3.4))
    return Chart(
        "counter_examples",
        "Flip over the number of counter-examples",
        "Networks of all common images and some of the counter-examples, tested on images that they did not train on.",
        f"{assay.images} images, tested once for each seed; bars: 95% intervals over seeds and {assay.unit}.",
        [panel],
        columns=1,
    )


def _group_table(assay: Assay) -> TextTable:
    """Returns the table of Flip in each group of a class and a value of the attribute."""
    rows = []
    for row in assay.groups:
        kind = "rare"
        if row.common:
            kind = "common"
        shares = ["-", "-", "-"]
        if row.images:
            shares = [f"{row.flip:.2f}", f"{row.miss:.2f}", f"{row.correct:.2f}"]
        rows.append([f"{row.class_name}, {row.value_name}", kind, f"{row.images}", *shares])
    return TextTable(["group", "", "tested images", "Flip", "Miss", "correct"], rows)


def _count_block(assay: Assay) -> Numbers:
    """Returns the images of each group, with their clusters if a cluster has several images."""
    counts = assay.association.counts
    caption = "Images of each class and value"
    if assay.clustered:
        caption = "Images of each class and value, and their clusters in parentheses"
    rows = []
    for y, name in enumerate(assay.class_names):
        row = [name]
        for value in range(len(assay.value_names)):
            text = f"{counts[y, value]}"
            if assay.clustered:
                text += f" ({assay.cluster_counts[y, value]})"
            row.append(text)
        rows.append(row)
    return Numbers(caption, TextTable(["class", *assay.value_names], rows))


def _cue_table(assay: Assay) -> TextTable:
    """Returns the table of the AUROCs of each cue."""
    rows = []
    for cue in assay.cues:
        rows.append([cue.name, cue.of_value.text(".2f"), cue.of_class.text(".2f")])
    return TextTable(["cue", assay.attribute, "class"], rows)


def _flip(item: Item) -> float:
    return item.flip


def _gallery(run: StoredRun | None) -> Gallery | None:
    """Returns the images that a run kept of one network, the most flipped first, or None."""
    if run is None:
        return None
    stored_items, _damaged = items_of(run, run.first_rule)
    items = sorted(stored_items, key=_flip, reverse=True)[:SHOWN]
    if not items:
        return None
    return Gallery(
        items,
        palette_of(run),
        "Some test images of one network, the most flipped first: image, truth, prediction and flip-risk.",
    )
