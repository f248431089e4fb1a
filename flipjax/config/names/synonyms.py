"""What other libraries call the keys of a configuration, for errors. Imports no JAX."""

from flipjax.config.sections import KEYS

SYNONYMS = {
    "arch": "model.name",
    "architecture": "model.name",
    "backbone": "model.name",
    "encoder": "model.name",
    "network": "model.name",
    "pretrained": "model.weights",
    "channels": "model.width",
    "filters": "model.width",
    "levels": "model.depth",
    "amp": "model.dtype",
    "mixed_precision": "model.dtype",
    "precision": "model.dtype",
    "l2": "train.weight_decay",
    "step_size": "train.learning_rate",
    "lr_schedule": "train.schedule",
    "lr_scheduler": "train.schedule",
    "scheduler": "train.schedule",
    "lr_warmup": "train.warmup",
    "warmup_epochs": "train.warmup",
    "warmup_steps": "train.warmup",
    "clip": "train.clip_norm",
    "grad_clip": "train.clip_norm",
    "gradient_clipping": "train.clip_norm",
    "max_grad_norm": "train.clip_norm",
    "optim": "train.optimizer",
    "optimiser": "train.optimizer",
    "optimizer": "train.optimizer",
    "batch": "train.batch_size",
    "max_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "early_stopping": "train.patience",
    "best_checkpoint": "train.selection",
    "checkpoint": "train.selection",
    "monitor": "train.selection",
    "save_best": "train.selection",
    "flip": "train.hflip",
    "horizontal_flip": "train.hflip",
    "color_jitter": "train.jitter",
    "colour_jitter": "train.jitter",
    "random_crop": "train.crop",
    "criterion": "train.loss",
    "algorithm": "axes.method",
    "correlation": "axes.rho",
    "random_state": "axes.seed",
    "dataset": "pool.name",
    "data": "pool.root",
    "path": "pool.root",
    "image_size": "pool.size",
    "img_size": "pool.size",
    "resolution": "pool.size",
    "gpus": "population.devices",
    "parallel": "population.map",
    "vmap": "population.map",
}
"""The keys that other libraries call so, by last name."""
_START = "flipjax.make_train(start=...), which starts from trained weights"
IN_PYTHON = {
    "fine_tune": _START,
    "fine_tuning": _START,
    "finetune": _START,
    "finetuning": _START,
    "init_from": _START,
}
"""What is no key but an argument in Python, by the name of a key that somebody may look for."""


def meant_key(last_name: str) -> str | None:
    """Returns the dotted home of the key that a last name of another library means; None if there is none.

    Example:
        >>> meant_key("early_stopping"), meant_key("image-size"), meant_key("width")
        ('train.patience', 'pool.size', None)
    """
    name = SYNONYMS.get(last_name.replace("-", "_").lower(), "")
    if name in KEYS:
        return name
    return None
