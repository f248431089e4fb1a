"""Evaluates a trained member: one pass of the images through its network, and what further passes it takes.

`Questions` say what is computed of each image, and which passes that takes:

1. The image as it is. Its prediction is compared with its labels, and its predicted foreground is the image's *region*.
2. The mirrored image, for the score `mirror`.
3. The region pasted on other scenes and on fills (surroundings without a scene), for the class that it is given there.

The third kind needs the regions, which the first pass finds, so it is a loop of its own.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from flipjax import intervene, metrics
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather, inputs_of
from flipjax.intervene.swap import average_draws
from flipjax.metrics.kernels import LOGIT_SCORES
from flipjax.models.networks.frozen import Projection, features_of
from flipjax.support.arrays import Array
from flipjax.training.network.forward import Weights, evaluation_batch, logits_of, map_batches, mean_surroundings
from flipjax.training.network.own import as_ratio

FILLS = {"grey_fill": intervene.grey_scenes, "blur_fill": intervene.blurred_scenes}
"""Functions from images (B, H, W, 3) to surroundings without a scene, by the name of the score that
`flipjax.sweep.finish` makes of the log-odds on them."""
MASK_SIDE = 64
"""Largest height and width of stored predictions; larger images are subsampled evenly."""


class Scenes(NamedTuple):
    """Scenes that regions are pasted on: D draws of each of K kinds."""

    images: Array
    """(K, D, H, W, 3) in [0, 1]; in a pool with a strength those at strengths 0 and 1, (2, K, D, H, W, 3)."""
    draw_weights: Array
    """Weights of the draws in the mean of a kind, (D,)."""


class Surroundings(NamedTuple):
    """One scene for each member: the mean surroundings of the regions that it predicts."""

    rows: Array
    """Pool rows (m, 2) of the images whose surroundings are averaged."""


Scenery: TypeAlias = Scenes | Surroundings | None
"""What regions are pasted on; None for questions without scenes."""


class Assessed(NamedTuple):
    """Results on n images; None for what `Questions` do not ask."""

    decomposition: metrics.Decomposition
    """Confusion matrices (n, C, C) and summed flip-risk (n,)."""
    regions: metrics.RegionSums
    """Sums over rims and interiors, leaves (n, ...)."""
    scene_log_odds: jax.Array | None
    """Log-odds of regions pasted on K kinds of scenes, (n, K, C - 1), see `intervene.scene_marginal`."""
    fill_log_odds: jax.Array | None
    """Log-odds of regions pasted on each of `FILLS`, (n, 2, C - 1)."""
    scores: jax.Array | None
    """Scores of images, (n, J) in the order of `Questions.scores`."""
    masks: jax.Array | None
    """Predicted classes as packed bits, uint8 (n, planes, bytes), see `pack_classes`."""
    own: jax.Array | None
    """Numerator and denominator of a user's own quantities, float32 (n, Q, 2)."""


