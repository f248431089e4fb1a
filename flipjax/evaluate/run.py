"""A trained model, evaluated on a split of a configuration's pool: from its weights to an audit."""

import argparse
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

from flipjax import command
from flipjax.audit import files, page
from flipjax.audit.results import Audit, conclude
from flipjax.audit.tables import summary_text
from flipjax.config import Config, ConfigError, Experiment, ModelSpec, PopulationSpec, leaves
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, gather
from flipjax.intervene import split_point
from flipjax.metrics import Decomposition
from flipjax.plan import Program, plan
from flipjax.report.galleries import member_items
from flipjax.report.pictures import Item
from flipjax.results import gallery
from flipjax.results.pairs import counterfactual_flip
from flipjax.results.region_shares import region_quantities
from flipjax.results.swapped_scenes import SceneSwap, scene_quantities, scene_swap
from flipjax.sweep.finish import PAIRS
from flipjax.sweep.program import Study, load_pool, make_study, starting_weights
from flipjax.sweep.scenes import check_scenes, training_scenes
from flipjax.terminal import Bar
from flipjax.training.member import Weights, first_weights
from flipjax.training.predict import evaluate_regions, evaluation_batch, mean_surroundings, predict, scene_marginal

SURE = 6


def make_program(config: Config, model: ModelSpec) -> Program:
    """Returns the configuration's pool and split with another model.

    Raises:
      ConfigError: for a field that cannot run, or a grid with more than one pool or split.
    """
    for name in leaves(config.grid):
        if name.startswith(("pool.", "split.")):
            raise ConfigError(f"config.grid.{name}", "a configuration of one pool and one split to evaluate on")
    with config.unlocked():
        config.grid = ConfigDict()
    for name in ("name", "width", "depth", "norm", "dtype", "weights"):
        config.model[name] = getattr(model, name)
    return plan(config)[0]


def map_rows(
    function: Callable, experiment: Experiment, start: Weights, pool: Pool, rows: np.ndarray, *shared: Any, title: str
) -> Any:
    """Returns what `function(experiment, weights, pool, rows, *shared)` says of pool rows (n, 2), numpy leaves.

    Images are dealt over the devices; progress goes to stderr.
    """
    model = jax.jit(first_weights, static_argnums=0)(experiment, jax.random.key(0), start)
    devices = jax.devices()
    size = len(devices) * min(evaluation_batch(experiment), math.ceil(len(rows) / len(devices)))
    mesh = Mesh(np.array(devices), ("images",))
    fixed = (model, pool, *shared)
    run = jax.jit(
        jax.shard_map(
            lambda rows, model, pool, *shared: function(experiment, model, pool, rows, *shared),
            mesh=mesh,
            in_specs=(P("images"), *[P()] * len(fixed)),
            out_specs=P("images"),
            check_vma=False,
        )
    )
    fixed = jax.device_put(fixed, NamedSharding(mesh, P()))
    parts = []
    with Bar(title, total=len(rows)) as bar:
        for first in range(0, len(rows), size):
            chunk = rows[first : first + size]
            parts.append(jax.tree.map(np.asarray, run(np.resize(chunk, (size, 2)), *fixed)))
            done = first + len(chunk)
            bar.advance(len(chunk), f"{done} of {len(rows)} images", last=done == len(rows))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(rows)], *parts)


def swap_scenes(
    program: Program, start: Weights, study: Study, table: Table, decomposition: Decomposition, *, wanted: Config
) -> tuple[SceneSwap, dict[str, float]]:
    """Returns what scene swap says of the images of a table, and its quantities; as a sweep computes them.

    Args:
        program: of the model.
        start: its weights.
        study: whose training scenes the regions are put on; for photos, the surroundings of the validation images.
        table: of the images.
        decomposition: of the same images.
        wanted: `config.intervene`; the centre is that of the validation images.
    """
    validation = np.asarray(study.tables["val"].rows)
    if study.pool.kind == "composite":
        scenes, shares = training_scenes(study, wanted, seed=program.experiment.split.seed)
    else:
        model = jax.jit(first_weights, static_argnums=0)(program.experiment, jax.random.key(0), start)
        surroundings = jax.jit(mean_surroundings, static_argnums=0)
        scenes, shares = surroundings(program.experiment, model, study.pool, validation)[:, None], jnp.ones(1)
    # Together: images of another number would be another program.
    rows = np.concatenate([np.asarray(table.rows), validation])
    given = (study.pool, rows, scenes, shares)
    asked = functools.partial(scene_marginal, mirror=wanted.views == 2)
    both = map_rows(asked, program.experiment, start, *given, title="images on other scenes")
    log_odds, known = np.split(both, [len(table.rows)])
    point = np.asarray(jax.jit(functools.partial(split_point, center=wanted.center))(known))
    swap = scene_swap(decomposition, log_odds, point)
    return swap, scene_quantities(decomposition, log_odds, point, np.asarray(table.groups))


