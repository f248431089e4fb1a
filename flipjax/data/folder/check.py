"""A report on a user's folder: bad files, masks, counts, and which correlation levels it allows at which size."""

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from flipjax.config import SplitSpec
from flipjax.data.correlation import PARTS, Split, count_groups, largest_n_train, split_pool
from flipjax.data.folder import catalog
from flipjax.data.folder.listing import FolderError, Listing, read_listing
from flipjax.data.pool import Catalog
from flipjax.data.prepare import in_threads, prepare
from flipjax.data.split import cell_names, count_fixed

RHOS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def check_folder(
    root: Path,
    *,
    size: int,
    n_val: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    classes: tuple[str, ...] = (),
    scene_kinds: tuple[str, ...] = (),
) -> tuple[str, bool]:
    """Reads every file of a folder as `folder.load` would, and reports.

    Args:
        root: the folder.
        size: pixels a side.
        n_val: number of validation images; None: the default, or fewer where the folder is small.
        n_test: the same for the test images.
        seed: the split's seed.
        classes: the two class names in order; empty: in the order of the alphabet.
        scene_kinds: the two scene names in order; empty: in the order of the alphabet.

    Returns:
        The report, and whether nothing is wrong.

    Raises:
        ConfigError: root is no folder.
    """
    try:
        listing = read_listing(root, classes=classes, scene_kinds=scene_kinds)
    except FolderError as error:
        return str(error), False
    prepared = prepare(listing, size=size)
    problems = listing.problems + prepared.problems
    known = catalog(listing)
    lines = _heading(listing, size)
    lines += [f"\nBad files: {len(problems) or 'none'}", *(f"  {problem}" for problem in problems)]
    lines += ["\nMasks", *(f"  {count:6} {values}" for values, count in prepared.mask_values.most_common())]
    lines += _twins(listing)
    sizes, note = _sizes(known, n_val, n_test)
    try:
        split = split_pool(known, n_val=sizes[0], n_test=sizes[1], seed=seed)
    except ValueError as error:
        lines += ["\nCounts", *_count_table(known, None), *_realised(known, None), "\nNo split", f"  {error}"]
        return "\n".join(lines), False
    lines.append(f"\nCounts for n_val {sizes[0]}, n_test {sizes[1]}, split seed {seed}{note}")
    lines += [*_count_table(known, split), *_realised(known, split), *_levels(known, split)]
    return "\n".join(lines), not problems


def _heading(listing: Listing, size: int) -> list[str]:
    (one, two), (first, second) = listing.class_names, listing.scene_names
    held = f"{len(listing.objects)} photos"
    if listing.kind == "composite":
        held = f"{len(listing.objects)} cut-outs, {len(listing.scenes)} scene photos"
    return [
        f"{listing.root}: a {listing.kind} folder, {held}, read at {size} x {size} pixels",
        f"  class 0 {one}, usual scene {first}",
        f"  class 1 {two}, usual scene {second}",
    ]


def _twins(listing: Listing) -> list[str]:
    names = [item.path for item in listing.objects + listing.scenes]
    same: dict[str, list[str]] = {}
    for name, digest in zip(names, in_threads(partial(_digest, listing.root), names, verb="compared"), strict=True):
        same.setdefault(digest, []).append(name)
    twins = [f"  {', '.join(group[:8])}{', ...' * (len(group) > 8)}" for group in same.values() if len(group) > 1]
    return ["\nThe same image under several names (it may stand in two parts of the split)", *twins] if twins else []


def _digest(root: Path, name: str) -> str:
    try:
        return hashlib.sha256((root / name).read_bytes()).hexdigest()
    except OSError:
        return name


def _sizes(known: Catalog, n_val: int | None, n_test: int | None) -> tuple[tuple[int, int], str]:
    default = SplitSpec()
    wanted = {2: default.n_val, 3: default.n_test}
    held = count_fixed(known)
    sizes = []
    for column, size in wanted.items():
        # Val and test take at most half of what is free, so that there is something to train on.
        free = held[:, 0] * size // (2 * sum(wanted.values()))
        sizes.append(4 * min(size // 4, max(1, int(np.min(held[:, column] + free)))))
    val, test = sizes[0] if n_val is None else n_val, sizes[1] if n_test is None else n_test
    small = sizes != list(wanted.values()) and None in (n_val, n_test)
    return (val, test), f" (too small for the default {default.n_val} and {default.n_test})" if small else ""


def _count_table(known: Catalog, split: Split | None) -> list[str]:
    heads = cell_names(known)
    totals = count_fixed(known).sum(axis=1).tolist()
    if known.kind == "composite":
        heads += [f"{name} scenes" for name in known.scene_names]
        totals += np.bincount(known.scene_kind, minlength=2).tolist()
    widths = [max(6, len(head)) for head in heads]
    rows = {"": heads, "all": totals} | (count_groups(known, split) if split else {})
    lines = [
        f"  {name:6}" + "".join(f"  {value:>{width}}" for value, width in zip(row, widths, strict=True))
        for name, row in rows.items()
    ]
    fixed = Counter(np.concatenate([known.object_split, known.scene_split]).tolist())
    if len(fixed) > 1 or -1 not in fixed:
        counts = ", ".join(f"{part} {fixed[i]}" for i, part in enumerate(PARTS))
        lines.append(f"  fixed by metadata.csv: {counts}; free {fixed[-1]}")
    return lines


def _realised(known: Catalog, split: Split | None) -> list[str]:
    lines = ["\nRealised rho"]
    if known.kind == "composite":
        return [*lines, "  any in [0.5, 1]: a cut-out can stand in either scene"]
    rows = {"all": np.arange(len(known.object_class))} | ({"train": split.train.objects} if split else {})
    for name, index in rows.items():
        usual = known.object_class[index] == known.object_scene[index]
        shares = []
        for y, class_name in enumerate(known.class_names):
            of_class = usual[known.object_class[index] == y]
            share = f"{of_class.mean():.3f} ({of_class.sum()} of {len(of_class)})" if len(of_class) else "none"
            shares.append(f"{class_name} {share}")
        lines.append(f"  {name:6}  " + ", ".join(shares))
    if np.mean(known.object_class == known.object_scene) < 0.5:
        pair = ",".join(reversed(known.scene_names))
        lines.append(f"  below 0.5: the usual scenes may be the other way round; try --scene_kinds {pair}")
    return lines


def _levels(known: Catalog, split: Split) -> list[str]:
    sizes = [largest_n_train(known, split, rhos=[rho]) for rho in RHOS]
    return [
        "\nLargest n_train",
        "  rho     " + "".join(f"{rho:7g}" for rho in RHOS),
        "  n_train " + "".join(f"{n:7}" for n in sizes),
        f"  the same at all of them: {largest_n_train(known, split, rhos=RHOS)}",
    ]
