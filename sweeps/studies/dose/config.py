"""Number of training images against rho, 1,024 steps for every member.

Command: python sweeps/studies/make.py dose
Cost: 120 members in five programs.
"""

from flipjax.config import default_config

STEPS = 1024


def get_config():
    config = default_config()
    config.pool.size = 32
    # So many that 2,048 images have distinct objects.
    config.pool.objects = 1160
    sizes = (128, 256, 512, 1024, 2048)
    epochs = {n: STEPS * config.train.batch_size // n for n in sizes}
    config.members = [{"split.n_train": n, "train.epochs": epochs[n], "train.patience": epochs[n]} for n in sizes]
    # The last epoch, since other rules would choose among 64 epochs or among 4.
    config.train.selection = ("last", "val_loss")
    config.intervene.scores = "none"
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2, 3)
    return config
