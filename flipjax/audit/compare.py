"""Compares two audits of the same images by paired differences, and checks gates (limits on results)."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.audit import files
from flipjax.audit.arrays import check_folder
from flipjax.audit.gates import Limits, check_gates, failures, make_gates, try_gates, write_junit
from flipjax.audit.problems import AuditError, naming
from flipjax.groups import NamedGroups
from flipjax.metrics import Decomposition, resampled, summarize
from flipjax.metrics.resampling import draw_images, percentile_ends
from flipjax.support.files import make_folder, open_npz, write_text
from flipjax.support.terminal import listed

PROGRAM = "flipjax.audit.compare"
FILES = {"compare.json", "compare.csv"}
SHOWN = 12
"""Further differences printed on the terminal."""
MAIN = ("fg_correct", "fg_flip", "fg_miss", "mean_iou", "iou/foreground", "risk_auroc")


@dataclasses.dataclass(frozen=True)
class Stored:
    """A stored audit of n images, in order of their names."""

    names: list[str]
    """The images' names."""
    decomposition: Decomposition
    """Counts of pixels, leaves (n, C, C) and (n,)."""
    class_names: tuple[str, ...]
    """The C classes' names."""
    groups: dict[str, Any]
    """`groups` and `all_groups` of `summarize`, if the audit has groups."""
    clusters: np.ndarray | None
    """The cluster of each image, or None."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Differences of two audits of the same images, new minus old."""

    table: pd.DataFrame
    """A row per quantity: `old`, `new`, `difference`, and `low` and `high` of its interval."""
    text: str
    """The differences as text."""
    failed: list[str]
    """A line per failed gate."""


def mark_failed(folder: Path, error: str) -> None:
    """Replaces compare.json of an earlier comparison in the folder, so that no error leaves an old pass."""
    files.mark_failed(folder, error, name="compare.json", program=PROGRAM)


def read_audit(folder: Path) -> Stored:
    """Reads a stored audit.

    Raises:
        AuditError: the folder holds no audit.
    """
    path = folder / "decomposition.npz"
    if not path.is_file():
        raise AuditError(f"--compare: expected the folder of an audit, which has {path.name}, found {folder}")
    with naming(path), open_npz(path) as stored:
        arrays = dict(stored)
        names = [*map(str, arrays["names"])]
        order = sorted(range(len(names)), key=names.__getitem__)
        summary = json.loads((folder / "summary.json").read_bytes())
        if "error" in summary:
            raise AuditError(f"--compare: expected an audit that was finished in {folder}, found {summary['error']}")
        background = summary["options"]["background"]
        background = tuple(background) if isinstance(background, list) else background
        groups = {}
        if "group_names" in arrays:
            named, numbers = np.unique(arrays["group_names"][order], return_inverse=True)
            groups = {"groups": numbers, "all_groups": NamedGroups(tuple(map(str, named)))}
        counts = Decomposition(arrays["confusion"][order], arrays["risk_sum"][order], background)
        clusters = arrays["clusters"][order] if "clusters" in arrays else None
        return Stored(sorted(names), counts, tuple(map(str, arrays["class_names"])), groups, clusters)


def _pair(old: Path, new: Path) -> tuple[Stored, Stored]:
    """Reads both audits, which must have the same images and labels."""
    before, after = read_audit(old), read_audit(new)
    lacking = sorted({*before.names} ^ {*after.names})
    if lacking:
        raise AuditError(f"--compare: expected the same images in {old} and {new}; in one alone are {listed(lacking)}")
    first, second = ((*each.class_names, f"background {each.decomposition.background}") for each in (before, after))
    if first != second:
        raise AuditError(f"--compare: expected the same classes, found {first} in {old} and {second} in {new}")
    labels = [each.decomposition.confusion.sum(-1) for each in (before, after)]
    others = [name for name, same in zip(after.names, (labels[0] == labels[1]).all(-1), strict=True) if not same]
    if others:
        raise AuditError(f"--compare: expected the same labels; {old} and {new} have others in {listed(others)}")
    return before, after


def compare_audits(
    old: Path,
    new: Path,
    *,
    out: Path,
    samples: int = 1000,
    fail_above: Limits | None = None,
    fail_below: Limits | None = None,
    junit: Path | None = None,
) -> Comparison:
    """Compares two audits of the same images and labels, and writes compare.csv and compare.json.

    Intervals are 95% bootstrap intervals from resamples shared by both audits, of images or of the new audit's
    clusters. Gates limit differences, by key of the summary or by `KEY:low` or `KEY:high`.

    Args:
        old: the folder of an audit.
        new: the folder of another one.
        out: a new folder, or the folder of an earlier comparison.
        samples: the number of resamples.
        fail_above: upper limits by key.
        fail_below: lower limits by key.
        junit: a file for the gates as JUnit test cases.

    Raises:
        AuditError: the folders hold no audits of the same images, or `out` cannot be used.
    """
    before, after = _pair(old, new)
    own: dict[str, Any] = {"class_names": after.class_names, **after.groups}
    values = [summarize(each.decomposition, **own) for each in (before, after)]
    keys = [key for key, value in values[1].items() if np.ndim(value) == 0 and "n_images" not in key]
    gates = make_gates(fail_above, fail_below)
    check_gates(gates, keys)
    check_folder(out, FILES)
    counts = draw_images(np.random.default_rng(0), len(after.names), samples=samples, clusters=after.clusters)
    drawn = [resampled(each.decomposition, keys, counts=counts, **own) for each in (before, after)]
    table = pd.DataFrame([[each[key] for each in values] for key in keys], keys, ["old", "new"], dtype=float)
    table["difference"] = table["new"] - table["old"]
    table["low"], table["high"] = percentile_ends(np.stack([drawn[1][key] - drawn[0][key] for key in keys], axis=1))
    ends = table[["low", "high"]].T.to_dict("list")
    tried = try_gates(gates, table["difference"].to_dict(), ends)
    make_folder(out)
    write_text(out / "compare.csv", table.rename_axis("quantity").to_csv(float_format="%.6g"))
    images = {"old": str(old), "new": str(new), "images": len(after.names)}
    if after.clusters is not None:
        images["clusters"] = len(np.unique(after.clusters))
    numbers = table.round(6).astype(object).where(table.notna(), None).to_dict("index")
    stored: dict[str, Any] = {"program": PROGRAM, **images}
    if tried:
        stored["passed"] = all(gate.passed for gate in tried)
    stored["differences"] = numbers
    stored["gates"] = [gate.as_json() for gate in tried]
    write_text(out / "compare.json", json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
    if junit:
        write_junit(junit, "flipjax audit --compare", tried)
    return Comparison(table, _text(table, images), failures(tried))


def _text(table: pd.DataFrame, images: Mapping[str, Any]) -> str:
    main = table.loc[[key for key in MAIN if key in table.index]]
    sure = table[(table["low"] > 0) | (table["high"] < 0)].drop(index=main.index, errors="ignore")
    order = sure["difference"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN]
    shown = pd.concat([main, sure.loc[order]]).dropna(subset=["difference"]).map("{:.4f}".format)
    unit = f"{images['clusters']} clusters" if "clusters" in images else "the images"
    head = f"{images['images']} images; differences are new less old, with 95% intervals over {unit}."
    return f"{head}\n\n{shown.to_string()}"
