"""Compares two audits of the same images by paired differences, and checks gates (limits on results)."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipjax.audit.arrays import AuditError, check_names, naming
from flipjax.files import make_folder, replacing, write_text
from flipjax.groups import NamedGroups
from flipjax.metrics import Decomposition, resampled, summarize
from flipjax.metrics.summary import draw_images, percentile_ends
from flipjax.terminal import listed

PROGRAM = "flipjax.audit.compare"
FILES = {"compare.json", "compare.csv"}
COLUMNS = ("old", "new", "difference", "low", "high")
SHOWN = 12
"""Further differences printed on the terminal."""
MAIN = ("fg_correct", "fg_flip", "fg_miss", "mean_iou", "iou/foreground", "risk_auroc")
ENDS = ("low", "high")
ABOVE, BELOW = "--fail_above", "--fail_below"


class Stored(NamedTuple):
    """A stored audit of n images by name: counts, class names, and optional named groups and clusters."""

    names: list[str]
    decomposition: Decomposition
    class_names: tuple[str, ...]
    groups: np.ndarray | None
    group_names: tuple[str, ...]
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
        grouped = "group_names" in arrays
        named, groups = np.unique(arrays["group_names"][order], return_inverse=True) if grouped else ((), None)
        return Stored(
            sorted(names),
            Decomposition(arrays["confusion"][order], arrays["risk_sum"][order], background),
            tuple(map(str, arrays["class_names"])),
            groups,
            tuple(map(str, named)),
            arrays["clusters"][order] if "clusters" in arrays else None,
        )


def _pair(old: Path, new: Path) -> tuple[Stored, Stored]:
    """Reads both audits, which must have the same images and labels."""
    before, after = read_audit(old), read_audit(new)
    lacking = sorted({*before.names} ^ {*after.names})
    if lacking:
        raise AuditError(f"--compare: expected the same images in {old} and {new}; in one alone are {listed(lacking)}")
    for what, first, second in (
        ("classes", before.class_names, after.class_names),
        ("background", before.decomposition.background, after.decomposition.background),
    ):
        if first != second:
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
    own: dict[str, Any] = {"class_names": after.class_names, "groups": after.groups}
    own["all_groups"] = NamedGroups(after.group_names) if after.group_names else None
    values = [summarize(each.decomposition, **own) for each in (before, after)]
    keys = [key for key, value in values[1].items() if np.ndim(value) == 0 and "n_images" not in key]
    gates = read_gates(fail_above, fail_below)
    check_gates(gates, keys)
    make_folder(out)
    if {path.name for path in out.iterdir()} - FILES:
        raise AuditError(f"--out: expected a new folder, or that of an earlier comparison; found other files in {out}")
    draws = draw_images(np.random.default_rng(0), len(after.names), samples=samples, clusters=after.clusters)
    drawn = [resampled(each.decomposition, keys, draws, **own) for each in (before, after)]
    table = pd.DataFrame([[each[key] for each in values] for key in keys], keys, list(COLUMNS[:2]), dtype=float)
    table["difference"] = table["new"] - table["old"]
    table["low"], table["high"] = percentile_ends(np.stack([drawn[1][key] - drawn[0][key] for key in keys], axis=1))
    limits = dict(zip(keys, zip(table["low"], table["high"], strict=True), strict=True))
    tried = try_gates(gates, dict(zip(keys, table["difference"], strict=True)), limits)
    with replacing(out / "compare.csv") as stream:
        table.rename_axis("quantity").to_csv(stream, float_format="%.6g")
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

    def __str__(self) -> str:
        """Returns the gate as the command line spells it."""
        return f"{self.option} {self.name}={self.limit:g}"


def read_gates(above: Mapping[str, float] | None, below: Mapping[str, float] | None) -> list[Gate]:
    """Returns gates from limits by key; `KEY:low` and `KEY:high` are the ends of an interval."""
    gates = []
    for option, limits in ((ABOVE, above), (BELOW, below)):
        for name, limit in (limits or {}).items():
            key, _, end = name.rpartition(":")
            gates.append(Gate(option, name, *((key, end) if end in ENDS and key else (name, "")), float(limit)))
    return gates


def check_gates(gates: Sequence[Gate], known: Collection[str]) -> None:
    """Raises AuditError for an unknown key."""
    for gate in gates:
        if gate.key not in known:
            short = ", ".join(sorted(name for name in known if "/" not in name))
            form = f"a key of the summary ({short}; iou/CLASS, flip/CLASS), or KEY:low or KEY:high"
            raise AuditError(f"{gate.option}: expected {form}; found {gate.name!r}")


def try_gates(
    gates: Sequence[Gate], values: Mapping[str, Any], intervals: Mapping[str, tuple[Any, Any]]
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
        rows.append({"gate": str(gate), "limit": gate.limit, "value": known, "passed": passed})
    return rows


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line per failed gate."""
    failed = [(row["gate"], row["value"]) for row in rows if not row["passed"]]
    return [f"{gate}: found {'no number' if value is None else format(value, '.6g')}" for gate, value in failed]
