"""The networks as modules of PyTorch, under whose names their weights are stored. Needs PyTorch."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

try:
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    needed = f"model.torch() and TorchUNet: expected PyTorch, found no {error.name}; pip install torch"
    raise ModuleNotFoundError(needed, name=error.name) from None

from flipjax.config import ConfigError, ModelSpec

TorchModule: TypeAlias = nn.Module
"""A network in PyTorch."""
SMP_ENCODERS = {"smp_resnet50": "resnet50", "smp_mit_b2": "mit_b2"}
"""Encoders of `segmentation_models_pytorch.Unet` by the names of the networks that equal it."""


class TorchUNet(nn.Module):
    """The small U-Net in PyTorch: images (B, 3, H, W) in [0, 1] to logits (B, classes, H, W).

    Args:
        num_classes: classes, the background among them.
        width: channels at full resolution, doubled at each further level.
        depth: levels; 2**(depth - 1) divides H and W.
        norm: `batch` or `none`.

    Example:
        >>> TorchUNet(3, width=4, depth=2)(torch.zeros(5, 3, 16, 24)).shape
        torch.Size([5, 3, 16, 24])
    """

    def __init__(self, num_classes: int, *, width: int = 8, depth: int = 3, norm: str = "batch"):
        """Draws the weights as PyTorch does, in training mode."""
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        into = [3, *widths[:-1]]
        self.encoder = nn.ModuleList(_block(i, o, norm=norm) for i, o in zip(into, widths, strict=True))
        levels = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.decoder = nn.ModuleList(_block(deep + skip, skip, norm=norm) for deep, skip in levels)
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (B, 3, H, W) to logits (B, classes, H, W)."""
        hidden = images
        skips = []
        for level, encode in enumerate(self.encoder):
            if level:
                hidden = functional.max_pool2d(hidden, 2)
            hidden = encode(hidden)
            skips.append(hidden)
        for decode, skip in zip(self.decoder, skips[-2::-1], strict=True):
            hidden = decode(torch.cat([functional.interpolate(hidden, scale_factor=2.0), skip], dim=1))
        return self.head(hidden)


def _block(inputs: int, outputs: int, *, norm: str) -> nn.Sequential:
    """Returns two convolutions of 3 x 3 pixels, each with its norm and a ReLU; without norms they have biases."""
    layers = []
    for channels in (inputs, outputs):
        layers.append(nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=norm == "none"))
        if norm == "none":
            layers.append(nn.Identity())
        else:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def with_weights(arrays: Mapping[str, np.ndarray], spec: ModelSpec, *, num_classes: int) -> TorchModule:
    """Returns a network as a module of PyTorch in evaluation mode, with copies of a `Model.state_dict`.

    Raises:
        ConfigError, ModuleNotFoundError: as `build_torch`.
    """
    module = build_torch(spec, num_classes=num_classes)
    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return module.eval()


def build_torch(spec: ModelSpec, *, num_classes: int) -> TorchModule:
    """Returns a network as a fresh module of PyTorch, whose `state_dict` has the names of `Model.state_dict`.

    Raises:
        ConfigError: the network has no such module.
        ModuleNotFoundError: `segmentation_models_pytorch` is missing, which makes the `smp_*` networks.

    Example:
        >>> build_torch(ModelSpec(width=4, depth=1), num_classes=3).head.weight.shape
        torch.Size([3, 4, 1, 1])
    """
    if spec.title == "unet":
        return TorchUNet(num_classes, width=spec.width, depth=spec.depth, norm=spec.norm)
    if spec.title not in SMP_ENCODERS:
        expected = f"one of {', '.join(['unet', *SMP_ENCODERS])}, which have a module of PyTorch"
        raise ConfigError("model.torch()", expected, spec.title)
    try:
        import segmentation_models_pytorch as smp  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        needed = f"expected segmentation_models_pytorch for {spec.title}, found no {error.name}"
        advice = "pip install segmentation-models-pytorch"
        raise ModuleNotFoundError(f"model.torch(): {needed}; {advice}", name=error.name) from None
    return smp.Unet(SMP_ENCODERS[spec.title], encoder_weights=None, classes=num_classes)
