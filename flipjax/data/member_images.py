"""The images of a member as arrays for any framework."""

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config import Config
from flipjax.config.checks import check_value
from flipjax.config.groups import Groups
from flipjax.config.naming import check_rho, check_sizes, known_groups
from flipjax.config.plan import plan_images
from flipjax.config.reading import configure
from flipjax.data import POOLS
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, at_strength, gather
from flipjax.data.sources import flips
from flipjax.data.sources.arrays import ArrayData
from flipjax.data.splits.parts import make_parts

AT_ONCE = 256
"""Images that are made at once, to bound memory."""

_gather = jax.jit(gather)


class GroupedImages(NamedTuple):
    """n images with what they show."""

    images: np.ndarray
    """float32 (n, H, W, 3) in [0, 1]."""
    masks: np.ndarray
    """int32 (n, H, W), 0 for background, else 1 + class."""
    classes: np.ndarray
    """int32 (n,), from 0."""
    scenes: np.ndarray
    """int32 (n,), from 0."""
    groups: np.ndarray
    """int32 (n,), as in results.csv."""
    pairs: np.ndarray
    """int32 (n,), the id of the counterfactual set, or -1."""


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """The images of one member."""

    train: GroupedImages
    """Its training images, for its rho and seed."""
    val: GroupedImages
    """The validation images, the same for all members."""
    test: GroupedImages
    """The test images, the same for all members."""
    class_names: tuple[str, ...]
    """Begin with the background."""
    scene_names: tuple[str, ...]
    """Names of the scenes."""
    all_groups: Groups
    """Say which groups are common and rare."""
    rho: float
    """The member's rho; NaN of photos as they are found, which have a scene of their own."""
    seed: int
    """The member's seed."""


def benchmark(
    config: Config | str | Path,
    *,
    rho: float,
    seed: int = 0,
    cue_strength: float | None = None,
    rare_kept: float = 1.0,
    data: ArrayData | None = None,
) -> Benchmark:
    """Returns the training, validation and test images of one member, for any framework.

    They are exactly the images that the member uses, before augmentation. `flipjax.results.score` turns predictions for
    the test images into rows of results.csv.

    Args:
        config: a configuration, the name of a shipped one, or a file; only its pool, split and levels of rho matter.
        rho: fraction of a class's training images that show its usual scene. If `config.split.n_train` is 0,
            it must be a level of `config.axes.rho` to give the images of the sweep.
        seed: the member's seed.
        cue_strength: the member's, in [0, 1]; None: the configuration's first.
        rare_kept: with `config.split.folds`, the fraction of the rare training images that are kept.
        data: images in memory, instead of the configuration's pool.

    Returns:
        `train`, `val` and `test`, each with images, masks, classes, scenes, groups and pairs as NumPy arrays, and the
        names of classes and scenes.

    Raises:
        ConfigError: a field is invalid, or the configuration has a grid of pools or splits.
        ValueError: the pool has too few images.

    Example:
        >>> small = {"pool.objects": 48, "pool.scenes": 16, "split.n_train": 32, "split.n_test": 32}
        >>> images = benchmark(configure("smoke", small), rho=0.9)
        >>> images.test.images.shape, images.test.groups[:4].tolist(), images.test.pairs[:4].tolist()
        ((32, 32, 32, 3), [0, 1, 2, 3], [0, 0, 1, 1])
        >>> from flipjax.results import score
        >>> rows = score(images.test.masks, images, kind="masks", method="oracle")
        >>> rows[["method", "group", "fg_correct"]].tail(1).values.tolist()
        [['oracle', 'rare', 1.0]]
    """
    planned = plan_images(configure(config))
    strength = planned.cue_strength if cue_strength is None else cue_strength
    check_value("pool.cue_strength", strength)
    sizes = planned.split
    spec = dataclasses.replace(planned.pool, blended=strength != 1)
    if data:
        spec = dataclasses.replace(spec, name="arrays")
    known_groups(spec)
    pool, catalog = data or POOLS[spec.name](spec)
    pool = at_strength(jax.tree.map(jnp.asarray, pool), strength)
    rhos = (*planned.rhos, rho)
    if not sizes.folds:
        check_sizes(catalog.groups, sizes)
        for level in rhos:
            check_rho(catalog.groups, level)
    parts = make_parts(catalog, sizes, rho=rhos[0])
    n_train = parts.training_size(rhos)
    table = parts.training_table(rho=rho, rare_kept=rare_kept, seed=seed, n_train=n_train, rhos=rhos)
    train = _images_of(pool, table, catalog.groups)
    val = _images_of(pool, parts.val, catalog.groups)
    test = _images_of(pool, parts.test, catalog.groups)
    if sizes.folds and catalog.kind == "photo":
        rho = math.nan
    member = Benchmark(
        train=train,
        val=val,
        test=test,
        class_names=("background", *catalog.class_names),
        scene_names=catalog.scene_names,
        all_groups=catalog.groups,
        rho=rho,
        seed=seed,
    )
    if spec.name == flips.NAME:
        flips.check_digests(catalog, digests_of_member(member))
    return member


def digests_of_member(member: Benchmark) -> dict[str, str]:
    """Returns the digests of a member's images, masks, classes, scenes, groups and counterfactual sets by part.

    Those of validation and test are equal for all members.
    """
    parts = {"val": member.val, "test": member.test, f"train, rho {member.rho:g}, seed {member.seed}": member.train}
    digests = {}
    for part, images in parts.items():
        for name, array in images._asdict().items():
            digests[f"{part}: {name}"] = flips.digest_of_array(array)
    return digests


def _images_of(pool: Pool, table: Table, all_groups: Groups) -> GroupedImages:
    """Makes the images of a member's index table, some at a time."""
    images = []
    masks = []
    for start in range(0, len(table.rows), AT_ONCE):
        images_of_batch, masks_of_batch = _gather(pool, table.rows[start : start + AT_ONCE])
        images.append(np.asarray(images_of_batch))
        masks.append(np.asarray(masks_of_batch))
    return GroupedImages(
        images=np.concatenate(images),
        masks=np.concatenate(masks),
        classes=all_groups.class_of(table.groups),
        scenes=all_groups.scene_of(table.groups),
        groups=table.groups,
        pairs=table.pairs,
    )
