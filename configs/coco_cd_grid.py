"""The correlation grid on COCO-CD: cats and dogs of COCO 2017, indoors and outdoors, as they were photographed.

Command: flipjax data prepare coco_cd --coco_root COCO
         flipjax sweep --config coco_cd_grid
Cost: 18 members; not measured, for want of the archives.
Expected: Flip in the rare groups and the gaps grow with rho (at 0.95 and 512 pixels the paper's ResNet-50 has an
image-mean Flip of 0.098 over all groups); not measured with this model.
COCO has train2017/, val2017/ and annotations/ with instances_*2017.json and stuff_*2017.json. Every rho trains on the
same number of photos, the largest that all of them allow, and is tested on the paper's own 500; in the paper's sets the
number of training photos changes with rho. `--split free` at the first command lets the sweep draw val and test.
"""

from flipjax.config import default_config


def get_config():
    config = default_config()
    config.pool.name = "coco_cd"
    config.pool.size = 64
    config.split.n_train = 0
    config.split.n_val = 200
    config.split.n_test = 500
    config.train.epochs = 30
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2)
    return config
