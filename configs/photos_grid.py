"""The correlation grid on real photos: cut-outs of two classes pasted on two kinds of scenes, from a folder of yours.

Command: flipjax sweep --config photos_grid --config.pool.root=DIR
Cost: 18 members, 3 to 6 minutes on 2 cores for 1,200 cut-outs and 680 scenes.
Expected, on cats and dogs: rare Flip from 0.35 at rho 0.5 to 0.75 at rho 0.99 (sweeps/studies/photos_grid).
DIR has cutouts/<class>/NAME.jpg + NAME.png and scenes/<scene>/*; `flipjax data check DIR` says whether it
will do, and prints the command for any number of classes and scenes. `--config photos_grid:three` takes cat, dog and
horse of it, `photos_grid:five` cow and sheep, too: 9 members of 300 and of 250 training images; two members of three
animals for two epochs take 36 s of processor time (--config.axes.seed=0, --config.axes.rho=.5,.95
--config.train.epochs=2).
"""

from flipjax.config import default_config

ANIMALS = {"three": ("cat", "dog", "horse"), "five": ("cat", "cow", "dog", "horse", "sheep")}
TRAIN, VAL, TEST = {"three": 100, "five": 50}, 4, 20
"""Cut-outs of each animal in each part, of the 127 horses and 75 sheep among 900 photos of PASCAL VOC."""


def get_config(animals: str = ""):
    config = default_config()
    config.pool.name = "folder"
    config.split.n_train = 800
    config.train.epochs = 16
    # Of the training set's group shares: what can be known without group labels. The loss over balanced groups
    # rises while regions are still learnt, and at a high rho keeps one of the first epochs.
    config.train.selection = ("val_loss_at_rho", "val_loss")
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2)
    if animals:
        config.pool.classes = ANIMALS[animals]
        count = len(config.pool.classes)
        config.split.n_train, config.split.n_val, config.split.n_test = (
            count * TRAIN[animals],
            2 * count * VAL,
            2 * count * TEST,
        )
        config.axes.rho = (0.5, 0.8, 0.95)
    return config
