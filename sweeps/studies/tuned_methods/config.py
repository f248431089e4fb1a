"""The methods of methods_grid on small images, for `flipjax.tune`.

Command: python sweeps/studies/make.py tuned_methods
Cost: 576 members in one program, then at most 480 of the winners.
"""

import flipjax


def get_config():
    config = flipjax.configure("methods_grid")
    config.pool.size = 32
    config.split.n_train = 256
    config.split.n_test = 64
    config.train.selection = ("val_loss",)
    config.intervene.scenes = "none"
    config.intervene.scores = "none"
    config.population.keep = "none"
    config.axes.rho = (0.9, 0.95)
    config.axes.seed = (0, 1, 2)
    return config
