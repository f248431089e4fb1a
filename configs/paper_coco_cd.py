"""The paper's grid on COCO-CD: its U-Nets, recipe and methods at rho 0.5 and 0.95.

Command: python -m flipjax.sweep --config configs/paper_coco_cd.py --config.pool.root=DIR
DIR is the prepared pool. The ResNet-50 starts from ImageNet weights, once `python -m flipjax.models convert --from
resnet50.pth --to weights/resnet50` has made them; the other encoder: --config.model.name=smp_mit_b2
--config.model.weights=weights/mit_b2. From scratch: --config.model.weights=''.
Cost: for an 80 GB GPU (--dry_run estimates the memory); it has not been run here. Expected: paper, risk-decile chart.
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.name = "coco_cd"
    config.pool.size = 512
    config.split.n_train = 1668
    config.split.n_val = 200
    config.split.n_test = 500
    config.model.name = "smp_resnet50"
    config.model.weights = "weights/resnet50"
    config.model.dtype = "bfloat16"
    config.train.epochs = 200
    config.train.patience = 25
    config.train.batch_size = 8
    config.train.hflip = 0.5
    config.train.crop = 1.0
    config.train.jitter = 0.3
    config.axes.rho = (0.5, 0.95)
    config.axes.method = ("ce", "dice_ce", "group_dro", "bg_cutmix")
    config.axes.learning_rate = (1e-4,)
    # One member at a time fills a GPU, and a vmap over kernels is a slower, grouped convolution.
    config.population.width = 1
    return config
