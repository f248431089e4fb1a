"""Frozen features of the images of a program: computed once for all of its members, before they train."""

import dataclasses
import math
import mmap
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.backend.compiler import program as compiled
from flipjax.config import ConfigError
from flipjax.config.program import Program
from flipjax.data.pool import Catalog, Features, Pool, gather
from flipjax.data.splits.parts import Parts
from flipjax.models.networks import frozen
from flipjax.models.weights import pretrained
from flipjax.support.arrays import PyTree

AT_ONCE = 16
"""Images that are encoded together: a CPU takes 1.2 ms for one of 96 pixels, and more in larger batches."""
FITTED = 128
"""Training images, at most, whose pixels the principal components are fitted on."""


def with_features(program: Program, pool: Pool, catalog: Catalog, parts: Parts) -> Pool:
    """Returns the pool with the features of all images that the members of a program train on or are evaluated on.

    In a photo pool these are all photos. In a composite pool a row of a table, an object on a scene photo, is an image;
    the rows of a counterfactual set are as many images. `Features.places` says where the features of a row are.

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
    encoder = jax.tree.map(jnp.asarray, pretrained.encoder_weights())
    projection = frozen.fit_projection(_maps_of(encoder, pool, _rows_to_fit(program, parts)))
    rows = _rows_of(program, catalog, parts)
    side = pool.images.shape[1] // frozen.REDUCTION
    maps = _shared_array((2, len(rows), side, side, frozen.COMPONENTS))
    encode = compiled(_encode_both_sides)
    project = compiled(_project_both_sides)
    for batch in _batches(rows):
        batch_maps = np.asarray(project(projection, encode(encoder, pool, batch.rows)))
        maps[:, batch.start : batch.start + batch.count] = batch_maps[:, : batch.count]
    # By object and scene. A photo's scene is -1, which as an index is the last column: in a photo pool the only one.
    places = np.full((len(catalog.objects), max(1, len(catalog.scenes))), -1, np.int32)
    places[rows[:, 0], rows[:, 1]] = np.arange(len(rows))
    maps.flags.writeable = False
    features = Features(
        maps=maps,
        places=jnp.asarray(places),
        encoder=encoder,
        projection=jax.tree.map(jnp.asarray, projection),
    )
    return dataclasses.replace(pool, features=features)


def check_places(pool: Pool, rows: np.ndarray) -> None:
    """Raises ConfigError if a member has images without features; nothing to check in a pool without features.

    Example:
        >>> pixels = np.zeros((2, 32, 32, 3), np.uint8)
        >>> maps, places = jnp.zeros((2, 1, 8, 8, 64), jnp.float16), jnp.array([[0], [-1]])
        >>> features = Features(maps=maps, places=places, encoder={}, projection=())
        >>> masks, labels = np.zeros((2, 32, 32), np.uint8), np.ones(2, np.uint8)
        >>> pool = Pool(kind="photo", images=pixels, masks=masks, labels=labels, scenes=pixels[:0], features=features)
        >>> check_places(pool, np.array([[0, -1]]))  # Nothing is wrong.
        >>> try:
        ...     check_places(pool, np.array([[1, -1]]))
        ... except ConfigError as error:
        ...     print(error.field)
        config.axes
    """
    if pool.features is None:
        return
    places = np.asarray(pool.features.places)[rows[:, 0], rows[:, 1]]
    if (places < 0).any():
        expected = "rho and seeds of the configuration: model.name frozen has features of no other images"
        raise ConfigError("config.axes", expected, "another rho or seed")


def _rows_to_fit(program: Program, parts: Parts) -> np.ndarray:
    """Returns the rows (n, 2) of the training images that fit the projection: at most `FITTED`, spread evenly."""
    training = parts.training_table(
        rho=min(program.rhos),
        rare_kept=1.0,
        seed=program.experiment.split.seed,
        n_train=parts.training_size(program.rhos),
        rhos=program.rhos,
    )
    rows = np.unique(training.rows, axis=0)
    places = np.linspace(0, len(rows) - 1, min(FITTED, len(rows)))
    return rows[places.round().astype(int)]


def _rows_of(program: Program, catalog: Catalog, parts: Parts) -> np.ndarray:
    """Returns the rows (n, 2), each once, of the images whose features a program needs.

    In a photo pool, and with folds, these are all images, so that all folds have arrays of one shape and share compiled
    programs. Otherwise they are the rows in any table of the program, sorted.
    """
    if parts.found_images is not None:
        return parts.found_images.rows
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


def _shared_array(shape: tuple[int, ...]) -> np.ndarray:
    """Returns a float16 array of zeros at the start of a page: JAX lets all devices of a CPU read such arrays in place.

    Those of NumPy begin anywhere, and each device would copy them.
    """
    pages = mmap.mmap(-1, 2 * math.prod(shape))
    return np.frombuffer(pages, np.float16).reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Rows that are encoded together."""

    start: int
    """The number of the first one."""
    count: int
    """The number of rows, without those that fill the batch."""
    rows: np.ndarray
    """(`AT_ONCE`, 2), so that one program serves all batches: the first ones fill the last batch."""


def _batches(rows: np.ndarray) -> Iterator[_Batch]:
    """Yields rows (n, 2) in batches of `AT_ONCE`."""
    for start in range(0, len(rows), AT_ONCE):
        batch = rows[start : start + AT_ONCE]
        yield _Batch(start, len(batch), np.resize(batch, (AT_ONCE, 2)))


def _maps_of(encoder: PyTree, pool: Pool, rows: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yields the encoder's maps of rows as they are, batch by batch.

    Those of the mirror images are computed too and dropped: the same compiled program serves the features.
    """
    encode = compiled(_encode_both_sides)
    for batch in _batches(rows):
        of_both_sides = encode(encoder, pool, batch.rows)
        yield [np.asarray(maps)[0, : batch.count] for maps in of_both_sides]


def _encode_both_sides(encoder: PyTree, pool: Pool, rows: jax.Array) -> list[jax.Array]:
    """Returns the encoder's maps of rows (B, 2) as they are, and of their mirror images: (2, B, ...) each."""
    images, _ = gather(pool, rows)
    # A loop computes both in the same order: a batch of both sides could round them differently.
    return jax.lax.map(lambda side: frozen.encode(encoder, side), jnp.stack([images, images[:, :, ::-1]]))


def _project_both_sides(projection: frozen.Projection, maps: list[jax.Array]) -> jax.Array:
    """Returns the features (2, B, h, w, K) of maps, those of mirror images mirrored back."""
    features = jax.vmap(lambda side: frozen.project(projection, side))(maps)
    return features.at[1].set(features[1, :, :, ::-1])
