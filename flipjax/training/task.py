"""The task of a program: its pool, split, tables and members."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.backend.random import key_of
from flipjax.config import FROZEN, ConfigError, Experiment, InterveneSpec
from flipjax.config.program import Program, Setting
from flipjax.data import POOLS
from flipjax.data.arrays import ArrayData
from flipjax.data.correlation import Table, traced_table
from flipjax.data.flips import list_flips
from flipjax.data.folder import list_folder
from flipjax.data.parts import Parts, make_parts
from flipjax.data.pool import Catalog, Pool, at_strength, scenes_alone
from flipjax.data.store import BadFilesError, with_usual
from flipjax.data.synthetic import list_synthetic, outline_synthetic
from flipjax.data.tfds import list_tfds
from flipjax.intervene.centers import split_point
from flipjax.intervene.scenes import draw_scenes, join_scenes
from flipjax.metrics.anatomy_names import name_pairs
from flipjax.models.weights import WeightsError, load_weights
from flipjax.training.features import check_places, with_features
from flipjax.training.member import Member
from flipjax.training.network import NO_WEIGHTS, Weights

LISTS = {"flips-1": list_flips, "folder": list_folder}
"""Functions that list the images of a pool by the value of `config.pool.name`; by default `list_tfds`."""


class Task(NamedTuple):
    """The data of a program, for training, validation and test."""

    pool: Pool
    """The images, shared by all members."""
    catalog: Catalog
    """What they are called and show."""
    parts: Parts
    """The images of training, validation and test."""

    @property
    def tables(self) -> dict[str, Table]:
        """The rows of `val` and `test`."""
        return {"val": self.parts.val, "test": self.parts.test}


def make_task(program: Program, data: ArrayData | None = None) -> tuple[Program, Task]:
    """Loads and splits the program's pool; returns the program with the pool's groups, and the task.

    The `pool` and `catalog` of `data` replace the pool, for a configuration with `flipjax.data.arrays.keys_of(data)`.
    The cue has the strength of the first member.

    See the pools and `flipjax.data.split.split_pool` for errors.
    """
    spec = program.experiment
    if (spec.pool.name == "arrays") != (data is not None):
        raise ConfigError("config.pool.name", "another source; arrays are given from Python, as data=", spec.pool.name)
    if data is None:
        pool, catalog = POOLS[spec.pool.name](spec.pool)
    else:
        pool = jax.tree.map(jnp.asarray, data.pool)
        catalog = data.catalog
    made, task = _task_of(program, pool, catalog)
    if spec.model.title == FROZEN:
        task = task._replace(pool=with_features(made, task.pool, task.catalog, task.parts))
    return made, task


def _task_of(program: Program, pool: Pool, catalog: Catalog) -> tuple[Program, Task]:
    spec = program.experiment
    if spec.train.crop_in == "photo" and pool.aspects is None:
        problem = f"photo needs the shapes of the photos, which {catalog.source} lacks; prepare it anew, or set square"
        raise ConfigError("config.train.crop_in", problem=problem)
    check_pool(program, catalog)
    pool = at_strength(pool, program.settings[0].cue.cue_strength)
    parts = make_parts(catalog, spec.split, rho=program.rhos[0])
    exchanged = spec.train.mirror_labels == "exchange"
    experiment = dataclasses.replace(
        spec,
        groups=catalog.groups,
        mirror=name_pairs(("background", *catalog.class_names)) if exchanged else (),
        # The fold is in the tables, so that folds share compiled programs.
        split=dataclasses.replace(spec.split, fold=0),
    )
    settings = program.settings
    if spec.split.folds and catalog.kind == "photo":
        # Photos as they are found have a scene of their own, so no member has a rho.
        settings = tuple(_without_rho(setting) for setting in settings)
    loaded = dataclasses.replace(program, experiment=experiment, settings=settings)
    return loaded, Task(pool, catalog, parts)


def _without_rho(setting: Setting) -> Setting:
    axes = {name: value for name, value in setting.axes.items() if name != "rho"}
    return dataclasses.replace(setting, axes=axes)


def outline_task(program: Program) -> tuple[Program, Task] | None:
    """Returns `make_task` with shapes in place of a drawn pool's images, enough to compile; None for other pools.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> program, task = outline_task(plan(configure("smoke")).programs[0])
        >>> task.catalog.class_names, task.pool.images.shape, len(task.tables["test"].rows)
        (('mossling', 'ripplet'), (320, 32, 32, 3), 128)
    """
    spec = program.experiment
    if spec.pool.name != "synthetic" or spec.model.title == FROZEN:
        return None
    return _task_of(program, outline_synthetic(spec.pool), list_synthetic(spec.pool))


def starting_weights(experiment: Experiment, pool: Pool | None = None, *, whole: bool = False) -> Weights:
    """Returns the parameters and statistics that do not depend on a member's key, or none.

    They are those of the file `model.weights`, or the projection of frozen features.

    Args:
        experiment: with the groups of its pool.
        pool: that of the task, whose features tell their projection.
        whole: whether an encoder alone is an error.

    Raises:
        ConfigError: the file does not hold weights of the model.
    """
    model = experiment.model
    if pool is not None and pool.features is not None:
        kernel, bias = pool.features.projection
        return Weights({}, {"projection": {"kernel": kernel, "bias": bias}})
    if not model.weights:
        return NO_WEIGHTS
    try:
        encoder = model.name.removeprefix("smp_")
        return load_weights(model.weights, encoder=encoder, num_classes=experiment.num_classes, whole=whole)
    except WeightsError as error:
        raise ConfigError("config.model.weights", problem=str(error)) from error


def make_members(program: Program, task: Task) -> list[Member]:
    """Returns the members.

    Members of a seed share a PRNG key across rho, so levels differ only in their index tables.
    """
    n_train = training_size(program, task.parts)
    return [make_member(setting, task, n_train=n_train, rhos=program.rhos) for setting in program.settings]


def make_member(setting: Setting, task: Task, *, n_train: int, rhos: Sequence[float]) -> Member:
    """Returns the member of a setting, whose numbers may be JAX arrays, including traced ones.

    A traced rho that the pool does not allow sets the learning rate to NaN, so the member diverges in its first epoch.
    """
    rho = setting.condition.rho
    seed = setting.condition.seed
    recipe = setting.recipe
    if isinstance(rho, jax.Array) or isinstance(seed, jax.Array):
        if task.parts.found_images is not None:
            raise ConfigError("config.split.folds", "0 where rho or the seed is traced", task.parts.sizes.folds)
        if task.pool.features is not None and task.catalog.kind == "composite":
            raise ConfigError("config.model.name", "another network where rho or the seed is traced", FROZEN)
        split = task.parts.split
        rows, groups, possible = traced_table(task.catalog, split, rho=rho, seed=seed, n_train=n_train)
        rate = jnp.where(possible, recipe.learning_rate, jnp.nan)
        recipe = dataclasses.replace(recipe, learning_rate=rate)
    else:
        kept = setting.thinning.rare_kept
        if isinstance(kept, jax.Array):
            raise ConfigError("config.split.rare_kept", "a Python number, since it chooses images", "a JAX array")
        table = task.parts.training_table(rho=rho, rare_kept=kept, seed=seed, n_train=n_train, rhos=rhos)
        check_places(task.pool, table.rows)
        rows = table.rows
        groups = table.groups
    as_float32 = functools.partial(jax.tree.map, jnp.float32)
    return Member(
        key=key_of(seed),
        rows=jnp.asarray(rows),
        groups=jnp.asarray(groups),
        recipe=as_float32(recipe),
        knobs=as_float32(setting.knobs),
        augmentation=as_float32(setting.augmentation),
        cue=as_float32(setting.cue),
    )


def training_size(program: Program, parts: Parts) -> int:
    """Returns n_train, or the largest that every rho allows; raises ConfigError if it is less than a batch."""
    n_train = parts.training_size(program.rhos)
    batch_size = program.experiment.train.batch_size
    if n_train < batch_size:
        expected = f"at most n_train ({n_train}, the largest that every rho allows)"
        raise ConfigError("config.train.batch_size", expected, batch_size)
    return n_train


def check_sizes_of(program: Program) -> None:
    """Checks the sizes of a program's pool as its sweep would, without reading or drawing images.

    Raises:
        ConfigError: the pool is missing, has other classes or scenes, or cannot be used by a method.
        ValueError: it is too small.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> check_sizes_of(plan(configure("smoke")).programs[0])  # Nothing is wrong.
    """
    spec = program.experiment
    if spec.pool.name == "synthetic":
        catalog = list_synthetic(spec.pool)
    else:
        catalog = LISTS.get(spec.pool.name, list_tfds)(spec.pool)
        if catalog.problems:
            raise BadFilesError(catalog.source, catalog.problems)
        catalog = with_usual(catalog, spec.pool.usual)
    check_pool(program, catalog)
    parts = make_parts(catalog, spec.split, rho=program.rhos[0])
    n_train = training_size(program, parts)
    for rho in program.rhos:
        parts.training_table(rho=rho, rare_kept=1.0, seed=0, n_train=n_train, rhos=program.rhos)


def check_pool(program: Program, catalog: Catalog) -> None:
    """Raises ConfigError if a method cannot run on the program's pool."""
    if "swap" in program.experiment.active_knobs and catalog.kind != "composite":
        raise ConfigError("config.axes.method", "a composite pool, whose scenes can change, for bg_swap", "photos")


