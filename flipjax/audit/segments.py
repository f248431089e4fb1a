"""What became of the segments of an audit: its tables, its sentences and its file."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from flipjax.audit.contexts import CONTEXT, context_table, measure_contexts
from flipjax.audit.gather import Measured
from flipjax.files import replacing
from flipjax.metrics import SegmentTables, error_budget, segment_auroc, segment_confusion, segment_flips
from flipjax.metrics.classes import is_foreground
from flipjax.metrics.objects import STRATA
from flipjax.results.frames import write_csv
from flipjax.results.rows import rounded
from flipjax.results.text import TextTable

WORST = 10
"""Rows that a table of classes or of pairs shows at once."""
AT_ONCE = 12
"""Classes of which a table shows all."""
MENDED = {
    "whole": "whole segments that flip",
    "rim": "flips near borders of other segments",
    "inside": "flips inside of other segments",
    "miss": "misses",
    "spill": "spills",
    "background": "one background class for another",
}


class Objects(NamedTuple):
    """The segments of an audit: their tables, SegFlip by class, the flip matrix int64 (C, C), the budget."""

    tables: SegmentTables
    flips: pd.DataFrame
    confusion: np.ndarray
    budget: pd.DataFrame
    class_names: tuple[str, ...]
    foreground: list[int]
    contexts: Mapping[str, Any]

    def summary(self) -> dict[str, float]:
        """Returns SegFlip and StrictFlip of all segments."""
        return {name: _rows(self.flips)["all"][name] for name in ("seg_flip", "strict_flip")}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns their intervals, where there are any."""
        names = [name for name in self.summary() if f"{name}_low" in self.flips]
        row = _rows(self.flips)["all"]
        return {name: (row[f"{name}_low"], row[f"{name}_high"]) for name in names}

    def of_images(self, images: int) -> dict[str, list[int]]:
        """Returns two columns of images.csv: segments, and how many of them flip."""
        place = self.tables.true["image"].to_numpy()
        flip = (self.tables.true["outcome"] == "flip").to_numpy()
        counts = [np.bincount(part, minlength=images).tolist() for part in (place, place[flip])]
        return dict(zip(("segments", "flipped_segments"), counts, strict=True))

    def findings(self) -> list[str]:
        """Returns what was found, in sentences."""
        row = _rows(self.flips)["all"]
        if not row["segments"]:
            return []
        strict = _share(row, "strict_flip")
        of_matched = "" if strict == "-" else f" Of those matched by a predicted one, {strict} have another class."
        lines = [f"Of {int(row['segments']):,} true segments {_share(row, 'seg_flip')} flip.{of_matched}"]
        kinds = {name: kind for name, kind in _rows(self.budget).items() if name != "all" and kind["gain"] > 0}
        best = max(kinds, key=lambda name: kinds[name]["gain"], default="")
        if best:
            lines.append(
                f"What to mend first: {MENDED[best]}, {kinds[best]['share']:.0%} of the wrong pixels, worth "
                f"{kinds[best]['gain']:+.3f} mean IoU."
            )
        return lines

    def by_class(self, *, rest: bool = False) -> TextTable:
        """Returns the fate of the segments of the worst classes; with `rest` of the others, those that have none last.

        The order is that of SegFlip, and of more segments where two are equal.
        """
        classes = _rows(self.flips)
        total = classes.pop("all")
        worst = sorted(classes.items(), key=lambda entry: (-entry[1]["seg_flip"], -entry[1]["segments"]))
        rows = worst[WORST:] if rest else [*worst[:WORST], ("all", total)]
        cells = [[name, *_fate(row)] for name, row in rows]
        if rest:
            absent = [name for name in self.class_names if name not in classes]
            cells += [[name, "0", *["-"] * 6] for name in absent]
        header = ["class", "segments", "correct", "SegFlip", "miss", "mixed", "StrictFlip", "of the flips bleeding"]
        return TextTable(header, cells)

    def flipped_pairs(self) -> list[list[int]]:
        """Returns true class, predicted class, segments and pixels of each pair that flips, the most segments first."""
        flips = self.tables.true[self.tables.true["outcome"] == "flip"]
        counts = flips.groupby(["class", "predicted"])["pixels"].agg(["size", "sum"]).reset_index()
        counts = counts.sort_values(["size", "sum"], ascending=False, kind="stable")
        return counts.astype(np.int64).to_numpy().tolist()

    def pairs(self, *, rest: bool = False) -> TextTable:
        """Returns the pairs of classes with the most flipped segments; with `rest` the others."""
        totals = self.tables.true["class"].value_counts()
        found = self.flipped_pairs()
        rows = []
        for truth, predicted, size, pixels in found[WORST:] if rest else found[:WORST]:
            pair = f"{self.class_names[truth]} as {self.class_names[predicted]}"
            rows.append([pair, f"{size:,}", f"{size / totals[truth]:.1%}", f"{pixels:,}"])
        return TextTable(["flip", "segments", "share of the class's", "their pixels"], rows)

    def matrix(self) -> tuple[list[int], TextTable]:
        """Returns the classes in the most segments that flip, at most AT_ONCE, and how many of each are taken for each.

        Mixed segments are not in it, and what is missed has a column of its own.
        """
        inside = np.zeros(len(self.class_names), bool)
        inside[self.foreground] = True
        flips = self.confusion * (inside[:, None] & inside & ~np.eye(len(inside), dtype=bool))
        involved = flips.sum(0) + flips.sum(1)
        classes = sorted(np.argsort(-involved, kind="stable")[: min(AT_ONCE, np.count_nonzero(involved))].tolist())
        rows = []
        for c in classes:
            counts = self.confusion[c]
            others = flips[c].sum() - flips[c, classes].sum()
            cells = [*counts[classes].tolist(), int(others), int(counts[~inside].sum())]
            rows.append([self.class_names[c], *(f"{count:,}" if count else "" for count in cells)])
        header = ["true class", *(self.class_names[c] for c in classes), "other classes", "missed"]
        return classes, TextTable(header, rows)

    def ranking(self) -> TextTable:
        """Returns how well scores rank predicted segments that are wrong, and size alone; empty for masks."""
        header = ["predicted segments", "number", "wrong", "flip-risk", "max softmax", "being small"]
        predicted = self.tables.predicted
        if not predicted["flip_risk"].notna().any():
            return TextTable(header, [])
        risk, softmax = (_rows(segment_auroc(predicted, score=score)) for score in ("flip_risk", "max_softmax"))
        limits = [f"1/{round(1 / share)}" for share in STRATA]
        sizes = [f"below {limits[0]} of the image", *(f"from {limit}" for limit in limits)]
        titles = {"all": "of all sizes", "within strata": "within the sizes below"}
        titles |= {str(k): size for k, size in enumerate(sizes)}
        cells = []
        for key, row in risk.items():
            values = (row["auroc"], softmax[key]["auroc"], row["size_auroc"])
            numbers = [f"{int(row['segments']):,}", f"{int(row['wrong']):,}"]
            cells.append([titles[key], *numbers, *(_shown(value, ".3f") for value in values)])
        return TextTable(header, cells)

    def mending(self) -> TextTable:
        """Returns the wrong pixels of each kind, and what mending them is worth, the largest gain first."""
        kinds = self.budget.drop(index="all").sort_values("gain", ascending=False, kind="stable")
        rows = []
        for kind, row in _rows(pd.concat([kinds[kinds["pixels"] > 0], self.budget.loc[["all"]]])).items():
            numbers = [f"{int(row['pixels']):,}", _shown(row["share"], ".1%"), _shown(row["gain"], "+.3f")]
            rows.append([MENDED.get(kind, kind), *numbers])
        return TextTable(["wrong pixels", "pixels", "share", "gain in mean IoU"], rows)

    def as_json(self) -> dict[str, Any]:
        """Returns SegFlip by class, the flip matrix in segments and the budget; None for what does not exist."""
        tables = {"segments": self.flips, "budget": self.budget}
        stored: dict[str, Any] = {
            name: {key: {column: _number(value) for column, value in row.items()} for key, row in _rows(table).items()}
            for name, table in tables.items()
        }
        context = {
            name: {key: _number(v) for key, v in found._asdict().items()} for name, found in self.contexts.items()
        }
        return stored | {"segment_matrix": self.confusion.tolist()} | ({"context": context} if context else {})


