"""The task of a program: its pool, split, tables and members."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flipjax.backend.random import key_of
from flipjax.config import FROZEN, ConfigError, Experiment, PoolSpec
from flipjax.config.program import Program, Setting
from flipjax.config.sections import Recipe
from flipjax.data import POOLS
from flipjax.data.correlation import Table, traced_table
from flipjax.data.loaders import list_pool
from flipjax.data.pool import Catalog, Pool, at_strength
from flipjax.data.sources.arrays import ArrayData
from flipjax.data.sources.synthetic import list_synthetic, outline_synthetic
from flipjax.data.splits.parts import Parts, make_parts
from flipjax.metrics.anatomy.names import name_pairs
from flipjax.models.weights.files import load_weights
from flipjax.models.weights.pytorch_names import WeightsError
from flipjax.training.member import Member
from flipjax.training.network.features import check_places, with_features
from flipjax.training.network.forward import NO_WEIGHTS, Weights


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
    """Loads and splits the program's pool; returns the program with what its pool tells, and the task.

    Args:
        program: of a plan.
        data: images in memory, in place of the configuration's pool; the program is that of a configuration with
            `flipjax.data.sources.arrays.keys_of(data)`.

    See the pools and `flipjax.data.split.split_pool` for errors.
    """
    spec = program.experiment.pool
    if data is not None:
        pool = jax.tree.map(jnp.asarray, data.pool)
        catalog = data.catalog
    else:
        _refuse_arrays(spec)
        pool, catalog = POOLS[spec.name](spec)
    completed, task = _with_pool(program, pool, catalog)
    if program.experiment.model.title == FROZEN:
        task = task._replace(pool=with_features(completed, task.pool, task.catalog, task.parts))
    return completed, task


def _refuse_arrays(spec: PoolSpec) -> None:
    """Raises ConfigError for a pool of images in memory, where there are none."""
    if spec.name == "arrays":
        raise ConfigError("config.pool.name", "another source; arrays are given from Python, as data=", spec.name)


def _with_pool(program: Program, pool: Pool, catalog: Catalog) -> tuple[Program, Task]:
    """Returns the program, completed with what its pool tells, and its task; raises ConfigError as `check_pool`."""
    if program.experiment.train.crop_in == "photo":
        _require_aspects(pool, catalog)
    check_pool(program, catalog)
    parts = _parts_of(program, catalog)
    # Training and tests set each member's own strength of the cue. Images that are shown without a member, as in the
    # gallery, have that of the first.
    shown = at_strength(pool, program.settings[0].cue.cue_strength)
    return _complete(program, catalog, parts), Task(pool=shown, catalog=catalog, parts=parts)


def _require_aspects(pool: Pool, catalog: Catalog) -> None:
    """Raises ConfigError if a pool lacks the shapes of its photos."""
    if pool.aspects is None:
        problem = f"photo needs the shapes of the photos, which {catalog.source} lacks; prepare it anew, or set square"
        raise ConfigError("config.train.crop_in", problem=problem)


def _parts_of(program: Program, catalog: Catalog) -> Parts:
    """Divides a program's pool.

    Only folds of a composite pool use rho here, and with folds a configuration has one level of it.
    """
    return make_parts(catalog, program.experiment.split, rho=program.rhos[0])


def _complete(program: Program, catalog: Catalog, parts: Parts) -> Program:
    """Returns the program with what only its pool tells: groups, mirrored labels, and whether members have a rho."""
    spec = program.experiment
    mirror = ()
    if spec.train.mirror_labels == "exchange":
        mirror = name_pairs(("background", *catalog.class_names))
    # The tables hold the fold's images. Without its number, the experiments of all folds are equal and share one
    # compiled program.
    split = dataclasses.replace(spec.split, fold=0)
    experiment = dataclasses.replace(spec, groups=catalog.groups, mirror=mirror, split=split)
    settings = program.settings
    if parts.found_images is not None and catalog.kind == "photo":
        # Photos as they are found have a scene of their own, so no member has a rho.
        settings = tuple(_without_rho(setting) for setting in settings)
    return dataclasses.replace(program, experiment=experiment, settings=settings)


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
    return _with_pool(program, outline_synthetic(spec.pool), list_synthetic(spec.pool))


def starting_weights(experiment: Experiment, pool: Pool | None = None, *, require_head: bool = False) -> Weights:
    """Returns the parameters and statistics that do not depend on a member's key, or none.

    They are those of the file `model.weights`, or the projection of frozen features.

    Args:
        experiment: with the groups of its pool.
        pool: that of the task, whose features hold their projection.
        require_head: whether a file of an encoder alone is an error.

    Raises:
        ConfigError: the file does not hold weights of the model.
    """
    model = experiment.model
    if pool is not None and pool.features is not None:
        kernel, bias = pool.features.projection
        return Weights(params={}, statistics={"projection": {"kernel": kernel, "bias": bias}})
    if not model.weights:
        return NO_WEIGHTS
    try:
        # Networks of `segmentation_models_pytorch` are named smp_ENCODER.
        encoder = model.name.removeprefix("smp_")
        return load_weights(model.weights, encoder=encoder, num_classes=experiment.num_classes, whole=require_head)
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

    Args:
        setting: of the member.
        task: of its program.
        n_train: its number of training images.
        rhos: all levels of the program, for errors.
    """
    rho = setting.condition.rho
    seed = setting.condition.seed
    # With a rho or a seed that may be traced, JAX chooses the images; with Python numbers NumPy does, and errors can
    # name the numbers.
    if isinstance(rho, jax.Array) or isinstance(seed, jax.Array):
        rows, groups, recipe = _traced_images(setting, task, n_train=n_train)
    else:
        rare_kept = setting.thinning.rare_kept
        if isinstance(rare_kept, jax.Array):
            raise ConfigError("config.split.rare_kept", "a Python number, since it chooses images", "a JAX array")
        table = task.parts.training_table(rho=rho, rare_kept=rare_kept, seed=seed, n_train=n_train, rhos=rhos)
        check_places(task.pool, table.rows)
        # Unlike `jnp.asarray`, it compiles nothing for a new shape.
        rows, groups = jax.device_put((table.rows, table.groups))
        recipe = setting.recipe
    as_float32 = functools.partial(jax.tree.map, jnp.float32)
    return Member(
        key=key_of(seed),
        rows=rows,
        groups=groups,
        recipe=as_float32(recipe),
        knobs=as_float32(setting.knobs),
        augmentation=as_float32(setting.augmentation),
        cue=as_float32(setting.cue),
    )


