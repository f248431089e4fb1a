"""Clusters of images, such as the slices of a patient: read as a user asks, or guessed from the images' names.

Images of one cluster are no independent observations, so intervals and tests resample whole clusters.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from flipjax.audit.formats.problems import AuditError
from flipjax.audit.metadata.user_tables import match_names
from flipjax.support.terminal import listed

BEGINNINGS = (r"^(.+)/", r"^(.+[^0-9])[0-9]+$", r"^(.+_)[^_]+$")
"""Patterns of a beginning that a cluster's names share: a folder, or all before a last number or underscore."""
MOST_DIFFERENT = 0.5
"""Clusters are likely where names have at most this many different beginnings, as a fraction of the names."""


def read_clusters(clusters: str, table: pd.DataFrame | None, names: Sequence[str]) -> np.ndarray:
    """Returns the cluster of each image, int64 (n,), from a column of their table or a match in its name.

    Raises:
        AuditError: neither exists, an image has none, or all images are in one cluster.
    """
    if table is not None and clusters in table:
        texts = table[clusters]
        without = texts.index[texts == ""].tolist()
        if without:
            raise AuditError(f"--clusters: expected a cluster for each image, found none for {listed(without)}")
    else:
        columns = None
        if table is not None:
            columns = [*map(str, table)]
        texts = match_names(clusters, names, option="--clusters", columns=columns)
    cluster_of_image, present = pd.factorize(np.array(texts, object), sort=True)
    if len(present) < 2:
        raise AuditError(f"--clusters: expected at least two clusters, which are resampled, found {listed(present)}")
    return cluster_of_image.astype(np.int64)


def fact_on_restarting(clusters: np.ndarray, groups: np.ndarray) -> str:
    """Returns a warning if most clusters lie in several groups, as patients do that are numbered anew at each site.

    Args:
        clusters: the cluster of each image, int (n,).
        groups: the group of each image, int (n,).

    Example:
        >>> fact_on_restarting(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))[:32]
        '2 of 2 clusters lie in several g'
    """
    pairs = np.unique(np.stack([clusters, groups], axis=1), axis=0)
    groups_of_cluster = np.unique(pairs[:, 0], return_counts=True)[1]
    several = int((groups_of_cluster > 1).sum())
    if several <= MOST_DIFFERENT * len(groups_of_cluster):
        return ""
    return (
        f"{several} of {len(groups_of_cluster)} clusters lie in several groups: if their numbers begin anew in each "
        "group, they are not the same patients; make a column that joins both."
    )


def likely_clusters(names: Sequence[str], *, advice: str = "pass --clusters '{pattern}'") -> str:
    """Returns a warning if images share the beginnings of their names, as slices of a patient do; else nothing.

    Args:
        names: of the images.
        advice: how a caller names clusters, with {pattern} in place of an expression that finds them in names.

    Example:
        >>> likely_clusters([f"p{patient}_{k}" for patient in range(3) for k in range(4)])[:57]
        "12 names have 3 beginnings, such as 'p0_': if these are p"
        >>> likely_clusters(["a", "b", "c"]), likely_clusters(["i1", "i2", "i3"])
        ('', '')
    """
    for pattern in BEGINNINGS:
        matches = [re.search(pattern, name) for name in names]
        beginnings = [match[1] for match in matches if match]
        different = len({*beginnings})
        if len(beginnings) == len(names) and 2 <= different <= MOST_DIFFERENT * len(names):
            return (
                f"{len(names)} names have {different} beginnings, such as {beginnings[0]!r}: if these are patients or "
                f"films, {advice.format(pattern=pattern)}, as intervals and tests else take images for independent."
            )
    return ""
