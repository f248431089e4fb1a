"""Frozen features of the images of a program: computed once for all of its members, before they train."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.backend.compiler import program as compiled
from flipjax.config import ConfigError
from flipjax.config.program import Program
from flipjax.data.parts import Parts
from flipjax.data.pool import Catalog, Features, Pool, gather
from flipjax.models import frozen
from flipjax.support.arrays import PyTree

AT_ONCE = 16
"""Images that are encoded together: a CPU takes 1.2 ms for one of 96 pixels, and more in larger batches."""
FITTED = 256
"""Training images, at most, whose pixels the principal components are fitted on."""


def with_features(program: Program, pool: Pool, catalog: Catalog, parts: Parts) -> Pool:
    """Returns the pool with the features of all images that the members of a program train on or are evaluated on.

    In a photo pool these are all photos. In a composite pool a row of a table, an object on a scene photo, is an image,
    and `Features.places` says where its features are.

    The projection is fitted on training images alone, of the lowest level of rho and the split's seed: neither
    validation nor test images are among them, nor, with folds, any image of the tested fold. It is the same for all
    members, and whichever of them are left to train.

    Args:
        program: with the members that train.
        pool: the images.
        catalog: of the pool.
        parts: of the program.

    Raises:
        ConfigError: the package of the encoder's weights is absent, damaged or of another version.
    """
    encoder = jax.tree.map(jnp.asarray, frozen.encoder_weights())
    fitted = parts.training_table(
        rho=min(program.rhos),
        rare_kept=1.0,
        seed=program.experiment.split.seed,
        n_train=parts.training_size(program.rhos),
        rhos=program.rhos,
    )
    chosen = np.unique(fitted.rows, axis=0)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(FITTED, len(chosen))).round().astype(int)]
    projection = frozen.fit_projection(_encoded(encoder, pool, chosen))
    rows = _rows_of(program, catalog, parts)
    size = frozen.COMPONENTS
    side = pool.images.shape[1] // frozen.REDUCTION
    maps = np.empty((2, len(rows), side, side, size), np.float16)
    for start in range(0, len(rows), AT_ONCE):
        batch = rows[start : start + AT_ONCE]
        made = compiled(_both_sides)(encoder, projection, pool, _padded(batch))
        maps[:, start : start + len(batch)] = np.asarray(made)[:, : len(batch)]
    places = np.full((len(catalog.objects), max(1, len(catalog.scenes))), -1, np.int32)
    places[rows[:, 0], rows[:, 1]] = np.arange(len(rows))
    features = Features(
        maps=jnp.asarray(maps),
        places=jnp.asarray(places),
        encoder=encoder,
        projection=jax.tree.map(jnp.asarray, projection),
    )
    return dataclasses.replace(pool, features=features)


def check_places(pool: Pool, rows: np.ndarray) -> None:
    """Raises ConfigError if a member has images without features; nothing to check in a pool without features."""
    if pool.features is None:
        return
    places = np.asarray(pool.features.places)[rows[:, 0], rows[:, 1]]
    if (places < 0).any():
        expected = "those of the configuration for model.name frozen, of whose images it computes features"
        raise ConfigError("config.axes", expected, "another rho or seed")


def _rows_of(program: Program, catalog: Catalog, parts: Parts) -> np.ndarray:
    """Returns the different rows (n, 2) of a program's tables, sorted; of photos all."""
    if catalog.kind == "photo":
        photos = np.arange(len(catalog.objects))
        return np.stack([photos, np.full(len(photos), -1)], axis=1)
    rows = [parts.val.rows, parts.test.rows]
    n_train = parts.training_size(program.rhos)
    for setting in program.settings:
        table = parts.training_table(
            rho=float(setting.condition.rho),
            rare_kept=float(setting.thinning.rare_kept),
            seed=int(setting.condition.seed),
            n_train=n_train,
            rhos=program.rhos,
        )
        rows.append(table.rows)
    return np.unique(np.concatenate(rows), axis=0)


def _padded(rows: np.ndarray) -> np.ndarray:
    """Returns a batch of `AT_ONCE` rows, the first ones again at its end, so that one program serves all."""
    return np.resize(rows, (AT_ONCE, 2))


def _encoded(encoder: PyTree, pool: Pool, rows: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yields the encoder's maps of rows, batch by batch."""
    for start in range(0, len(rows), AT_ONCE):
        batch = rows[start : start + AT_ONCE]
        maps = compiled(_maps)(encoder, pool, _padded(batch))
        yield [np.asarray(part)[: len(batch)] for part in maps]


def _maps(encoder: PyTree, pool: Pool, rows: jax.Array) -> list[jax.Array]:
    images, _ = gather(pool, rows)
    return frozen.encode(encoder, images)


def _both_sides(encoder: PyTree, projection: frozen.Projection, pool: Pool, rows: jax.Array) -> jax.Array:
    """Returns the features of rows as they are, and of their mirror images, mirrored back: (2, B, h, w, K)."""
    images, _ = gather(pool, rows)
    # In a loop, so that neither is computed otherwise than the other.
    both = jax.lax.map(
        lambda images: frozen.features_of(encoder, projection, images), jnp.stack([images, images[:, :, ::-1]])
    )
    return both.at[1].set(both[1, :, :, ::-1])
