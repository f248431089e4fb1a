"""Evaluation of a trained member on pool rows, sharing forward passes between measures.

`Questions` says what is computed; calling it with a member's weights and pool rows evaluates these in batches and
returns `Assessed`. A batch passes the model several times: as it is; for the score `mirror`, mirrored; and with its
predicted regions pasted on other scenes or fills, for scene-swap scores. What regions are pasted on is a *layer*: the
images themselves, a scene or a fill. `_make_passes` makes the passes in one loop, so that the model is compiled once;
where a pool has features, `_log_odds_of_pasted` makes those with pasted regions alone.
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
from flipjax.data.pool import Pool, gather, inputs_of
from flipjax.intervene.swap import average_draws
from flipjax.metrics.kernels import LOGIT_SCORES
from flipjax.models.networks.frozen import Projection, features_of
from flipjax.support.arrays import Array
from flipjax.training.network.forward import Weights, evaluation_batch, logits_of, map_batches, mean_surroundings
from flipjax.training.network.own import as_ratio

Scenery: TypeAlias = tuple[Array, Array] | Array | None
"""The source of the scenes behind pasted regions: a tuple for `given` scenes, an array of pool rows for
`surroundings`, None for `none`; see `Questions.__call__`."""
FILLS = {"grey_fill": intervene.grey_scenes, "blur_fill": intervene.blurred_scenes}
"""Functions from images (B, H, W, 3) to surroundings without a scene, by the name of the score that
`flipjax.sweep.finish` makes of the log-odds on them."""
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
    logit_scores: bool = True
    """Whether to compute scores from logits, which need no further pass."""
    mirror_and_fills: bool = True
    """Whether to compute the score `mirror` and the log-odds on FILLS, which cost three forward passes."""
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
            scene_layers = []
            if scenes is not None:
                scene_layers = scenes.layers(images)
            fill_layers = []
            if self.mirror_and_fills:
                fill_layers = [fill(images) for fill in FILLS.values()]
            model = functools.partial(_logits_of_pixels, experiment, weights, pool)
            if pool.features is None:
                logits, mirrored_logits, log_odds = _make_passes(
                    model, images, scene_layers, fill_layers, mirror=self.mirror_and_fills
                )
            else:
                # Of stored features, as in training: those made anew may round otherwise, and cost the encoder's pass.
                logits = logits_of(experiment, weights, inputs_of(pool, batch, images))
                mirrored_logits = None
                if self.mirror_and_fills:
                    mirrored_logits = _logits_of_mirror_images(experiment, weights, pool, batch, images)
                log_odds = _log_odds_of_pasted(model, images, logits, scene_layers, fill_layers)
            scores_by_name = self._scores(logits, mirrored_logits)
            decomposition = metrics.decompose(logits, labels)
            regions = metrics.region_sums(logits, labels)
            # Those on scenes come first, then those on fills.
            scene_log_odds = None
            if scenes is not None:
                # From (B, K * D, F) to (B, K, F).
                scene_log_odds = average_draws(log_odds[:, : len(scene_layers)], scenes.draw_weights)
            fill_log_odds = None
            if fill_layers:
                fill_log_odds = log_odds[:, len(scene_layers) :]
            scores = None
            if self.scores:
                scores = jnp.stack([scores_by_name[name] for name in self.scores], axis=-1)
            masks = None
            if self.masks:
                masks = pack_classes(logits.argmax(-1), classes=logits.shape[-1])
            own = None
            if self.own:
                own = self._own(logits, labels)
            return Assessed(
                decomposition=decomposition,
                regions=regions,
                scene_log_odds=scene_log_odds,
                fill_log_odds=fill_log_odds,
                scores=scores,
                masks=masks,
                own=own,
            )

        return map_batches(of_batch, rows, largest=evaluation_batch(experiment))

    def _scenes(self, experiment: Experiment, weights: Weights, pool: Pool, scenery: Scenery) -> "_Scenes | None":
        """Returns the scenes that regions are pasted on; None if none are asked for, or none are given."""
        if self.scenes == "none" or scenery is None:
            return None
        if self.scenes == "surroundings":
            assert not isinstance(scenery, tuple)  # Pool rows.
            surroundings = mean_surroundings(experiment, weights, pool, scenery)
            return _Scenes(images=surroundings[:, None], draw_weights=jnp.ones(1))
        assert isinstance(scenery, tuple)
        images, draw_weights = scenery
        if pool.strength is not None:
            images = (1 - pool.strength) * images[0] + pool.strength * images[1]
        return _Scenes(images=images, draw_weights=draw_weights)

    def _scores(self, logits: jax.Array, mirrored_logits: jax.Array | None) -> dict[str, jax.Array]:
        """Returns the scores (n,) that `Questions.scores` names, by name.

        Args:
            logits: of the images.
            mirrored_logits: of the mirrored images; None without the score `mirror`.
        """
        computed = {}
        if self.logit_scores:
            computed = metrics.logit_scores(logits)
        if mirrored_logits is not None:
            computed["mirror"] = intervene.mirror_risk(logits, mirrored_logits)
        # Leaves out flip-risk, which is computed with the others and which the decomposition holds.
        return {name: computed[name] for name in self.scores}

    def _own(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns numerators and denominators of a user's own quantities, (n, Q, 2)."""
        ratios = [jnp.stack(as_ratio(quantity)(logits, labels), axis=-1) for quantity in self.own]
        return jnp.stack(ratios, axis=1)


