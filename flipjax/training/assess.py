"""Evaluation of a trained member on pool rows, sharing forward passes between measures."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flipjax import intervene, metrics
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.intervene.swap import average_draws
from flipjax.metrics.kernels import LOGIT_SCORES
from flipjax.training.network import Weights, evaluation_batch, logits_of, map_batches, mean_surroundings

FILLS = {"grey_fill": intervene.grey_scenes, "blur_fill": intervene.blurred_scenes}
# Largest height and width of stored predictions; larger images are subsampled evenly.
MASK_SIDE = 64


class Assessed(NamedTuple):
    """Results on n images; None if not requested.

    scene_log_odds (n, K, C - 1) and fill_log_odds (n, 2, C - 1) as `flipjax.intervene.scene_marginal`; scores (n, J)
    in the order of `Questions.scores`; masks uint8 (n, planes, bytes), the predicted classes as packed bits.
    """

    decomposition: metrics.Decomposition
    regions: metrics.RegionSums
    scene_log_odds: jax.Array | None
    fill_log_odds: jax.Array | None
    scores: jax.Array | None
    masks: jax.Array | None


@dataclasses.dataclass(frozen=True)
class Questions:
    """The outputs computed for an image; equal questions share a compiled program.

    `scenes`: `given`, `surroundings` (the mean surroundings of predicted regions) or `none`, each also mirrored.
    `logits`: scores from logits, without extra passes. `passes`: the mirrored image and two fills of the surroundings,
    which cost three forward passes. `masks`: the predicted classes.
    """

    scenes: str = "given"
    logits: bool = True
    passes: bool = True
    masks: bool = True

    @property
    def scores(self) -> tuple[str, ...]:
        """The score names, in order."""
        return (*(LOGIT_SCORES[1:] if self.logits else ()), *(("mirror",) if self.passes else ()))

    def __call__(self, experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array, scenery: Any) -> Assessed:
        """Evaluates pool rows (n, 2).

        `scenery`: the given scenes (K, D, H, W, 3) and their weights (D,), for a pool with a strength at strengths 0
        and 1, (2, K, D, H, W, 3); or the pool rows (m, 2) whose mean surroundings form one; otherwise None.
        """
        scenes: Any
        scenes, shares = scenery if self.scenes == "given" else ((), ())
        if self.scenes == "given" and pool.strength is not None:
            scenes = (1 - pool.strength) * scenes[0] + pool.strength * scenes[1]
        if self.scenes == "surroundings":
            scenes, shares = mean_surroundings(experiment, weights, pool, scenery)[:, None], jnp.ones(1)

        def of_batch(batch: jax.Array) -> Assessed:
            images, labels = gather(pool, batch)
            each = [jnp.broadcast_to(scene, images.shape) for kind in scenes for scene in kind]
            fills = [fill(images) for fill in FILLS.values()] if self.passes else []
            logits, turned, odds = _answers(functools.partial(logits_of, experiment, weights), images, each, fills)
            values = metrics.logit_scores(logits) if self.logits else {}
            values |= {"mirror": intervene.mirror_risk(logits, turned)} if self.passes else {}
            return Assessed(
                metrics.decompose(logits, labels),
                metrics.region_sums(logits, labels),
                average_draws(odds[:, : len(each)], shares) if each else None,
                odds[:, len(each) :] if fills else None,
                jnp.stack([values[name] for name in self.scores], axis=-1) if values else None,
                pack_classes(logits.argmax(-1), classes=logits.shape[-1]) if self.masks else None,
            )

        return map_batches(of_batch, rows, largest=evaluation_batch(experiment))


def _answers(
    model: Callable, images: jax.Array, mirrored: Sequence[jax.Array], plain: Sequence[jax.Array]
) -> tuple[jax.Array, ...]:
    """Returns logits (B, H, W, C) of images and, with `plain` scenes, of mirror images, and the log-odds (B, D, F).

    The log-odds are those of regions pasted on D scenes: on the `mirrored` ones, where pastes are mirrored too, then on
    the `plain` ones. All inputs pass the model in one loop, so that it compiles once.
    """
    layers = jnp.stack([images, *mirrored, *plain])
    # Layer and direction of each input; only those after the images themselves are pasted.
    inputs = [(0, -1), (0, 1)] if plain else [(0, 1)]
    own, single = len(inputs) - 1, 1 + len(mirrored)
    inputs += [(layer, turn) for layer in range(1, single) for turn in (1, -1)]
    inputs += [(layer, 1) for layer in range(single, len(layers))]

    def ask(found: tuple[jax.Array, jax.Array], given: tuple[jax.Array, ...]) -> tuple[Any, Any]:
        (regions, cover), (place, layer, turn) = found, given
        shown = intervene.paste(images, cover, layers[layer])
        logits = model(jnp.where(turn < 0, shown[:, :, ::-1], shown))
        regions = jnp.where(place == own, intervene.foreground(logits), regions)
        cover = jax.lax.cond(place == own, intervene.soft_edge, lambda _: cover, regions)
        inside = jnp.where(turn < 0, regions[:, :, ::-1], regions)
        return (regions, cover), (logits, intervene.region_log_odds(logits, inside))

    start = jnp.zeros(images.shape[:3], bool), jnp.ones(images.shape[:3])
    _, (logits, odds) = jax.lax.scan(ask, start, (jnp.arange(len(inputs)), *jnp.array(inputs).T))
    pairs, rest = jnp.split(odds[own + 1 :], [2 * len(mirrored)])
    return logits[own], logits[0], jnp.moveaxis(jnp.concatenate([(pairs[::2] + pairs[1::2]) / 2, rest]), 0, 1)


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
