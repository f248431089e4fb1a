"""Packed members against the same members alone: logits, losses and every gradient; NaN kept apart; lowering."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from flipjax.config import Experiment, ModelSpec
from flipjax.config.methods import Knobs
from flipjax.models.convolutions import tracing
from flipjax.models.weights.initial import draw_weights
from flipjax.training.network import forward

TOLERANCE = 2e-5
"""Allowed difference, relative to an array's largest value; sums in float32 are reordered."""
ALONE = (0, 0, 0, None)


def case(members, size=8, **model):
    """An experiment, and what `members` of it train on: weights, images, masks, groups, knobs, group weights."""
    experiment = Experiment(model=ModelSpec(**model))
    keys = jax.random.split(jax.random.key(0), members)
    weights = initial(experiment)(keys)
    rng = np.random.default_rng(members)
    images = rng.uniform(size=(members, 4, size, size, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (members, 4, size, size), np.int32)
    groups = rng.integers(0, 4, (members, 4), np.int32)
    knobs = Knobs(*[np.zeros(members, np.float32)] * len(dataclasses.fields(Knobs)))
    dro, step, dice = np.arange(members, dtype=np.float32) % 2, np.full(members, 0.5, np.float32), knobs.dice + 1
    knobs = dataclasses.replace(knobs, dro=dro, dro_step=step, dice=dice)
    return experiment, (weights, (images, masks, groups), knobs, np.full(4, 0.25, np.float32))


@functools.cache
def initial(experiment):
    return jax.jit(jax.vmap(lambda key: draw_weights(key, experiment.model, 3)))


@functools.cache
def compiled(experiment, function, in_axes):
    return jax.jit(jax.vmap(functools.partial(function, experiment), in_axes=in_axes))


def run(experiment, function, arguments, in_axes=0, packed=True):
    return compiled(dataclasses.replace(experiment, packed=packed), function, in_axes)(*arguments)


def assert_close(packed, plain, scale=TOLERANCE):
    for (path, a), b in zip(jax.tree.leaves_with_path(packed), jax.tree.leaves(plain), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=0, atol=scale * float(np.abs(b).max() + 1e-3), err_msg=where)


PACKS = {
    "chunks of two, then of one": (4, {"width": 40, "depth": 1, "norm": "none"}),
    "a chunk of eight, then of four": (8, {"width": 16, "depth": 2}),
}


@pytest.mark.parametrize(("members", "model"), PACKS.values(), ids=PACKS)
def test_a_pack_has_the_gradients_of_its_members_alone(members, model):
    experiment, arguments = case(members, **model)
    packed = run(experiment, forward.loss_and_gradients, arguments, ALONE)  # What a map leaves alone is repeated.
    plain = run(experiment, forward.loss_and_gradients, arguments, ALONE, packed=False)
    assert_close(packed, plain)


@pytest.fixture(scope="module")
def wide():
    """Four members without norm, whose logits are those of two programs."""
    members, model = PACKS["chunks of two, then of one"]
    return case(members, **model)


def test_a_pack_has_the_logits_of_its_members_alone(wide):
    experiment, (weights, (images, *_), *_) = wide
    plain = run(experiment, forward.logits_of, (weights, images), packed=False)
    assert_close(run(experiment, forward.logits_of, (weights, images)), plain)


def test_a_pack_may_share_its_images(wide):
    experiment, (weights, (images, *_), *_) = wide
    plain = run(experiment, forward.logits_of, (weights, np.broadcast_to(images[0], images.shape)), packed=False)
    assert_close(run(experiment, forward.logits_of, (weights, images[0]), (0, None)), plain)


@pytest.mark.parametrize("place", ["second", "head"])
def test_a_member_that_is_no_number_is_named_and_harms_no_other(place):
    experiment, arguments = case(4, width=4, depth=1)
    sick = jax.tree.map(np.array, arguments[0])
    kernels = sick.params["head"] if place == "head" else sick.params["encoder"][0]
    name = "kernel" if place == "head" else place
    kernels[name][1] = np.nan
    others = np.array([0, 2, 3])
    whole = run(experiment, forward.loss_and_gradients, arguments, ALONE)
    result = run(experiment, forward.loss_and_gradients, (sick, *arguments[1:]), ALONE)
    assert_close(*(jax.tree.map(lambda leaf: leaf[others], tree) for tree in (result, whole)))
    assert np.isnan(result[0]).tolist() == [False, True, False, False]
    logits = run(experiment, forward.logits_of, (sick, arguments[1][0][0]), (0, None))
    assert np.isnan(logits).any((1, 2, 3, 4)).tolist() == [False, True, False, False]


def windows(text):
    """The windows and groups of the convolutions of a lowered program."""
    for line in text.splitlines():
        if "stablehlo.convolution" in line:
            kernel = re.search(r"x\[(.*?)\]->", line)[1].split(", ")
            shape = re.search(r": \(.*?, tensor<([\dx]+)xf32>\)", line)[1].split("x")
            groups = re.search(r"feature_group_count = (\d+)", line)[1]
            yield tuple(int(size) for size, axis in zip(shape, kernel, strict=True) if axis.isdigit()), int(groups)


@pytest.fixture(scope="module", params=[True, False], ids=["packed", "alone"])
def traced_step(request):
    """Whether members are packed, and a step of four as accelerators trace it."""
    experiment, arguments = case(4, size=16, width=4, depth=2)
    experiment = dataclasses.replace(experiment, packed=request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "for_cpu", lambda: False)
        step = jax.jit(jax.vmap(functools.partial(forward.loss_and_gradients, experiment), ALONE))
        return request.param, step.trace(*arguments)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_step_has_small_windows_but_where_a_kernels_gradient_is_taken(traced_step, platform):
    packed, step = traced_step
    text = step.lower(lowering_platforms=(platform,)).as_text()
    assert "custom_call" not in text
    sizes = list(windows(text))
    large = [groups for window, groups in sizes if max(window) > 3]
    # The gradients of kernels have the image for their window: with one group, they are what cuDNN calls a
    # backward filter, of the kernel's own window.
    assert set(large) == {1} and len(large) * 3 <= len(sizes) + 1
    assert {groups for _, groups in sizes} == ({1} if packed else {1, 4})
    assert {window for window, _ in sizes if max(window) <= 3} == {(3, 3)}