def _traced_images(setting: Setting, task: Task, *, n_train: int) -> tuple[jax.Array, jax.Array, Recipe]:
    """Returns the training rows and groups of a member whose rho or seed is a JAX array, and its recipe.

    `rare_kept` is not read: it needs folds, which `_check_traceable` refuses.
    """
    _check_traceable(task)
    condition = setting.condition
    rows, groups, possible = traced_table(
        task.catalog, task.parts.split, rho=condition.rho, seed=condition.seed, n_train=n_train
    )
    # At a rho that the pool does not allow the member diverges in its first epoch.
    rate = jnp.where(possible, setting.recipe.learning_rate, jnp.nan)
    return rows, groups, dataclasses.replace(setting.recipe, learning_rate=rate)


def _check_traceable(task: Task) -> None:
    """Raises ConfigError if members of a task cannot have a rho or a seed that is a JAX array."""
    if task.parts.found_images is not None:
        raise ConfigError("config.split.folds", "0 where rho or the seed is traced", task.parts.sizes.folds)
    if task.pool.features is not None and task.catalog.kind == "composite":
        raise ConfigError("config.model.name", "another network where rho or the seed is traced", FROZEN)


def training_size(program: Program, parts: Parts) -> int:
    """Returns n_train, or the largest that every rho allows; raises ConfigError if it is less than a batch."""
    n_train = parts.training_size(program.rhos)
    batch_size = program.experiment.train.batch_size
    if n_train < batch_size:
        expected = f"at most n_train ({n_train}, the largest that every rho allows)"
        raise ConfigError("config.train.batch_size", expected, batch_size)
    return n_train


def check_pools(programs: Iterable[Program], data: ArrayData | None = None) -> None:
    """Checks the pools of programs as `check_sizes` does, without reading or drawing images.

    Args:
        programs: of a plan.
        data: images in memory, as in `make_task`.

    Raises:
        ConfigError: a pool is missing, has other classes or scenes, or is refused by `check_sizes`.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> check_pools(plan(configure("smoke")).programs)  # Nothing is wrong.
    """
    catalogs: dict[PoolSpec, Catalog] = {}
    for program in programs:
        spec = program.experiment.pool
        if data is not None:
            catalogs[spec] = data.catalog
        elif spec not in catalogs:
            _refuse_arrays(spec)
            catalogs[spec] = list_pool(spec)
        check_sizes(program, catalogs[spec])


def check_sizes(program: Program, catalog: Catalog) -> None:
    """Raises ConfigError if the program's pool cannot be used by a method, or is too small for a member."""
    check_pool(program, catalog)
    try:
        check_training_sets(program, _parts_of(program, catalog))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("config.split", problem=str(error)) from error


def check_training_sets(program: Program, parts: Parts) -> None:
    """Raises ValueError if the parts of a pool are too small for the training set of a member."""
    n_train = training_size(program, parts)
    # Whether there are enough images depends on their numbers alone, which no seed changes.
    fractions = {float(setting.thinning.rare_kept) for setting in program.settings}
    for rho in program.rhos:
        for rare_kept in fractions:
            parts.training_table(rho=rho, rare_kept=rare_kept, seed=0, n_train=n_train, rhos=program.rhos)


def check_pool(program: Program, catalog: Catalog) -> None:
    """Raises ConfigError if a method cannot run on the program's pool."""
    if "swap" in program.experiment.active_knobs and catalog.kind != "composite":
        raise ConfigError("config.axes.method", "a composite pool, whose scenes can change, for bg_swap", "photos")
