"""Summaries and trends as tables and sentences that a person reads."""

from collections.abc import Iterator, Mapping, Sequence

from flipjax.results.files import Row
from flipjax.results.quantities import title_of
from flipjax.results.rows import number

Table = tuple[list[str], list[list[str]]]

COLUMNS = (
    "fg_flip/common",
    "fg_flip/rare",
    "gap_mean/all",
    "worst_group_iou/all",
    "iou_foreground/all",
    "risk_auroc/all",
    "top_decile_flip_share/all",
)
BLIND = 0.70


def varying_axes(table: Sequence[Row]) -> list[str]:
    """Returns the axes of a summary or trend, but rho, that take more than one value."""
    names = list(table[0])[: list(table[0]).index("quantity")] if table else []
    return [name for name in names if name != "rho" and len({row[name] for row in table}) > 1]


def setting_label(row: Row, axes: Sequence[str]) -> str:
    """Names a setting by its values on `axes`.

    Example:
        >>> setting_label({"rho": 0.9, "method": "ce", "learning_rate": 0.001}, ["method", "learning_rate"])
        'method ce, learning_rate 0.001'
    """
    return ", ".join(f"{name} {row[name]}" for name in axes)


def _by_setting(table: Sequence[Row], axes: Sequence[str]) -> Iterator[tuple[tuple, dict[str, Row]]]:
    settings: dict[tuple, dict[str, Row]] = {}
    for row in table:
        settings.setdefault(tuple(row[name] for name in axes), {})[row["quantity"]] = row
    yield from settings.items()


def _with_half_width(row: Row, n: int) -> str:
    if row["mean"] == "":
        return "-"
    half = (number(row["high"]) - number(row["low"])) / 2
    interval = f" ± {half:.3f}" if half == half else ""
    return f"{row['mean']:.3f}{interval}" + (f" (n {row['n']})" if row["n"] != n else "")


def _with_ends(row: Row, name: str) -> str:
    if row[name] == "":
        return "-"
    ends = "" if row[f"{name}_low"] == "" else f" [{row[f'{name}_low']:+.3f}, {row[f'{name}_high']:+.3f}]"
    return f"{row[name]:+.3f}{ends}"


def summary_table(summary: Sequence[Row]) -> Table:
    """Returns header and rows: a row per setting, its main quantities as mean ± half the interval's width."""
    axes = varying_axes(summary) + (["rho"] if summary and "rho" in summary[0] else [])
    any_left_out = any(row["left_out"] for row in summary)
    rows = []
    for values, by_name in _by_setting(summary, axes):
        n = by_name["fg_flip/all"]["n"]
        counts = [str(n)] + ([str(by_name["fg_flip/all"]["left_out"])] if any_left_out else [])
        rows.append([*map(str, values), *counts, *(_with_half_width(by_name[name], n) for name in COLUMNS)])
    return [*axes, "seeds", *(["left out"] if any_left_out else []), *map(title_of, COLUMNS)], rows


def trend_table(trends: Sequence[Row]) -> Table:
    """Returns header and rows: a row per setting and main quantity, slope and change with their intervals."""
    axes = varying_axes(trends)
    rows = []
    for values, by_name in _by_setting(trends, axes):
        for name in COLUMNS:
            row = by_name[name]
            cells = [title_of(name), f"{row['from']} to {row['to']}", str(row["n"])]
            rows.append([*map(str, values), *cells, _with_ends(row, "change"), _with_ends(row, "slope")])
    return [*axes, "quantity", "rho", "seeds", "change", "slope per unit of rho"], rows


DIFFERENCES = ("fg_flip/rare", "gap_mean/all", "worst_group_iou/all", "iou_foreground/all")
EXCLUDES_ZERO = "*"


def comparison_table(comparison: Sequence[Row], axis: str) -> Table:
    """Returns header and rows: a row per setting and value of `axis`, differences from the reference with intervals.

    A star marks an interval that excludes 0.
    """
    axes = [name for name in varying_axes(comparison) if name not in (axis, "reference")]
    axes += ["rho"] if comparison and "rho" in comparison[0] else []
    rows = []
    for values, by_name in _by_setting(comparison, [axis, *axes]):
        cells = [_difference(by_name[name]) for name in DIFFERENCES]
        rows.append([*map(str, values), str(by_name[DIFFERENCES[0]]["n"]), *cells])
    return [axis, *axes, "seeds", *map(title_of, DIFFERENCES)], rows


