"""What `bench.py` measures in JAX; imported only by the processes that it starts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flipjax.backend.convolutions import XLA, faster_library, has_onednn
from flipjax.backend.memory import keep_freed
from flipjax.config import Experiment, ModelSpec, PoolSpec, PopulationSpec, Recipe, TrainSpec
from flipjax.config.methods import Augmentation, Knobs
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool
from flipjax.models.convolutions import doubled
from flipjax.models.packs import pack
from flipjax.training.epoch import step
from flipjax.training.epoch.step import train_step
from flipjax.training.member import Member, init_state
from flipjax.training.network.forward import nested
from flipjax.training.population import devices
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population

SIZE, BATCH, OBJECTS, SCENES = 32, 16, 256, 128
ENDLESS = 10**6
EXPERIMENT = Experiment(
    pool=PoolSpec(size=SIZE),
    model=ModelSpec(width=16, depth=3, norm="batch"),
    train=TrainSpec(epochs=ENDLESS, batch_size=BATCH, patience=ENDLESS),
)

KNOBS = Knobs()
AUGMENTATION = Augmentation()


def make_pool():
    """Returns discs of one grey on noise: what they show is of no account, only that it is composed and learnt."""
    rng = np.random.default_rng(0)
    across = np.arange(SIZE) - SIZE / 2
    alpha = np.where(np.hypot(*np.meshgrid(across, across)) < SIZE / 4, 255, 0).astype(np.uint8)
    masks = np.broadcast_to(alpha, (OBJECTS, SIZE, SIZE))
    labels = (1 + np.arange(OBJECTS) % 2).astype(np.uint8)
    images = (masks[..., None] // 255) * (60 * labels[:, None, None, None])
    scenes = rng.integers(0, 256, (SCENES, SIZE, SIZE, 3), np.uint8)
    images = np.broadcast_to(images, (*masks.shape, 3)).astype(np.uint8)
    return Pool(kind="composite", images=images, masks=masks.copy(), labels=labels, scenes=scenes)


def make_members(count, steps):
    rng = np.random.default_rng(1)
    members = []
    for index in range(count):
        rows = rng.integers(0, (OBJECTS, SCENES), (steps * BATCH, 2)).astype(np.int32)
        members.append(
            Member(
                key=jax.random.key(index),
                rows=jnp.asarray(rows),
                groups=jnp.asarray(2 * (rows[:, 0] % 2) + rows[:, 1] % 2),
                recipe=jax.tree.map(jnp.float32, Recipe(learning_rate=2e-3)),
                knobs=jax.tree.map(jnp.float32, KNOBS),
                augmentation=jax.tree.map(jnp.float32, AUGMENTATION),
            )
        )
    return members


class Flipjax:
    """`population_run.run_next_epoch`, as a sweep calls it; it cannot do without validation, so it gets one image."""

    def __init__(self, *, members, steps, map, batch_devices=0, convolutions="auto"):
        if convolutions == "auto":
            # As a sweep chooses for an endless run.
            convolutions = XLA
            if has_onednn():
                convolutions = faster_library(EXPERIMENT.model, pixels=ENDLESS**3)
        spec = PopulationSpec(map=map, batch_devices=batch_devices, convolutions=convolutions)
        self.layout = devices.make_layout(spec, members=members, batch_size=BATCH)
        self.population = population.create(EXPERIMENT, self.layout, make_members(members, steps))
        none = np.zeros(1, np.int32)
        table = Table(np.zeros((1, 2), np.int32), none, none, np.zeros(1, bool))
        self.shared = devices.replicate(self.layout, (make_pool(), table))

    def epoch(self):
        self.population, record = population_run.run_next_epoch(self.population, *self.shared)
        assert np.isfinite(record["train_loss"]).all(), record

    def operations(self):
        """Returns floating-point operations of a training sample, as XLA counts those of a member's compiled step."""
        member = make_members(1, 1)[0]
        compiled = jax.jit(functools.partial(train_step, EXPERIMENT))
        arguments = member, make_pool(), init_state(EXPERIMENT, member), jnp.arange(BATCH), jax.random.key(0)
        return compiled.lower(*arguments).compile().cost_analysis()["flops"] / BATCH

    def reference(self):
        """Returns a member's weights, a batch, and its losses before and after an Adam step, for the PyTorch twin."""
        pool = make_pool()
        member = dataclasses.replace(make_members(1, 1)[0], augmentation=Augmentation(hflip=0.0))
        state = init_state(EXPERIMENT, member)
        params = jax.tree.map(np.asarray, nested(EXPERIMENT, state.weights).params)
        compiled = jax.jit(functools.partial(train_step, EXPERIMENT))
        result = []
        for _ in range(2):
            state, loss = compiled(member, pool, state, jnp.arange(BATCH), jax.random.key(0))
            result.append(float(loss))
        images, labels = map(np.asarray, step.gather(pool, member.rows))
        return params, images, labels, result


