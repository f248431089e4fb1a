"""Reports on a folder: bad files, masks, counts, and the correlation levels that it allows at each size."""

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.config import PoolSpec, SplitSpec, TrainSpec
from flipjax.data.build import BadFilesError, decoded, listed, shared_lines, with_usual
from flipjax.data.correlation import count_groups, largest_n_train
from flipjax.data.folder import decoder_of, digests, list_folder
from flipjax.data.pool import Catalog, Listing, catalog_of
from flipjax.data.split import PARTS, Split, count_fixed, split_pool, strata, strata_names
from flipjax.groups import Groups
from flipjax.terminal import printable

N_TRAIN, GRID = 800, (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Training images and levels of configs/photos_grid.py."""
RHOS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def check_folder(
    spec: PoolSpec, *, n_val: int | None = None, n_test: int | None = None, seed: int = 0
) -> tuple[str, bool]:
    """Reads every file of a folder as `load_folder` does, and reports.

    Args:
        spec: as in `load_folder`.
        n_val: number of validation images; None: the default, or fewer where the folder is small.
        n_test: the same for the test images.
        seed: the split's seed.

    Returns:
        The report, and whether nothing is wrong.

    Raises:
        ConfigError: root is no folder, or usual scenes are invalid.
    """
    try:
        root, listing = list_folder(spec)
    except BadFilesError as error:
        return str(error), False
    catalog = with_usual(catalog_of(listing), spec)
    problems, masks = _decode(root, listing, spec.size)
    lines = _heading(listing, catalog.groups, spec.size)
    lines += [f"\nBad files: {len(problems) or 'none'}", *(f"  {line}" for line in shared_lines(problems))]
    lines += ["\nMasks", *(f"  {count:6} {values}" for values, count in masks.most_common())]
    lines += _twins(root, listing)
    sizes, note = _sizes(catalog, n_val, n_test)
    try:
        split = split_pool(catalog, **sizes, seed=seed)
    except ValueError as error:
        lines += ["\nCounts", *_count_table(catalog, None), *_realised(catalog, None), "\nNo split", f"  {error}"]
        return printable("\n".join(lines)), False
    bad = ", the bad files as if they were good" if problems else ""
    lines.append(f"\nCounts for n_val {sizes['n_val']}, n_test {sizes['n_test']}, split seed {seed}{note}{bad}")
    lines += [*_count_table(catalog, split), *_realised(catalog, split), *_levels(catalog, split)]
    if not problems:
        lines += ["\nNext", f"  {_command(spec, catalog, split, sizes | {'seed': seed})}"]
    return printable("\n".join(lines)), not problems


def _command(spec: PoolSpec, catalog: Catalog, split: Split, sizes: Mapping[str, int]) -> str:
    """Returns a sweep command for the folder, or the reason why none is possible."""
    rhos = (low := round(catalog.groups.independence, 6), *(rho for rho in GRID if rho > low))
    largest = {rho: largest_n_train(catalog, split, rhos=[rho]) for rho in rhos}
    levels = tuple(rho for rho, n in largest.items() if n >= TrainSpec().batch_size)
    if not levels:
        return f"no sweep: no rho allows a batch of {TrainSpec().batch_size} training images; flipjax audit needs none"
    n_train = min(N_TRAIN, largest_n_train(catalog, split, rhos=levels)) // catalog.groups.classes
    changes: dict[str, tuple] = {"split.n_train": (n_train * catalog.groups.classes, N_TRAIN)}
    changes |= {f"split.{name}": (value, getattr(SplitSpec(), name)) for name, value in sizes.items()}
    changes |= {"axes.rho": (str(levels).replace(" ", ""), str(GRID).replace(" ", ""))}
    names = ("size", "classes", "scene_kinds", "usual")
    changes |= {f"pool.{name}": (getattr(spec, name), getattr(PoolSpec(), name)) for name in names}
    values = [f"--config.{name}={value}" for name, (value, usual) in changes.items() if value != usual]
    return shlex.join(["flipjax", "sweep", "--config", "photos_grid", f"--config.pool.root={spec.root}", *values])


def _decode(root: Path, listing: Listing, size: int) -> tuple[list[str], Counter[str]]:
    """Returns a line for each bad file, and the number of masks with each set of values."""
    problems = list(listing.problems)
    read = decoder_of(root, listing, size=size)
    objects = decoded(listing.objects, read.read_object, what="images", problems=problems)
    masks = Counter(values for _, (_, _, values, _) in objects)
    for _ in decoded(listing.scenes, read.read_scene, what="scenes", problems=problems):
        pass
    return problems, masks


def _heading(listing: Listing, groups: Groups, size: int) -> list[str]:
    count = f"{len(listing.objects)} photos"
    if listing.kind == "composite":
        count = f"{len(listing.objects)} cut-outs, {len(listing.scenes)} scene photos"
    lines = [f"{listing.source}: a {listing.kind} folder, {count}, read at {size} x {size} pixels"]
    for y, (name, own) in enumerate(zip(listing.class_names, groups.usual, strict=True)):
        scenes = ", ".join(listing.scene_names[scene] for scene in own)
        lines.append(f"  class {y} {name}, usual scene{'s' if len(own) > 1 else ''} {scenes}")
    return lines


def _twins(root: Path, listing: Listing) -> list[str]:
    photos = [item.files[0] for item in (*listing.objects, *listing.scenes)]
    same = pd.Series(photos).groupby(digests(root, photos), sort=False)
    twins = [f"  {listed(list(names))}" for digest, names in same if digest and len(names) > 1]
    return ["\nThe same image under several names (it may stand in two parts of the split)", *twins] if twins else []


def _sizes(catalog: Catalog, n_val: int | None, n_test: int | None) -> tuple[dict[str, int], str]:
    default = {name: getattr(SplitSpec(), name) for name in ("n_val", "n_test")}
    cells = catalog.groups.count
    counts = count_fixed(catalog)
    sizes = {}
    for column, (name, size) in enumerate(default.items(), start=2):
        # Val and test take at most half of the free images, which leaves some for training.
        free = counts[:, 0] * size // (2 * sum(default.values()))
        sizes[name] = cells * max(1, min(size // cells, int(np.min(counts[:, column] + free))))
    asked = {name: value for name, value in (("n_val", n_val), ("n_test", n_test)) if value is not None}
    small = len(asked) < 2 and sizes != {name: size // cells * cells for name, size in default.items()}
    note = " (too small for the default {n_val} and {n_test})".format(**default) if small else ""
    return sizes | asked, note


def _count_table(catalog: Catalog, split: Split | None) -> list[str]:
    heads = strata_names(catalog)
    totals = count_fixed(catalog).sum(axis=1).tolist()
    if catalog.kind == "composite":
        heads += [f"{name} scenes" for name in catalog.scene_names]
        totals += np.bincount(catalog.scene_kind, minlength=len(catalog.scene_names)).tolist()
    widths = [max(6, len(head)) for head in heads]
    rows = {"": heads, "all": totals} | (count_groups(catalog, split) if split else {})
    lines = [
        f"  {name:6}" + "".join(f"  {value:>{width}}" for value, width in zip(row, widths, strict=True))
        for name, row in rows.items()
    ]
    fixed = Counter(np.concatenate([catalog.object_split, catalog.scene_split]).tolist())
    if len(fixed) > 1 or -1 not in fixed:
        counts = ", ".join(f"{part} {fixed[i]}" for i, part in enumerate(PARTS))
        lines.append(f"  fixed by metadata.csv: {counts}; free {fixed[-1]}")
    return lines


def _realised(catalog: Catalog, split: Split | None) -> list[str]:
    lines = ["\nRealised rho"]
    groups = catalog.groups
    low = groups.independence
    if catalog.kind == "composite":
        return [*lines, f"  any in [{low:.3g}, 1]: a cut-out can stand in any scene"]
    common = np.isin(strata(catalog), groups.common)
    rows = {"all": np.arange(len(catalog.object_class))} | ({"train": split.train.objects} if split else {})
    for name, index in rows.items():
        usual = common[index]
        shares = []
        for y, class_name in enumerate(catalog.class_names):
            of_class = usual[catalog.object_class[index] == y]
            share = f"{of_class.mean():.3f} ({of_class.sum()} of {len(of_class)})" if len(of_class) else "none"
            shares.append(f"{class_name} {share}")
        lines.append(f"  {name:6}  " + ", ".join(shares))
    if np.mean(common) < low:
        counts = np.bincount(strata(catalog), minlength=groups.count).reshape(groups.classes, -1)
        most = ",".join(catalog.scene_names[scene] for scene in counts.argmax(1))
        lines.append(f"  below {low:.3g}: the usual scenes may be others; try --usual {most}")
    return lines


def _levels(catalog: Catalog, split: Split) -> list[str]:
    low = round(catalog.groups.independence, 6)
    rhos = [low, *(rho for rho in RHOS if rho > low)]
    sizes = [largest_n_train(catalog, split, rhos=[rho]) for rho in rhos]
    return [
        "\nLargest n_train",
        "  rho     " + "".join(f"{rho:7.3g}" for rho in rhos),
        "  n_train " + "".join(f"{n:7}" for n in sizes),
        f"  the same at all of them: {largest_n_train(catalog, split, rhos=rhos)}",
    ]