def _logits_of_pixels(experiment: Experiment, weights: Weights, pool: Pool, images: jax.Array) -> jax.Array:
    """Returns the logits of images (B, H, W, 3) that are not of the pool, whose features are made anew."""
    if pool.features is None:
        return logits_of(experiment, weights, images)
    projection = Projection(*pool.features.projection)
    features = features_of(pool.features.encoder, projection, images)
    return logits_of(experiment, weights, features.astype(jnp.float32))


def _logits_of_mirror_images(
    experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array, images: jax.Array
) -> jax.Array:
    """Returns the logits, in mirrored coordinates, of the mirror images of rows (B, 2), from their stored features."""
    # Stored features of mirror images are mirrored back.
    features = inputs_of(pool, rows, images, jnp.ones(len(rows), bool))
    return logits_of(experiment, weights, features[:, :, ::-1])


class _Scenes(NamedTuple):
    """Scenes that regions are pasted on."""

    images: Array
    """D draws of each of K kinds, (K, D, H, W, 3)."""
    draw_weights: Array
    """Weights of the draws in the mean of a kind, (D,)."""

    def layers(self, images: jax.Array) -> list[jax.Array]:
        """Lists the scenes, each in the shape of images (B, H, W, 3): draw d of kind k is number k * D + d."""
        layers = []
        for draws_of_kind in self.images:
            layers += [jnp.broadcast_to(scene, images.shape) for scene in draws_of_kind]
        return layers


class _Passes(NamedTuple):
    """The P passes of a batch through the model, in order: int (P,) each."""

    number: Array
    """The number of the pass, 0 to P - 1."""
    layer: Array
    """What the regions are pasted on: 0, the images themselves; k, the k-th of the scenes and fills."""
    direction: Array
    """-1 where the pasted images are mirrored before the model sees them; else 1."""


def _list_passes(layers_and_directions: Sequence[tuple[int, int]]) -> _Passes:
    """Returns the passes over layers, each in a direction."""
    layers, directions = np.array(layers_and_directions).T
    return _Passes(number=np.arange(len(layers)), layer=layers, direction=directions)


def _pasted_passes(*, scenes: int, fills: int) -> list[tuple[int, int]]:
    """Lists layers and directions: each scene, as it is and mirrored, then each fill, as it is."""
    passes = []
    for layer in range(1, 1 + scenes):
        passes.append((layer, 1))
        passes.append((layer, -1))
    for layer in range(1 + scenes, 1 + scenes + fills):
        passes.append((layer, 1))
    return passes


class _Regions(NamedTuple):
    """The predicted regions of a batch, which one pass finds and the later passes paste."""

    mask: jax.Array
    """The predicted foreground, bool (B, H, W); all False until the first pass has predicted it."""
    cover: jax.Array
    """How much of each pixel the pasted image has from the image, and not from the layer below, (B, H, W) in [0, 1].
    Before the regions are found it is 1 everywhere, so that the model sees the whole image."""


