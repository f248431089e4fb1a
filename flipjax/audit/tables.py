"""The tables that a person reads: in the terminal, in Markdown and on the page."""

import math
from collections.abc import Sequence

import numpy as np

from flipjax.audit.results import (
    AT_ONCE,
    WORST,
    Audit,
    findings,
    image_rows,
    largest_flips,
    main_segment_tables,
    other_segment_tables,
    with_interval,
)
from flipjax.groups import Groups
from flipjax.results.quantities import AUDIT_QUANTITIES, COLUMNS, SCENE_IMAGE_QUANTITIES, of_classes, title_of
from flipjax.results.text import TextTable, to_text

RISKIEST = 15
RANKED = ("n_images_without_risk", "risk_auroc", "risk_aurc", "top_decile_flip_share")
"""What masks have no answer to."""
EVERYTHING = "All numbers of flipjax.metrics.summarize"


def summary_text(audit: Audit, facts: Sequence[str]) -> str:
    """Returns facts, findings and tables as text for a terminal."""
    blocks = [f"{name}\n{to_text(table)}" for name, table in (main_tables(audit) | details(audit)).items()]
    return "\n\n".join(["\n".join([*facts, *findings(audit)]), *blocks])


def main_tables(audit: Audit) -> dict[str, TextTable]:
    """Returns the tables that come first, by caption; of many classes those with the most wrong pixels."""
    worst, rest = _split_classes(audit)
    of = f" the {len(worst)} with the largest shares of flips of {len(audit.class_names)}," if rest else ""
    tables = {"All images": overall(audit), f"Classes,{of} pooled over the images": by_class(audit, worst)}
    tables |= main_segment_tables(audit.objects)
    if audit.groups is None:
        return tables
    worst, rest = _split_groups(audit)
    which = f" those with the largest shares of flips of {len(worst) + len(rest)}," if rest else ""
    return tables | {f"Groups,{which} with 95% intervals": by_group(audit, worst)}


def details(audit: Audit) -> dict[str, TextTable]:
    """Returns the other tables by caption."""
    tables = {}
    if audit.has_tenths:
        tables["Flip-risk deciles (10: the riskiest tenth of the images), with 95% intervals"] = by_decile(audit)
    if largest_flips(audit):
        tables["The largest flips; all are in flip_matrix.csv"] = flip_list(audit)
    which = "riskiest" if audit.has_scores else "most flipped"
    tables[f"The {which} images; all are in images.csv"] = riskiest(audit)
    return tables


def folded_tables(audit: Audit) -> dict[str, TextTable]:
    """Returns what only a page and Markdown show: the classes left out of the main tables, and every number."""
    rest = _split_classes(audit)[1]
    tables = {"The other classes, pooled over the images": by_class(audit, rest)} if rest else {}
    tables |= other_segment_tables(audit.objects)
    others = [] if audit.groups is None else _split_groups(audit)[1]
    tables |= {"The other groups": by_group(audit, others)} if others else {}
    return tables | {EVERYTHING: everything(audit)}


def _split_groups(audit: Audit) -> tuple[list[str], list[str]]:
    """Returns the groups that are shown at once, and the others: of many, those that flip most."""
    names = [key.split("/")[1] for key in audit.summary if key.startswith("group/") and key.endswith("/n_images")]
    if len(names) <= 2 * AT_ONCE:
        return names, []
    flip = {name: np.nan_to_num(audit.summary[f"group/{name}/fg_flip"], nan=-1) for name in names}
    shown = {*sorted(names, key=lambda name: -flip[name])[:WORST], "common", "rare"}
    return [name for name in names if name in shown], [name for name in names if name not in shown]


def _split_classes(audit: Audit) -> tuple[list[int], list[int]]:
    """Returns the classes shown at once, and the others: of many, the foreground ones with the largest flips first."""
    C = len(audit.class_names)
    if C <= AT_ONCE:
        return list(range(C)), []
    flip = [np.nan_to_num(audit.summary[f"flip/{audit.class_names[c]}"], nan=-1) for c in audit.foreground]
    order = [audit.foreground[place] for place in np.argsort(-np.array(flip), kind="stable")]
    worst = [c for c in order[:WORST] if audit.confusion[c].any()]
    return worst, [*sorted(set(range(C)) - set(audit.foreground)), *order[len(worst) :]]


def everything(audit: Audit) -> TextTable:
    """Returns every number of `flipjax.metrics.summarize` by its key, but for the lists of deciles."""
    rows = []
    for key, value in audit.summary.items():
        if not isinstance(value, list):
            rows.append([key, str(value) if isinstance(value, int) else with_interval(audit, key, digits=6)])
    return TextTable(["key", "value [95% interval]"], rows)


