"""The page of a run folder: its findings, the charts of `flipjax.report.page_charts`, and the files that hold them.

`build_report` reads the tables of a run, writes them as files, and renders its `Document`. If the folder already has a
page of the same results, it leaves the files as they are and returns the stored text of that page. `make_document` puts
the page together: facts and findings in sentences, a chart and two images beside them, then the sections.

*rho* is the fraction of a class's training images that show the usual scene of the class. The *first rule* is the first
of the configured rules that select an epoch of each member; the page shows the results at that epoch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.page.charts import Chart
from flipjax.page.document import Document, Front, PageBlock, Section, terminal_text
from flipjax.page.html import Gallery, write_page, write_report
from flipjax.page.tiles import Item, Palette, gallery_chart
from flipjax.report.page_charts import (
    class_charts,
    flip_charts,
    front_chart,
    map_charts,
    method_charts,
    risk_charts,
)
from flipjax.report.page_tables import (
    compared_scores,
    difference_tables,
    group_tables,
    made_of,
    members_table,
    notes_on_missing,
    result_tables,
    score_tables,
)
from flipjax.report.run_gallery import CAPTION, items_of, palette_of
from flipjax.report.training_curves import curves_so_far, training_charts
from flipjax.results import sentences
from flipjax.results.cells import Cell
from flipjax.results.glossary import GLOSSARY
from flipjax.results.learning import never_predicted
from flipjax.results.run import StoredRun, changed_after, load
from flipjax.results.statistics.setting_tables import SAMPLED_SETTINGS, FirstRule, sample_settings
from flipjax.results.text import level_text, varying_axes
from flipjax.support.files import write_text
from flipjax.support.frames import write_csv

TEXT = "summary.txt"
"""Name of the file with the page's terminal text, which is written last."""
TOO_SHORT = ("smoke",)
"""Configurations that show that everything runs, and are too short to learn."""
ROUNDING = 1e-6
"""A rho at most this much above that of independent scenes counts as it: levels such as 1/3 are written rounded."""


def build_report(workdir: str | Path | StoredRun, *, again: bool = False) -> str:
    """Writes `report/` into the folder of a run from its stored results, and returns its first tables as text.

    Skips the work if the report is newer than results, pictures and configuration, unless `again`. See `flipjax.run`
    for an example.

    Writes summary.csv, summary.md, summary.tex, `figures/*.png`, `figures/*.svg`, and a self-contained index.html. If
    they have rows, writes trend.csv, comparison.csv (of methods), selection.csv (of selection rules) and, beside
    `report/`, scores.csv (of image scores). Every file is written atomically. A run without results yet has only
    a page of its curves so far.

    Raises:
        FileNotFoundError: the folder has no run that has trained an epoch.
        DamagedError: its results cannot be read.
    """
    if isinstance(workdir, StoredRun):
        run_folder = workdir.folder
    else:
        run_folder = Path(workdir)
    folder = run_folder / "report"
    complete = all((folder / name).is_file() for name in ("index.html", "summary.md", "summary.csv"))
    if complete and not again and not changed_after(run_folder, folder / TEXT):
        return (folder / TEXT).read_text()
    if isinstance(workdir, StoredRun):
        run = workdir
    else:
        run = load(workdir)
    if not run.cells:
        document = _document_so_far(run)
        write_page(folder, document)
        return terminal_text(document)
    _write_tables(run, folder)
    text = write_report(folder, make_document(run, folder / "figures"))
    # Written last, to mark the report as complete.
    write_text(folder / TEXT, text)
    return text


def _write_tables(run: StoredRun, folder: Path) -> None:
    """Writes the tables of a run into the folder of its report, and scores.csv beside it; none without rows."""
    write_csv(folder / "summary.csv", run.first_rule.means)
    write_csv(folder / "trend.csv", run.first_rule.trend)
    write_csv(folder / "comparison.csv", run.first_rule.comparison)
    write_csv(folder / "selection.csv", run.first_rule.selection)
    write_csv(folder.parent / "scores.csv", compared_scores(run))


def _document_so_far(run: StoredRun) -> Document:
    """Returns the page of a run whose members have no results yet."""
    return Document(
        title=run.name,
        facts=[f"{run.unfinished}."],
        lines=[],
        sections=[Section("Training", _curves_so_far(run))],
        config=run.config_record.get("config", {}),
    )


def _curves_so_far(run: StoredRun) -> list[PageBlock]:
    """Returns the curves of the members that have no results yet; none if all have."""
    if run.unfinished is None or run.unfinished.history.empty:
        return []
    return curves_so_far(run.unfinished.history, run.unfinished.members, note="Members without results yet.")


