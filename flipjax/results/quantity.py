"""What is said of a quantity, and the units that there are."""

import math
from typing import NamedTuple


class Quantity(NamedTuple):
    """One quantity: `better` is 'up', 'down' or '' where neither is; `unit` is one of RANGES.

    `across` says that it compares groups, so that a group alone has none.
    """

    key: str
    title: str
    unit: str
    better: str
    meaning: str
    across: bool = False


RANGES = {
    "share": (0.0, 1.0),
    "difference of shares": (-1.0, 1.0),
    "nats": (0.0, math.inf),
    "images": (0.0, math.inf),
}
"""Units, and the least and the largest value that a quantity of it can have."""