def overall(audit: Audit) -> TextTable:
    """Returns the main quantities over all images, and the IoU gaps where there are groups."""
    table = of_classes(audit.class_names, background=audit.background) | COLUMNS | AUDIT_QUANTITIES
    keys = [key for key in table if key in audit.summary]
    rows = [[title_of("n_images"), str(audit.summary["n_images"])]]
    shown = [key for key in keys[1:] if not key.startswith("iou/") or key == "iou/foreground"]
    without = () if audit.has_tenths else RANKED[3:] if audit.has_scores else RANKED
    shown = [key for key in shown if key not in without]
    rows += [[title_of(key), with_interval(audit, key)] for key in shown]
    return TextTable(["quantity", "value [95% interval]"], rows)


def by_class(audit: Audit, classes: Sequence[int]) -> TextTable:
    """Returns the fate of each class's pixels and its IoU; a dash for a class that is not there."""
    header = ["class", "pixels", "correct", "flip", "miss", "IoU [95% interval]"]
    rows = []
    for c in classes:
        name = audit.class_names[c]
        pixels = audit.confusion[c].sum()
        iou = with_interval(audit, f"iou/{name}") if pixels else "-"
        if c not in audit.foreground:
            rows.append([name, f"{pixels:,}", "", "", "", iou])
            continue
        correct = audit.confusion[c, c]
        miss = audit.confusion[c].sum() - audit.confusion[c, audit.foreground].sum()
        shares = [f"{part / pixels:.4f}" if pixels else "-" for part in (correct, pixels - correct - miss, miss)]
        rows.append([name, f"{pixels:,}", *shares, iou])
    return TextTable(header, rows)


def by_group(audit: Audit, names: Sequence[str]) -> TextTable:
    """Returns the main quantities of groups; where that is known with the IoU of the group's own class."""
    columns = ["fg_correct", "fg_flip", "fg_miss", "iou/foreground", "risk_auroc"]
    columns += [] if audit.swap is None else ["swap_auroc", "repair_flip"]
    numbered = isinstance(audit.all_groups, Groups)
    rows = []
    for group in names:
        cells = [str(audit.summary[f"group/{group}/n_images"])]
        if numbered:
            key = f"group/{group}/iou/{_place_of(audit, group)[0]}"
            cells.append(with_interval(audit, key, digits=3) if key in audit.summary else "")
        cells += [with_interval(audit, f"group/{group}/{key}", digits=3) for key in columns]
        rows.append([group_label(audit, group), *cells])
    titles = (["IoU of the class"] if numbered else []) + [title_of(key) for key in columns]
    return TextTable(["group", "images", *titles], rows)


def _place_of(audit: Audit, group: str) -> tuple[str, str]:
    """Returns the class and the scene of a group, where that is known."""
    numbered = audit.all_groups
    if not isinstance(numbered, Groups) or not group.isdecimal():
        return "", ""
    scene = numbered.scene_of(int(group))
    name = audit.class_names[audit.foreground[numbered.class_of(int(group))]]
    return name, audit.scene_names[scene] if audit.scene_names else f"scene {scene}"


def group_label(audit: Audit, group: str) -> str:
    """Names a group: where that is known by class and scene."""
    name, scene = _place_of(audit, group)
    return f"{group}: {name}, {scene}" if name else group


def by_decile(audit: Audit) -> TextTable:
    """Returns mean flip-risk and mean flip share of each tenth of the images, sorted by flip-risk."""
    keys = ("risk_decile", "flip_by_risk_decile")
    most = math.log(len(audit.foreground))
    rows = []
    for d in range(10):
        risk, flip = (with_interval(audit, key, index=d) for key in keys)
        share = audit.summary[keys[0]][d] / most
        rows.append([str(d + 1), risk, "-" if math.isnan(share) else f"{share:.1%}", flip])
    return TextTable(["decile", "mean flip-risk (nats)", "of log F", "mean flip share"], rows)


def flip_list(audit: Audit) -> TextTable:
    """Returns the largest flips."""
    flips = largest_flips(audit)
    rows = [[f"{row['truth']} as {row['prediction']}", f"{row['pixels']:,}", f"{row['share']:.1%}"] for row in flips]
    return TextTable(["flip", "pixels", "share of the true class"], rows)


def riskiest(audit: Audit) -> TextTable:
    """Returns the images of the highest flip-risk, of masks those of the largest flip share."""
    columns = ["name", *(["group"] if audit.groups is not None else [])]
    columns += [*(["flip_risk"] if audit.has_scores else []), "flip", "correct", "miss", "spill", "largest_flip"]
    columns += [] if audit.swap is None else [*SCENE_IMAGE_QUANTITIES]
    rows = [row for row in image_rows(audit) if row["flip_risk"] != "" or not audit.has_scores][:RISKIEST]
    cells = [[f"{row[c]:.4f}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    return TextTable(columns, cells)
