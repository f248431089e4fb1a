"""In which scene each image of a class stands, rank by rank, for any number of classes and scenes. Host numpy only."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from flipjax.groups import Groups


def scene_orders(groups: Groups) -> list[list[list[int]]]:
    """Returns each class's usual scenes, and each one's others, in the order in which ranks pass through them.

    At each step the classes stand in scenes as different as can be. So if each scene is usual for as many classes, each
    has as many of them at every step (Koenig: a regular bipartite graph is a union of perfect matchings).
    """
    usual = np.array([[scene in own for scene in range(groups.scenes)] for own in groups.usual])
    # Standing in a scene as the second class costs more. Roots decide ties, by any version of SciPy alike.
    roots = np.sqrt(np.arange(groups.count)).reshape(groups.classes, -1, 1)
    costs = np.arange(groups.classes) + 1e-3 * (roots % 1)
    sides = []
    for rest in (usual, ~usual):
        orders: list[list[int]] = [[] for _ in groups.usual]
        while rest.any():
            places = np.where(rest[..., None], costs, groups.count**2).reshape(groups.classes, -1)
            for y, column in zip(*linear_sum_assignment(places), strict=True):
                scene = int(column) // groups.classes
                if rest[y, scene]:
                    orders[y].append(scene)
                    rest[y, scene] = False
        sides.append(orders)
    return sides


def take_places(groups: Groups, m: int, n: int) -> np.ndarray:
    """Returns where ranks 0..n-1 of each class stand if the first m are common, int (F, 3, n): scene, slot and turn.

    Slots of a scene are its images', and turns those of one class alone: common ones are counted from the first rank,
    rare ones from the last. So each keeps its place when rho makes more ranks common, and two classes change places.
    """
    ranks = np.arange(n)
    common = ranks < m
    steps = np.where(common, ranks, n - 1 - ranks)
    places = np.zeros((groups.classes, 3, n), np.int64)
    for y, (usual, others) in enumerate(zip(*scene_orders(groups), strict=True)):
        scene = np.where(common, np.take(usual, steps, mode="wrap"), np.take(others, steps, mode="wrap"))
        places[y, ::2] = scene, steps // np.where(common, len(usual), len(others))
    for scene in range(groups.scenes):
        here = places[:, 0] == scene
        first, last = ((here & side).T for side in (common, ~common))
        places[:, 1].T[first] = np.arange(first.sum())
        places[:, 1].T[last] = n * groups.classes // groups.scenes + np.arange(-last.sum(), 0)
    return places
