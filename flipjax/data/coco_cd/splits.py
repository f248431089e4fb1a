"""The reference's split of COCO-CD, draw by draw. Grids use `flipjax.data.correlation`, whose sizes do not change."""

import random
from collections.abc import Sequence

from flipjax.config import ConfigError
from flipjax.data.coco_cd.categories import CLASSES, SCENES

SEED = 13
N_VAL = 50
N_TEST = 125
"""Images of each group in val and in test."""
CAPS = {0.95: 834}
"""Images a class in the released training set of a rho: the reference takes no more there."""

Parts = dict[str, list[int]]
"""Ids of 'train', 'val' and 'test', in drawn order."""


def reference_split(
    ids: Sequence[int], groups: Sequence[int], *, rho: float | None = None, n_val: int = N_VAL, n_test: int = N_TEST
) -> Parts:
    """Draws val, test and the training set of one rho as the reference does.

    `random.Random(13)` samples n_val + n_test of the sorted ids of groups 0, 1, 2 and 3; the first n_val are val. Of
    what is left, a class gives n = min over classes of int(min(usual / rho, rare / (1 - rho))) images: int(n * rho) of
    its usual scene and the rest of the other, class by class, the usual scene first. So val and test are the same at
    every rho, but the size of train changes with it.

    Args:
        ids: image ids, unique, in any order.
        groups: group of each, y, then scene.
        rho: share of a class's training images in its usual scene, in [0.5, 1]; None: all that val and test leave.
        n_val: validation images of each group.
        n_test: test images of each group.

    Returns:
        Ids of each part, in drawn order.

    Raises:
        ConfigError: a group is too small: says what each group holds.

    Example:
        >>> parts = reference_split(range(40), [i % 4 for i in range(40)], rho=0.75, n_val=2, n_test=3)
        >>> {part: [sum(i % 4 == g for i in drawn) for g in range(4)] for part, drawn in parts.items()}
        {'train': [4, 2, 2, 4], 'val': [2, 2, 2, 2], 'test': [3, 3, 3, 3]}
    """
    members = [sorted(i for i, group in zip(ids, groups, strict=True) if group == g) for g in range(4)]
    if min(map(len, members)) < n_val + n_test:
        need = f"the reference's split needs {n_val} + {n_test} images of each group for val and test"
        raise ConfigError("coco_cd", problem=f"{need}; there are {describe_groups(groups)}")
    draw = random.Random(SEED)
    parts: Parts = {"train": [], "val": [], "test": []}
    left = []
    for member in members:
        sample = draw.sample(member, n_val + n_test)
        parts["val"] += sample[:n_val]
        parts["test"] += sample[n_val:]
        left.append(sorted(set(member) - set(sample)))
    if rho is None:
        parts["train"] = [i for rest in left for i in rest]
        return parts
    n = min(class_size(len(left[3 * y]), len(left[1 + y]), rho) for y in (0, 1))
    n = min(n, CAPS.get(rho, n))
    for y in (0, 1):
        usual = int(n * rho)
        parts["train"] += draw.sample(left[3 * y], usual)
        parts["train"] += draw.sample(left[1 + y], n - usual)
    return parts


def class_size(usual: int, rare: int, rho: float) -> int:
    """Returns how many images of a class the reference can train on at `rho`: `usual` and `rare` are what there is."""
    return int(min(usual / rho, rare / (1 - rho))) if rho < 1 else usual


def describe_groups(groups: Sequence[int], classes: Sequence[str] = CLASSES, scenes: Sequence[str] = SCENES) -> str:
    """Counts the images of each group, in words.

    Example:
        >>> describe_groups([0, 0, 3])
        'cat indoor 2, cat outdoor 0, dog indoor 0, dog outdoor 1'
    """
    names = [f"{name} {scene}" for name in classes for scene in scenes]
    return ", ".join(f"{name} {list(groups).count(group)}" for group, name in enumerate(names))
