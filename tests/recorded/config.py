"""The run that tables and pages are tested on: two methods, two levels of rho, two seeds, two selection rules."""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.size = 24
    config.pool.objects = 72
    config.pool.scenes = 48
    config.split.n_train = 96
    config.split.n_val = 24
    config.split.n_test = 48
    config.train.epochs = 3
    config.train.selection = ("val_loss", "val_flip")
    config.axes.rho = (0.5, 0.95)
    config.axes.seed = (0, 1)
    config.axes.method = ("ce", "bg_swap")
    return config