def draw_out(program: Program, start: Weights, study: Study, table: Table, audit: Audit) -> list[Item]:
    """Returns the images to look at: those of a sweep, and those that are flipped where flip-risk is low."""
    groups = np.asarray(table.groups)
    pairs = np.asarray(table.pairs)
    chosen, kinds = gallery.choose_images(audit.decomposition, groups, pairs, sure=SURE, paired=PAIRS)
    if not len(chosen):
        return []
    rows = np.asarray(table.rows)[chosen]
    logits = map_rows(predict, program.experiment, start, study.pool, rows, title="pictures")
    images, labels = gather(study.pool, jnp.asarray(rows))
    stored = gallery.make_gallery(images, labels, logits, indices=chosen, groups=groups[chosen], kinds=kinds, member="")
    return member_items(
        stored,
        audit.decomposition,
        pairs,
        class_names=audit.class_names,
        scene_names=audit.scene_names,
        label="",
        swap=audit.swap,
    )


def _load(program: Program) -> Study:
    try:
        return make_study(program, *load_pool(program))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("config.split", problem=str(error)) from error


def run(values: argparse.Namespace) -> str:
    """Does what the command line asks for, and returns its tables as text for a terminal.

    Raises:
      AuditError: the output folder cannot be used.
      ConfigError: for what cannot be evaluated.
    """
    if values.samples < 1:
        raise ConfigError("--samples", "a number >= 1", values.samples)
    spec = ModelSpec(name=values.model, dtype=values.dtype, weights=values.weights)
    program = make_program(values.config, spec)
    if values.intervene and values.config.intervene.scenes == "none":
        raise ConfigError("config.intervene.scenes", "mean, sampled or both for --intervene", "none")
    if values.out:
        files.claim(Path(values.out))
    device = command.start_backend(PopulationSpec(**values.config.population), sys.maxsize)
    start = starting_weights(spec, whole=True)
    study = _load(program)
    if values.intervene:
        check_scenes(study, values.config.intervene)
    table = study.tables[values.split]
    catalog = study.catalog
    given = (study.pool, np.asarray(table.rows))
    decomposition, regions = map_rows(evaluate_regions, program.experiment, start, *given, title="images")
    swap = None
    further = region_quantities(regions, np.asarray(table.groups))
    if study.pool.kind == "composite":
        further["counterfactual_flip"] = counterfactual_flip(decomposition, np.asarray(table.pairs))
    if values.intervene:
        wanted = values.config.intervene
        swap, quantities = swap_scenes(program, start, study, table, decomposition, wanted=wanted)
        further |= quantities
    n = len(table.groups)
    audit = conclude(
        [catalog.object_names[index] for index in table.rows[:, 0]],
        np.asarray(table.groups),
        decomposition,
        np.zeros(n, np.int64),
        class_names=("background", *catalog.class_names),
        samples=values.samples,
        pairs=np.asarray(table.pairs),
        scene_names=tuple(catalog.scene_names),
        columns={"scene_photo": [catalog.scene_photo_names[index] if index >= 0 else "" for index in table.rows[:, 1]]},
        swap=swap,
        further=further,
    )
    pool = program.experiment.pool
    facts = [
        f"{spec.name} of {spec.weights} on {n} {values.split} images of {pool.name}, {pool.size} x {pool.size}, "
        f"with 95% bootstrap intervals from {values.samples} resamples of the images."
    ]
    if values.out:
        options = {"model": spec.name, "weights": spec.weights, "dtype": values.dtype, "split": values.split}
        options |= {"pool": pool.name, "size": pool.size, "samples": values.samples, "device": device}
        options |= {"intervene": values.intervene and dict(values.config.intervene)}
        items = draw_out(program, start, study, table, audit)
        return page.write(Path(values.out), audit, items, options=options, facts=facts)
    return summary_text(audit, facts)
