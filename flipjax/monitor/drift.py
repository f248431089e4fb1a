"""Whether scores still come as the reference scores did: a test that may look after every image, for ever.

A conformal test martingale: each score is ranked among the reference scores and all scores before it. While the stream
is exchangeable with the reference, the ranks are independent and uniform, whatever the distribution of the scores.
Capital is bet on them without borrowing, so that by Ville's inequality it ever reaches 1 / a with probability a at
most.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (conformal test martingales); Ville,
1939; the mixture over the times of change after Shiryaev and Roberts.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import betaln

BETS = np.array(
    [(0.8, 1.2), (0.6, 1.6), (0.4, 2.5), (1.2, 0.8), (1.6, 0.6), (2.5, 0.4), (0.6, 0.6), (1.8, 1.8)], np.float64
)
"""The densities that are bet on: Beta(a, b), for scores that rise, that fall, that spread and that draw together."""
_NORM = betaln(BETS[:, 0], BETS[:, 1])
_LEAST = 1e-12


class Capital(NamedTuple):
    """What the bets after so many images have, float64 (8,); 1 / (images + 1) is not bet yet."""

    images: int = 0
    bets: np.ndarray = np.zeros(len(BETS))

    @property
    def total(self) -> float:
        """All that there is: 1 at the start."""
        return 1 / (self.images + 1) + float(self.bets.sum())


def bet(capital: Capital, rank: float) -> Capital:
    """Returns the capital after one more rank in (0, 1): near 0 for a score higher than those before it.

    A change may come at any image t: 1 / (t (t + 1)) of the first capital waits for it, shared over the bets.

    Example:
        >>> bet(Capital(), 0.5).total < 1 < bet(Capital(), 0.001).total
        True
    """
    t = capital.images + 1
    p = min(max(rank, _LEAST), 1 - _LEAST)
    density = np.exp((BETS[:, 0] - 1) * np.log(p) + (BETS[:, 1] - 1) * np.log1p(-p) - _NORM)
    return Capital(t, (capital.bets + 1 / (t * (t + 1) * len(BETS))) * density)
