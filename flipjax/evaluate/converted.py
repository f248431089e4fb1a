"""Audits converted weights on a split of a configuration's pool.

`evaluate_weights` reads the configuration and the weights, `audit_split` computes and counts logits in batches, and
`swap_scenes` asks the same network on other scenes.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.audit.audit_stream import stream
from flipjax.audit.page.folder import claimed
from flipjax.backend.start import start_backend
from flipjax.config import Config, ConfigError, Experiment, InterveneSpec, ModelSpec
from flipjax.config.plan import plan, with_model
from flipjax.config.program import Program
from flipjax.data.pool import Catalog, Pool, gather
from flipjax.support.terminal import Bar
from flipjax.training.assess import Questions
from flipjax.training.network.forward import Weights, evaluation_batch, first_weights, mean_surroundings, predict
from flipjax.training.scenes import check_scenes, split_evenly, training_scenes
from flipjax.training.task import Task, make_task, starting_weights

Answer = TypeVar("Answer")
"""A pytree of arrays (n, ...), of n images."""


def evaluate_weights(
    config: Config,
    *,
    model: str,
    weights: str,
    dtype: str = "float32",
    split: str = "test",
    intervene: bool = False,
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
        intervene: whether to swap scenes (`config.intervene`).
        samples: number of resamples for intervals.
        out: a new folder, or the folder of an earlier audit.

    Raises:
        AuditError: the output folder cannot be used.
        ConfigError: the configuration cannot be evaluated.
    """
    if samples < 1:
        raise ConfigError("--samples", "a number >= 1", samples)
    planned = plan(with_model(config, ModelSpec(name=model, dtype=dtype, weights=weights)))
    swapped = None
    stored_swap = None
    if intervene:
        swapped = planned.intervene
        stored_swap = dataclasses.asdict(swapped)
        if swapped.scenes == "none":
            raise ConfigError("config.intervene.scenes", "mean, sampled or both for --intervene", "none")
    with claimed(out):
        # No sweep's number of members limits the devices.
        device = start_backend(planned.population, members=sys.maxsize)
        program, task = _load_task(planned.programs[0])
        if swapped is not None:
            check_scenes(task, swapped)
        start = starting_weights(program.experiment, require_head=True)
        trained = jax.jit(first_weights, static_argnums=0)(program.experiment, jax.random.key(0), start)
        pool = program.experiment.pool
        options = {
            "model": model,
            "weights": weights,
            "dtype": dtype,
            "split": split,
            "samples": samples,
            "device": device,
            "intervene": stored_swap,
            "pool": pool.name,
            "size": pool.size,
        }
        network = TrainedNetwork(program.experiment, trained, task)
        intervals = f"95% intervals over the images ({samples} resamples)"
        fact = f"{model} of {weights} on {split} images of {pool.name}, with {intervals}."
        return audit_split(network, split, out=out, intervene=swapped, samples=samples, fact=fact, options=options)


def _load_task(program: Program) -> tuple[Program, Task]:
    """Returns the program with what its pool says, and its task; errors of the split name their field."""
    try:
        return make_task(program)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError("config.split", problem=str(error)) from error


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network and the images that it is asked about."""

    experiment: Experiment
    """The pool, split and network."""
    weights: Weights
    """The weights of the network."""
    task: Task
    """The pool, with the tables of its parts."""

    def ask(
        self, question: Callable[..., Answer], rows: np.ndarray, *further: tuple[jax.Array, ...]
    ) -> Iterator[tuple[slice, Answer]]:
        """Yields the slice of each batch of pool rows, and `question(experiment, weights, pool, rows, *further)` on it.

        Leaves are NumPy arrays. Shows progress on stderr.

        Args:
            question: such as `predict_rows`.
            rows: of the pool, (n, 2).
            *further: pytrees of arrays that all batches share.
        """
        answer_batch = jax.jit(functools.partial(question, self.experiment))
        size = min(evaluation_batch(self.experiment), len(rows))
        with Bar(total=len(rows)) as bar:
            for first in range(0, len(rows), size):
                batch = slice(first, min(first + size, len(rows)))
                count = batch.stop - first
                # The last batch is filled up, so that all have one shape.
                answer = answer_batch(self.weights, self.task.pool, np.resize(rows[batch], (size, 2)), *further)
                yield batch, jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], answer)
                bar.advance(count, f"{batch.stop} of {len(rows)} images", last=batch.stop == len(rows))


class Predicted(NamedTuple):
    """Images with their labels and the network's logits."""

    images: jax.Array
    """float32 (n, H, W, 3)."""
    labels: jax.Array
    """int32 (n, H, W)."""
    logits: jax.Array
    """float32 (n, H, W, C)."""


