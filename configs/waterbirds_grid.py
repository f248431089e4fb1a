"""The correlation grid on Waterbirds-Seg: birds of CUB-200-2011 on scenes of Places365, tested in both scenes.

Command: flipjax data prepare waterbirds_seg --cub_dir CUB_200_2011 --places_dir places365
         flipjax sweep --config waterbirds_grid
Cost: 18 members; not measured, for want of the archives.
Expected: Flip in the rare groups and the gaps grow with rho (at 0.95 and 512 pixels the paper's ResNet-50 has an
image-mean Flip of 0.142 over all groups); not measured with this model.
Every rho trains on the same 2,400 birds (the paper: 2,458 at 0.95, 2,460 at 0.5) and is tested on 642 of CUB's test
birds of each class, each in both scenes.
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.name = "waterbirds_seg"
    config.pool.size = 64
    config.split.n_train = 2400
    config.split.n_val = 296
    config.split.n_test = 2568
    config.train.epochs = 30
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2)
    return config
