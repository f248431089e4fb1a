"""Evaluation of a trained member on pool rows, sharing forward passes between measures."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from flipjax import intervene, metrics
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.intervene.swap import average_draws
from flipjax.metrics.kernels import LOGIT_SCORES
from flipjax.pytrees import Array
from flipjax.training.network import Weights, evaluation_batch, logits_of, map_batches, mean_surroundings
from flipjax.training.own import as_ratio

Scenery: TypeAlias = tuple[Array, Array] | Array | None
"""What `Questions` paste regions on; see `Questions.__call__`."""
FILLS = {"grey_fill": intervene.grey_scenes, "blur_fill": intervene.blurred_scenes}
"""Surroundings without a scene, by the name of their score."""
MASK_SIDE = 64
"""Largest height and width of stored predictions; larger images are subsampled evenly."""


class Assessed(NamedTuple):
    """Results on n images; None if not requested."""

    decomposition: metrics.Decomposition
    """Leaves (n, C, C) and (n,)."""
    regions: metrics.RegionSums
    """Leaves (n, ...)."""
    scene_log_odds: jax.Array | None
    """(n, K, C - 1) on K kinds of scenes, as `flipjax.intervene.scene_marginal`."""
    fill_log_odds: jax.Array | None
    """(n, 2, C - 1) on `FILLS`, likewise."""
    scores: jax.Array | None
    """(n, J) in the order of `Questions.scores`."""
    masks: jax.Array | None
    """uint8 (n, planes, bytes), the predicted classes as packed bits."""
    own: jax.Array | None
    """float32 (n, Q, 2), numerator and denominator of a user's own quantities."""


