"""The configuration that a user changes: a `ConfigDict` of all keys with their defaults, or with the paper's recipe.

Imports no JAX.
"""

from typing import Any

from flipjax.config.config_type import Config
from flipjax.config.sections import KEYS, SECTIONS


def default_config() -> Config:
    """Returns the locked default configuration, which files in `configs/` override.

    Example:
        >>> config = default_config()
        >>> config.axes.rho = (0.5, 0.8, 1.0)
        >>> config.train.epochs = 4
        >>> config.axes.rho, config.pool.name
        ((0.5, 0.8, 1.0), 'synthetic')
    """
    # Imported here because an audit reads no configuration.
    from ml_collections import ConfigDict

    sections: dict[str, Any] = {section: {} for section in SECTIONS}
    for key in KEYS.values():
        value = key.default
        if key.section == "axes":
            value = (key.default,)
        sections[key.section][key.field] = value
    # Empty sections take `config.axes.model.width = (8, 16)`.
    sections["axes"].update({key.section: {} for key in KEYS.values() if key.varies and key.section != "axes"})
    sections["members"] = ()
    sections["quantities"] = ()
    sections["axes"]["rho"] = (0.5, 0.95)
    config: Any = ConfigDict(sections, type_safe=False)
    config.lock()
    config.axes.unlock()
    return config


def set_paper_recipe(config: Config) -> None:
    """Sets the recipe, encoders and methods of the paper's code, and Sagawa's GroupDRO, at rho 0.5 and 0.95.

    Example:
        >>> config = default_config()
        >>> set_paper_recipe(config)
        >>> config.pool.size, config.axes.rho, [setting["model.name"] for setting in config.members]
        (512, (0.5, 0.95), ['smp_resnet50', 'smp_mit_b2'])
    """
    config.pool.size = 512
    config.model.dtype = "bfloat16"
    encoders = ("resnet50", "mit_b2")
    config.members = [{"model.name": f"smp_{name}", "model.weights": f"weights/{name}"} for name in encoders]
    config.train.update(epochs=200, patience=25, batch_size=8, learning_rate=1e-4)
    config.train.update(hflip=0.5, crop=1.0, crop_in="photo", jitter=0.3)
    methods = ("ce", "dice_ce", "group_dro_reference", "group_dro", "bg_cutmix_reference")
    config.axes.update(rho=(0.5, 0.95), method=methods)
    # One member fills a GPU, and a vmap over kernels would become a grouped convolution.
    config.population.width = 1
