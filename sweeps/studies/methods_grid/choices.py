"""What choosing a method without labels loses: python sweeps/studies/methods_grid/choices.py RUN

Writes method_regret.csv beside this file: a row a rule and quantity, against the rule that sees the labels.
"""

import pathlib
import sys

import numpy as np
import pandas as pd

from flipjax.metrics.summary.names import quantity_of
from flipjax.results import load
from flipjax.results.rows import axes_of, kept_records, member_quantities, quantities_in
from flipjax.results.statistics.estimates import estimate, seeds_of
from flipjax.support.frames import groups_of, rounded, write_csv

ORACLES = {"worst_group_iou": "val_worst_group_iou", "fg_flip": "val_flip"}
"""Quantities, and the rule that selects on each with labels of all groups."""


CHOICES: dict[str, tuple[str, float]] = {
    "least scene reliance, no labels": ("scene_reliance", 1.0),
    "least counterfactual flip, no labels": ("counterfactual_flip", 1.0),
    "least flip-risk, no labels": ("valid_risk", 1.0),
    "least validation loss": ("valid_loss", 1.0),
    "val_worst_group_iou": ("worst_group_iou", -1.0),
    "val_flip": ("fg_flip", 1.0),
}
"""Rules that choose a method by a quantity of the validation images, and the sign that makes the least one best."""
ANY = "any method"


def method_regret(rows: pd.DataFrame, history: pd.DataFrame | None = None) -> pd.DataFrame:
    """Returns what choosing among methods loses, by rules with and without labels, against the one with them.

    In each setting of the other axes, seed by seed, a rule of CHOICES takes the method whose validation images say most
    for it; it is compared with the rule that sees the quantity itself there (`ORACLES`). `any method` is the mean over
    methods. The means of loss and flip-risk are those of history.csv at the epoch kept: of `dfr` before its refit.
    `regret` is the mean over seeds of the loss, positive where the rule is worse, with Student's t interval.

    Args:
        rows: of results.csv, of one selection rule.
        history: of history.csv; without it there are no rules of loss and flip-risk.
    """
    values = member_quantities(rows, split="val")
    values = values[["member", *quantities_in(values)]].set_index("member")
    if history is not None and len(history):
        kept = history["member"].map(rows.drop_duplicates("member").set_index("member")["best_epoch"])
        measures = history[history["epoch"] == kept].set_index("member").filter(like="valid_")
        values = values.join(measures)
    records = kept_records(member_quantities(rows)).set_index("member", drop=False)
    records = records[records.index.isin(values.index)]
    names = [name for name in axes_of(rows) if name != "method"]
    groups = [methods.index for _, methods in groups_of(records, names) if len(methods) > 1]
    least = {
        rule: [_least(sign * values.loc[members, column]) if column in values else None for members in groups]
        for rule, (column, sign) in CHOICES.items()
    }
    tables = []
    for quantity, oracle in ORACLES.items():
        chosen = {rule: list(zip(least[rule], least[oracle], strict=True)) for rule in CHOICES if rule != oracle}
        chosen[ANY] = [(name, best) for members, best in zip(groups, least[oracle], strict=True) for name in members]
        for rule, pairs in chosen.items():
            known = [(name, best) for name, best in pairs if name is not None and best is not None]
            if known:
                both = (records.loc[list(side)] for side in zip(*known, strict=True))
                tables.append(_losses(rule, quantity, oracle, *both))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _least(values: pd.Series) -> str | None:
    """Returns the member with the least value; None where any has none."""
    return None if values.isna().any() else str(values.idxmin())


def _losses(rule: str, quantity: str, oracle: str, records: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """Returns one row: what records lose against the best ones, the mean over seeds of the mean over their settings."""
    known = np.isfinite(records[quantity].to_numpy() + best[quantity].to_numpy())
    records, best = records[known], best[known]
    seeds = seeds_of(records).to_numpy()
    sizes = records.groupby(seeds)["selection"].transform("size").to_numpy(np.float64)
    signs = (1.0 if quantity_of(quantity).better == "down" else -1.0) / sizes
    columns = ["member", "selection", "status", quantity]
    both = pd.concat([records[columns], best[columns]])
    table = estimate(both, np.concatenate([signs, -signs]), np.concatenate([seeds, seeds]))
    table = table.assign(selection=rule, oracle=oracle, members=len(records), regret=table["mean"])
    table["mean"] = float(rounded(float(records[quantity].to_numpy().mean())) if len(records) else np.nan)
    return table[["selection", "quantity", "oracle", "n", "members", "mean", "regret", "low", "high"]]


if __name__ == "__main__":
    run = load(sys.argv[1])
    first = run.results[run.results["selection"] == run.results["selection"].iloc[0]]
    table = method_regret(first, run.history)
    print(table.to_string(index=False))
    write_csv(pathlib.Path(__file__).with_name("method_regret.csv"), table)