def count_objects(measured: Measured, class_names: Sequence[str], *, samples: int) -> Objects:
    """Counts segments; intervals are of resamples of the images, where there are several."""
    C = len(class_names)
    decomposition, ignored, _, tables = measured
    contexts, evidence = measure_contexts(tables.true, decomposition, ignored)
    if contexts:
        tables = tables._replace(true=tables.true.assign(evidence=evidence))
    key = jax.random.key(0) if tables.true["image"].nunique() > 1 else None
    flips = segment_flips(tables.true, key=key, samples=samples, class_names=class_names)
    budget = error_budget(tables.pixels, num_classes=C)
    confusion = segment_confusion(tables.true, num_classes=C)
    foreground = np.flatnonzero(is_foreground(C, decomposition.background)).tolist()
    return Objects(tables, flips, confusion, budget, tuple(class_names), foreground, contexts)


def main_segment_tables(objects: Objects) -> dict[str, TextTable]:
    """Returns the tables that come first, by caption; none where there is no segment."""
    classes = len(objects.flips) - 1
    if not classes:
        return {}
    which = f"the {WORST} worst of {classes} classes" if classes > WORST else "by class"
    tables = {f"Segments, {which}, with 95% intervals": objects.by_class()}
    pairs = objects.pairs()
    tables |= {"Which class's segments are taken for which, the most frequent first": pairs} if pairs.rows else {}
    return tables | {"What to mend first: the gain of each kind alone": objects.mending()}


