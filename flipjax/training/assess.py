"""Evaluation of a trained member on pool rows, sharing forward passes between measures."""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
        and 1, (2, K, D, H, W, 3); or the pool rows (m, 2) whose mean
        surroundings form one; otherwise None.
        """
        scenes: Any
        scenes, shares = scenery if self.scenes == "given" else ((), ())
        if self.scenes == "given" and pool.strength is not None:
            scenes = (1 - pool.strength) * scenes[0] + pool.strength * scenes[1]
        if self.scenes == "surroundings":
            scenes, shares = mean_surroundings(experiment, weights, pool, scenery)[:, None], jnp.ones(1)

        def ask(inputs: Iterable[jax.Array]) -> jax.Array:
            # A sequential map compiles the model once for all inputs.
            return jax.lax.map(functools.partial(logits_of, experiment, weights), jnp.stack(list(inputs)))

        def of_batch(batch: jax.Array) -> Assessed:
            images, labels = gather(pool, batch)
            logits, *turned = ask([images, images[:, :, ::-1]][: 1 + self.passes])
            fills = [fill(images) for fill in FILLS.values()] if self.passes else []
            each = [scene for kind in scenes for scene in kind]
            mirror = np.arange(len(each) + len(fills)) < len(each)
            canvases = [*each, *fills]
            odds = jnp.zeros(0)
            if canvases:
                regions = intervene.foreground(logits)
                odds = intervene.log_odds_on_scenes(ask, images, regions, canvases, mirror=mirror)
            values = metrics.logit_scores(logits) if self.logits else {}
            values |= {"mirror": intervene.mirror_risk(logits, *turned)} if self.passes else {}
            return Assessed(
                metrics.decompose(logits, labels),
                metrics.region_sums(logits, labels),
                average_draws(odds[:, : len(each)], shares) if each else None,
                odds[:, len(each) :] if fills else None,
                jnp.stack([values[name] for name in self.scores], axis=-1) if values else None,
                pack_classes(logits.argmax(-1), classes=logits.shape[-1]) if self.masks else None,
            )

        return map_batches(of_batch, rows, largest=evaluation_batch(experiment))


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
