"""The correlation grid on real photos: cut-outs of two classes pasted on two kinds of scenes, from a folder of yours.

Command: flipjax sweep --config photos_grid --config.pool.root=DIR
Cost: 18 members, 3 to 6 minutes on 2 cores for 1,200 cut-outs and 680 scenes.
Expected, on cats and dogs: rare Flip from 0.35 at rho 0.5 to 0.75 at rho 0.99 (sweeps/studies/photos_grid).
DIR has cutouts/<class>/NAME.jpg + NAME.png and scenes/<scene>/*; `flipjax data check DIR` says whether it
will do.
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.name = "folder"
    config.split.n_train = 800
    config.train.epochs = 16
    # Of the training set's group shares: what can be known without group labels. The loss over balanced groups
    # rises while regions are still learnt, and at a high rho keeps one of the first epochs.
    config.train.selection = ("val_loss_at_rho", "val_loss")
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2)
    return config