# Effect of each knob if the training set lacks a group.
WITHOUT_A_GROUP = {
    "cutmix": "its images take a random colour instead of a partner's background",
    "balanced": "batches are drawn evenly over the groups that exist",
    "dro": "its weight stays as it is",
}


def missing_group_notes(program: Program, members: Sequence[Member]) -> list[str]:
    """Returns a line for each method whose members at some rho lack a group that the method needs."""
    count = program.experiment.groups.count
    levels: dict[tuple[str, str], set[float]] = {}
    for setting, member in zip(program.settings, members, strict=True):
        images = np.bincount(member.groups, minlength=count)
        if images.min() > 0:
            continue
        for knob in WITHOUT_A_GROUP:
            if getattr(setting.knobs, knob) > 0:
                levels.setdefault((setting.condition.method, knob), set()).add(float(setting.condition.rho))
    notes = []
    for (method, knob), rhos in levels.items():
        where = method
        if "rho" in program.settings[0].axes:
            where += f" at rho {', '.join(str(rho) for rho in sorted(rhos))}"
        notes.append(f"{where}: a group has no training image; {WITHOUT_A_GROUP[knob]}")
    return notes


def mirror_notes(program: Program, catalog: Catalog) -> list[str]:
    """Returns a line that says which labels mirrored images exchange, if any member mirrors images."""
    if not any(setting.augmentation.hflip > 0 for setting in program.settings):
        return []
    names = ("background", *catalog.class_names)
    pairs = [f"{names[left]} and {names[right]}" for left, right in program.experiment.mirror]
    if not pairs:
        return []
    follows = "a mirrored image of one is an image of the other in the same scene"
    return [f"mirrored images exchange the labels of {'; '.join(pairs)}: {follows} (config.train.mirror_labels)"]