def make_document(run: StoredRun, figures: Path | None = None) -> Document:
    """Returns the report of a run, and saves the figure of its gallery into a folder of figures, if one is given.

    If the run has many settings, the page shows those of `sample_settings` one by one, and maps of all.

    Args:
        run: the run.
        figures: the folder of figures, or None.
    """
    whole = run.first_rule
    shown = sample_settings(whole)
    items, damaged = items_of(run, shown)
    charts_in_front, charts_below = _place_flip_charts(shown)
    if _is_sampled(run, shown):
        charts_below = [*map_charts(whole), *charts_below]
    pair = None
    if items:
        palette = palette_of(run)
        pair = front_pair(items, palette)
        if figures is not None:
            of_first_member = [item for item in items if item.member == items[0].member]
            gallery_chart(of_first_member, palette, CAPTION).save(figures)
    return Document(
        title=run.name,
        facts=_facts(run, shown),
        lines=findings(run),
        sections=_sections(run, shown, items, charts_below),
        missing=[*notes_on_missing(run), *damaged],
        terms=_terms(run),
        glossary=GLOSSARY,
        definitions=_definitions(run),
        config=run.config_record.get("config", {}),
        front=Front(charts_in_front, pair),
    )


def _is_sampled(run: StoredRun, shown: FirstRule) -> bool:
    """Returns whether the shown settings are a sample: if all are shown, `sample_settings` returns the run's tables."""
    return shown is not run.first_rule


def _place_flip_charts(shown: FirstRule) -> tuple[list[Chart], list[Chart]]:
    """Returns the chart beside the findings, if there is one, and the charts of flips below, which do not repeat it."""
    flip_chart, *further_charts = flip_charts(shown)
    in_front = front_chart(shown, flip_chart)
    if in_front is None:
        return [], [flip_chart, *further_charts]
    if in_front is flip_chart:
        # Of one setting.
        return [in_front], further_charts
    # Of several settings, a chart of its own with a line for each.
    return [in_front], [flip_chart, *further_charts]


def _facts(run: StoredRun, shown: FirstRule) -> list[str]:
    """Returns sentences on the members, what a scene is, and which settings are shown."""
    whole = run.first_rule
    facts = [f"{whole.statuses_in_words()} {whole.note_on_intervals()}"]
    if run.unfinished is not None:
        facts.append(f"The run is {run.unfinished}.")
    attribute = run.config_record.get("config", {}).get("pool", {}).get("attribute", "scene")
    if attribute != "scene":
        facts.append(f"The scene of an image is its {attribute}.")
    if _is_sampled(run, shown):
        setting_count = len(whole.means[varying_axes(whole.means)].drop_duplicates())
        facts.append(
            f"Shown one by one are {SAMPLED_SETTINGS} of {setting_count} settings, from the least to the most Flip in "
            "the rare groups; summary.csv and results.csv hold all."
        )
    return facts


def _definitions(run: StoredRun) -> dict[str, str]:
    """Returns what rho, common and rare are in this run, by term."""
    groups = run.example.groups
    titles = _group_titles(run.example)
    common = ", ".join(titles[group] for group in groups.common)
    rare = ", ".join(titles[group] for group in groups.rare)
    sides = f"Images of a class in its usual scenes ({common}), and in other scenes ({rare})."
    images = run.example.images
    counts = np.bincount(images.image_group[images.inside("test")], minlength=groups.count).tolist()
    is_balanced = len(set(counts)) == 1
    if not is_balanced:
        counts_in_words = ", ".join(f"{count} of {title}" for count, title in zip(counts, titles, strict=True))
        sides += f" The test images are as they were found: {counts_in_words}."
    members = run.first_rule.members
    if "rho" not in members:
        return {"common, rare": sides}
    rho = "The fraction of a class's training images that show its usual scene."
    if is_balanced:
        rho += " In the test set all groups of class and scene are equally frequent."
    lowest = float(members["rho"].min())
    is_independent = groups.rho_range.accepts(lowest) and lowest <= groups.independence + ROUNDING
    if is_independent:
        sides += f" At rho {level_text(lowest)} no scene was usual in training, so the two differ by chance alone."
    return {"rho": rho, "common, rare": sides}


def _group_titles(cell: Cell) -> list[str]:
    """Returns the name of each group of class and scene in words, by its number."""
    scene_names = cell.results.scene_name.tolist()
    return [cell.groups.title_of(group, cell.class_names[1:], scene_names) for group in range(cell.groups.count)]


