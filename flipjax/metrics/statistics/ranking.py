"""Images sorted by flip-risk: how well it finds the flipped ones. NumPy only."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from flipjax.metrics.decomposition import divide
from flipjax.metrics.statistics.selective import auroc, first_sums, sort_scores

DECILES = 10
"""Parts that ranked images are divided into."""
CHANCE = 1 / DECILES
"""Share of all flips in a decile that is drawn by chance."""
_ROUNDING = 1e-9
"""How far a ceiling must be above chance, so that a share of the distance is no matter of rounding."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """N images sorted by flip-risk, in S resamples of them; `metrics.quantities` names its properties.

    Images of equal risk share their mean flip share, so that their order does not matter. Decile d of a resample of K
    images holds the places d * K // 10 up to (d + 1) * K // 10.

    Example:
        >>> ranking = rank_images(np.array([0.0, 1.0, 0.5]), np.array([0.1, 0.3, 0.2]), np.ones((1, 3)))
        >>> ranking.risk_auroc.tolist(), ranking.top_decile_flip_share.round(3).tolist()
        ([1.0], [0.667])
    """

    flip: np.ndarray
    """float64 (N,), flip shares in order of risk."""
    risk: np.ndarray
    """float64 (N,), nats, ascending."""
    weights: np.ndarray
    """float64 (S, N), number of times that each resample holds each image."""
    ends_tie: np.ndarray
    """bool (N,), whether an image is the last one of its risk."""
    n_images_without_risk: np.ndarray
    """int64 (S,), number of images without rank, for want of a flip share or a risk."""

    @cached_property
    def ranked_images(self) -> np.ndarray:
        """The number of ranked images of each resample, int64 (S,)."""
        return self.weights.sum(1).astype(np.int64)

    @cached_property
    def decile_edges(self) -> np.ndarray:
        """The number of images before each decile, and of all, int64 (S, 11)."""
        return np.arange(DECILES + 1) * self.ranked_images[:, None] // DECILES

    @cached_property
    def decile_sizes(self) -> np.ndarray:
        """The number of images of each decile, int64 (S, 10)."""
        return np.diff(self.decile_edges, axis=1)

    @cached_property
    def cumulative_flips(self) -> np.ndarray:
        """The summed flip shares of the first k images, for k from 0 to the K of the largest resample: (S, K + 1).

        A resample of fewer images stays at its sum.
        """
        numbers = np.arange(int(self.ranked_images.max()) + 1)
        # The same numbers of images for each resample.
        rows = np.broadcast_to(numbers, (len(self.weights), len(numbers)))
        return first_sums(rows, self.weights, self.flip, self.ends_tie)

    @cached_property
    def flips_of_deciles(self) -> np.ndarray:
        """The summed flip shares of each decile, (S, 10)."""
        return np.diff(np.take_along_axis(self.cumulative_flips, self.decile_edges, axis=1), axis=1)

    @cached_property
    def flips(self) -> np.ndarray:
        """The summed flip shares of all images, (S,)."""
        return self.weights @ self.flip

    @property
    def risk_auroc(self) -> np.ndarray:
        """AUROC (S,) of flip-risk for images with a flip share above 1/2."""
        return auroc(self.risk, self.flip > 0.5, weights=self.weights)

    @property
    def risk_aurc(self) -> np.ndarray:
        """Area (S,) under the mean flip share of the images of least risk, over all numbers of them."""
        numbers = np.arange(1, self.cumulative_flips.shape[1])
        means = self.cumulative_flips[:, 1:] / numbers
        is_held = numbers <= self.ranked_images[:, None]
        return divide(means.sum(1, where=is_held), self.ranked_images)

    @property
    def risk_decile(self) -> np.ndarray:
        """Mean flip-risk (S, 10) of each decile, nats."""
        cumulative_risk = first_sums(self.decile_edges, self.weights, self.risk)
        return divide(np.diff(cumulative_risk, axis=1), self.decile_sizes)

    @property
    def flip_by_risk_decile(self) -> np.ndarray:
        """Mean flip share (S, 10) of each decile."""
        return divide(self.flips_of_deciles, self.decile_sizes)

    @property
    def top_decile_flip_share(self) -> np.ndarray:
        """Share (S,) of all flips in the decile of highest risk."""
        return divide(self.flips_of_deciles[:, -1], self.flips)

    @cached_property
    def top_decile_ceiling(self) -> np.ndarray:
        """Largest share (S,) of all flips that a decile can hold: the last of the images sorted by their flip share."""
        by_flip = np.argsort(self.flip)
        edges = self.decile_edges[:, -2:]
        flips_before_edges = first_sums(edges, self.weights.take(by_flip, axis=1), self.flip[by_flip])
        flips_of_last_decile = np.diff(flips_before_edges, axis=1)[:, 0]
        return divide(flips_of_last_decile, self.flips)

    @property
    def top_decile_of_ceiling(self) -> np.ndarray:
        """`top_decile_flip_share` (S,) on a scale from chance, 0, to `top_decile_ceiling`, 1."""
        has_room = self.top_decile_ceiling > CHANCE + _ROUNDING
        # NaN where the ceiling is chance.
        room = np.where(has_room, self.top_decile_ceiling - CHANCE, 0.0)
        return divide(self.top_decile_flip_share - CHANCE, room)


def rank_images(flip: np.ndarray, risk: np.ndarray, weights: np.ndarray) -> Ranking:
    """Sorts images by flip-risk.

    Args:
        flip: flip shares (n,), NaN without true foreground.
        risk: flip-risks (n,), NaN without predicted foreground.
        weights: (S, n), number of times that each resample holds each image.

    Returns:
        The images that have both, in order.
    """
    has_rank = np.flatnonzero(~np.isnan(flip) & ~np.isnan(risk))
    order, ends_tie = sort_scores(risk[has_rank])
    ranked = has_rank[order]
    # `take` returns contiguous rows, which sum twice as fast.
    weights_of_ranked = weights.take(ranked, axis=1)
    without_risk = weights.sum(1).astype(np.int64) - weights_of_ranked.sum(1).astype(np.int64)
    return Ranking(flip[ranked], risk[ranked], weights_of_ranked, ends_tie, without_risk)