def predict_rows(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> Predicted:
    """Returns the images, labels and logits of pool rows (n, 2)."""
    images, labels = gather(pool, rows)
    return Predicted(images, labels, predict(experiment, weights, pool, rows))


def audit_split(
    network: TrainedNetwork,
    split: str,
    *,
    out: Path,
    intervene: InterveneSpec | None,
    samples: int,
    fact: str,
    options: Mapping[str, object],
) -> str:
    """Writes an audit of a part of the pool, and returns its tables as text.

    Args:
        network: with the pool.
        split: the part, `val` or `test`.
        out: the folder.
        intervene: which scenes to swap; None: none.
        samples: number of resamples for intervals.
        fact: a sentence on what is evaluated.
        options: for summary.json.
    """
    catalog = network.task.catalog
    table = network.task.tables[split]
    rows = np.asarray(table.rows)
    groups = np.asarray(table.groups)
    names = image_names(catalog, rows)
    pairs = None
    if network.task.pool.kind == "composite":
        pairs = np.asarray(table.pairs)
    with stream(
        out,
        class_names=("background", *catalog.class_names),
        all_groups=catalog.groups,
        scene_names=catalog.scene_names,
    ) as audit:
        for batch, predicted in network.ask(predict_rows, rows):
            audit.add(
                predicted.logits,
                predicted.labels,
                names=names[batch],
                groups=groups[batch],
                images=np.rint(255 * np.asarray(predicted.images)).astype(np.uint8),
            )
        scenes = None
        if intervene is not None:
            scenes = swap_scenes(network, rows, intervene=intervene)
        audit.close(facts=[fact], options=options, samples=samples, pairs=pairs, scenes=scenes)
    return audit.text


def image_names(catalog: Catalog, rows: np.ndarray) -> list[str]:
    """Returns the names of pool rows (n, 2): object and, if scenes are photos, the scene."""
    # Scene row -1 means that the photo shows its own scene.
    scene_names = [*catalog.scene_photo_names, ""]
    names = []
    for object_row, scene_row in rows:
        parts = [catalog.object_names[object_row], scene_names[scene_row]]
        names.append(" on ".join(part for part in parts if part))
    return names


def swap_scenes(
    network: TrainedNetwork, rows: np.ndarray, *, intervene: InterveneSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Returns log-odds (n, K, F) on other scenes, and the split point (F,), which is fitted on the validation images.

    Composite images are shown on scenes of the training split, photos on mean surroundings of the validation images.
    """
    experiment = network.experiment
    task = network.task
    validation = np.asarray(task.tables["val"].rows)
    if task.pool.kind == "composite":
        scenes = training_scenes(task, intervene, seed=experiment.split.seed)
    else:
        surroundings = jax.jit(mean_surroundings, static_argnums=0)
        scenes = surroundings(experiment, network.weights, task.pool, validation)[:, None], jnp.ones(1)
    questions = Questions("given", logit_scores=False, mirror_and_fills=False, masks=False)
    # Concatenated, because another number of images would compile another program.
    both = np.concatenate([rows, validation])
    batches = []
    for _, assessed in network.ask(questions, both, scenes):
        assert assessed.scene_log_odds is not None
        batches.append(np.asarray(assessed.scene_log_odds))
    both_log_odds = np.concatenate(batches)
    log_odds = both_log_odds[: len(rows)]
    split_point = split_evenly(both_log_odds[len(rows) :])
    return log_odds, split_point
