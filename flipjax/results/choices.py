"""What choosing without the labels loses: an epoch by a selection rule, a method by what a rule says of it."""

import math
from collections.abc import Sequence

import numpy as np

from flipjax.results.cells import Row
from flipjax.results.quantities import quantity_of
from flipjax.results.resampling import Resamples
from flipjax.results.rows import axes_of, member_quantities, number, rounded
from flipjax.results.seeds import LEFT_OUT, Term, cells_of, estimate

ORACLES = {"worst_group_iou/all": "val_worst_group_iou", "fg_flip/all": "val_flip"}
"""Quantities, and the rule that selects on each with labels of all groups."""


def regret(
    rows: Sequence[Row], *, paired_by: str = "seed", split: str = "test", resamples: Resamples | None = None
) -> list[Row]:
    """Returns what each selection rule loses against the one that selects on the quantity itself, on labelled images.

    Worst-group IoU is compared with the rule `val_worst_group_iou`, Flip with `val_flip`: both see the labels and the
    groups of the validation images. Differences are taken member by member and averaged over the settings within a
    seed. Columns: `selection`; `quantity`; `oracle`; `n`, seeds; `members`; `mean`, the rule's own value; `regret`,
    positive where the rule is worse, with `low`, `high` and `interval`, see `estimate`. Members that diverged, or
    have no value for either rule, are left out.
    """
    records = [record for record in member_quantities(rows, split=split) if record["status"] not in LEFT_OUT]
    by_rule: dict[str, dict[str, Row]] = {}
    for record in records:
        by_rule.setdefault(record["selection"], {})[record["member"]] = record
    table = []
    for rule, members in by_rule.items():
        for quantity, oracle in ORACLES.items():
            if oracle in by_rule and rule != oracle:
                both = [(record, by_rule[oracle][name]) for name, record in members.items() if name in by_rule[oracle]]
                table.append(_row(rule, quantity, oracle, both, paired_by=paired_by, resamples=resamples))
    return table


CHOICES: dict[str, tuple[str, float]] = {
    "least scene reliance, no labels": ("scene_reliance/all", 1.0),
    "least counterfactual flip, no labels": ("counterfactual_flip/all", 1.0),
    "least flip-risk, no labels": ("valid_risk", 1.0),
    "least validation loss": ("valid_loss", 1.0),
    "val_worst_group_iou": ("worst_group_iou/all", -1.0),
    "val_flip": ("fg_flip/all", 1.0),
}
"""Rules that choose a method by a quantity of the validation images, and the sign that makes the least one best."""
ANY = "any method"


def method_regret(
    rows: Sequence[Row],
    history: Sequence[Row] = (),
    *,
    axis: str = "method",
    paired_by: str = "seed",
    resamples: Resamples | None = None,
) -> list[Row]:
    """Returns what choosing among methods loses, by rules with and without labels, against the one with them.

    In each setting of the other axes, seed by seed, a rule of CHOICES takes the method whose validation images say most
    for it; it is compared with the rule that sees the quantity itself there (`ORACLES`). `any method` is the mean over
    methods. The means of loss and flip-risk are those of history.csv at the epoch kept: of `dfr` before its refit.
    Columns as in `regret`, `selection` being the rule.

    Args:
        rows: of results.csv, of one selection rule.
        history: of history.csv; without it there are no rules of loss and flip-risk.
        axis: what is chosen.
        paired_by: the seeds.
        resamples: of the run's test images.
    """
    kept = {(row["member"], row["epoch"]): row for row in history}
    epochs = {row["member"]: row["best_epoch"] for row in rows}
    names = [name for name in axes_of(rows) if name != axis]
    valid = {record["member"]: record for record in member_quantities(rows, split="val")}
    settings: dict[tuple, list[tuple[Row, Row]]] = {}
    for record in member_quantities(rows):
        member = record["member"]
        if record["status"] not in LEFT_OUT and member in valid:
            values = valid[member] | kept.get((member, epochs[member]), {})
            settings.setdefault(tuple(record[name] for name in names), []).append((values, record))
    groups = [methods for methods in settings.values() if len(methods) > 1]
    table = []
    for quantity, oracle in ORACLES.items():
        for rule, (column, sign) in CHOICES.items() if groups else ():
            both = [(_least(each, column, sign), _least(each, *CHOICES[oracle])) for each in groups]
            known = [(record, best) for record, best in both if record is not None and best is not None]
            if known and rule != oracle:
                table.append(_row(rule, quantity, oracle, known, paired_by=paired_by, resamples=resamples))
        every = [(record, _least(each, *CHOICES[oracle])) for each in groups for _, record in each]
        known = [(record, best) for record, best in every if best is not None]
        if known:
            table.append(_row(ANY, quantity, oracle, known, paired_by=paired_by, resamples=resamples))
    return table


def _least(methods: Sequence[tuple[Row, Row]], column: str, sign: float) -> Row | None:
    """The test record of the method with the least value; None where any method lacks it."""
    values = [sign * number(values.get(column, "")) for values, _ in methods]
    return None if any(map(math.isnan, values)) else methods[int(np.argmin(values))][1]


def _row(
    rule: str,
    quantity: str,
    oracle: str,
    both: Sequence[tuple[Row, Row]],
    *,
    paired_by: str,
    resamples: Resamples | None,
) -> Row:
    both = [(record, best) for record, best in both if math.isfinite(record[quantity] + best[quantity])]
    result = estimate(_losses(both, quantity, paired_by=paired_by), quantity, resamples=resamples)
    mean = rounded(float(np.mean([record[quantity] for record, _ in both]))) if both else ""
    row = {"selection": rule, "quantity": quantity, "oracle": oracle}
    row |= {"n": len(result.values), "members": len(both), "mean": mean}
    return row | cells_of(result, "regret", "low", "high") | {"interval": result.interval}


def _losses(both: Sequence[tuple[Row, Row]], quantity: str, *, paired_by: str) -> list[Term]:
    """Returns for each seed the mean over its settings of what a record loses against the best one."""
    sign = 1.0 if quantity_of(quantity).better == "down" else -1.0
    by_seed: dict[object, list[tuple[Row, Row]]] = {}
    for record, best in both:
        by_seed.setdefault(record.get(paired_by), []).append((record, best))
    terms = []
    for pairs in by_seed.values():
        weight = sign / len(pairs)
        terms.append([side for record, best in pairs for side in ((weight, record), (-weight, best))])
    return terms
