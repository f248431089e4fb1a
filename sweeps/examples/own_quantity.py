"""A quantity of MY own in a sweep: flipjax sweep --config sweeps/examples/own_quantity.py

How much of the flips is at the edges of objects? A quantity is a function of logits (B, H, W, C) and labels (B, H, W)
that returns two numbers of each image, (B,) each. Their sums over images make a ratio, with a column in results.csv, a
row in every group, and intervals. Eight members; `python sweeps/examples/own_quantity.py --workdir DIR` does the same.
"""

import sys

import jax

from flipjax.config import default_config


def edge_flip(logits, labels):
    """Returns the flipped pixels and all pixels of the true objects that lie within two pixels of their edge."""
    predicted, inside = logits.argmax(-1), labels > 0
    core = jax.lax.reduce_window(inside, True, jax.lax.bitwise_and, (1, 5, 5), (1, 1, 1), "SAME")
    edge = inside & ~core
    flipped = edge & (predicted > 0) & (predicted != labels)
    return flipped.sum((1, 2)), edge.sum((1, 2))


def get_config():
    config = default_config()
    config.pool.size = 32
    config.split.n_train, config.split.n_val, config.split.n_test = 256, 64, 128
    config.quantities = (edge_flip,)
    config.axes.rho = (0.5, 0.95)
    config.axes.seed = (0, 1, 2, 3)
    return config


if __name__ == "__main__":
    from flipjax.sweep.__main__ import main

    sys.exit(main(["--config", __file__, *sys.argv[1:]]))
