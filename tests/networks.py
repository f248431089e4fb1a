"""Networks in tests: large U-Nets with golden weights or two narrow stages alone; gradients against a twin's."""

import functools
import zlib
from types import SimpleNamespace

import jax
import numpy as np
from flax import nnx

from flipjax.config import ModelSpec
from flipjax.models.encoders import mit, resnet
from flipjax.models.networks import smp
from flipjax.models.weights import pytorch_names
from flipjax.training import model as models
from flipjax.training.model import Model
from flipjax.training.network import forward

NAMES = ("background", "cat", "dog")
WIDTHS, DECODER = (8, 16), (24, 16, 8)
"""Sizes of the small encoders; larger ones would compile longer and test nothing more."""


class Net(nnx.Module):
    """One convolution and a norm that counts."""

    def __init__(self, num_classes, rngs):
        self.head = nnx.Conv(3, num_classes, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(num_classes, momentum=0.5, rngs=rngs)

    def __call__(self, images):
        return self.norm(self.head(images))


def shrink(patch):
    """Makes the networks that are built from here on shallow and narrow."""
    stages = [mit.STAGES[index]._replace(width=width, blocks=1) for index, width in enumerate(WIDTHS)]
    patch.setattr(mit, "STAGES", stages)
    patch.setattr(mit.MitB2, "channels", (0, *WIDTHS))
    patch.setattr(resnet, "STAGES", [(width, 1) for width in WIDTHS])
    patch.setattr(resnet.ResNet50, "channels", (WIDTHS[0], *(resnet.EXPANSION * width for width in WIDTHS)))
    patch.setattr(smp, "DECODER_CHANNELS", DECODER)
    # Not what the large ones left there.
    remembered = [(pytorch_names, "places"), (forward, "outline")]
    remembered += [(module, "weight_shapes") for module in (pytorch_names, forward, models)]
    for module, name in remembered:
        patch.setattr(module, name, functools.cache(getattr(module, name).__wrapped__))


def make(encoder):
    """Returns PyTorch's state_dict of an encoder's U-Net, its `Model`, and its logits as a compiled call."""
    spec = ModelSpec(name=f"smp_{encoder}")
    state_dict = {name: golden_weight(name, shape) for name, shape in pytorch_names.shapes_of(spec, 3).items()}
    model = Model.from_state_dict(state_dict, spec, NAMES, 64)
    graph, state = nnx.split(model.nnx())
    logits = functools.partial(jax.jit(lambda state, images: nnx.merge(graph, state)(images)), state)
    return SimpleNamespace(state_dict=state_dict, model=model, logits=logits)


def golden_weight(name, shape):
    """A weight from its name and shape, by the rule of the golden cases."""
    rng = np.random.default_rng(zlib.crc32(f"golden:{name}".encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_mean"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("bias"):
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("running_var") or len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def assert_alike(function, wanted, *shapes, compiled=jax.jit):
    """Compares a function of arrays of these shapes and its gradients, as compiled, with those of another by XLA."""
    rng = np.random.default_rng(1)
    arguments = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    outputs = jax.eval_shape(wanted, *arguments)
    cotangents = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), outputs)

    def output_and_gradients(function, arguments, cotangents):
        output, pull = jax.vjp(function, *arguments)
        return output, pull(cotangents)

    results = compiled(functools.partial(output_and_gradients, function))(arguments, cotangents)
    exact_results = jax.jit(functools.partial(output_and_gradients, wanted))(arguments, cotangents)
    for result, exact in zip(*map(jax.tree.leaves, (results, exact_results)), strict=True):
        np.testing.assert_allclose(result, exact, rtol=0, atol=1e-5 * np.abs(exact).max(initial=0))
