"""Audits converted weights on a split of a configuration's pool."""

import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from flipjax import backend
from flipjax.audit import files, page
from flipjax.audit.counts import Measured
from flipjax.audit.groups import ImageGroups
from flipjax.audit.results import Audit, conclude_audit
from flipjax.audit.tables import make_document
from flipjax.config import Config, ConfigError, Experiment, ModelSpec, PopulationSpec, static_settings
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, gather
from flipjax.metrics.classes import LabelSpec
from flipjax.metrics.log_odds import scene_swap
from flipjax.metrics.segment_table import SegmentTables, join_columns, segment_columns
from flipjax.plan import Program, plan
from flipjax.report.document import terminal_text
from flipjax.report.pictures import Item, member_items
from flipjax.results import gallery
from flipjax.results.rows import counterfactual_flip, scene_quantities
from flipjax.results.scores import unpack_classes
from flipjax.support.terminal import Bar
from flipjax.training.assess import Questions
from flipjax.training.network import Weights, evaluation_batch, first_weights, mean_surroundings, predict
from flipjax.training.task import Task, check_scenes, make_task, split_evenly, starting_weights, training_scenes

SURE = 6
CHUNK = 64
"""Images per batch of labels."""


def make_program(config: Config, model: ModelSpec) -> Program:
    """Returns the configuration's pool and split with another model.

    Raises:
        ConfigError: a field is invalid, or the grid has several pools or splits.
    """
    for name in static_settings(config)[0]:
        if name.startswith(("pool.", "split.")):
            raise ConfigError(f"config.grid.{name}", "a configuration of one pool and one split to evaluate on")
    with config.unlocked():
        config.grid = ConfigDict()
    for name in ("name", "width", "depth", "norm", "dtype", "weights"):
        config.model[name] = getattr(model, name)
    return plan(config)[0]


def map_rows(
    function: Callable, experiment: Experiment, weights: Weights, pool: Pool, rows: np.ndarray, *shared: Any
) -> Any:
    """Maps `function(experiment, weights, pool, rows, *shared)` over pool rows (n, 2) in batches, to NumPy leaves.

    Shards images over devices, and shows progress on stderr.
    """
    devices = jax.devices()
    size = len(devices) * min(evaluation_batch(experiment), math.ceil(len(rows) / len(devices)))
    mesh = Mesh(np.array(devices), ("images",))
    specs = {"in_specs": (P(), P(), P("images"), *[P()] * len(shared)), "out_specs": P("images")}
    run = jax.jit(jax.shard_map(functools.partial(function, experiment), mesh=mesh, check_vma=False, **specs))
    weights, pool, shared = jax.device_put((weights, pool, shared), NamedSharding(mesh, P()))
    parts = []
    with Bar(total=len(rows)) as bar:
        for first in range(0, len(rows), size):
            chunk = rows[first : first + size]
            parts.append(jax.tree.map(np.asarray, run(weights, pool, np.resize(chunk, (size, 2)), *shared)))
            done = first + len(chunk)
            bar.advance(len(chunk), f"{done} of {len(rows)} images", last=done == len(rows))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(rows)], *parts)


def ask_questions(
    program: Program, weights: Weights, task: Task, table: Table, *, intervene: Config | None
) -> tuple[Any, np.ndarray | None]:
    """Assesses a network on the images of a table; returns the results and the split point, if any.

    Args:
        program: the model's program.
        weights: its weights.
        task: source of the training scenes for swaps; for photos, of the surroundings of the validation images.
        table: index table of the images.
        intervene: `config.intervene`, or None for no scene swap. The centre is fitted on the validation images.
    """
    rows = np.asarray(table.rows)
    plain = Questions("none", logits=False, passes=False, whole=True)
    if intervene is None:
        return map_rows(plain, program.experiment, weights, task.pool, rows, None), None
    validation = np.asarray(task.tables["val"].rows)
    if task.pool.kind == "composite":
        scenes = training_scenes(task, intervene, seed=program.experiment.split.seed)
    else:
        surroundings = jax.jit(mean_surroundings, static_argnums=0)
        scenes = surroundings(program.experiment, weights, task.pool, validation)[:, None], jnp.ones(1)
    questions = Questions("given", logits=False, passes=False, whole=True)
    # Concatenated, because another number of images would compile another program.
    rows = np.concatenate([rows, validation])
    both = map_rows(questions, program.experiment, weights, task.pool, rows, scenes)
    point = split_evenly(both.scene_log_odds[len(table.rows) :])
    return jax.tree.map(lambda leaf: leaf[: len(table.rows)], both), point


def count_segments(task: Task, table: Table, masks: np.ndarray) -> SegmentTables:
    """Returns the segment tables of a table's images, from packed classes."""
    parts = []
    for first in range(0, len(masks), CHUNK):
        labels = np.asarray(gather(task.pool, jnp.asarray(table.rows[first : first + CHUNK]))[1])
        classes = unpack_classes(masks[first : first + CHUNK])[:, : labels[0].size].reshape(labels.shape)
        options = LabelSpec(kind="masks", num_classes=1 + len(task.catalog.class_names))
        parts += [segment_columns(*image, options) for image in zip(classes, labels, strict=True)]
    return join_columns(parts)