def _make_passes(
    model: Callable, images: jax.Array, scenes: Sequence[jax.Array], fills: Sequence[jax.Array], *, mirror: bool
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    """Passes images, and their predicted regions on scenes and fills, through the model, in one loop.

    The pass with the unchanged images finds the regions, and the loop hands them on to the passes after it. The passes
    up to it paste the whole images.

    Args:
        model: from images to logits.
        images: (B, H, W, 3).
        scenes: each like the images; the log-odds on one are the mean of the pasted image and its mirror image.
        fills: each like the images; the log-odds on one are of the pasted image alone.
        mirror: whether to pass the mirrored images.

    Returns:
        The logits (B, H, W, C) of the images; the logits of their mirror images, in mirrored coordinates, or None
        without `mirror`; and the log-odds (B, L, F) of the regions pasted on each of the L scenes and fills, scenes
        first.
    """
    layers = jnp.stack([images, *scenes, *fills])
    # Unless the mirrored images come first, the images as they are do.
    unchanged = 0
    listed = [(0, 1)]
    if mirror:
        unchanged = 1
        listed = [(0, -1), (0, 1)]
    passes = _list_passes([*listed, *_pasted_passes(scenes=len(scenes), fills=len(fills))])

    def make_pass(regions: _Regions, this_pass: _Passes) -> tuple[_Regions, tuple[jax.Array, jax.Array]]:
        pasted = intervene.paste(images, regions.cover, layers[this_pass.layer])
        is_mirrored = this_pass.direction < 0
        logits = model(jnp.where(is_mirrored, pasted[:, :, ::-1], pasted))
        # The pass with the unchanged images finds the regions and their cover; the other passes keep what they got.
        finds_regions = this_pass.number == unchanged
        mask = jnp.where(finds_regions, intervene.foreground(logits), regions.mask)
        cover = jax.lax.cond(finds_regions, intervene.soft_edge, lambda _: regions.cover, mask)
        mask_as_seen = jnp.where(is_mirrored, mask[:, :, ::-1], mask)
        return _Regions(mask=mask, cover=cover), (logits, intervene.region_log_odds(logits, mask_as_seen))

    not_found = _Regions(mask=jnp.zeros(images.shape[:3], bool), cover=jnp.ones(images.shape[:3]))
    all_passes = jax.tree.map(jnp.asarray, passes)
    _, (logits, log_odds) = jax.lax.scan(make_pass, not_found, all_passes)
    # The passes up to the one with the unchanged images are of whole images.
    of_layers = _mean_of_directions(log_odds[unchanged + 1 :], scenes=len(scenes))
    mirrored_logits = None
    if mirror:
        # The pass with the mirrored images is the one before.
        mirrored_logits = logits[unchanged - 1]
    return logits[unchanged], mirrored_logits, of_layers


def _log_odds_of_pasted(
    model: Callable, images: jax.Array, logits: jax.Array, scenes: Sequence[jax.Array], fills: Sequence[jax.Array]
) -> jax.Array:
    """Returns the log-odds (B, L, F) of `_make_passes` for images whose logits are known, without a pass for these."""
    if not scenes and not fills:
        return jnp.zeros((len(images), 0, logits.shape[-1] - 1))
    layers = jnp.stack([images, *scenes, *fills])
    mask = intervene.foreground(logits)
    cover = intervene.soft_edge(mask)

    def make_pass(this_pass: _Passes) -> jax.Array:
        pasted = intervene.paste(images, cover, layers[this_pass.layer])
        is_mirrored = this_pass.direction < 0
        logits_of_pasted = model(jnp.where(is_mirrored, pasted[:, :, ::-1], pasted))
        return intervene.region_log_odds(logits_of_pasted, jnp.where(is_mirrored, mask[:, :, ::-1], mask))

    passes = _list_passes(_pasted_passes(scenes=len(scenes), fills=len(fills)))
    log_odds = jax.lax.map(make_pass, jax.tree.map(jnp.asarray, passes))
    return _mean_of_directions(log_odds, scenes=len(scenes))


def _mean_of_directions(log_odds: jax.Array, *, scenes: int) -> jax.Array:
    """Returns log-odds (B, L, F) on L layers from those of the passes of `_pasted_passes`, (P, B, F)."""
    of_scenes, of_fills = jnp.split(log_odds, [2 * scenes])
    of_scenes = (of_scenes[::2] + of_scenes[1::2]) / 2
    return jnp.moveaxis(jnp.concatenate([of_scenes, of_fills]), 0, 1)


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
