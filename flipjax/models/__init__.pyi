"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .networks.registry import MODELS as MODELS
from .networks.registry import build_frozen as build_frozen
from .networks.registry import build_large as build_large
from .networks.registry import build_small as build_small
from .networks.torch_networks import TorchUNet as TorchUNet
