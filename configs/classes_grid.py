"""Flip and the pull of the scene at several levels of rho, with four classes and four scenes.

Command: flipjax sweep --config classes_grid
Cost: 20 members of 720 steps; a step takes 24 ms of a core (of two classes 22): 5.6 min of processor time in all.
Expected: Flip in the rare groups rises from 0.21 at rho 0.25 to 0.82 at 0.95, and the pull of the scene from 0.36, near
chance (1/3), to 0.94 (sweeps/studies/classes).
Each class has one usual scene. In classes_grid:many, two classes share two usual scenes and the other two classes the
other two, as in Spawrious.
"""

from flipjax.config import default_config

USUAL = {"own": (), "many": (("land", "water"), ("land", "water"), ("desert", "snow"), ("desert", "snow"))}


def get_config(variant="own"):
    config = default_config()
    config.pool.classes = ("mossling", "ripplet", "duneling", "frostlet")
    config.pool.scene_kinds = ("land", "water", "desert", "snow")
    config.pool.usual = USUAL[variant]
    config.split.n_train = 768
    config.split.n_test = 384
    config.axes.rho = (0.5, 0.8, 0.95, 0.99) if variant == "many" else (0.25, 0.5, 0.8, 0.95, 0.99)
    config.axes.seed = (0, 1, 2, 3)
    return config
