"""Smoke test: two correlation levels, two seeds, a few epochs of a small U-Net on the drawn pool.

Command: flipjax sweep --config smoke
Cost: 4 members, 19 to 24 s on 2 cores, compilation included.
Expected: exit code 0 and a report; four epochs are too few to learn the task.
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.size = 32
    config.pool.objects = 160
    config.pool.scenes = 96
    config.split.n_train = 192
    config.split.n_val = 64
    config.split.n_test = 128
    config.train.epochs = 4
    config.axes.rho = (0.5, 0.95)
    config.axes.seed = (0, 1)
    return config
