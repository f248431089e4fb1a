"""Images sorted by flip-risk: how well it finds the flipped ones. NumPy only."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from flipjax.metrics.decomposition import divide
from flipjax.metrics.selective import auroc, first_sums, sort_scores

DECILES = 10
"""Parts that ranked images are divided into."""
_ROUNDING = 1e-9
"""How far above chance a ceiling must be to leave room."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """N images sorted by flip-risk, in S resamples. `flipjax.metrics.quantities` defines its rates.

    Images of equal risk share their mean flip share, so that their order does not matter.

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
        """The places at which deciles begin, and the end of the last, int64 (S, 11)."""
        return np.arange(DECILES + 1) * self.ranked_images[:, None] // DECILES

    @cached_property
    def decile_sizes(self) -> np.ndarray:
        """The number of images of each decile, int64 (S, 10)."""
        return np.diff(self.decile_edges, axis=1)

    @cached_property
    def cumulative_flips(self) -> np.ndarray:
        """The summed flip shares of the first k images, for k from 0 to the most ranked images K: (S, K + 1)."""
        first = np.arange(int(self.ranked_images.max()) + 1)
        places = np.broadcast_to(first, (len(self.weights), len(first)))
        return first_sums(places, self.weights, self.flip, self.ends_tie)

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
        first = np.arange(1, self.cumulative_flips.shape[1])
        means = self.cumulative_flips[:, 1:] / first
        return divide(means.sum(1, where=first <= self.ranked_images[:, None]), self.ranked_images)

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
        """Largest share (S,) of all flips that a decile can hold: of the images sorted by their flip share."""
        by_flip = np.argsort(self.flip)
        last_decile = self.decile_edges[:, -2:]
        cumulative_flips = first_sums(last_decile, self.weights.take(by_flip, axis=1), self.flip[by_flip])
        return divide(np.diff(cumulative_flips, axis=1)[:, 0], self.flips)

    @property
    def top_decile_of_ceiling(self) -> np.ndarray:
        """`top_decile_flip_share` (S,) on a scale from chance, 0, to `top_decile_ceiling`, 1."""
        chance = 1 / DECILES
        room = np.where(self.top_decile_ceiling > chance + _ROUNDING, self.top_decile_ceiling - chance, 0.0)
        return divide(self.top_decile_flip_share - chance, room)


def rank_images(flip: np.ndarray, risk: np.ndarray, counts: np.ndarray) -> Ranking:
    """Sorts images by flip-risk.

    Args:
        flip: flip shares (n,), NaN without true foreground.
        risk: flip-risks (n,), NaN without predicted foreground.
        counts: (S, n), number of times that each resample holds each image.
    """
    has_rank = np.flatnonzero(~np.isnan(flip) & ~np.isnan(risk))
    order, ends_tie = sort_scores(risk[has_rank])
    ranked = has_rank[order]
    # `take` returns contiguous rows, which sum twice as fast.
    weights = counts.take(ranked, axis=1)
    without_risk = counts.sum(1).astype(np.int64) - weights.sum(1).astype(np.int64)
    return Ranking(flip[ranked], risk[ranked], weights, ends_tie, without_risk)
