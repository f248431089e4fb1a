"""The benchmark flips-1: drawn blossoms on drawn grounds, the same bytes on every machine and version.

Command: flipjax sweep --config flips-1
Cost: 16 members of 480 steps; 9 took 3 minutes on 2 cores that other work shared.
Expected: Flip in the rare groups is 0.78 at rho 0.95, 0.10 with bg_swap (sweeps/benchmarks/flips-1).
flips-1:four has four classes on four grounds. `flipjax.data.benchmark("flips-1", rho=0.9)` gives the images of a member
to any framework. sweeps/benchmarks/flips-1 has a table of results and says how to add one.
"""

from flipjax.config import default_config

BLOSSOMS = ("thrift", "aster", "clover", "mallow")
GROUNDS = ("meadow", "pond", "dune", "scree")


def get_config(variant="two"):
    count = {"two": 2, "four": 4}[variant]
    config = default_config()
    config.pool.update(name="flips-1", classes=BLOSSOMS[:count], scene_kinds=GROUNDS[:count])
    config.split.update(n_train=256 * count, n_val=32 * count**2, n_test=100 * count**2)
    config.axes.rho = (0.5, 0.9, 0.95, 0.99) if count == 2 else (0.25, 0.5, 0.9, 0.95)
    config.axes.seed = (0, 1, 2, 3)
    return config
