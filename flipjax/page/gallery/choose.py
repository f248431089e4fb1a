"""Chooses the test images that a page shows."""

import numpy as np
import pandas as pd

from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.scenes.flips import whole_pairs

PAIRS = 2
"""Counterfactual sets in a gallery: images of one object in all scenes."""
LEAST_FLIP = 0.1
"""The flip share above which a confident image is worth showing."""


def choose_images(
    decomposition: Decomposition,
    groups: np.ndarray | None = None,
    pairs: np.ndarray | None = None,
    *,
    riskiest: int = 6,
    typical: int = 6,
    confident: int = 0,
    paired: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses the images that a page shows, with the reason. Only a pair may repeat an image.

    Args:
        decomposition: one member's, of n images.
        groups: int (n,), or None; typical images alternate between groups.
        pairs: int (n,), the counterfactual set of each image or -1.
        riskiest: number of images with the highest flip-risk, in descending order.
        typical: number of images near the median flip-risk.
        confident: number of the most flipped images among the half with lower flip-risk, with a flip share above 0.1.
        paired: number of sets, largest change of flip share first; all their images have a flip-risk.

    Returns:
        Indices int64 (R,) and kinds (R,): 'riskiest', 'typical', 'flipped, but sure', or 'pair' and its number. Images
        without flip-risk or flip share are never chosen, so R may be smaller than requested.

    Example:
        >>> confusion = np.zeros((4, 3, 3), int)
        >>> confusion[:, 1, 1] = 10
        >>> four = Decomposition(confusion, np.array([1.0, 4.0, 3.0, 2.0]))
        >>> indices, kinds = choose_images(four, np.arange(4), riskiest=1, typical=2)
        >>> indices.tolist(), kinds.tolist()
        ([1, 2, 3], ['riskiest', 'typical', 'typical'])
    """
    risk = np.asarray(decomposition.flip_risk, np.float64)
    flip = np.asarray(decomposition.flip, np.float64)
    if groups is None:
        groups = np.zeros(len(risk), np.int64)
    if pairs is None:
        pairs = np.full(len(risk), -1)
    table = pd.DataFrame({"risk": risk, "flip": flip, "group": np.asarray(groups)})
    images = table.replace([-np.inf, np.inf], np.nan).dropna()
    highest = images.sort_values("risk", ascending=False, kind="stable").index[:riskiest]
    from_middle = (images["risk"] - images["risk"].median()).drop(highest)
    rest = images.loc[from_middle.abs().sort_values(kind="stable").index]
    # Sorting by rank within the group alternates between groups.
    near = rest.groupby("group").cumcount().sort_values(kind="stable").index[:typical]
    below = rest[(rest["flip"] > LEAST_FLIP) & (from_middle[rest.index] <= 0)].drop(near, errors="ignore").sort_index()
    blind = below.sort_values("flip", ascending=False, kind="stable").index[:confident]
    twins = _pairs(images["flip"], np.asarray(pairs))[:paired]
    kinds = ["riskiest"] * len(highest) + ["typical"] * len(near) + ["flipped, but sure"] * len(blind)
    for number, twin in enumerate(twins):
        kinds += [f"pair {number}"] * len(twin)
    return np.concatenate([highest, near, blind, twins.ravel()]).astype(np.int64), np.array(kinds, np.str_)


def _pairs(flip: pd.Series, pairs: np.ndarray) -> np.ndarray:
    """Returns sets of S images int64 (P, S), largest difference of flip share first; `flip` may lack images."""
    images = flip.index.to_numpy()
    sets = whole_pairs(pairs[images], size=whole_pairs(pairs).shape[1])
    change = np.ptp(flip.to_numpy()[sets], axis=1)
    return images[sets[np.argsort(-change, kind="stable")]]
