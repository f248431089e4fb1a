"""Losses, samplers, augmentations and mitigations compared at four levels of rho.

Command: flipjax sweep --config methods_grid
Cost: 240 members in one program, about 117 minutes of processor time.
Expected: cross-entropy flips 0.02 of the rare groups at rho 0.5. At 0.99 background swap lowers Flip there by 0.88 and
balanced batches by 0.26 (sweeps/studies/methods_grid). Exit code 1: the reference's GroupDRO diverges at rho 0.5.
All members use the paper's augmentation (mirror, random resized crop, colour jitter). All selection rules are stored;
tables show the first.
"""

from flipjax.config import SELECTIONS, default_config


def get_config():
    config = default_config()
    config.pool.size = 40
    config.train.epochs = 40
    config.train.crop = 1.0
    config.train.jitter = 0.3
    config.train.selection = SELECTIONS
    config.axes.rho = (0.5, 0.9, 0.95, 0.99)
    config.axes.seed = (0, 1, 2, 3, 4)
    config.axes.method = (
        "ce",
        "dice_ce",
        "group_dro",
        "group_dro_reference",
        "balanced",
        "balanced+group_dro",
        "bg_cutmix",
        "bg_swap",
        "ema",
        "swa",
        "dfr",
        "jtt",
    )
    return config
