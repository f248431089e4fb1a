"""Measures flips in a training loop of Flax NNX: python sweeps/examples/nnx_loop.py [EPOCHS]

Put your model and your batches in place of the made-up ones; labels are (N, H, W) integers, 255 is ignored. Logits and
sums stay on their device until `compute`. In a loop of pure functions, `flipjax.metrics.FlipCounts` is the same as a
pytree, for `scan`, `vmap` over seeds and `psum`.
"""

import sys

import jax
import optax
from flax import nnx

from flipjax.losses import cross_entropy
from flipjax.metrics.nnxmetric import NnxFlipMetric

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5


class Network(nnx.Module):
    """Images (N, H, W, 3) to logits (N, H, W, 3)."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.first = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.last = nnx.Conv(8, 3, (3, 3), rngs=rngs)

    def __call__(self, images):
        return self.last(nnx.relu(self.first(images)))


def draw_batches(key, batches):
    """Returns images of blocks that are dark, reddish or bluish, and their classes."""
    blocks, noise = jax.random.split(key)
    labels = jax.random.randint(blocks, (batches, 8, 6, 6), 0, 3).repeat(4, axis=2).repeat(4, axis=3)
    images = jax.nn.one_hot(labels, 3).at[..., 0].set(0)
    return images + 0.5 * jax.random.normal(noise, images.shape), labels


@nnx.jit
def train_step(model, optimizer, images, labels):
    def loss(model):
        return cross_entropy(model(images), labels).mean()

    optimizer.update(model, nnx.grad(loss)(model))


@nnx.jit
def eval_step(model, metrics, images, labels):
    logits = model(images)
    metrics.update(logits=logits, labels=labels, loss=cross_entropy(logits, labels))


model = Network(rngs=nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adam(0.02), wrt=nnx.Param)
flips = NnxFlipMetric(3, class_names=["red", "blue"], ignore_index=255)
metrics = nnx.MultiMetric(loss=nnx.metrics.Average("loss"), flips=flips)
train, test = draw_batches(jax.random.key(1), 16), draw_batches(jax.random.key(2), 4)
for epoch in range(epochs):
    for images, labels in zip(*train, strict=True):
        train_step(model, optimizer, images, labels)
    metrics.reset()
    for images, labels in zip(*test, strict=True):
        eval_step(model, metrics, images, labels)
    values = metrics.compute()
    summary = values["flips"]
    shares = "  ".join(f"{name} {summary[f'fg_{name}']:.3f}" for name in ("correct", "flip", "miss"))
    print(f"epoch {epoch}  loss {float(values['loss']):.3f}  {shares}  dice {summary['mean_dice']:.3f}")
