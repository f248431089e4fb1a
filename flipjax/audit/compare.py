"""Compares two audits of the same images by paired differences, and checks gates (limits on results)."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipjax.audit.arrays import check_folder
from flipjax.audit.problems import AuditError, naming
from flipjax.groups import NamedGroups
from flipjax.metrics import Decomposition, resampled, summarize
from flipjax.metrics.resampling import draw_images, percentile_ends
from flipjax.support.files import make_folder, write_text
from flipjax.support.terminal import listed

PROGRAM = "flipjax.audit.compare"
FILES = {"compare.json", "compare.csv"}
SHOWN = 12
"""Further differences printed on the terminal."""
MAIN = ("fg_correct", "fg_flip", "fg_miss", "mean_iou", "iou/foreground", "risk_auroc")
ENDS = ("low", "high")
ABOVE, BELOW = "--fail_above", "--fail_below"


class Stored(NamedTuple):
    """A stored audit of n images by name: counts, class names, `groups` and `all_groups` if any, optional clusters."""

    names: list[str]
    decomposition: Decomposition
    class_names: tuple[str, ...]
    groups: dict[str, Any]
    clusters: np.ndarray | None


class Comparison(NamedTuple):
    """Differences (new minus old) with intervals, one row per quantity; their text; failed gates."""

    table: pd.DataFrame
    text: str
    failed: list[str]


def read_audit(folder: Path) -> Stored:
    """Reads a stored audit.

    Raises:
        AuditError: the folder holds no audit.
    """
    path = folder / "decomposition.npz"
    if not path.is_file():
        raise AuditError(f"--compare: expected the folder of an audit, which has {path.name}, found {folder}")
    with naming(path), np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
        names = [*map(str, arrays["names"])]
        order = sorted(range(len(names)), key=names.__getitem__)
        background = json.loads((folder / "summary.json").read_bytes())["options"]["background"]
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
    fail_above: Mapping[str, float] | None = None,
    fail_below: Mapping[str, float] | None = None,
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

    Raises:
        AuditError: the folders hold no audits of the same images, or `out` cannot be used.
    """
    before, after = _pair(old, new)
    own: dict[str, Any] = {"class_names": after.class_names, **after.groups}
    values = [summarize(each.decomposition, **own) for each in (before, after)]
    keys = [key for key, value in values[1].items() if np.ndim(value) == 0 and "n_images" not in key]
    check_gates(fail_above, fail_below, keys)
    check_folder(out, FILES)
    counts = draw_images(np.random.default_rng(0), len(after.names), samples=samples, clusters=after.clusters)
    drawn = [resampled(each.decomposition, keys, counts=counts, **own) for each in (before, after)]
    table = pd.DataFrame([[each[key] for each in values] for key in keys], keys, ["old", "new"], dtype=float)
    table["difference"] = table["new"] - table["old"]
    table["low"], table["high"] = percentile_ends(np.stack([drawn[1][key] - drawn[0][key] for key in keys], axis=1))
    ends = table[["low", "high"]].T.to_dict("list")
    tried = try_gates(fail_above, fail_below, table["difference"].to_dict(), ends)
    make_folder(out)
    write_text(out / "compare.csv", table.rename_axis("quantity").to_csv(float_format="%.6g"))
    images = {"old": str(old), "new": str(new), "images": len(after.names)}
    if after.clusters is not None:
        images["clusters"] = len(np.unique(after.clusters))
    numbers = table.round(6).astype(object).where(table.notna(), None).to_dict("index")
    stored = {"program": PROGRAM, **images, "differences": numbers, "gates": tried}
    write_text(out / "compare.json", json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
    return Comparison(table, _text(table, images), failures(tried))


def _text(table: pd.DataFrame, images: Mapping[str, Any]) -> str:
    main = table.loc[[key for key in MAIN if key in table.index]]
    sure = table[(table["low"] > 0) | (table["high"] < 0)].drop(index=main.index, errors="ignore")
    order = sure["difference"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN]
    shown = pd.concat([main, sure.loc[order]]).dropna(subset=["difference"]).map("{:.4f}".format)
    unit = f"{images['clusters']} clusters" if "clusters" in images else "the images"
    head = f"{images['images']} images; differences are new less old, with 95% intervals over {unit}."
    return f"{head}\n\n{shown.to_string()}"


def _split(name: str) -> tuple[str, str]:
    """Returns the key of a gate, and the end of its interval or ''."""
    key, _, end = name.rpartition(":")
    return (key, end) if end in ENDS else (name, "")


def check_gates(above: Mapping[str, float] | None, below: Mapping[str, float] | None, known: Collection[str]) -> None:
    """Raises AuditError for a limit on a key that is not `known`; `KEY:low` and `KEY:high` are ends of an interval."""
    for option, limits in ((ABOVE, above), (BELOW, below)):
        if wrong := [name for name in limits or {} if _split(name)[0] not in known]:
            short = ", ".join(sorted(key for key in known if "/" not in key))
            form = f"a key of the summary ({short}; iou/CLASS, flip/CLASS), or KEY:low or KEY:high"
            raise AuditError(f"{option}: expected {form}; found {', '.join(map(repr, wrong))}")


def try_gates(
    above: Mapping[str, float] | None,
    below: Mapping[str, float] | None,
    values: Mapping[Any, Any],
    intervals: Mapping[Any, Sequence[Any]],
) -> list[dict[str, Any]]:
    """Tries limits on numbers by key, checked by `check_gates`. Undefined numbers fail.

    Returns:
        A row per limit: the option, the limit, the value (or None) and whether it passed.
    """
    rows = []
    for option, limits in ((ABOVE, above), (BELOW, below)):
        for name, limit in (limits or {}).items():
            key, end = _split(name)
            found = intervals.get(key, (None, None))[ENDS.index(end)] if end else values.get(key)
            value = math.nan if found is None else float(found)
            passed = value <= limit if option == ABOVE else value >= limit
            known = None if math.isnan(value) else value
            rows.append({"gate": f"{option} {name}={limit:g}", "limit": limit, "value": known, "passed": passed})
    return rows


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line per failed gate."""
    failed = [(row["gate"], row["value"]) for row in rows if not row["passed"]]
    return [f"{gate}: found {'no number' if value is None else format(value, '.6g')}" for gate, value in failed]
