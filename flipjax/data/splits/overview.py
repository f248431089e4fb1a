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
"""Training steps of a member of configs/photos_grid.py, whose 16 epochs have fewer steps where images are fewer."""
FEW = 100
"""Training images below which the classes may not be learnt: of 120 drawn photos with 32 for training, networks flipped
a third of the regions."""
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


def make_overview(catalog: Catalog, title: str, problems: Sequence[str], *, size: int, usual_option: str) -> Overview:
    """Describes a pool, without `next` and `next_frozen`.

    Args:
        catalog: the pool's, with usual scenes.
        title: begins the first line.
        problems: a line for each unusable file.
        size: side of the images in pixels.
        usual_option: the option that sets the usual scenes.
    """
    lines = _lines_of_content(catalog, title, size=size, usual_option=usual_option)
    lines += [f"\nBad files: {len(problems) or 'none'}", *(f"  {line}" for line in shared_lines(problems))]
    n_val, n_test = _sizes(catalog)
    try:
        split = split_pool(catalog, n_val=n_val, n_test=n_test, seed=0)
    except ValueError as error:
        lines.append(f"\nNo split\n  {error}")
        return Overview(tuple(lines), (*problems, str(error)), {})
    lines.append(f"\nCounts for n_val {n_val}, n_test {n_test}")
    lines += _count_lines(catalog, split, usual_option)
    largest_of_rho = {rho: largest_n_train(catalog, split, rhos=[rho]) for rho in _levels(catalog)}
    levels = pd.DataFrame([largest_of_rho], ["n_train"]).rename_axis(columns="rho").rename(columns="{:.3g}".format)
    lines += ["\nLargest n_train", _table(levels)]
    if problems:
        return Overview(tuple(lines), tuple(problems), {})
    batch_size = TrainSpec().batch_size
    usable = tuple(rho for rho, n_train in largest_of_rho.items() if n_train >= batch_size)
    if not usable:
        text = f"no sweep: no rho allows a batch of {batch_size} training images; flipjax audit needs none"
        return Overview(tuple(lines), (), {}, text)
    classes = catalog.groups.classes
    n_train = min(N_TRAIN, largest_n_train(catalog, split, rhos=usable)) // classes * classes
    changes = {"split.n_train": n_train, "split.n_val": n_val, "split.n_test": n_test, "axes.rho": usable}
    if n_train < N_TRAIN:
        epochs = math.ceil(STEPS / (n_train // batch_size))
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


def _lines_of_content(catalog: Catalog, title: str, *, size: int, usual_option: str) -> list[str]:
    """Returns the lines that say what a pool holds, and which scenes are usual."""
    counts = f"{len(catalog.objects)} objects, {len(catalog.scenes)} scene photos"
    lines = [f"{title}, {counts}, read at {size} x {size} pixels"]
    if catalog.clustered:
        names = {name for name in catalog.object_clusters if name}
        lines.append(f"  {len(names)} clusters, each in one part")
    lines += describe_usual(catalog)
    if not catalog.usual:
        rule = f"scene i mod {catalog.groups.scenes} for class i"
        lines.append(f"  (usual scenes by order, {rule}; set others by {usual_option})")
    return lines


def _levels(catalog: Catalog) -> list[float]:
    """Returns the levels of rho that a pool's groups allow: that of independence, and those of RHOS above it."""
    independence = round(catalog.groups.independence, 6)
    return [independence, *(rho for rho in RHOS if rho > independence)]


def describe_usual(catalog: Catalog) -> list[str]:
    """Returns a line for each class with its usual scenes."""
    lines = []
    for name, scenes in zip(catalog.class_names, catalog.groups.usual, strict=True):
        lines.append(f"  class {name}, usual in {', '.join(catalog.scene_names[scene] for scene in scenes)}")
    return lines


def _sizes(catalog: Catalog) -> tuple[int, int]:
    """Returns the default n_val and n_test, or smaller ones that leave half of the free images for training."""
    groups = catalog.groups.count
    # Of validation and test, in this order.
    default_sizes = np.array([SplitSpec().n_val, SplitSpec().n_test])
    counts = count_fixed(catalog)
    fixed = counts[:, 2:]
    half_of_free = counts[:, :1] * default_sizes // (2 * default_sizes.sum())
    largest_of_group = (fixed + half_of_free).min(axis=0)
    n_val, n_test = groups * np.maximum(1, np.minimum(default_sizes // groups, largest_of_group))
    return int(n_val), int(n_test)


def _count_lines(catalog: Catalog, split: Split, usual_option: str) -> list[str]:
    """Returns a table of the content of the parts, with the rho of each class in a photo pool."""
    groups = catalog.groups
    rows = {"all": count_content(catalog)}
    for name, part in split._asdict().items():
        rows[name] = count_content(catalog, part)
    table = pd.DataFrame(rows).T
    if catalog.kind == "composite":
        return [_table(table)]
    # Images of the pool and of each part (4, F, S), and which of the groups are common (F, S).
    counts = table.to_numpy().reshape(-1, groups.classes, groups.scenes)
    common = np.isin(np.arange(groups.count), groups.common).reshape(groups.classes, -1)
    rhos = (counts * common).sum(2) / np.where(counts.any(2), counts.sum(2), np.nan)
    table[[f"rho {name}" for name in catalog.class_names]] = rhos.round(3)
    lines = [_table(table)]
    whole_pool = counts[0]
    if (whole_pool * common).sum() < groups.independence * whole_pool.sum():
        largest = ",".join(catalog.scene_names[scene] for scene in whole_pool.argmax(1))
        lines.append(f"  below {groups.independence:.3g}: the usual scenes may be others; try {usual_option} {largest}")
    return lines


def _table(frame: pd.DataFrame) -> str:
    return textwrap.indent(frame.to_string(na_rep="-"), "  ")