def _difference(row: Row) -> str:
    if row["difference"] == "":
        return "-"
    if row["low"] == "":
        return f"{row['difference']:+.3f}"
    star = EXCLUDES_ZERO if row["low"] > 0 or row["high"] < 0 else ""
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]{star}"


def regret_table(regrets: Sequence[Row]) -> Table:
    """Returns header and rows: a row per selection rule and quantity, its value and its regret with the interval."""
    rows = []
    for row in regrets:
        found = _difference({"difference": row["regret"], "low": row["low"], "high": row["high"]})
        value = "-" if row["mean"] == "" else f"{row['mean']:.3f}"
        rows.append([row["selection"], title_of(row["quantity"]), row["oracle"], str(row["members"]), value, found])
    return ["selection", "quantity", "oracle", "members", "value", "regret"], rows


def to_text(table: Table) -> str:
    """Returns a table as aligned lines: text to the left, numbers to the right.

    Example:
        >>> print(to_text((["rho", "Flip"], [["0.5", "0.100 ± 0.010"], ["0.95", "0.4"]])))
        rho            Flip
        ----  -------------
        0.5   0.100 ± 0.010
        0.95            0.4
    """
    header, rows = table
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for cells in (header, ["-" * width for width in widths], *rows):
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def to_markdown(table: Table) -> str:
    """Returns a table in Markdown.

    Example:
        >>> print(to_markdown((["rho", "Flip"], [["0.5", "0.1"]])))
        | rho | Flip |
        | --- | ---: |
        | 0.5 | 0.1 |
    """
    header, rows = table
    rules = ["---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rules, *rows))


def headline(summary: Sequence[Row], trends: Sequence[Row]) -> list[str]:
    """Returns what a grid found: a line per finding, or per setting where there are several; none without a trend."""
    axes = varying_axes(trends)
    sentences = []
    for values, by_name in _by_setting(trends, axes):
        label = setting_label(dict(zip(axes, values, strict=True)), axes)
        chosen = [row for row in summary if tuple(row[name] for name in axes) == values]
        means = {(row["quantity"], row["rho"]): number(row["mean"]) for row in chosen}
        found = [_change(by_name, "fg_flip/rare", "Flip in the rare groups", means)]
        found += [_change(by_name, "gap_mean/all", "The IoU gap", means), _regions(means), _blindness(means)]
        texts = [text for text in found if text]
        sentences += [f"{label}: {' '.join(texts)}"] if label else texts
    return sentences


def _change(trends: Mapping[str, Row], quantity: str, name: str, means: Mapping[tuple, float]) -> str:
    row = trends[quantity]
    if row["change"] == "":
        return ""
    before, after = means[quantity, row["from"]], means[quantity, row["to"]]
    interval = (
        "" if row["change_low"] == "" else f", 95% interval {row['change_low']:+.2f} to {row['change_high']:+.2f}"
    )
    sentence = f"{name} goes from {before:.2f} at rho {row['from']} to {after:.2f} at rho {row['to']}"
    return (
        f"{sentence[0].upper()}{sentence[1:]} (change {row['change']:+.2f}{interval}; paired by seed, n = {row['n']})."
    )


def _regions(means: Mapping[tuple, float]) -> str:
    values = {rho: mean for (quantity, rho), mean in means.items() if quantity == "iou_foreground/all" and mean == mean}
    if not values:
        return ""
    worst = min(values, key=lambda rho: values[rho])
    return f"Foreground IoU is at least {values[worst]:.2f} (lowest at rho {worst})."


def _blindness(means: Mapping[tuple, float]) -> str:
    values = {rho: mean for (quantity, rho), mean in means.items() if quantity == "risk_auroc/all" and mean == mean}
    blind = [rho for rho in values if all(values[higher] < BLIND for higher in values if higher >= rho)]
    if not values:
        return ""
    if not blind:
        return f"Flip-risk still ranks flipped images at the highest rho (mean AUROC {values[max(values)]:.2f})."
    return f"From rho {min(blind)} on flip-risk is nearly blind to flips (mean AUROC below {BLIND:.2f})."
