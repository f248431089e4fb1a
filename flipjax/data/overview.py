"""Describes a pool: its groups, the sizes of the parts that fit, and the largest training set of each rho."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.config import SplitSpec, TrainSpec
from flipjax.data.correlation import largest_n_train
from flipjax.data.pool import Catalog
from flipjax.data.split import Split, count_content, count_fixed, split_pool
from flipjax.data.store import shared_lines
from flipjax.support.terminal import printable

N_TRAIN = 800
"""Training images of configs/photos_grid.py."""
STEPS = 800
"""Steps of a member of configs/photos_grid.py: of fewer images, its 16 epochs would be too short to learn."""
FEW = 100
"""Training images below which the classes may not be learnt: of 32 of 120 drawn photos, a third of regions flipped."""
RHOS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Levels of configs/photos_grid.py."""


@dataclasses.dataclass(frozen=True, repr=False)
class Overview:
    """What a pool holds and which sweep fits it; `str` and the display of a notebook show all of it."""

    lines: tuple[str, ...]
    """Source, usual scenes, bad files and tables."""
    problems: tuple[str, ...]
    """A line for each unusable file, and the reason where no split fits."""
    changes: Mapping[str, int | tuple[float, ...]]
    """Keys of a configuration that sweeps the pool, by dotted name; empty if none fits."""
    next: str = ""
    """The call or command that sweeps the pool, or a sentence that explains why there is none."""
    next_frozen: str = ""
    """The same on features of photos, which learns of animals and things what small U-Nets do not; empty if none."""

    @property
    def fine(self) -> bool:
        """Whether no file is bad and a split fits."""
        return not self.problems

    def __str__(self) -> str:
        """Returns the whole text."""
        lines = list(self.lines)
        if self.next:
            lines += ["\nNext", f"  {self.next}"]
        if self.next_frozen:
            lines += [
                "\nNext for photos of animals or things, which small U-Nets hardly learn (pip install "
                "'flipjax[pretrained]')",
                f"  {self.next_frozen}",
            ]
        return printable("\n".join(lines))

    __repr__ = __str__


def make_overview(
    catalog: Catalog, title: str, problems: Sequence[str], *, size: int, by_order: str | None
) -> Overview:
    """Describes a pool, without `next` and `next_frozen`.

    Args:
        catalog: the pool's, with usual scenes.
        title: begins the first line.
        problems: a line for each unusable file.
        size: side of the images in pixels.
        by_order: what sets other usual scenes, where none were given; None where they were.
    """
    counts = f"{len(catalog.objects)} objects, {len(catalog.scenes)} scene photos"
    lines = [f"{title}, {counts}, read at {size} x {size} pixels"]
    if catalog.clustered:
        names = {name for name in catalog.object_clusters if name}
        lines.append(f"  {len(names)} clusters, each in one part")
    lines += describe_usual(catalog)
    if by_order is not None:
        lines.append(
            f"  (usual scenes by order, scene i mod {catalog.groups.scenes} for class i; set others by {by_order})"
        )
    lines += [f"\nBad files: {len(problems) or 'none'}", *(f"  {line}" for line in shared_lines(problems))]
    n_val, n_test = _sizes(catalog)
    try:
        split = split_pool(catalog, n_val=n_val, n_test=n_test, seed=0)
    except ValueError as error:
        lines.append(f"\nNo split\n  {error}")
        return Overview(tuple(lines), (*problems, str(error)), {})
    low = round(catalog.groups.independence, 6)
    rhos = (low, *(rho for rho in RHOS if rho > low))
    largest = {rho: largest_n_train(catalog, split, rhos=[rho]) for rho in rhos}
    levels = pd.DataFrame([largest], ["n_train"]).rename_axis(columns="rho").rename(columns="{:.3g}".format)
    lines += [f"\nCounts for n_val {n_val}, n_test {n_test}", *_count_lines(catalog, split, by_order or "--usual")]
    lines += ["\nLargest n_train", _table(levels)]
    usable = tuple(rho for rho, n_train in largest.items() if n_train >= TrainSpec().batch_size)
    if problems:
        return Overview(tuple(lines), tuple(problems), {})
    if not usable:
        text = f"no sweep: no rho allows a batch of {TrainSpec().batch_size} training images; flipjax audit needs none"
        return Overview(tuple(lines), (), {}, text)
    classes = catalog.groups.classes
    n_train = min(N_TRAIN, largest_n_train(catalog, split, rhos=usable)) // classes * classes
    changes = {"split.n_train": n_train, "split.n_val": n_val, "split.n_test": n_test, "axes.rho": usable}
    if n_train < N_TRAIN:
        epochs = math.ceil(STEPS / (n_train // TrainSpec().batch_size))
        changes.update({"train.epochs": epochs, "train.patience": epochs // 2})
        lines.append(
            f"\nTraining: {epochs} epochs of {n_train} images take the {STEPS} steps of photos_grid, as few do not"
        )
    if n_train < FEW:
        lines.append(
            "  They are few to learn the classes from: leave out the levels of rho that allow the fewest (above), or "
            "use flipjax assay, whose networks train on all folds but one"
        )
    return Overview(tuple(lines), (), changes)


def describe_usual(catalog: Catalog) -> list[str]:
    """Returns a line for each class with its usual scenes."""
    lines = []
    for name, scenes in zip(catalog.class_names, catalog.groups.usual, strict=True):
        lines.append(f"  class {name}, usual in {', '.join(catalog.scene_names[scene] for scene in scenes)}")
    return lines


def _sizes(catalog: Catalog) -> tuple[int, int]:
    """Returns the default n_val and n_test, or smaller ones that leave half of the free images for training."""
    default = SplitSpec()
    groups = catalog.groups.count
    wanted = np.array([default.n_val, default.n_test])
    counts = count_fixed(catalog)
    most = (counts[:, 2:] + counts[:, :1] * wanted // (2 * wanted.sum())).min(axis=0)
    n_val, n_test = groups * np.maximum(1, np.minimum(wanted // groups, most))
    return int(n_val), int(n_test)


def _count_lines(catalog: Catalog, split: Split, option: str) -> list[str]:
    """Returns a table of the content of the parts, with the rho of each class in a photo pool."""
    groups = catalog.groups
    rows = {"all": count_content(catalog)}
    for name, part in split._asdict().items():
        rows[name] = count_content(catalog, part)
    table = pd.DataFrame(rows).T
    if catalog.kind == "composite":
        return [_table(table)]
    counts = table.to_numpy().reshape(-1, groups.classes, groups.scenes)
    common = np.isin(np.arange(groups.count), groups.common).reshape(groups.classes, -1)
    rhos = (counts * common).sum(2) / np.where(counts.any(2), counts.sum(2), np.nan)
    table[[f"rho {name}" for name in catalog.class_names]] = rhos.round(3)
    lines = [_table(table)]
    if (counts[0] * common).sum() < groups.independence * counts[0].sum():
        most = ",".join(catalog.scene_names[scene] for scene in counts[0].argmax(1))
        lines.append(f"  below {groups.independence:.3g}: the usual scenes may be others; try {option} {most}")
    return lines


def _table(frame: pd.DataFrame) -> str:
    return textwrap.indent(frame.to_string(na_rep="-"), "  ")
