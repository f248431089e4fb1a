"""Evaluation of a trained member on pool rows, sharing forward passes between measures.

`Questions` says what is computed; calling it with a member's weights and pool rows evaluates these in batches and
returns `Assessed`. A batch passes the model several times: as it is; for the score `mirror`, mirrored; and with its
predicted regions pasted on other scenes or fills, for scene-swap scores. `_inputs` lists these passes, and `_answers`
makes them in one loop, so that the model is compiled once.
"""

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
"""The scenes that regions are pasted on, or the pool rows that they come from; see `Questions.__call__`."""
FILLS = {"grey_fill": intervene.grey_scenes, "blur_fill": intervene.blurred_scenes}
"""Functions from images to surroundings without a scene, by the name of the score that they serve."""
MASK_SIDE = 64
"""Largest height and width of stored predictions; larger images are subsampled evenly."""


class Assessed(NamedTuple):
    """Results on n images; None for what `Questions` do not ask."""

    decomposition: metrics.Decomposition
    """Confusion matrices (n, C, C) and summed flip-risk (n,)."""
    regions: metrics.RegionSums
    """Sums over rims and interiors, leaves (n, ...)."""
    scene_log_odds: jax.Array | None
    """Log-odds of predicted regions pasted on K kinds of scenes, (n, K, C - 1), see `intervene.scene_marginal`."""
    fill_log_odds: jax.Array | None
    """Log-odds of predicted regions pasted on each of `FILLS`, (n, 2, C - 1)."""
    scores: jax.Array | None
    """Scores of images, (n, J) in the order of `Questions.scores`."""
    masks: jax.Array | None
    """Predicted classes as packed bits, uint8 (n, planes, bytes), see `pack_classes`."""
    own: jax.Array | None
    """Numerator and denominator of a user's own quantities, float32 (n, Q, 2)."""


@dataclasses.dataclass(frozen=True)
class Questions:
    """The outputs computed for an image; equal questions share a compiled program."""

    scenes: str = "given"
    """What regions are pasted on: `given` scenes; `surroundings`, the mean surroundings of predicted regions; or
    `none`. Each pasted image is also mirrored."""
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
        """Evaluates pool rows.

        Args:
            experiment: the member's program.
            weights: of the member.
            pool: the images.
            rows: pool rows (n, 2), as `flipjax.data.pool.gather` takes them.
            scenery: for `given` scenes, D draws of each of K kinds (K, D, H, W, 3) and the weights of the draws (D,);
                in a pool with a strength, those at strengths 0 and 1, (2, K, D, H, W, 3). For `surroundings`, the
                pool rows (m, 2) whose mean surroundings are the scene. For `none`, None.
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
        """Returns the scenes that regions are pasted on; None without any."""
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
    """D draws of each of K kinds, (K, D, H, W, 3)."""
    weights: Array
    """Weights of the draws in the mean of a kind, (D,)."""


class _Inputs(NamedTuple):
    """The P passes of a batch through the model, in order: int (P,) each."""

    place: Array
    """The number of the pass, 0 to P - 1."""
    layer: Array
    """What the regions are pasted on: 0, the images themselves; k, the k-th of the scenes and fills."""
    turn: Array
    """-1 where the input is mirrored; else 1."""


def _inputs(*, mirrored: int, plain: int) -> tuple[_Inputs, int]:
    """Returns the passes of a batch, and the place of the one with the images as they are.

    First come the images mirrored, if there are plain layers, and the images as they are; then the `mirrored` layers,
    each as it is and mirrored; then the `plain` layers, each as it is.
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
    """Passes images, and their predicted regions on other layers, through the model, in one loop.

    Args:
        model: from images to logits.
        images: (B, H, W, 3).
        mirrored: layers, each like the images, on which the log-odds are the mean of the pasted image and its mirror
            image.
        plain: layers on which log-odds are of the pasted image alone.

    Returns:
        The logits (B, H, W, C) of the images; with `plain` layers those of their mirror images, else the same again;
        and the log-odds (B, D, F) of the regions pasted on each of the D layers, `mirrored` ones first.
    """
    layers = jnp.stack([images, *mirrored, *plain])
    inputs, straight = _inputs(mirrored=len(mirrored), plain=len(plain))

    def ask(
        carry: tuple[jax.Array, jax.Array], given: _Inputs
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        # `cover` is how much of each pixel is the image's: 1 everywhere until regions are known, so layers do not show.
        regions, cover = carry
        pasted = intervene.paste(images, cover, layers[given.layer])
        logits = model(jnp.where(given.turn < 0, pasted[:, :, ::-1], pasted))
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
    """Packs predicted classes (n, H, W) into uint8 (n, planes, bytes), where plane k holds bit k of each class.

    Images larger than `side` are subsampled evenly.

    Example:
        >>> pack_classes(jnp.array([[[0, 1, 2, 1]]]), classes=3).tolist()
        [[[80], [32]]]
    """
    step = math.ceil(max(labels.shape[1:]) / side)
    kept = labels[:, step // 2 :: step, step // 2 :: step].reshape(len(labels), 1, -1)
    planes = jnp.arange((classes - 1).bit_length())[:, None]
    return jnp.packbits((kept >> planes) & 1 == 1, axis=-1)
