"""What an audit found: its summary with intervals, and the rows, tables and sentences made from it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.metrics import Decomposition, bootstrap, class_names, summarize
from flipjax.results import Row, number
from flipjax.results.rows import rounded

SAMPLES = 1000
# Below it predictions and labels agree hardly better than chance (Cohen, 1960).
LEAST_AGREEMENT = 0.05


class Audit(NamedTuple):
    """An audit of n images: their names, groups int64 (n,) or None, ignored pixels int64 (n,), and the class names.

    `confusion` int64 (C, C) holds the pixels of all images, rows truth. `summary` is what `flipjax.metrics.summarize`
    returns, `intervals` the 95% bootstrap interval of each of its keys.
    """

    names: Sequence[str]
    groups: np.ndarray | None
    decomposition: Decomposition
    confusion: np.ndarray
    ignored: np.ndarray
    class_names: tuple[str, ...]
    summary: Mapping[str, Any]
    intervals: Mapping[str, tuple[Any, Any]]

    @property
    def background(self) -> int:
        """The background's class."""
        return self.decomposition.background

    @property
    def foreground(self) -> list[int]:
        """The other classes."""
        return [c for c in range(len(self.class_names)) if c != self.background]


def check_names(classes: int, background: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the names of all classes; an AuditError where those given do not fit."""
    try:
        return class_names(names, classes=classes, background=background)
    except ValueError as error:
        raise AuditError(f"--{error}") from error


def conclude(
    names: Sequence[str],
    groups: np.ndarray | None,
    decomposition: Decomposition,
    ignored: np.ndarray,
    *,
    class_names: tuple[str, ...],
) -> Audit:
    """Summarises a decomposition; intervals come from 1,000 resamples of the images, drawn within each group."""
    summary = summarize(decomposition, groups, class_names=class_names)
    keys = [key for key in summary if "n_images" not in key] if len(names) > 1 else []
    options: dict[str, Any] = {"samples": SAMPLES, "groups": groups, "class_names": class_names}
    intervals = bootstrap(decomposition, keys, key=jax.random.key(0), **options) if keys else {}
    confusion = decomposition.confusion.sum(0, dtype=np.int64)
    return Audit(names, groups, decomposition, confusion, ignored, class_names, summary, intervals)


def image_rows(audit: Audit) -> list[Row]:
    """Returns a row for each image, the riskiest first; images without flip-risk come last, in their order."""
    found = audit.decomposition
    risk: np.ndarray = np.asarray(found.flip_risk)
    shares = {name: getattr(found, name) for name in ("flip", "correct", "miss", "spill")}
    truth = found.confusion.sum(2, dtype=np.int64)
    rows = []
    for i in np.argsort(np.where(np.isnan(risk), np.inf, -risk), kind="stable"):
        flips = _flips(audit, found.confusion[i])
        truth_class, taken_for = np.unravel_index(flips.argmax(), flips.shape)
        row: Row = {"name": audit.names[i]}
        row |= {} if audit.groups is None else {"group": int(audit.groups[i])}
        row |= {"flip_risk": rounded(float(risk[i]))} | {name: rounded(values[i]) for name, values in shares.items()}
        row["foreground_pixels"] = int(truth[i].sum() - truth[i, audit.background])
        row |= {"pixels": int(truth[i].sum()), "ignored_pixels": int(audit.ignored[i])}
        pair = f"{audit.class_names[truth_class]} as {audit.class_names[taken_for]}"
        rows.append(row | {"largest_flip": pair if flips.max() > 0 else ""})
    return rows


def _flips(audit: Audit, confusion: np.ndarray) -> np.ndarray:
    """A confusion matrix with the flips alone."""
    flips = confusion.copy()
    np.fill_diagonal(flips, 0)
    flips[audit.background], flips[:, audit.background] = 0, 0
    return flips


def flip_rows(audit: Audit) -> list[Row]:
    """Returns a row for each true foreground class and predicted class: pixels, and their share of the true class."""
    rows = []
    for t in audit.foreground:
        for p, name in enumerate(audit.class_names):
            outcome = "correct" if p == t else "miss" if p == audit.background else "flip"
            count, whole = int(audit.confusion[t, p]), int(audit.confusion[t].sum())
            share = rounded(count / whole) if whole else ""
            row = {"truth": audit.class_names[t], "prediction": name, "outcome": outcome}
            rows.append(row | {"pixels": count, "share": share})
    return rows


def most_flipped(audit: Audit, *, limit: int) -> list[int]:
    """Returns the foreground classes in order; of more than `limit`, those with the most flips to or from them."""
    flips = _flips(audit, audit.confusion)
    involved = flips.sum(0) + flips.sum(1)
    return sorted(sorted(audit.foreground, key=lambda c: -involved[c])[:limit])


def largest_flips(audit: Audit, *, limit: int = 10) -> list[Row]:
    """Returns the rows of `flip_rows` that are flips, those with the most pixels first."""
    flips = [row for row in flip_rows(audit) if row["outcome"] == "flip" and row["pixels"]]
    return sorted(flips, key=lambda row: -row["pixels"])[:limit]


def findings(audit: Audit) -> list[str]:
    """Returns what the audit found, in sentences."""
    shares = [with_interval(audit, key, percent=True) for key in ("fg_correct", "fg_flip", "fg_miss")]
    lines = [
        f"Of the true foreground {shares[0]} is labelled right, {shares[1]} is flipped (right region, wrong label) "
        f"and {shares[2]} is missed."
    ]
    lines += [
        f"The largest flip: {row['truth']} is taken for {row['prediction']} on {row['share']:.1%} of its pixels."
        for row in largest_flips(audit, limit=1)
    ]
    if "group/rare/fg_flip" in audit.summary:
        rare, common = (with_interval(audit, f"group/{group}/fg_flip", percent=True) for group in ("rare", "common"))
        lines.append(f"In the rare groups {rare} is flipped, in the common ones {common}.")
    top = number(audit.summary["top_decile_flip_share"])
    if top == top:
        auroc = with_interval(audit, "risk_auroc", digits=2)
        ranks = (
            "" if auroc == "-" else f" Images flipped by more than half are ranked with AUROC {auroc} (chance: 0.5)."
        )
        lines.append(f"The tenth of the images with the highest flip-risk holds {top:.0%} of all flips.{ranks}")
    return lines + warnings(audit)


def warnings(audit: Audit) -> list[str]:
    """Returns what a reader must know: labels that do not fit, images without a rank, ignored pixels."""
    lines = []
    total = audit.confusion.sum()
    expected = (audit.confusion.sum(0) / max(total, 1)) @ (audit.confusion.sum(1) / max(total, 1))
    agreement = np.trace(audit.confusion) / max(total, 1)
    if total and expected < 1 and (agreement - expected) / (1 - expected) < LEAST_AGREEMENT:
        lines.append(
            "Warning: predictions and labels agree hardly better than chance (Cohen's kappa "
            f"{(agreement - expected) / (1 - expected):.3f}). Are the labels in the order of the predictions?"
        )
    without = audit.summary["n_images_without_risk"]
    if without:
        lines.append(f"{without} of {len(audit.names)} images lack true or predicted foreground: they have no rank.")
    risk = np.asarray(audit.decomposition.flip_risk)
    if (risk == 0).any() and not (risk > 0).any():
        lines.append("Warning: flip-risk is 0 in every image. Were the predictions rounded to 0 and 1?")
    if audit.ignored.any():
        lines.append(f"{audit.ignored.sum() / (total + audit.ignored.sum()):.1%} of the pixels are ignored.")
    return lines


def with_interval(audit: Audit, key: str, *, percent: bool = False, digits: int = 4, index: int | None = None) -> str:
    """Returns a value of the summary with its interval in brackets, or '-' where it does not exist."""
    values = [audit.summary[key], *audit.intervals.get(key, ())]
    if index is not None:
        values = [value[index] for value in values]
    if values[0] != values[0]:
        return "-"
    texts = [f"{value:.1%}" if percent else f"{value:.{digits}f}" for value in values]
    return texts[0] if len(texts) == 1 else f"{texts[0]} [{', '.join(texts[1:])}]"