@dataclasses.dataclass(frozen=True)
class Questions:
    """What is computed of each image. Equal questions share a compiled program.

    Example:
        >>> Questions(scenes=False, logit_scores=False, mirror_and_fills=True).scores
        ('mirror',)
    """

    scenes: bool = True
    """Whether to paste regions on scenes, and the mirror images of the pasted images with them."""
    logit_scores: bool = True
    """Whether to compute scores from logits, which need no further pass."""
    mirror_and_fills: bool = True
    """Whether to compute the score `mirror` and the log-odds on `FILLS`, which cost three forward passes."""
    masks: bool = True
    """Whether to return the predicted classes."""
    own: tuple[Callable, ...] = ()
    """A user's own quantities, functions of logits and labels."""

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of `Assessed.scores`, in order."""
        names = []
        if self.logit_scores:
            # The first, flip-risk, is in the decomposition.
            names += LOGIT_SCORES[1:]
        if self.mirror_and_fills:
            names.append("mirror")
        return tuple(names)

    def __call__(
        self, experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array, scenery: Scenery
    ) -> Assessed:
        """Evaluates a member's weights on pool rows (n, 2), as `flipjax.data.pool.gather` takes them."""
        scenes = None
        if self.scenes:
            scenes = _scenes_of_member(experiment, weights, pool, scenery)

        def assess(batch: jax.Array) -> Assessed:
            images, labels = gather(pool, batch)
            logits, mirrored_logits = _first_passes(
                experiment, weights, pool, batch, images, mirror=self.mirror_and_fills
            )
            model = functools.partial(_logits_of_pixels, experiment, weights, pool)
            scene_log_odds, fill_log_odds = _log_odds_elsewhere(
                model, images, logits, scenes, fills=self.mirror_and_fills
            )
            masks = None
            if self.masks:
                masks = pack_classes(logits.argmax(-1), classes=logits.shape[-1])
            return Assessed(
                decomposition=metrics.decompose(logits, labels),
                regions=metrics.region_sums(logits, labels),
                scene_log_odds=scene_log_odds,
                fill_log_odds=fill_log_odds,
                scores=self._scores(logits, mirrored_logits),
                masks=masks,
                own=self._own(logits, labels),
            )

        return map_batches(assess, rows, largest=evaluation_batch(experiment))

    def _scores(self, logits: jax.Array, mirrored_logits: jax.Array | None) -> jax.Array | None:
        """Returns the scores (n, J) of images from their logits and those of their mirror images."""
        values = {}
        if self.logit_scores:
            values = metrics.logit_scores(logits)
        if mirrored_logits is not None:
            values["mirror"] = intervene.mirror_risk(logits, mirrored_logits)
        if not values:
            return None
        return jnp.stack([values[name] for name in self.scores], axis=-1)

    def _own(self, logits: jax.Array, labels: jax.Array) -> jax.Array | None:
        """Returns numerators and denominators of a user's own quantities, (n, Q, 2)."""
        if not self.own:
            return None
        ratios = [jnp.stack(as_ratio(quantity)(logits, labels), axis=-1) for quantity in self.own]
        return jnp.stack(ratios, axis=1)


