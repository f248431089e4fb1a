"""COCO-CD, cats and dogs of COCO 2017, indoors and outdoors: the correlation grid, and as coco_cd:paper the paper's.

Command: flipjax data prepare coco_cd --coco_root COCO (or --download)
         flipjax sweep --config coco_cd
Cost: 18 members; not measured, for want of the archives. coco_cd:paper: 10 members, 200 epochs at most, one GPU; not
measured, either; `--dry_run` estimates the memory for an 80 GB GPU.
Expected: Flip in the rare groups and the gaps grow with rho (at 0.95 and 512 pixels the paper's ResNet-50 has an
image-mean Flip of 0.098 over all groups with CE); not measured here.
COCO has train2017/, val2017/ and annotations/ with instances_*2017.json and stuff_*2017.json. Every rho trains on the
same number of photos, the largest that all of them allow (the paper: 1,668 at 0.95), and is tested on the paper's own
500. `--split free` at the first command lets the sweep draw val and test.

The paper's recipe, encoders and methods at rho 0.5 and 0.95:
         flipjax convert --from resnet50-19c8e357.pth --out weights/resnet50
         flipjax sweep --config coco_cd:paper
resnet50-19c8e357.pth is torchvision's first ImageNet weights; its SHA-256 begins with these digits. The other encoder:
--config.model.name=smp_mit_b2 --config.model.weights=weights/mit_b2, converted from SegFormer's mit_b2.pth. From
scratch: --config.model.weights=''. flipjax/PAPER.md lists what still differs from the paper's code.

The paper's own training set at rho 0.95, on which `flipjax evaluate --config coco_cd:paper ...` tests, too:
         flipjax data prepare coco_cd --coco_root COCO --rho 0.95
         flipjax sweep --config coco_cd:paper --config.pool.root=coco_cd/corr0.95
             --config.axes.rho='(0.95,)'
"""

from flipjax.config import default_config, set_paper_recipe


def get_config(variant="grid"):
    config = default_config()
    config.pool.name = "coco_cd"
    config.split.n_train = 0
    config.split.n_val = 200
    config.split.n_test = 500
    {"grid": set_grid, "paper": set_paper_recipe}[variant](config)
    return config


def set_grid(config):
    config.pool.size = 64
    config.train.epochs = 30
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2)