@dataclasses.dataclass(frozen=True)
class Questions:
    """The outputs computed for an image; equal questions share a compiled program."""

    scenes: str = "given"
    """`given`, `surroundings` (the mean surroundings of predicted regions) or `none`, each also mirrored."""
    logits: bool = True
    """Whether to compute scores from logits, which need no further pass."""
    passes: bool = True
    """Whether to compute scores of the mirrored image and of FILLS, which cost three forward passes."""
    masks: bool = True
    """Whether to return the predicted classes."""
    own: tuple[Callable, ...] = ()
    """A user's own quantities, functions of logits and labels."""

    @property
    def scores(self) -> tuple[str, ...]:
        """The score names, in order."""
        of_logits = LOGIT_SCORES[1:] if self.logits else ()
        of_passes = ("mirror",) if self.passes else ()
        return (*of_logits, *of_passes)

    def __call__(
        self, experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array, scenery: Scenery
    ) -> Assessed:
        """Evaluates pool rows (n, 2).

        `scenery`: the given scenes (K, D, H, W, 3) and their weights (D,), for a pool with a strength at strengths 0
        and 1, (2, K, D, H, W, 3); or the pool rows (m, 2) whose mean surroundings form one; otherwise None.
        """
        scenes = self._scenes(experiment, weights, pool, scenery)

        def of_batch(batch: jax.Array) -> Assessed:
            images, labels = gather(pool, batch)
            layers = []
            if scenes is not None:
                layers = [jnp.broadcast_to(scene, images.shape) for kind in scenes.images for scene in kind]
            fills = []
            if self.passes:
                fills = [fill(images) for fill in FILLS.values()]
            logits, turned, odds = _answers(functools.partial(logits_of, experiment, weights), images, layers, fills)
            scores = self._scores(logits, turned)
            return Assessed(
                metrics.decompose(logits, labels),
                metrics.region_sums(logits, labels),
                None if scenes is None else average_draws(odds[:, : len(layers)], scenes.weights),
                odds[:, len(layers) :] if fills else None,
                jnp.stack([scores[name] for name in self.scores], axis=-1) if scores else None,
                pack_classes(logits.argmax(-1), classes=logits.shape[-1]) if self.masks else None,
                self._own(logits, labels) if self.own else None,
            )

        return map_batches(of_batch, rows, largest=evaluation_batch(experiment))

    def _scenes(self, experiment: Experiment, weights: Weights, pool: Pool, scenery: Scenery) -> "_Scenes | None":
        """Returns the scenes for pasted regions, if there are any."""
        if self.scenes == "none" or scenery is None:
            return None
        if not isinstance(scenery, tuple):
            return _Scenes(mean_surroundings(experiment, weights, pool, scenery)[:, None], jnp.ones(1))
        images, shares = scenery
        if pool.strength is not None:
            images = (1 - pool.strength) * images[0] + pool.strength * images[1]
        return _Scenes(images, shares)

    def _scores(self, logits: jax.Array, turned: jax.Array) -> dict[str, jax.Array]:
        """Returns scores (n,) by name; `turned` are the logits of the mirrored images."""
        scores = {}
        if self.logits:
            scores = metrics.logit_scores(logits)
        if self.passes:
            scores["mirror"] = intervene.mirror_risk(logits, turned)
        return scores

    def _own(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns numerators and denominators of a user's own quantities, (n, Q, 2)."""
        ratios = [jnp.stack(as_ratio(quantity)(logits, labels), axis=-1) for quantity in self.own]
        return jnp.stack(ratios, axis=1)


class _Scenes(NamedTuple):
    """Scenes that regions are pasted on."""

    images: Array
    """(K, D, H, W, 3): D of each of K kinds."""
    weights: Array
    """Of the D draws, (D,)."""


class _Inputs(NamedTuple):
    """What passes the model, one after the other: int (P,) each."""

    place: Array
    """0 to P - 1."""
    layer: Array
    """The layer on which regions are pasted; 0: the images themselves."""
    turn: Array
    """-1: mirrored; else 1."""


def _inputs(*, mirrored: int, plain: int) -> tuple[_Inputs, int]:
    """Returns the inputs, and the place of the images as they are.

    Mirror images come first if there are plain layers, then the images, then the mirrored layers, each as it is and
    mirrored, and then the plain layers.
    """
    layers_and_turns = []
    if plain:
        layers_and_turns.append((0, -1))
    straight = len(layers_and_turns)
    layers_and_turns.append((0, 1))
    for layer in range(1, 1 + mirrored):
        layers_and_turns.append((layer, 1))
        layers_and_turns.append((layer, -1))
    for layer in range(1 + mirrored, 1 + mirrored + plain):
        layers_and_turns.append((layer, 1))
    layers, turns = np.array(layers_and_turns).T
    return _Inputs(np.arange(len(layers_and_turns)), layers, turns), straight


def _answers(
    model: Callable, images: jax.Array, mirrored: Sequence[jax.Array], plain: Sequence[jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns logits (B, H, W, C) of images and, with `plain` scenes, of mirror images, and the log-odds (B, D, F).

    The log-odds are those of regions pasted on D scenes: on the `mirrored` ones, where pastes are mirrored too, then on
    the `plain` ones. All inputs pass the model in one loop, so that it compiles once.
    """
    layers = jnp.stack([images, *mirrored, *plain])
    inputs, straight = _inputs(mirrored=len(mirrored), plain=len(plain))

    def ask(
        carry: tuple[jax.Array, jax.Array], given: _Inputs
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        regions, cover = carry
        shown = intervene.paste(images, cover, layers[given.layer])
        logits = model(jnp.where(given.turn < 0, shown[:, :, ::-1], shown))
        # Regions are those of the images as they are, and pasted from then on.
        regions = jnp.where(given.place == straight, intervene.foreground(logits), regions)
        cover = jax.lax.cond(given.place == straight, intervene.soft_edge, lambda _: cover, regions)
        inside = jnp.where(given.turn < 0, regions[:, :, ::-1], regions)
        return (regions, cover), (logits, intervene.region_log_odds(logits, inside))

    start = jnp.zeros(images.shape[:3], bool), jnp.ones(images.shape[:3])
    _, (logits, odds) = jax.lax.scan(ask, start, _Inputs(*map(jnp.asarray, inputs)))
    of_mirrored, of_plain = jnp.split(odds[straight + 1 :], [2 * len(mirrored)])
    of_mirrored = (of_mirrored[::2] + of_mirrored[1::2]) / 2
    return logits[straight], logits[0], jnp.moveaxis(jnp.concatenate([of_mirrored, of_plain]), 0, 1)


def pack_classes(labels: jax.Array, *, classes: int, side: int = MASK_SIDE) -> jax.Array:
    """Packs predicted classes (n, H, W) into uint8 (n, planes, bytes); plane k holds bit k of each class.

    Images larger than `side` are subsampled evenly.

    Example:
        >>> pack_classes(jnp.array([[[0, 1, 2, 1]]]), classes=3).tolist()
        [[[80], [32]]]
    """
    step = math.ceil(max(labels.shape[1:]) / side)
    kept = labels[:, step // 2 :: step, step // 2 :: step].reshape(len(labels), 1, -1)
    planes = jnp.arange((classes - 1).bit_length())[:, None]
    return jnp.packbits((kept >> planes) & 1 == 1, axis=-1)
