"""Compares two audits of the same images by paired differences, and checks gates (limits on results)."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipjax.audit.arrays import AuditError, check_folder, check_names, naming
from flipjax.groups import NamedGroups
from flipjax.metrics import Decomposition, resampled, summarize
from flipjax.metrics.summary import draw_images, percentile_ends
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
        names = check_names(path, map(str, arrays["names"]))
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
    found = [{"classes": each.class_names, "background": each.decomposition.background} for each in (before, after)]
    for what, first in found[0].items():
        if first != (second := found[1][what]):
            raise AuditError(f"--compare: expected the same {what}, found {first} in {old} and {second} in {new}")
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
    gates = read_gates(fail_above, fail_below, keys)
    check_folder(out, FILES)
    make_folder(out)
    counts = draw_images(np.random.default_rng(0), len(after.names), samples=samples, clusters=after.clusters)
    drawn = [resampled(each.decomposition, keys, counts=counts, **own) for each in (before, after)]
    table = pd.DataFrame([[each[key] for each in values] for key in keys], keys, ["old", "new"], dtype=float)
    table["difference"] = table["new"] - table["old"]
    table["low"], table["high"] = percentile_ends(np.stack([drawn[1][key] - drawn[0][key] for key in keys], axis=1))
    tried = try_gates(gates, table["difference"].to_dict(), table[[*ENDS]].T.to_dict("list"))
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


class Gate(NamedTuple):
    """A limit of an option on a `key` of the summary, or on one `end` of its interval; `name` is as given."""

    option: str
    name: str
    key: str
    end: str
    limit: float


def read_gates(
    above: Mapping[str, float] | None, below: Mapping[str, float] | None, known: Collection[str]
) -> list[Gate]:
    """Returns gates from limits by key; `KEY:low` and `KEY:high` are the ends of an interval.

    Raises:
        AuditError: a key is not `known`.
    """
    gates = []
    for option, limits in ((ABOVE, above), (BELOW, below)):
        for name, limit in (limits or {}).items():
            key, _, end = name.rpartition(":")
            gate = Gate(option, name, *((key, end) if end in ENDS else (name, "")), float(limit))
            if gate.key not in known:
                short = ", ".join(sorted(key for key in known if "/" not in key))
                form = f"a key of the summary ({short}; iou/CLASS, flip/CLASS), or KEY:low or KEY:high"
                raise AuditError(f"{option}: expected {form}; found {name!r}")
            gates.append(gate)
    return gates


def try_gates(
    gates: Sequence[Gate], values: Mapping[Any, Any], intervals: Mapping[Any, Sequence[Any]]
) -> list[dict[str, Any]]:
    """Returns a row per gate: key, limit, value (or None) and whether it passed.

    Undefined numbers fail.
    """
    rows = []
    for gate in gates:
        found = intervals.get(gate.key, (math.nan,) * 2)[ENDS.index(gate.end)] if gate.end else values.get(gate.key)
        value = float(np.nan if found is None or np.ndim(found) else found)
        passed = value <= gate.limit if gate.option == ABOVE else value >= gate.limit
        known = None if math.isnan(value) else value
        text = f"{gate.option} {gate.name}={gate.limit:g}"
        rows.append({"gate": text, "limit": gate.limit, "value": known, "passed": passed})
    return rows


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line per failed gate."""
    failed = [(row["gate"], row["value"]) for row in rows if not row["passed"]]
    return [f"{gate}: found {'no number' if value is None else format(value, '.6g')}" for gate, value in failed]
