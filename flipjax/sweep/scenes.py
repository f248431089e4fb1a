"""The training scenes that predicted regions are put on, as `config.intervene` wants them."""

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config import Config, ConfigError
from flipjax.intervene.scenes import draw_scenes, join_scenes
from flipjax.sweep.program import Study


def check_scenes(study: Study, wanted: Config) -> None:
    """Raises ConfigError where the pool has not the scenes that `config.intervene` wants."""
    if wanted.scenes not in ("sampled", "both"):
        return
    if study.pool.kind != "composite":
        raise ConfigError("config.intervene.scenes", "mean or none for a pool of photos", wanted.scenes)
    fewest = int(np.bincount(study.catalog.scene_kind[study.split.train.scenes], minlength=2).min())
    if wanted.count > fewest:
        raise ConfigError("config.intervene.count", f"at most {fewest}, the training scenes of a kind", wanted.count)


def training_scenes(study: Study, wanted: Config, *, seed: int) -> tuple[jax.Array, jax.Array]:
    """Returns training scenes of each kind of a composite pool, (2, D, H, W, channels) in 0..1, and their weights (D,).

    Args:
      study: of the program.
      wanted: `config.intervene`, checked by `check_scenes`.
      seed: of the split, and so of the draw: the same scenes for all members.
    """
    scenes = study.split.train.scenes
    kinds = study.catalog.scene_kind[scenes]
    photos = np.asarray(study.pool.scenes)
    means = [photos[scenes[kinds == kind]].mean(0, dtype=np.float64) / 255 for kind in (0, 1)]
    drawn = np.zeros((2, 0), np.int64)
    if wanted.scenes != "mean":
        drawn = scenes[draw_scenes(jax.random.key(seed), kinds, count=wanted.count)]
    samples = photos[drawn] / np.float32(255)
    return join_scenes(jnp.stack(means).astype(jnp.float32), samples, scenes=wanted.scenes)