def pack_classes(labels: jax.Array, *, classes: int, side: int = MASK_SIDE) -> jax.Array:
    """Packs predicted classes (n, H, W) into uint8 (n, planes, bytes), where plane k holds bit k of each class.

    Images larger than `side` are subsampled evenly.

    Example:
        >>> pack_classes(jnp.array([[[0, 1, 2, 1]]]), classes=3).tolist()
        [[[80], [32]]]
    """
    step = math.ceil(max(labels.shape[1:]) / side)
    # From the middle of the first step on, row by row: (n, 1, pixels), an axis for the planes.
    kept = labels[:, step // 2 :: step, step // 2 :: step].reshape(len(labels), 1, -1)
    planes = jnp.arange((classes - 1).bit_length())[:, None]
    return jnp.packbits((kept >> planes) & 1 == 1, axis=-1)


def _scenes_of_member(experiment: Experiment, weights: Weights, pool: Pool, scenery: Scenery) -> Scenes:
    """Returns the scenes of one member, (K, D, H, W, 3), at the strength of its cue."""
    if isinstance(scenery, Surroundings):
        surroundings = mean_surroundings(experiment, weights, pool, scenery.rows)
        return Scenes(images=surroundings[:, None], draw_weights=jnp.ones(1))
    assert scenery is not None, "questions with scenes are asked without any"
    if pool.strength is None:
        return scenery
    without_cue, with_cue = scenery.images
    return scenery._replace(images=(1 - pool.strength) * without_cue + pool.strength * with_cue)


def _first_passes(
    experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array, images: jax.Array, *, mirror: bool
) -> tuple[jax.Array, jax.Array | None]:
    """Returns the logits (B, H, W, C) of images and, if asked, those of their mirror images in mirrored coordinates.

    Args:
        experiment: the member's program.
        weights: of the member.
        pool: of the images. Features that it stores are used, as in training: features made anew could round otherwise.
        rows: pool rows (B, 2).
        images: of these rows, (B, H, W, 3).
        mirror: whether to pass the mirror images.
    """
    model = functools.partial(logits_of, experiment, weights)
    inputs = inputs_of(pool, rows, images)
    if not mirror:
        return model(inputs), None
    # Stored features of mirror images are mirrored back.
    unmirrored = inputs_of(pool, rows, images, jnp.ones(len(rows), bool))
    # A loop of two turns, so that the network is compiled once for both.
    logits, mirrored_logits = jax.lax.map(model, jnp.stack([inputs, _mirror(unmirrored)]))
    return logits, mirrored_logits


def _logits_of_pixels(experiment: Experiment, weights: Weights, pool: Pool, images: jax.Array) -> jax.Array:
    """Returns the logits of images (B, H, W, 3) that are not of the pool: features, if it has any, are made anew."""
    if pool.features is None:
        return logits_of(experiment, weights, images)
    projection = Projection(*pool.features.projection)
    features = features_of(pool.features.encoder, projection, images)
    return logits_of(experiment, weights, features.astype(jnp.float32))


class _Turn(NamedTuple):
    """One pass of pasted regions through the network; stacked in a leading axis, all of them."""

    surroundings: jax.Array
    """What the regions are pasted on, (B, H, W, 3)."""
    is_mirrored: jax.Array
    """Whether the network sees the mirror images of the pasted images, bool ()."""


def _log_odds_elsewhere(
    model: Callable, images: jax.Array, logits: jax.Array, scenes: Scenes | None, *, fills: bool
) -> tuple[jax.Array | None, jax.Array | None]:
    """Returns the log-odds of regions on scenes (B, K, F) and on fills (B, 2, F), None for what is not asked.

    Each pasted image on a scene also passes as its mirror image, and the two log-odds are averaged.

    Args:
        model: from images to logits.
        images: (B, H, W, 3).
        logits: of the images, whose predicted foreground is the region.
        scenes: K kinds of scenes, if any.
        fills: whether to paste on `FILLS`.
    """
    region = intervene.foreground(logits)
    cover = intervene.soft_edge(region)
    surroundings = []
    is_mirrored = []
    if scenes is not None:
        # Draw d of kind k is number k * D + d; each pasted image passes as it is, then mirrored.
        for scene in scenes.images.reshape(-1, *images.shape[1:]):
            surroundings += [jnp.broadcast_to(scene, images.shape)] * 2
            is_mirrored += [False, True]
    on_scenes = len(surroundings)
    if fills:
        surroundings += [fill(images) for fill in FILLS.values()]
        is_mirrored += [False] * len(FILLS)
    if not surroundings:
        return None, None

    def log_odds_of(turn: _Turn) -> jax.Array:
        pasted = intervene.paste(images, cover, turn.surroundings)
        seen = jnp.where(turn.is_mirrored, _mirror(pasted), pasted)
        region_seen = jnp.where(turn.is_mirrored, _mirror(region), region)
        return intervene.region_log_odds(model(seen), region_seen)

    # A loop, so that the network is compiled once for all.
    turns = _Turn(surroundings=jnp.stack(surroundings), is_mirrored=jnp.array(is_mirrored))
    log_odds = jax.lax.map(log_odds_of, turns)
    scene_log_odds = None
    if scenes is not None:
        of_both_directions = (log_odds[:on_scenes:2] + log_odds[1:on_scenes:2]) / 2
        scene_log_odds = average_draws(jnp.moveaxis(of_both_directions, 0, 1), scenes.draw_weights)
    fill_log_odds = None
    if fills:
        fill_log_odds = jnp.moveaxis(log_odds[on_scenes:], 0, 1)
    return scene_log_odds, fill_log_odds


def _mirror(images: jax.Array) -> jax.Array:
    """Returns images (B, H, W, ...) mirrored left to right."""
    return images[:, :, ::-1]