class PlainVmap:
    """The textbook way: one jitted step, `jax.vmap` over the stacked members, XLA's own convolution and gradients."""

    def __init__(self, *, members, steps):
        pack.convolve, pack.convolve_doubled = xla_convolution, xla_doubled
        self.steps, self.pool = steps, jax.device_put(make_pool())
        self.members = jax.tree.map(lambda *leaves: jnp.stack(leaves), *make_members(members, steps))
        self.states = jax.jit(jax.vmap(functools.partial(init_state, EXPERIMENT)))(self.members)
        mapped = jax.vmap(functools.partial(train_step, EXPERIMENT), in_axes=(0, None, 0, None, 0))
        self.step = jax.jit(mapped, donate_argnums=2)
        self.keys = jax.random.split(jax.random.key(0), (steps, members))

    def epoch(self):
        # No scan: within one, XLA's own gradients of a convolution are slower still.
        for batch, keys in zip(jnp.arange(self.steps * BATCH).reshape(self.steps, BATCH), self.keys, strict=True):
            self.states, loss = self.step(self.members, self.pool, self.states, batch, keys)
        assert np.isfinite(loss).all(), loss


def xla_convolution(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def xla_doubled(images, skip, kernel):
    return xla_convolution(jnp.concatenate([doubled.double(images), skip], axis=-1), kernel)


def augment():
    """Adds all augmentation that the paper has beside mirroring, in this process only; CutMix is a member's knob."""
    global EXPERIMENT, KNOBS, AUGMENTATION
    KNOBS = Knobs(cutmix=0.5)
    AUGMENTATION = Augmentation(crop=1.0, jitter=0.3)
    EXPERIMENT = dataclasses.replace(EXPERIMENT, active_knobs=("cutmix",), active_numbers=("crop", "jitter"))


def resize(size, width, dtype):
    """Trains a network of another width and dtype on images of another size, in this process only."""
    global EXPERIMENT, SIZE
    SIZE = size
    model = dataclasses.replace(EXPERIMENT.model, width=width, dtype=dtype)
    EXPERIMENT = dataclasses.replace(EXPERIMENT, pool=PoolSpec(size=size), model=model)


def make(kind, *, members, steps, cores, augmented=False, size=SIZE, width=16, dtype="float32"):
    """Returns a contender. `kind`: plain, or a map of members, shared by all cores, or of XLA's or oneDNN's library."""
    devices = {"plain": 1, "shared": cores}.get(kind, min(cores, members))
    jax.config.update("jax_num_cpu_devices", devices)
    resize(size, width, dtype)
    if augmented:
        augment()
    if kind == "plain":
        return PlainVmap(members=members, steps=steps)
    # As a sweep starts.
    keep_freed()
    if kind == "shared":
        return Flipjax(members=members, steps=steps, map="loop", batch_devices=cores // members)
    if kind in ("xla", "onednn"):
        return Flipjax(members=members, steps=steps, map="loop", convolutions=kind)
    return Flipjax(members=members, steps=steps, map=kind, convolutions="auto")
