"""COCO-CD (cats and dogs of COCO 2017, indoors and outdoors): the correlation grid; as coco_cd:paper, the paper's grid.

Command: flipjax data prepare coco_cd --coco_root COCO (or --download)
         flipjax sweep --config coco_cd
Cost: 18 members; not measured, because the archives were not available. coco_cd:paper: 20 members of at
most 200 epochs, on one 80 GB GPU; not measured either.
Expected: Flip in the rare groups and the gaps grow with rho (at 0.95 and 512 pixels the paper's ResNet-50 has an
image-mean Flip of 0.098 over all groups with CE); not measured here.
Every rho trains on the same number of photos, the largest that all of them allow (the paper: 1,668 at 0.95), and is
tested on the paper's own 500. With `--split free` in the first command the sweep draws validation and test images.

The paper's recipe, with both encoders and all methods at rho 0.5 and 0.95:
         flipjax convert --from resnet50-19c8e357.pth --out weights/resnet50
         flipjax convert --from mit_b2.pth --out weights/mit_b2
         flipjax sweep --config coco_cd:paper
flipjax/PAPER.md describes these weights and the remaining differences. One encoder, trained from scratch:
--config.members='[{"model.name": "smp_resnet50"}]'.

The paper's own training set at rho 0.95, also for `flipjax evaluate --config coco_cd:paper ...`:
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