def draw_items(program: Program, weights: Weights, task: Task, table: Table, audit: Audit) -> list[Item]:
    """Returns gallery images as in a sweep, with confident flips."""
    groups, pairs = np.asarray(table.groups), np.asarray(table.pairs)
    chosen, kinds = gallery.choose_images(audit.decomposition, groups, pairs, confident=SURE, paired=gallery.PAIRS)
    if not len(chosen):
        return []
    rows = np.asarray(table.rows)[chosen]
    logits = map_rows(predict, program.experiment, weights, task.pool, rows)
    images, labels = gather(task.pool, jnp.asarray(rows))
    stored = gallery.make_gallery(
        images, labels, *gallery.maps_of(logits, labels), indices=chosen, groups=groups[chosen], kinds=kinds, member=""
    )
    names: dict[str, Any] = {"class_names": audit.class_names, "scene_names": task.catalog.scene_names}
    names["all_groups"] = task.catalog.groups
    return member_items(stored, audit.decomposition, pairs, label="", swap=audit.swap, **names)


def conclude_evaluation(task: Task, table: Table, answer: Any, point: np.ndarray | None, *, samples: int) -> Audit:
    """Returns the audit of `ask_questions`' answer and split point on a table's images."""
    groups, pairs, catalog = np.asarray(table.groups), np.asarray(table.pairs), task.catalog
    swap, further = None, {}
    if task.pool.kind == "composite":
        further["counterfactual_flip"] = counterfactual_flip(answer.decomposition, pairs)
    if point is not None:
        swap = scene_swap(answer.decomposition, answer.scene_log_odds, point)
        asked = (answer.decomposition, answer.scene_log_odds, point, groups)
        further |= scene_quantities(*asked, all_groups=catalog.groups)
    scenes = [catalog.scene_photo_names[index] if index >= 0 else "" for index in table.rows[:, 1]]
    segments = count_segments(task, table, answer.masks)
    return conclude_audit(
        [catalog.object_names[index] for index in table.rows[:, 0]],
        ImageGroups(groups, catalog.groups, tuple(catalog.scene_names), {"scene_photo": scenes}),
        Measured(answer.decomposition, np.zeros(len(groups), np.int64), answer.regions, segments),
        class_names=("background", *catalog.class_names),
        samples=samples,
        pairs=pairs,
        swap=swap,
        further=further,
    )


def _load_task(program: Program) -> tuple[Program, Task]:
    try:
        return make_task(program)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("config.split", problem=str(error)) from error


def evaluate_weights(
    config: Config,
    *,
    model: str,
    weights: str,
    dtype: str = "float32",
    split: str = "test",
    intervene: bool = False,
    samples: int = 1000,
    out: str | None = None,
) -> str:
    """Evaluates converted weights on a configuration's images, and returns the tables as terminal text.

    Args:
        config: configuration of the pool and split.
        model: the network's name.
        weights: the file of its converted weights.
        dtype: the dtype of its computations.
        split: `val` or `test`.
        intervene: whether to swap scenes (`config.intervene`).
        samples: number of resamples for intervals.
        out: output folder; None writes nothing.

    Raises:
        AuditError: the output folder cannot be used.
        ConfigError: the configuration cannot be evaluated.
    """
    if samples < 1:
        raise ConfigError("--samples", "a number >= 1", samples)
    program = make_program(config, ModelSpec(name=model, dtype=dtype, weights=weights))
    swapping = config.intervene if intervene else None
    if swapping and swapping.scenes == "none":
        raise ConfigError("config.intervene.scenes", "mean, sampled or both for --intervene", "none")
    if out:
        files.claim_folder(Path(out))
    device = backend.start_backend(PopulationSpec(**config.population), sys.maxsize)
    program, task = _load_task(program)
    start = starting_weights(program.experiment, whole=True)
    if swapping:
        check_scenes(task, swapping)
    trained = jax.jit(first_weights, static_argnums=0)(program.experiment, jax.random.key(0), start)
    table = task.tables[split]
    answer, point = ask_questions(program, trained, task, table, intervene=swapping)
    audit = conclude_evaluation(task, table, answer, point, samples=samples)
    pool = program.experiment.pool
    images = f"{len(audit.images)} {split} images of {pool.name}, {pool.size} x {pool.size}"
    facts = [f"{model} of {weights} on {images}, with 95% intervals over the images ({samples} resamples)."]
    used: dict[str, Any] = {"model": model, "weights": weights, "dtype": dtype, "split": split, "samples": samples}
    used |= {"background": 0, "pool": pool.name, "size": pool.size, "device": device}
    used["intervene"] = swapping and dict(swapping)
    document = make_document(audit, facts=facts, options=used)
    if out:
        items = draw_items(program, trained, task, table, audit)
        files.write_tables(Path(out), audit, document)
        page.write_audit_page(Path(out), audit, document, items)
    return terminal_text(document)
