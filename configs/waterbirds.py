"""Waterbirds-Seg (CUB-200-2011 birds on Places365 scenes): the correlation grid; as waterbirds:paper, the paper's grid.

Command: flipjax data prepare waterbirds_seg --cub_dir CUB_200_2011 --places_dir places365 (or --download)
         flipjax sweep --config waterbirds
Cost: 18 members; not measured, because the archives were not available. waterbirds:paper: 20 members of at
most 60,000 steps of 8 images, on one 80 GB GPU; not measured either.
Expected: Flip in the rare groups and the gaps grow with rho (at 0.95 and 512 pixels the paper's ResNet-50 has an
image-mean Flip of 0.142 over all groups with CE); not measured here.
Every rho trains on the same 2,400 birds (the paper: 2,458 at 0.95, 2,460 at 0.5) and is tested on 642 of CUB's test
birds of each class, each in both scenes.

The paper's recipe, with both encoders and all methods at rho 0.5 and 0.95:
         flipjax convert --from resnet50-19c8e357.pth --out weights/resnet50
         flipjax convert --from mit_b2.pth --out weights/mit_b2
         flipjax sweep --config waterbirds:paper
flipjax/PAPER.md describes these weights and the remaining differences. One encoder, trained from scratch:
--config.members='[{"model.name": "smp_resnet50"}]'.

The paper's own test images (2,568, each bird in one scene) and 2,456 of its 2,458 training images at rho 0.95, also for
`flipjax evaluate --config waterbirds:paper --config.pool.root=NAME ...`:
         flipjax data prepare waterbirds_seg --cub_dir CUB_200_2011 --places_dir places365
             --manifest metadata_corr0.95.csv
         flipjax sweep --config waterbirds:paper --config.pool.root=NAME (as `prepare` prints it)
             --config.axes.rho='(0.95,)' --config.split.n_train=0
"""

from flipjax.config import default_config, set_paper_recipe


def get_config(variant="grid"):
    config = default_config()
    config.pool.name = "waterbirds_seg"
    config.split.n_train = 2400
    config.split.n_val = 296
    config.split.n_test = 2568
    {"grid": set_grid, "paper": set_paper_recipe}[variant](config)
    return config


def set_grid(config):
    config.pool.size = 64
    config.train.epochs = 30
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2)