def check_scenes(task: Task, intervene: InterveneSpec) -> None:
    """Raises ConfigError if the pool lacks the scenes required by `config.intervene`."""
    if intervene.scenes in ("sampled", "both") and task.pool.kind != "composite":
        raise ConfigError("config.intervene.scenes", "mean or none for a pool of photos", intervene.scenes)


def training_scenes(task: Task, intervene: InterveneSpec, *, seed: int) -> tuple[jax.Array, jax.Array]:
    """Returns a composite pool's training scenes of each kind, (S, D, H, W, channels) in 0..1, and weights (D,).

    Of a pool with a strength: those at strengths 0 and 1, (2, S, D, H, W, channels).

    Args:
        task: of the program.
        intervene: which scenes, as checked by `check_scenes`.
        seed: of the split and the draw, so that all members use the same scenes.
    """
    pool = task.pool
    if pool.strength is None:
        return _training_scenes(pool, task, intervene, seed=seed)
    without_cue, _ = _training_scenes(at_strength(pool, 0), task, intervene, seed=seed)
    with_cue, weights = _training_scenes(dataclasses.replace(pool, strength=None), task, intervene, seed=seed)
    return jnp.stack([without_cue, with_cue]), weights


def _training_scenes(pool: Pool, task: Task, intervene: InterveneSpec, *, seed: int) -> tuple[jax.Array, jax.Array]:
    assert intervene.scenes != "none", "asked of a configuration that swaps no scenes"
    scenes = task.parts.split.train.scenes
    kinds = task.catalog.scene_kind[scenes]
    if pool.cue == "scene" and pool.strength is None:
        photos = np.asarray(pool.scenes)
    else:
        photos = np.asarray(255 * scenes_alone(pool, np.arange(len(pool.scenes))))
    count = kinds.max() + 1
    means = [photos[scenes[kinds == kind]].mean(0, dtype=np.float64) / 255 for kind in range(count)]
    drawn = np.zeros((count, 0), np.int64)
    if intervene.scenes != "mean":
        drawn = scenes[draw_scenes(key_of(seed), kinds, count=1)]
    samples = photos[drawn] / np.float32(255)
    return join_scenes(jnp.stack(means).astype(jnp.float32), samples, scenes=intervene.scenes)


def split_evenly(log_odds: np.ndarray) -> np.ndarray:
    """Returns the split point (F,) of log-odds (n, K, F) of validation images with balanced classes.

    It is the median for two classes, and the quota of equal class frequencies for more.
    """
    F = log_odds.shape[-1]
    return split_point(log_odds, prior=None if F == 2 else np.full(F, 1 / F))
