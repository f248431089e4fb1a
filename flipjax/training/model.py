"""A trained network as a pure function of images, with conversion to files, Flax and PyTorch."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flipjax import metrics
from flipjax.backend.compiler import program
from flipjax.config import Experiment, ModelSpec
from flipjax.groups import Groups
from flipjax.models import weights
from flipjax.models.weights import Weights, WeightsError, draw_weights, overlay
from flipjax.support.files import sha256
from flipjax.training.network import logits_of, model_of

ABOUT = "flipjax_model"
BATCH = 16
"""Batch size; equals a sweep's evaluation batch for images up to 256 pixels, so that results agree bit for bit."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["weights"], meta_fields=["spec", "class_names", "size"]
)
@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A network and its weights: a pytree whose leaves are the weights, callable as a pure function.

    Attributes:
        weights: parameters and running statistics.
        spec: of the network.
        class_names: C names, background first.
        size: side of the training images, in pixels.

    Example:
        >>> spec = ModelSpec(width=4, depth=1)
        >>> model = Model(draw_weights(jax.random.key(0), spec, 3), spec, ("background", "cat", "dog"), 16)
        >>> model(jnp.zeros((2, 16, 24, 3))).shape, model.predict(np.zeros((5, 16, 16, 3), np.uint8)).shape
        ((2, 16, 24, 3), (5, 16, 16))
    """

    weights: Weights
    spec: ModelSpec
    class_names: tuple[str, ...]
    size: int

    @classmethod
    def from_state_dict(
        cls, arrays: Mapping[str, np.ndarray], spec: ModelSpec, class_names: Sequence[str], size: int
    ) -> "Model":
        """Returns the model of arrays under PyTorch's names and in its axis order, as `state_dict` returns them.

        Args:
            arrays: the weights by name; numbers of any float type.
            spec: of the network.
            class_names: C names, background first.
            size: side of the training images, in pixels.

        Raises:
            WeightsError: arrays are missing, unused or misshapen.

        Example:
            >>> spec = ModelSpec(width=4, depth=1)
            >>> names = ("background", "cat", "dog")
            >>> model = Model(draw_weights(jax.random.key(0), spec, 3), spec, names, 16)
            >>> again = Model.from_state_dict(model.state_dict(), spec, names, 16)
            >>> bool((again(jnp.ones((1, 8, 8, 3))) == model(jnp.ones((1, 8, 8, 3)))).all())
            True
        """
        names = tuple(class_names)
        given = weights.from_state_dict(arrays, spec, len(names))
        outline = jax.eval_shape(lambda: draw_weights(jax.random.key(0), spec, len(names)))
        # On the host, where a new shape compiles no program.
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), outline)
        return cls(jax.device_put(Weights(*map(overlay, zeros, given))), spec, names, size)

    @property
    def stride(self) -> int:
        """The required divisor of an image's height and width, in pixels: 2 ** (depth - 1) for a U-Net, 32 for `smp_*`.

        Photos of other sizes are padded below and on the right with their last row and column, and the logits are
        cropped, as `flipjax audit --model` does. 1 for a user's own network.
        """
        return self.spec.stride

    @property
    def experiment(self) -> Experiment:
        """The experiment of this network, for the functions of `flipjax.training`."""
        return _experiment(self.spec, len(self.class_names))

    def __call__(self, images: Any) -> jax.Array:
        """Returns logits (B, H, W, C) float32 of images (B, H, W, 3), uint8 or in [0, 1].

        Raises:
            ValueError: images of another shape or type.
        """
        images = jnp.asarray(images)
        stride = self.stride
        if images.ndim != 4 or images.shape[1] % stride or images.shape[2] % stride or images.shape[3] != 3:
            raise ValueError(f"images: expected (B, H, W, 3), H and W multiples of {stride}; found {images.shape}")
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images: expected uint8, or floats in [0, 1]; found {images.dtype}")
        return logits_of(self.experiment, self.weights, images.astype(jnp.float32))

    def logits(self, images: Any) -> np.ndarray:
        """Returns logits (n, H, W, C) float32 of images (n, H, W, 3), uint8 or in [0, 1], in batches."""
        return self._by_batches(Model.__call__, images)

    def predict(self, images: Any) -> np.ndarray:
        """Returns classes (n, H, W) uint8 of images as in `logits`; 0 is the background."""
        return self._by_batches(_classes, images)

    def _by_batches(self, function: Callable, images: Any) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype.kind == "f" and not (images.min(initial=0) >= 0 and images.max(initial=1) <= 1):
            raise ValueError(f"images: expected floats in [0, 1], or uint8; found {images.min()} to {images.max()}")
        parts = []
        for part in _batches(images):
            # Padding to a power of two keeps the number of compiled programs small.
            size = 2 ** (len(part) - 1).bit_length()
            parts.append(np.asarray(program(function)(self, np.resize(part, (size, *part.shape[1:]))))[: len(part)])
        return np.concatenate(parts)

    def decompose(self, images: Any, labels: Any) -> metrics.Decomposition:
        """Returns `flipjax.metrics.decompose` of images and labels (n, H, W), leaves numpy.

        On a sweep's images of at most 256 pixels the result equals the stored one bit for bit.
        """
        # In a single program the entropy sum would be fused with the last layer and rounded differently.
        if len(images) != len(labels):
            raise ValueError(f"labels: expected {len(images)}, one for each image; found {len(labels)}")
        pairs = zip(_batches(images), _batches(labels), strict=True)
        parts = [metrics.decompose(self.logits(part), truth) for part, truth in pairs]
        return jax.tree.map(np.asarray, metrics.concatenate(parts))

    def nnx(self) -> nnx.Module:
        """Returns the network as a Flax module in evaluation mode."""
        return model_of(self.experiment, self.weights, training=False)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns the weights under PyTorch's names and in its axis order.

        The small U-Net uses the names of `sweeps/examples/benchmark_pytorch.py`, the large ones those of
        segmentation_models_pytorch. A user's own network keeps its names and axis order.
        """
        return weights.to_state_dict(self.weights, self.spec, len(self.class_names))

    def save(self, path: str | Path) -> Path:
        """Writes `state_dict` and a description of the network as .safetensors, which PyTorch can read."""
        fields = vars(self.spec) | {"build": self.spec.title if self.spec.build else "", "weights": ""}
        about = json.dumps({"spec": fields, "class_names": self.class_names, "size": self.size})
        weights.write_digested(path, self.state_dict(), {ABOUT: f"{sha256(about)} {about}"})
        return Path(path)