def _terms(run: StoredRun) -> list[str]:
    """Returns the terms of templates/terms.html that the page of a run explains."""
    terms = ["correct, flip, miss", "95% interval", "verdict", "classes not learnt", "IoU gap", "flip-risk"]
    images = run.example.images
    if images.log_odds is not None:
        terms.append("scene swap")
    if (images.pair >= 0).any():
        terms.append("counterfactual pair")
    if images.scores is not None:
        terms.append("scores of images")
    return [*terms, "risk-coverage"]


def _sections(run: StoredRun, shown: FirstRule, items: Sequence[Item], charts_below: Sequence[Chart]) -> list[Section]:
    """Returns the sections below the findings, in order; the page leaves out those that are empty.

    Args:
        run: the run.
        shown: tables of the settings that are shown one by one.
        items: the images of the gallery.
        charts_below: maps of all settings if only some are shown, then charts of the flips of the shown ones.
    """
    galleries = []
    if items:
        galleries.append(Gallery(items, palette_of(run), CAPTION))
    main_table, *later_tables = result_tables(shown)
    scores = score_tables(shown, compared_scores(run))
    return [
        Section("Results", [main_table]),
        Section("Changes and further results", [*later_tables, *charts_below], folded=True),
        Section("Methods and selection", [*method_charts(shown), *difference_tables(shown)], folded=True),
        Section("Classes and groups", [*class_charts(shown), *group_tables(shown)], folded=True),
        Section("Flip-risk and other scores", [*risk_charts(shown), *scores], folded=True),
        Section("Training", [*training_charts(shown), *_curves_so_far(run)], folded=True),
        Section("Images", galleries, folded=True),
        Section("How it was made", [made_of(run), members_table(shown)], folded=True),
    ]


def findings(run: StoredRun) -> list[str]:
    """Returns the findings of a run in sentences that restate rows of its page's tables, warnings first.

    Warnings are about the whole run; verdicts and the headline about the settings that the page shows one by one.
    """
    whole = run.first_rule
    warnings = [
        *sentences.unlearnt_warning(whole.members),
        *sentences.classes_warning(whole.members, classes=run.classes),
        *sentences.never_predicted_warning(never_predicted(run.cells.values())),
    ]
    # The name of a configuration, without the variant that may follow a colon.
    name = str(run.config_record.get("name", "")).partition(":")[0]
    # A training that is too short explains the warnings on what was not learnt, so this is said first.
    if warnings and name in TOO_SHORT:
        epochs = whole.rows["epochs"].max()
        reason = f"Warning: {name} trains {epochs:g} epochs, too short to learn; it shows that everything runs."
        warnings.insert(0, reason)
    if whole.kept.empty:
        warnings.append("No member enters a mean, so there are no findings.")
    shown = sample_settings(whole)
    return [*warnings, *sentences.verdicts(shown.comparison), *sentences.headline(shown.means, shown.trend)]


def front_pair(items: Sequence[Item], palette: Palette) -> Gallery | None:
    """Returns two images of the first member, in a usual and in another scene, with their description.

    If the gallery has counterfactual pairs, each of which shows one object in both scenes, one of them is taken.
    Otherwise the pair is of typical images, one of the common and one of the rare groups. The pair with the
    largest change of flip is taken. The description says whether both images show one object. The result is None if
    either image is missing.
    """
    of_member = [item for item in items if item.member == items[0].member]
    kinds_of_pairs = sorted({item.kind for item in of_member if item.pair})
    if kinds_of_pairs:
        kinds = kinds_of_pairs
        subject = "One object"
    else:
        kinds = ["typical"]
        subject = "Two images"
    candidates = []
    for kind in kinds:
        of_kind = [item for item in of_member if item.kind == kind]
        common = [item for item in of_kind if item.group == "common"]
        rare = [item for item in of_kind if item.group == "rare"]
        if common and rare:
            # A kind such as `pair 0` has the images of one object alone, so these two show it.
            candidates.append((min(common, key=_flip), max(rare, key=_flip)))
    if not candidates:
        return None
    caption = f"{subject} in a usual and in another scene, as {items[0].member} sees them."
    return Gallery(max(candidates, key=_change), palette, caption)


def _flip(item: Item) -> float:
    return item.flip


def _change(pair: tuple[Item, Item]) -> float:
    """Returns the change of flip from the usual to the other scene."""
    usual, other = pair
    return other.flip - usual.flip
