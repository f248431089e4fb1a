"""The scenes of the training set onto which predicted regions are pasted, as `config.intervene` asks for them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.backend.random import key_of
from flipjax.config import ConfigError, InterveneSpec
from flipjax.data.pool import Pool, at_strength, scenes_alone
from flipjax.intervene.centers import split_point
from flipjax.intervene.scenes import draw_scenes, join_scenes
from flipjax.training.task import Task


def check_scenes(task: Task, intervene: InterveneSpec) -> None:
    """Raises ConfigError if the pool has no scene photos, which `config.intervene` asks for."""
    if intervene.scenes in ("sampled", "both") and task.pool.kind != "composite":
        raise ConfigError("config.intervene.scenes", "mean or none for a pool of photos", intervene.scenes)


def training_scenes(task: Task, intervene: InterveneSpec, *, seed: int) -> tuple[jax.Array, jax.Array]:
    """Returns D training scenes of each of S kinds, (S, D, H, W, channels) in 0..1, and the weights of the D, (D,).

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
    """Returns the training scenes of a pool, which are blended if it has a strength."""
    assert intervene.scenes != "none", "asked of a configuration that swaps no scenes"
    if pool.cue == "scene" and pool.strength is None:
        photos = np.asarray(pool.scenes)
    else:
        photos = np.asarray(255 * scenes_alone(pool, np.arange(len(pool.scenes))))
    of_training = task.parts.split.train.scenes
    kinds = task.catalog.scene_kind[of_training]
    count = kinds.max() + 1
    means = [photos[of_training[kinds == kind]].mean(0, dtype=np.float64) / 255 for kind in range(count)]
    drawn = np.zeros((count, 0), np.int64)
    if intervene.scenes != "mean":
        drawn = of_training[draw_scenes(key_of(seed), kinds, count=1)]
    samples = photos[drawn] / np.float32(255)
    return join_scenes(np.stack(means).astype(np.float32), samples, scenes=intervene.scenes)


def split_evenly(log_odds: np.ndarray) -> np.ndarray:
    """Returns the split point (F,) of log-odds (n, K, F) of validation images with balanced classes.

    It is the median for two classes, and the quota of equal class frequencies for more.

    Example:
        >>> split_evenly(np.array([[[0.0, 1.0]], [[0.0, 3.0]]])).tolist()
        [-1.0, 1.0]
    """
    F = log_odds.shape[-1]
    if F == 2:
        return split_point(log_odds)
    return split_point(log_odds, prior=np.full(F, 1 / F))
