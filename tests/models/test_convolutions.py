"""The convolution against XLA's own, and the U-Net: shapes, sizes, norms, weights."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from networks import assert_alike

from flipjax.backend.compiler import fast_jit
from flipjax.config import Experiment, ModelSpec
from flipjax.models import MODELS
from flipjax.models.convolutions import cross_correlation, depthwise, doubled, strided
from flipjax.models.convolutions import stride_one as convolution
from flipjax.models.packs import layers as pack_layers
from flipjax.models.packs import network as pack_network
from flipjax.training.network.forward import Weights, apply, logits_of, weights_of

LAYOUT = ("NHWC", "HWIO", "NHWC")


def build(key=0, **spec):
    return MODELS["unet"](ModelSpec(**spec), num_classes=3, rngs=nnx.Rngs(key))


def xla_convolve(images, kernel, stride=1, padding="SAME", groups=1):
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=LAYOUT, feature_group_count=groups
    )


# Gradients are summed over a whole batch, or, where it says so last, in the blocks that large images take.
CONVOLUTIONS = [
    (convolution.convolve, images, kernel, 1, blocked)
    for images, kernel, blocked in (
        ((3, 6, 8, 3), (3, 3, 3, 4), False),  # Four pixels abreast.
        ((3, 6, 8, 3), (3, 3, 3, 4), True),
        ((2, 5, 6, 16), (3, 3, 16, 16), True),  # Two.
        ((2, 4, 7, 4), (3, 3, 4, 8), False),
        ((2, 6, 8, 4), (5, 5, 4, 4), True),
        ((2, 6, 8, 4), (1, 3, 4, 2), False),
        ((2, 6, 8, 24), (3, 3, 24, 8), False),  # The operands of the kernel's gradient are swapped.
        ((2, 6, 8, 24), (5, 3, 24, 1), True),
        ((2, 6, 8, 8), (3, 3, 8, 24), True),
        ((1, 2, 2, 20), (3, 3, 20, 20), False),
        ((2, 4, 6, 1), (3, 3, 1, 2), False),
        ((2, 4, 6, 2), (3, 3, 2, 1), True),
    )
]
SIZES = [(3, 1), (5, 1), (3, 2), (5, 2)]
CONVOLUTIONS += [(depthwise.depthwise, (2, 8, 12, 6), (size, size, 1, 6), stride, False) for size, stride in SIZES]
CONVOLUTIONS += [
    (strided.convolve_strided, (2, 8, 16, 3), (size, size, 3, 4), stride, False)
    for size, stride in ((3, 1), (3, 2), (5, 2), (7, 2), (7, 4), (1, 2), (4, 4))
]


@pytest.mark.parametrize(("function", "images", "kernel", "stride", "blocked"), CONVOLUTIONS)
def test_convolutions_and_their_gradients_are_xlas(function, images, kernel, stride, blocked, monkeypatch):
    monkeypatch.setattr(cross_correlation, "BLOCKED", 64 if blocked else cross_correlation.BLOCKED)
    margin = kernel[0] // 2 if kernel[0] != stride else 0
    padding = [(margin, margin)] * 2 if function is strided.convolve_strided else "SAME"
    wanted = functools.partial(xla_convolve, stride=stride, padding=padding, groups=images[-1] // kernel[2])
    options = {} if function is convolution.convolve else {"stride": stride}
    assert_alike(functools.partial(function, **options), wanted, images, kernel)


@pytest.mark.parametrize(("size", "stride"), [(16, 2), (2, 1)], ids=["strided", "images smaller than the kernel"])
def test_convolutions_and_gradients_in_a_loop_are_plain_convolutions(size, stride):
    def loss(arrays):
        return jnp.square(strided.convolve_strided(*arrays, stride=stride)).sum()

    def train(arrays):
        def step(arrays, _):
            return jax.tree.map(jnp.subtract, arrays, jax.grad(loss)(arrays)), None

        return jax.lax.scan(step, arrays, length=3)

    shapes = (2, size, size, 20), (3, 3, 20, 24)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = fast_jit(train).lower(tuple(arrays)).compile().as_text()
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    # XLA:CPU computes others in a loop of its own, up to a hundred times as slowly.
    assert len(convolutions) == 3
    assert all("dim_labels=b01f_01io->b01f" in line and "lhs_dilate" not in line for line in convolutions)


DOUBLED = [((1, 1), 2, 3, False), ((3, 2), 5, 4, True), ((4, 4), 3, None, False), ((4, 4), 3, 0, True)]


@pytest.mark.parametrize(("size", "channels", "skip", "blocked"), [*DOUBLED, ((44, 40), 20, 4, False)])
def test_convolution_of_a_doubled_image_and_its_gradients_are_xlas(size, channels, skip, blocked, monkeypatch):
    monkeypatch.setattr(cross_correlation, "BLOCKED", 64 if blocked else cross_correlation.BLOCKED)

    def folded(images, others, kernel):
        return doubled.convolve_doubled(images, None if skip is None else others, kernel)

    def whole(images, others, kernel):
        return xla_convolve(jnp.concatenate([images.repeat(2, axis=1).repeat(2, axis=2), others], axis=-1), kernel)

    skips = (2, 2 * size[0], 2 * size[1], skip or 0)
    assert_alike(folded, whole, (2, *size, channels), skips, (3, 3, channels + (skip or 0), 4))


def test_the_heads_planes_and_their_gradients_are_a_products():
    def product(images, kernel, bias):
        return jnp.moveaxis(images @ kernel + bias, -1, 0)

    assert_alike(pack_network.planes_by_class, product, (2, 3, 4, 5), (5, 3), (3,))


def test_halving_shares_its_gradient_among_equals_as_xla_does():
    rng = np.random.default_rng(0)
    images, gradient = (rng.integers(0, 3, shape).astype(np.float32) for shape in ((2, 4, 6, 3), (2, 2, 3, 3)))

    def by_reduction(images):
        return images.reshape(2, 2, 2, 3, 2, 3).max((2, 4))

    own, xlas = (jax.vjp(halve, images) for halve in (pack_layers.halve, by_reduction))
    np.testing.assert_array_equal(own[0], xlas[0])
    np.testing.assert_array_equal(own[1](gradient)[0], xlas[1](gradient)[0])


def test_rectifying_and_its_gradient_are_relus():
    values = jnp.array([-2.0, -0.0, 0.0, 3.0, jnp.nan])
    output, pull = jax.vjp(pack_layers.rectify, values)
    np.testing.assert_array_equal(output, jax.nn.relu(values))
    np.testing.assert_array_equal(pull(jnp.ones(5))[0], [0, 0, 0, 1, 0])


def test_batch_norm_and_its_gradients_are_flaxs():
    def normalise(make, scale, bias, values):
        norm = make()
        norm.scale[...], norm.bias[...], images = scale, bias, 3 + 2 * values
        output = norm([images])[0] if isinstance(norm, pack_layers.PackBatchNorm) else norm(images)
        return output, *lax.stop_gradient((norm.mean[...], norm.var[...]))

    makes = (
        lambda: pack_layers.PackBatchNorm(3),
        lambda: nnx.BatchNorm(3, momentum=pack_layers.MOMENTUM, rngs=nnx.Rngs(0)),
    )
    assert_alike(*(functools.partial(normalise, make) for make in makes), (3,), (3,), (4, 5, 6, 3))


def test_convolution_in_bfloat16_stays_in_it():
    rng = np.random.default_rng(2)
    arguments = [jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in ((2, 4, 8, 3), (3, 3, 3, 4))]
    run = jax.jit(jax.grad(lambda *arrays: jnp.square(convolution.convolve(*arrays)).sum(), (0, 1)))
    for result, exact in zip(run(*arguments), run(*[leaf.astype(jnp.float32) for leaf in arguments]), strict=True):
        assert result.dtype == jnp.bfloat16
        np.testing.assert_allclose(result.astype(jnp.float32), exact, atol=0.03 * np.abs(exact).max())


@pytest.fixture(scope="module")
def small():
    """A U-Net with statistics, its arrays, images, and `apply` compiled."""
    experiment = Experiment(model=ModelSpec(width=4, depth=2))
    compiled = jax.jit(apply, static_argnums=0, static_argnames="training")
    params, statistics = jax.jit(lambda: weights_of(build(width=4, depth=2)))()
    images = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
    return experiment, compiled, params, statistics, images


def test_no_norm_touches_the_logits(small):
    experiment, apply, params, statistics, images = small
    params = params | {"head": {"kernel": params["head"]["kernel"], "bias": np.float32([0.5, -1.0, 2.0])}}
    doubled = params | {"head": jax.tree.map(lambda leaf: 2 * np.asarray(leaf), params["head"])}
    logits, twice = (apply(experiment, Weights(p, statistics), images, training=False)[0] for p in (params, doubled))
    np.testing.assert_allclose(twice, 2 * logits, rtol=1e-6)
    assert np.ptp(logits) > 0.1


def test_statistics_move_in_training_alone(small):
    experiment, apply, params, statistics, images = small
    kept = apply(experiment, Weights(params, statistics), images, training=False)[1]
    moved = apply(experiment, Weights(params, statistics), images, training=True)[1]
    leaves = [jax.tree.leaves(tree) for tree in (statistics, kept, moved)]
    assert len(leaves[0]) == 2 * 2 * 3  # Mean and variance of two norms in each of three blocks.
    for old, same, new in zip(*leaves, strict=True):
        np.testing.assert_array_equal(same, old)
        assert (new != old).any()


def test_bfloat16_is_close_to_float32(small):
    experiment, apply, params, statistics, images = small
    weights = Weights(params, statistics)
    half = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, dtype="bfloat16"))
    exact, logits = (apply(each, weights, images, training=False)[0] for each in (experiment, half))
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.std(exact)
    evaluated = jax.jit(logits_of, static_argnums=0)(half, weights, images)  # In float32 whatever training computes in.
    assert np.abs(evaluated - exact).max() < 1e-5 * np.abs(exact).max()


def test_weights_are_he_scaled_and_depend_on_the_key_alone():
    names = ("first", "second", "kernel")

    @functools.partial(jax.jit, static_argnames="norm")
    def kernels(key, norm="batch"):
        model = build(jax.random.key(key), width=16, depth=2, norm=norm)
        return jax.tree.leaves(nnx.state(model, lambda path, _: path[-1] in names))

    first, again, other = kernels(0), kernels(0, norm="none"), kernels(1)
    assert len(first) == 7
    for kernel, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(kernel, same)
        assert (np.asarray(kernel) != different).all()
        scaled = np.asarray(kernel) * math.sqrt(math.prod(kernel.shape[:-1]) / 2)
        # Four standard errors of a standard deviation.
        assert abs(np.std(scaled) - 1) < 4 / math.sqrt(2 * kernel.size)
