"""The page of tuned methods: what was drawn, chosen and found."""

from collections.abc import Mapping

import pandas as pd

from flipjax.page.charts import Chart
from flipjax.page.document import Document, Numbers, PageBlock, Section
from flipjax.page.html import write_report
from flipjax.page.tables import TextTable, number
from flipjax.report.grid_panels import forest_panels
from flipjax.report.page_tables import marked
from flipjax.results import sentences
from flipjax.results.glossary import GLOSSARY
from flipjax.results.rows import member_quantities
from flipjax.results.statistics.estimates import aggregate
from flipjax.results.text import comparison_table, legend, summary_table, value_text, varying_axes
from flipjax.support.frames import groups_of, records_of
from flipjax.tuning.draws import DrawRange
from flipjax.tuning.protocol import UNTUNED
from flipjax.tuning.tuned import Tuned

BEST = 12
"""Rows of the first table, at most."""
LEAST_FLIP = "group/rare/fg_flip"
"""The quantity whose least means are the best."""
DRAW_NAMES = ("method", "rho", "rule", "draw")
"""The first columns of draws, which name a row."""
CHOSEN = {True: "yes", False: ""}
"""How a row of all draws says whether validation chose it."""


def write_page(tuned: Tuned) -> str:
    """Writes report/ into the folder, and returns the page's first tables as text."""
    return write_report(tuned.folder / "report", make_document(tuned))


def make_document(tuned: Tuned) -> Document:
    """Returns the page."""
    records = member_quantities(tuned.results)
    protocol = tuned.protocol
    first_rule = protocol.options.rules[0]
    draws_per_method = len(protocol.settings) // len(protocol.methods)
    tested = tuned.fresh.first_rule.statuses_in_words()
    fact = (
        f"{len(protocol.methods)} methods, {draws_per_method} random draws each, chosen on validation by "
        f"{' and '.join(protocol.options.rules)}; tested once, with fresh seeds. {tested}"
    )
    of_methods = f"Methods, each tuned by {first_rule}: difference from the first"
    of_tuning = f"Difference from {UNTUNED}"
    first_table, *later_tables = result_tables(aggregate(tuned.results))
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
            Section("Found", [first_table, *_charts(tuned), *later_tables]),
            Section("Verdicts", verdicts),
            Section("Chosen", [_chosen_table(tuned.chosen)]),
            Section("Drawn", [_ranges_table(protocol.options.ranges), _all_draws_table(tuned.draws)]),
        ],
        terms=["correct, flip, miss", "common, rare", "IoU gap", "95% interval", "verdict", "classes not learnt"],
        glossary=GLOSSARY,
        config=tuned.fresh.config_record.get("config", {}),
    )


def draw_cells(draws: pd.DataFrame, *, mark_chosen: bool) -> TextTable:
    """Returns draws with their numbers and their score in validation, and maybe whether each was chosen."""
    columns = [str(name) for name in draws if name not in ("chosen", "score")]
    titles = [*columns, "validation"]
    if mark_chosen:
        titles.append("chosen")
    rows = []
    for row in records_of(draws):
        cells = [*(value_text(name, row[name]) for name in columns), number(row["score"], ".4f")]
        if mark_chosen:
            cells.append(CHOSEN[bool(row["chosen"])])
        rows.append(cells)
    return TextTable(titles, rows, name_columns=len(DRAW_NAMES))


def _charts(tuned: Tuned) -> list[Chart]:
    """Returns the charts of both families of differences."""
    note = f"Fresh seeds: {len(tuned.protocol.options.fresh)}."
    return [
        Chart(
            name="methods",
            title="Differences between tuned methods",
            caption=f"Methods, each tuned by {tuned.protocol.options.rules[0]}.",
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
    """Returns the table of test results; if it is long, after one of the settings with the fewest flips.

    Args:
        summary: a row for each setting, rho and quantity.
        best: rows of the table of the fewest flips, and of a table that is not long.
    """
    all_results = summary_table(summary)
    fewest_flips = _settings_with_fewest_flips(summary, best)
    if len(all_results.rows) <= best or fewest_flips.empty:
        return [marked("Test results: mean over fresh seeds", all_results)]
    return [
        _fewest_flips_table(fewest_flips, summary),
        marked("All test results: mean over fresh seeds", all_results, folded=True),
    ]


def _settings_with_fewest_flips(summary: pd.DataFrame, count: int) -> pd.DataFrame:
    """Returns the columns that name the settings with the least mean of LEAST_FLIP, at the largest rho, best first."""
    flips = summary[summary["quantity"] == LEAST_FLIP]
    axes = varying_axes(summary)
    if "rho" in summary:
        # `varying_axes` leaves it out.
        axes.append("rho")
        flips = flips[flips["rho"] == flips["rho"].max()]
    known = flips[flips["mean"].notna()]
    # Stable: of equal means the first setting stays first.
    return known.sort_values("mean", kind="stable")[axes][:count]


def _fewest_flips_table(settings: pd.DataFrame, summary: pd.DataFrame) -> Numbers:
    """Returns the table of all quantities of these settings, which are of one rho, in their order."""
    caption = f"The {len(settings)} with the least Flip in the rare groups"
    if "rho" in settings:
        caption += f" at rho {value_text('rho', settings['rho'].iloc[0])}"
    rows = settings.merge(summary, on=list(settings))
    # Columns in the order of the summary: those before `quantity` are the axes.
    return marked(f"{caption}: mean over fresh seeds", summary_table(rows[list(summary)]))


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


def _chosen_table(chosen: pd.DataFrame) -> Numbers:
    """Returns the table of the chosen draws."""
    return Numbers("The best draw by validation, a mean over its seeds", draw_cells(chosen, mark_chosen=False))


def _all_draws_table(draws: pd.DataFrame) -> Numbers:
    """Returns the table of all draws, which is long: it is folded, and its rows can be searched."""
    return Numbers("All draws", draw_cells(draws, mark_chosen=True), folded=True, searched=True)


def _ranges_table(ranges: Mapping[str, DrawRange]) -> Numbers:
    """Returns the declared ranges."""
    rows = [[name, str(drawn_range)] for name, drawn_range in ranges.items()]
    return Numbers("Ranges that were declared", TextTable(["number", "drawn from"], rows), words=True)
