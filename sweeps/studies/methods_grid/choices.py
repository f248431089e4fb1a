"""What choosing without the labels loses: an epoch by a selection rule, a method by what a rule says of it."""

import itertools

import numpy as np
import pandas as pd

from flipjax.results.estimates import Resamples, estimate, seeds_of
from flipjax.results.frames import groups_of, rounded
from flipjax.results.quantities import quantity_of
from flipjax.results.rows import axes_of, kept_records, member_quantities, quantities_in

ORACLES = {"worst_group_iou": "val_worst_group_iou", "fg_flip": "val_flip"}
"""Quantities, and the rule that selects on each with labels of all groups."""


def regret(rows: pd.DataFrame, *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns what each selection rule loses against the one that selects on the quantity itself, on labelled images.

    Worst-group IoU is compared with the rule `val_worst_group_iou`, Flip with `val_flip`: both see the labels and the
    groups of the validation images. Differences are taken member by member and averaged over the settings within a
    seed. Columns: `selection`; `quantity`; `oracle`; `n`, seeds; `members`; `mean`, the rule's own value; `regret`,
    positive where the rule is worse, with `low`, `high` and `interval`, see `estimate`. Members that diverged, or
    have no value for either rule, are left out.
    """
    records = kept_records(member_quantities(rows))
    by_rule = {rule: members.set_index("member", drop=False) for (rule,), members in groups_of(records, ["selection"])}
    tables = []
    for rule, (quantity, oracle) in itertools.product(by_rule, ORACLES.items()):
        if oracle in by_rule and rule != oracle:
            members, best = by_rule[rule].align(by_rule[oracle], join="inner", axis=0)
            tables.append(_losses(rule, quantity, oracle, members, best, resamples=resamples))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


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


def method_regret(
    rows: pd.DataFrame, history: pd.DataFrame | None = None, *, resamples: Resamples | None = None
) -> pd.DataFrame:
    """Returns what choosing among methods loses, by rules with and without labels, against the one with them.

    In each setting of the other axes, seed by seed, a rule of CHOICES takes the method whose validation images say most
    for it; it is compared with the rule that sees the quantity itself there (`ORACLES`). `any method` is the mean over
    methods. The means of loss and flip-risk are those of history.csv at the epoch kept: of `dfr` before its refit.
    Columns as in `regret`, `selection` being the rule.

    Args:
        rows: of results.csv, of one selection rule.
        history: of history.csv; without it there are no rules of loss and flip-risk.
        resamples: of the run's test images.
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
                tables.append(_losses(rule, quantity, oracle, *both, resamples=resamples))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _least(values: pd.Series) -> str | None:
    """Returns the member with the least value; None where any has none."""
    return None if values.isna().any() else str(values.idxmin())


def _losses(
    rule: str, quantity: str, oracle: str, records: pd.DataFrame, best: pd.DataFrame, *, resamples: Resamples | None
) -> pd.DataFrame:
    """Returns one row: what records lose against the best ones, the mean over seeds of the mean over their settings."""
    known = np.isfinite(records[quantity].to_numpy() + best[quantity].to_numpy())
    records, best = records[known], best[known]
    seeds = seeds_of(records).to_numpy()
    sizes = records.groupby(seeds)["selection"].transform("size").to_numpy(np.float64)
    signs = (1.0 if quantity_of(quantity).better == "down" else -1.0) / sizes
    columns = ["member", "selection", "status", quantity]
    both = pd.concat([records[columns], best[columns]])
    table = estimate(both, np.concatenate([signs, -signs]), np.concatenate([seeds, seeds]), resamples=resamples)
    table = table.assign(selection=rule, oracle=oracle, members=len(records), regret=table["mean"])
    table["mean"] = float(rounded(float(records[quantity].to_numpy().mean())) if len(records) else np.nan)
    return table[["selection", "quantity", "oracle", "n", "members", "mean", "regret", "low", "high", "interval"]]
