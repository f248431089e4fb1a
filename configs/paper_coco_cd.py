"""The paper's grid on COCO-CD: its recipe, encoders and methods at rho 0.5 and 0.95.

Command: flipjax data prepare coco_cd --coco_root COCO
         flipjax convert --from resnet50.pth --out weights/resnet50
         flipjax sweep --config paper_coco_cd
Cost: 8 members, 200 epochs at most, one GPU; not measured, for want of the archives and a GPU.
`--dry_run` estimates the memory for an 80 GB GPU.
Expected: the paper's ResNet-50 has an image-mean Flip of 0.098 at rho 0.95 with CE; not measured here.
resnet50.pth: torchvision's or timm's ImageNet weights. The other encoder: --config.model.name=smp_mit_b2
--config.model.weights=weights/mit_b2, converted from SegFormer's mit_b2.pth. From scratch: --config.model.weights=''.
Both rho train on the same number of photos, the largest that both allow (the paper: 1,668 at 0.95), and are tested on
the paper's own photos.

The paper's own training set at rho 0.95:
         flipjax data prepare coco_cd --coco_root COCO --rho 0.95
         flipjax sweep --config paper_coco_cd --config.pool.root=coco_cd/corr0.95
             --config.axes.rho='(0.95,)'
`flipjax evaluate --config paper_coco_cd ...` tests on them, too.
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.name = "coco_cd"
    config.pool.size = 512
    config.split.n_train = 0
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
    # One member at a time fills a GPU; a vmap over kernels would be a grouped convolution.
    config.population.width = 1
    return config
