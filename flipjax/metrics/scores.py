"""Scores that logits alone give an image, in one pass: the label-free rivals of flip-risk."""

from __future__ import annotations

from typing import Any

import jax

from flipjax.metrics import checks
from flipjax.metrics.checks import Options
from flipjax.metrics.classes import background_classes
from flipjax.metrics.kernels import foreground_means

LOGIT_SCORES = ("flip_risk", "max_softmax", "margin", "energy", "p_norm")
NORM = 5
"""The p of the p-norm: its authors tune it on labelled images; here it is fixed."""


def logit_scores(
    logits: Any,
    *,
    background: int | tuple[int, ...] | None = 0,
    spatial_ndim: int = 2,
    kind: str = "logits",
    channels: str = "last",
    p: int = NORM,
) -> dict[str, jax.Array]:
    """Returns the scores of each image that its logits give, means over the predicted foreground: high expects errors.

    - `flip_risk`: the entropy of the foreground classes, as `flipjax.metrics.flip_risk`.
    - `max_softmax`: 1 less the largest probability, over all classes (Hendrycks and Gimpel, arXiv 1610.02136).
    - `margin`: 1 less the gap between the two largest probabilities (Scheffer et al., 2001).
    - `energy`: minus the logarithm of the summed exponentials (Liu et al., arXiv 2010.03759); NaN for probabilities.
    - `p_norm`: minus the largest logit over the p-norm of all, the logits less their mean (Cattelan and Silva, arXiv
      2305.15508).

    Args:
        logits: (..., *spatial, C) floating point of any precision; computed in float32.
        background: the class that is background, several in a tuple, or None: the means are then over all pixels.
        spatial_ndim: 2 for images, 3 for volumes.
        kind: `logits` or `probabilities`.
        channels: `last`, or `first` for (..., C, *spatial).
        p: of the norm, an integer above 0.

    Returns:
        (...) float32 by name; NaN for an image without predicted foreground, or with a NaN logit. Gaps between logits
        above 128 count as 128.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: rank, C, background, p or values that do not fit.

    Example:
        >>> import numpy as np
        >>> scores = logit_scores(np.log(np.array([[[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]])))
        >>> {name: round(score.item(), 3) for name, score in scores.items()}
        {'flip_risk': 0.662, 'max_softmax': 0.5, 'margin': 0.8, 'energy': 0.0, 'p_norm': -0.901}
    """
    options = Options(background_classes(background), spatial_ndim=spatial_ndim, kind=kind, channels=channels)
    scores = checks.check_scores(logits, options)
    if not isinstance(p, int) or p < 1:
        raise ValueError(f"p: expected an integer above 0, found {p!r}.")
    return dict(zip(LOGIT_SCORES, foreground_means(scores, options, p=p), strict=True))