def other_segment_tables(objects: Objects) -> dict[str, TextTable]:
    """Returns the classes and pairs that `main_segment_tables` leaves out, and how well scores rank segments."""
    tables = {
        "Segments of the other classes": objects.by_class(rest=True),
        "Which class's segments are taken for which, the other pairs": objects.pairs(rest=True),
        "How well scores rank predicted segments that are wrong, AUROC": objects.ranking(),
    }
    tables |= {CONTEXT: context_table(objects.contexts)} if objects.contexts else {}
    return {name: table for name, table in tables.items() if table.rows}


def write_segments(folder: Path, objects: Objects, names: Sequence[str]) -> None:
    """Writes a row for each true segment: segments.parquet, or segments.csv where pyarrow is not installed."""
    true, class_names = objects.tables.true, np.array(objects.class_names, object)
    spelled = {"name": np.array(names, object)[true["image"].to_numpy()]}
    spelled |= {f"{column}_name": class_names[true[column].to_numpy()] for column in ("class", "predicted")}
    table = pd.concat([pd.DataFrame(spelled, index=true.index), true], axis=1)
    arrow = importlib.util.find_spec("pyarrow") is not None
    (folder / ("segments.csv" if arrow else "segments.parquet")).unlink(missing_ok=True)
    if not arrow:
        write_csv(folder / "segments.csv", table)
        return
    with replacing(folder / "segments.parquet") as stream:
        table.to_parquet(stream, index=False)


def _rows(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {str(key): dict(zip(map(str, table), map(float, row), strict=True)) for key, *row in table.itertuples()}


def _shown(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _fate(row: Mapping[str, float]) -> list[str]:
    whole = row["segments"] or np.nan
    correct, miss, mixed = (_shown(row[name] / whole, ".3f") for name in ("correct", "miss", "mixed"))
    shares = [correct, _share(row, "seg_flip"), miss, mixed, _share(row, "strict_flip"), _shown(row["bleeding"], ".0%")]
    return [f"{int(row['segments']):,}", *shares]


def _share(row: Mapping[str, float], name: str) -> str:
    if np.isnan(row[name]):
        return "-"
    ends = [row.get(f"{name}_{end}", np.nan) for end in ("low", "high")]
    return f"{row[name]:.3f}" + ("" if np.isnan(ends).any() else f" [{ends[0]:.3f}, {ends[1]:.3f}]")


def _number(value: Any) -> Any:
    return None if np.isnan(value) else int(value) if float(value).is_integer() else rounded(float(value))
