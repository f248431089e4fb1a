"""Images sorted by flip-risk: how well it finds the flipped ones. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flipjax.metrics.decomposition import divide
from flipjax.metrics.selective import auroc, first_sums, sort_scores

DECILES = 10
"""Parts that ranked images are divided into."""


class Ranking(NamedTuple):
    """Statistics of S resamples of images sorted by flip-risk; see `flipjax.metrics.quantities`."""

    risk_auroc: np.ndarray
    """(S,)."""
    risk_aurc: np.ndarray
    """(S,)."""
    top_decile_flip_share: np.ndarray
    """(S,)."""
    top_decile_ceiling: np.ndarray
    """(S,)."""
    top_decile_of_ceiling: np.ndarray
    """(S,)."""
    risk_decile: np.ndarray
    """(S, 10), nats."""
    flip_by_risk_decile: np.ndarray
    """(S, 10)."""
    n_images_without_risk: np.ndarray
    """int64 (S,)."""


def rank_images(flip: np.ndarray, risk: np.ndarray, counts: np.ndarray) -> Ranking:
    """Sorts images by flip-risk.

    Images of equal risk share their mean flip share, so that their order does not matter.

    Args:
        flip: flip shares (N,), NaN without true foreground.
        risk: flip-risks (N,), NaN without predicted foreground.
        counts: (S, N), how often each resample holds each image.
    """
    ranked_images = np.flatnonzero(~np.isnan(flip) & ~np.isnan(risk))
    order, ends = sort_scores(risk[ranked_images])
    ranked_images = ranked_images[order]
    flip = flip[ranked_images]
    risk = risk[ranked_images]
    # Contiguous rows, along which sums run: twice as fast as what indexing returns.
    weights = counts.take(ranked_images, axis=1)
    ranked = weights.sum(1).astype(np.int64)
    edges = np.arange(DECILES + 1) * ranked[:, None] // DECILES
    sizes = np.diff(edges, axis=1)
    most = int(ranked.max())
    numbers = np.broadcast_to(np.arange(most + 1), (len(ranked), most + 1))
    sums = first_sums(numbers, weights, flip, ends)
    flips = np.diff(np.take_along_axis(sums, edges, axis=1), axis=1)
    by_flip = np.argsort(flip)
    largest = np.diff(first_sums(edges[:, -2:], weights.take(by_flip, axis=1), flip[by_flip]), axis=1)[:, 0]
    total = weights @ flip
    share = divide(flips[:, -1], total)
    ceiling = divide(largest, total)
    above = np.where(ceiling > 1 / DECILES + 1e-9, ceiling - 1 / DECILES, 0.0)
    curve = sums[:, 1:] / numbers[:, 1:]
    return Ranking(
        risk_auroc=auroc(risk, flip > 0.5, weights=weights),
        risk_aurc=divide(curve.sum(1, where=numbers[:, 1:] <= ranked[:, None]), ranked),
        top_decile_flip_share=share,
        top_decile_ceiling=ceiling,
        top_decile_of_ceiling=divide(share - 1 / DECILES, above),
        risk_decile=divide(np.diff(first_sums(edges, weights, risk), axis=1), sizes),
        flip_by_risk_decile=divide(flips, sizes),
        n_images_without_risk=counts.sum(1).astype(np.int64) - ranked,
    )
