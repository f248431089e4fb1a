"""Does MY loss, augmentation, network or optimiser flip less? flipjax sweep --config sweeps/examples/own_method.py

A configuration file that hands over its own: put yours in place of these. 16 members in two compiled programs;
`python sweeps/examples/own_method.py --workdir DIR` does the same.
"""

import sys

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flipjax.config import default_config


def focal(logits, labels, groups, gamma=2.0):
    """Returns the cross-entropy that sure pixels have little part in (Lin et al., 2017), each image's mean."""
    truth = jax.nn.one_hot(labels, logits.shape[-1])
    of_truth = (jax.nn.log_softmax(logits) * truth).sum(-1)
    return ((1 - jnp.exp(of_truth)) ** gamma * -of_truth).mean((1, 2))


def grey(key, images, labels):
    """Takes the colours from half of the images."""
    chosen = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(chosen, images.mean(-1, keepdims=True), images), labels


class Flat(nnx.Module):
    """Dilated convolutions at full resolution: no pooling, no skip connections."""

    def __init__(self, num_classes, rngs):
        pairs = [(3, 16), (16, 16), (16, 16)]
        self.layers = nnx.List(
            nnx.Conv(*pair, (3, 3), kernel_dilation=2**level, rngs=rngs) for level, pair in enumerate(pairs)
        )
        self.norms = nnx.List(nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs) for _, outputs in pairs)
        self.head = nnx.Conv(16, num_classes, (1, 1), rngs=rngs)

    def __call__(self, images):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            images = nnx.relu(norm(layer(images)))
        return self.head(images)


def get_config():
    config = default_config()
    config.pool.size = 32
    config.split.n_train, config.split.n_val, config.split.n_test = 256, 64, 128
    config.train.loss = focal
    config.train.augment = grey
    config.train.optimizer = optax.nadam  # Any of optax that takes a learning rate; the default is "adam"
    config.grid.model.build = (None, Flat)  # None: the built-in U-Net
    config.axes.method = ("ce", "focal", "grey", "focal+grey")
    config.axes.rho = (0.95,)
    config.axes.seed = (0, 1)
    return config


if __name__ == "__main__":
    from flipjax.sweep.__main__ import main

    sys.exit(main(["--config", __file__, *sys.argv[1:]]))