def load_model(path: str | Path, *, build: Callable[..., nnx.Module] | None = None) -> Model:
    """Reads a file written by `Model.save`.

    Args:
        path: the file.
        build: `config.model.build`, for a user's own network.

    Raises:
        WeightsError: the file is missing, damaged or not flipjax's; or `build` is missing, superfluous, or builds a
            network with other weights.
    """
    path = Path(path).expanduser()
    arrays, metadata = weights.read_digested(path)
    stored, _, text = metadata.get(ABOUT, "").partition(" ")
    if stored != sha256(text):
        raise WeightsError(f"{path}: expected a file that flipjax.Model.save wrote; found another or a damaged one")
    about = json.loads(text)
    own = about["spec"].pop("build")
    if own and not build:
        raise WeightsError(f"build: expected the function that makes the network, {own}, to read {path}; found none")
    names = tuple(about["class_names"])
    try:
        return Model.from_state_dict(arrays, ModelSpec(**about["spec"], build=build), names, about["size"])
    except (TypeError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}") from error


@functools.cache
def _experiment(spec: ModelSpec, num_classes: int) -> Experiment:
    return Experiment(model=dataclasses.replace(spec, dtype="float32"), groups=Groups(num_classes - 1, 2, partial=True))


def _batches(arrays: Any) -> list[Any]:
    if not len(arrays):
        raise ValueError("images: expected at least one, found none")
    return [arrays[first : first + BATCH] for first in range(0, len(arrays), BATCH)]


def _classes(model: Model, images: jax.Array) -> jax.Array:
    return model(images).argmax(-1).astype(jnp.uint8)
