"""Every method of methods_grid with eight random draws of its strengths and of the learning rate.

Command: python sweeps/studies/make.py tuned_methods
Cost: 576 members in one program, then at most 480 of the winners.
"""

import numpy as np

import flipjax

METHODS = flipjax.configure("methods_grid").axes.method
DRAWS = 8
RULES = ("val_loss", "val_worst_group_iou", "val_loss_at_rho", "label_free_risk")
"""The rule of the untuned methods, and those that choose epoch and draw."""


def log_uniform(low, high):
    return lambda random: float(np.exp(random.uniform(np.log(low), np.log(high))))


def uniform(low, high):
    return lambda random: float(random.uniform(low, high))


RATE = log_uniform(5e-4, 1e-2)
STRENGTHS = {
    "dice_ce": {"dice": log_uniform(0.1, 10)},
    "group_dro": {"dro_step": log_uniform(1e-3, 0.3)},
    "group_dro_reference": {"dro_step": log_uniform(1e-3, 0.3)},
    "balanced+group_dro": {"dro_step": log_uniform(1e-3, 0.3)},
    "bg_cutmix": {"cutmix": uniform(0.1, 1)},
    "bg_swap": {"swap": uniform(0.1, 1)},
    "ema": {"ema": lambda random: 1 - log_uniform(1e-3, 0.1)(random)},
    "swa": {"swa": uniform(0.25, 0.9)},
    "jtt": {"jtt_epochs": lambda random: int(random.integers(1, 7)), "jtt_weight": log_uniform(2, 50)},
}
"""Ranges of the strengths; each holds the default within."""


def draws():
    """Returns the settings of every method, eight each, with the same eight learning rates for all."""
    random = np.random.default_rng(35)
    rates = [RATE(random) for _ in range(DRAWS)]
    return [
        {"method": method, "learning_rate": rate, **{name: draw(random) for name, draw in own.items()}}
        for method in METHODS
        for own in [STRENGTHS.get(method, {})]
        for rate in rates
    ]


def get_config():
    config = flipjax.configure("methods_grid")
    config.pool.size = 32
    config.split.n_train = 256
    config.split.n_test = 64
    config.train.selection = RULES
    config.intervene.scenes = "none"
    config.intervene.scores = "none"
    config.population.keep = "none"
    config.axes.rho = (0.9, 0.95)
    config.axes.seed = (0, 1, 2)
    config.axes.method = ("ce",)
    config.members = draws()
    return config
