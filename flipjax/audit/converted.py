"""Audits converted weights on a split of a configuration's pool."""

import functools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from flipjax import backend
from flipjax.audit.audits import stream
from flipjax.config import Config, ConfigError, Experiment, ModelSpec, PopulationSpec, static_settings
from flipjax.data.pool import Pool, gather
from flipjax.plan import Program, plan
from flipjax.support.terminal import Bar
from flipjax.training.network import Weights, evaluation_batch, first_weights, predict
from flipjax.training.task import Task, make_task, starting_weights


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


def show(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the images, labels and logits of pool rows (n, 2)."""
    return *gather(pool, rows), predict(experiment, weights, pool, rows)


def predict_rows(
    experiment: Experiment, weights: Weights, pool: Pool, rows: np.ndarray
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Yields what `show` returns for pool rows (n, 2) in batches, each with its place among the rows.

    Shards images over devices, and shows progress on stderr.
    """
    devices = jax.devices()
    size = len(devices) * min(evaluation_batch(experiment), math.ceil(len(rows) / len(devices)))
    mesh = Mesh(np.array(devices), ("images",))
    specs = {"in_specs": (P(), P(), P("images")), "out_specs": P("images")}
    run = jax.jit(jax.shard_map(functools.partial(show, experiment), mesh=mesh, check_vma=False, **specs))
    weights, pool = jax.device_put((weights, pool), NamedSharding(mesh, P()))
    with Bar(total=len(rows)) as bar:
        for first in range(0, len(rows), size):
            place = slice(first, min(first + size, len(rows)))
            shown = run(weights, pool, np.resize(rows[place], (size, 2)))
            yield place, [np.asarray(each)[: place.stop - first] for each in shown]
            done = f"{place.stop} of {len(rows)} images"
            bar.advance(place.stop - first, done, last=place.stop == len(rows))


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
    samples: int = 1000,
    out: Path = Path("runs/evaluate"),
) -> str:
    """Audits converted weights on a configuration's images, and returns the tables as terminal text.

    Args:
        config: configuration of the pool and split.
        model: the network's name.
        weights: the file of its converted weights.
        dtype: the dtype of its computations.
        split: `val` or `test`.
        samples: number of resamples for intervals.
        out: a new folder, or the folder of an earlier audit.

    Raises:
        AuditError: the output folder cannot be used.
        ConfigError: the configuration cannot be evaluated.
    """
    if samples < 1:
        raise ConfigError("--samples", "a number >= 1", samples)
    program = make_program(config, ModelSpec(name=model, dtype=dtype, weights=weights))
    device = backend.start_backend(PopulationSpec(**config.population), sys.maxsize)
    program, task = _load_task(program)
    start = starting_weights(program.experiment, whole=True)
    trained = jax.jit(first_weights, static_argnums=0)(program.experiment, jax.random.key(0), start)
    table, catalog, pool = task.tables[split], task.catalog, program.experiment.pool
    photos = [*catalog.scene_photo_names, ""]
    names = [" on ".join(filter(None, (catalog.object_names[y], photos[s]))) for y, s in np.asarray(table.rows)]
    groups, pairs = np.asarray(table.groups), np.asarray(table.pairs) if task.pool.kind == "composite" else None
    known: dict[str, Any] = {"all_groups": catalog.groups, "scene_names": catalog.scene_names}
    where = f"{split} images of {pool.name}, with 95% intervals over the images ({samples} resamples)"
    used: dict[str, Any] = {"model": model, "weights": weights, "dtype": dtype, "split": split, "samples": samples}
    used |= {"pool": pool.name, "size": pool.size, "device": device}
    batches = predict_rows(program.experiment, trained, task.pool, np.asarray(table.rows))
    with stream(out, class_names=("background", *catalog.class_names), **known) as audit:
        for place, (images, labels, logits) in batches:
            own = {"names": names[place], "groups": groups[place], "images": np.rint(255 * images).astype(np.uint8)}
            audit.add(logits, labels, **own)
        audit.close(facts=[f"{model} of {weights} on {where}."], options=used, samples=samples, pairs=pairs)
    return audit.text
