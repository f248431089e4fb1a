"""Losses, samplers, augmentations and mitigations compared at four levels of rho.

Command: flipjax sweep --config methods_grid
Cost: 240 members in one program, about 100 minutes of processor time.
Expected: at rho 0.5 Flip is below 0.1 (10 of 10 members of five methods). With ten epochs balanced batches and JTT
lower Flip in the rare groups by 0.4 to 0.5 at rho 0.95 against cross-entropy; Dice, background CutMix and averages do
not (sweeps/studies/methods_grid). Exit code 1, because the reference's GroupDRO diverges at rho 0.5.
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
