"""The page of tuned methods: what was drawn, chosen and found."""

import dataclasses
from collections.abc import Mapping

import pandas as pd

from flipjax.report.charts import Chart
from flipjax.report.document import Document, Numbers, PageBlock, Section
from flipjax.report.grid_panels import forest_panels
from flipjax.report.html import write_report
from flipjax.report.page_tables import marked
from flipjax.results import sentences
from flipjax.results.estimates import aggregate
from flipjax.results.frames import groups_of, records_of
from flipjax.results.rows import member_quantities
from flipjax.results.text import (
    TextTable,
    comparison_table,
    legend,
    number,
    summary_table,
    value_text,
    varying_axes,
)
from flipjax.tuning.draws import DrawRange
from flipjax.tuning.protocol import UNTUNED, Tuned

BEST = 12
"""Rows of the first table, at most."""
LEAST_FLIP = "group/rare/fg_flip"
"""The quantity whose least means are the best."""


def write_page(tuned: Tuned) -> str:
    """Writes report/ into the folder, and returns the page's first tables as text."""
    return write_report(tuned.folder / "report", make_document(tuned))


def make_document(tuned: Tuned) -> Document:
    """Returns the page."""
    records = member_quantities(tuned.results)
    protocol = tuned.protocol
    first_rule = protocol.rules[0]
    draws = len(protocol.settings) // len(protocol.methods)
    fact = (
        f"{len(protocol.methods)} methods, {draws} random draws each, chosen on validation by "
        f"{' and '.join(protocol.rules)}; tested once, with fresh seeds. {tuned.fresh.statuses()}"
    )
    of_methods = f"Methods, each tuned by {first_rule}: difference from the first"
    of_tuning = f"Difference from {UNTUNED}"
    best, *whole = result_tables(aggregate(tuned.results))
    verdicts = [
        marked(
            f"{of_methods}; {legend(tuned.methods, 'comparisons of methods')}",
            comparison_table(tuned.methods),
        ),
        marked(
            f"{of_tuning}; {legend(tuned.tuning, 'comparisons with methods as they stand')}",
            comparison_table(tuned.tuning, "selection"),
        ),
    ]
    return Document(
        title=tuned.folder.resolve().name,
        facts=[fact],
        lines=[
            *_lost(tuned.draws),
            *sentences.classes_warning(records, classes=tuned.fresh.classes),
            *sentences.verdicts(tuned.methods),
            *sentences.verdicts(tuned.tuning, axis="selection"),
        ],
        sections=[
            Section("Found", [best, *_charts(tuned), *whole]),
            Section("Verdicts", verdicts),
            Section("Chosen", [_table("The best draw by validation, a mean over its seeds", tuned.chosen)]),
            Section("Drawn", [_ranges_table(protocol.ranges), _table("All draws; * chosen", tuned.draws, folded=True)]),
        ],
        terms=["correct, flip, miss", "common, rare", "IoU gap", "95% interval", "verdict", "classes not learnt"],
        config=tuned.fresh.config_record.get("config", {}),
    )


def _charts(tuned: Tuned) -> list[Chart]:
    """Returns the charts of both families of differences."""
    note = f"Fresh seeds: {len(tuned.protocol.fresh)}."
    return [
        Chart(
            name="methods",
            title="Differences between tuned methods",
            caption=f"Methods, each tuned by {tuned.protocol.rules[0]}.",
            note=note,
            panels=forest_panels(tuned.methods),
        ),
        Chart(
            name="tuning",
            title="What tuning changed",
            caption=f"Differences of each method from itself as it stands ({UNTUNED}).",
            note=note,
            panels=forest_panels(tuned.tuning, "selection"),
        ),
    ]


def result_tables(summary: pd.DataFrame, *, best: int = BEST) -> list[PageBlock]:
    """Returns the table of test results; if it is long, after one of the settings with the fewest flips."""
    caption = "Test results: mean over fresh seeds"
    whole = marked(caption, summary_table(summary))
    axes = varying_axes(summary)
    settings = summary[summary["quantity"] == LEAST_FLIP]
    if "rho" in summary:
        axes.append("rho")
        settings = settings[settings["rho"] == settings["rho"].max()]
    settings = settings[settings["mean"].notna()].sort_values("mean", kind="stable")[:best]
    if len(whole.table.rows) <= best or settings.empty:
        return [whole]
    rows = settings[axes].merge(summary, on=axes)[list(summary)]
    best_caption = f"The {len(settings)} with the least Flip in the rare groups"
    if "rho" in summary:
        best_caption += f" at rho {value_text('rho', rows['rho'].iloc[0])}"
    return [
        marked(f"{best_caption}: mean over fresh seeds", summary_table(rows)),
        dataclasses.replace(whole, caption=f"All t{whole.caption[1:]}", folded=True),
    ]


def _lost(draws: pd.DataFrame) -> list[str]:
    """Returns a sentence for each method, rho and rule of which no draw could be chosen."""
    lines = []
    for values, rows in groups_of(draws, ["method", "rho", "rule"]):
        method, rho, rule = values
        if not rows["chosen"].any():
            lines.append(
                f"Warning: every draw of {method} at rho {value_text('rho', rho)} diverged; {rule} chose none."
            )
    return lines


def _table(caption: str, draws: pd.DataFrame, *, folded: bool = False) -> Numbers:
    """Returns a table of draws with their numbers and their validation; a folded one marks those that were chosen."""
    names = [str(name) for name in draws if name not in ("chosen", "score")]
    rows = []
    for row in records_of(draws):
        validation = number(row["score"], ".4f")
        if folded and row["chosen"]:
            validation += "*"
        rows.append([*(value_text(name, row[name]) for name in names), validation])
    return Numbers(caption, TextTable([*names, "validation"], rows, 4), folded=folded, searched=folded)


def _ranges_table(ranges: Mapping[str, DrawRange]) -> Numbers:
    """Returns the declared ranges."""
    rows = [[name, str(drawn_range)] for name, drawn_range in ranges.items()]
    return Numbers("Ranges that were declared", TextTable(["number", "drawn from"], rows), words=True)
