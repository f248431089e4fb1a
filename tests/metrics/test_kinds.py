"""Blocks, kinds of predictions and what messages advise, on other people's arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.metrics import kernels, pixels
from metrics.logits import EXAMPLES, random_case


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def assert_same(one, other, rtol=2e-6):
    np.testing.assert_array_equal(one.confusion, other.confusion)
    np.testing.assert_allclose(one.risk_sum, other.risk_sum, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "ignore_index", "classes", "length"),
    [
        pytest.param((40, 33), np.uint8, None, 3, 1 << 10, id="one-image-cut"),
        pytest.param((40, 33), np.uint8, None, 4, 1 << 21, id="one-image"),
        pytest.param((1, 7, 9), np.int64, 0, 3, 1 << 10, id="a-batch-of-one"),
        pytest.param((2, 3, 13, 21), np.int8, -1, 4, 1 << 10, id="two-leading-axes-cut"),
        pytest.param((2, 3, 13, 21), np.int8, -1, 3, 1 << 21, id="two-leading-axes-in-one"),
    ],
)
def test_blocks_change_no_count(shape, dtype, ignore_index, length, classes):
    """Whether an image is filled up, cut into pieces or shares a block: the same as one program for its size."""
    logits, labels = random_case(sum(shape), shape, classes)
    labels = labels.astype(dtype)
    decompose = functools.partial(metrics.decompose, ignore_index=ignore_index)
    error_map = functools.partial(metrics.error_map, ignore_index=ignore_index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "SCORES", length)
        patch.setattr(kernels, "SHORTEST", 1 << 8)
        results = [decompose(x, labels) for x in (logits, jnp.asarray(logits))]
        risk, risks, codes = metrics.flip_risk(logits), metrics.risk_map(logits), error_map(logits, labels)
    for result in results:
        assert_same(result, jax.jit(decompose)(logits, labels))
    np.testing.assert_allclose(risk, jax.jit(metrics.flip_risk)(logits), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(risks, jax.jit(metrics.risk_map)(logits), rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(codes, jax.jit(error_map)(logits, labels))


def test_new_sizes_and_a_ragged_last_batch_compile_nothing():
    def programs(images, height, width):
        logits, labels = random_case(images, (images, height, width), 4)
        result = metrics.decompose(np.ascontiguousarray(np.moveaxis(logits, -1, 1)), labels, channels="first")
        assert len(result.flip) == len(result.flip_risk) == len(metrics.flip_risk(logits)) == images
        metrics.error_map(logits, labels)
        return [function._cache_size() for function in (pixels.count, pixels.sum_scores, pixels.errors)]

    before = programs(4, 24, 24)
    for shape in ((3, 24, 24), (1, 24, 24), (4, 17, 31), (7, 30, 34), (90, 5, 3)):
        assert programs(*shape) == before


def test_memory_is_that_of_a_block():
    logits = np.broadcast_to(np.float32(0), (3, 2000, 3000, 21))  # 1.5 GB, were it there.
    parts = kernels.cut([logits], (0,), spatial_ndim=2, lead=1, width=21)
    (shape,) = {next(parts).arrays[0].shape for _ in range(5)}
    assert np.prod(shape) <= kernels.SCORES


def test_constants_inside_a_callers_jit():
    logits, labels = random_case(0, (2, 5, 6))
    inside = jax.jit(lambda scale: jax.tree.map(lambda leaf: scale * leaf, metrics.decompose(logits, labels)))(1)
    assert_same(inside, metrics.decompose(logits, labels))


def test_probabilities_are_logits_up_to_a_constant():
    logits, labels = random_case(1, (2, 6, 7), 4)
    wanted, shares = metrics.decompose(logits, labels), softmax(logits)
    for probabilities in (shares, softmax(logits.astype(np.float64)), jnp.asarray(shares)):
        assert_same(metrics.decompose(probabilities, labels, kind="probabilities"), wanted, rtol=1e-5)
    for function in (metrics.flip_risk, metrics.risk_map):
        np.testing.assert_allclose(function(shares, kind="probabilities"), function(logits), rtol=1e-4, atol=1e-6)
    codes = metrics.error_map(shares, labels, kind="probabilities")
    np.testing.assert_array_equal(codes, metrics.error_map(logits, labels))
    assert metrics.flip_risk(np.array([[[0, 1, 0], [1, 0, 0]]], np.float32), kind="probabilities") < 1e-30
    for wrong in (logits, 1 / (1 + np.exp(-logits))):
        with pytest.raises(ValueError, match="probabilities: expected"):
            metrics.decompose(wrong, labels, kind="probabilities")


def test_other_scores_passed_as_logits_are_recognised():
    logits, labels = random_case(2, (2, 40, 70), 5)
    for probabilities in (softmax(logits), softmax(logits).astype(np.float16), jnp.asarray(softmax(logits))):
        with pytest.warns(UserWarning, match="kind='probabilities'") as caught:
            metrics.decompose(probabilities, labels)
        assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="0 to 4 alone.*kind='masks'") as caught:
        metrics.flip_risk(labels.astype(np.float32))
    assert caught[0].filename == __file__
    # Warnings are errors here: none is given for these.
    for scores in (logits, np.clip(logits, 0, 1), np.eye(5)[labels]):
        metrics.decompose(scores, labels)
    metrics.flip_risk(np.eye(40)[labels])


def test_masks_give_all_that_needs_no_score():
    logits, labels = random_case(3, (3, 6, 7))
    masks = logits.argmax(-1).astype(np.uint8)
    scored = metrics.decompose(logits, labels, ignore_index=1)
    for result in (
        metrics.decompose(masks, labels, kind="masks", ignore_index=1),
        metrics.decompose(masks, np.where(labels == 1, 255, labels), kind="masks", ignore_index=255),
        # Where it is not checked, a class that is none counts nowhere.
        jax.jit(lambda p, t: metrics.decompose(p, t, kind="masks", num_classes=3))(
            np.where(labels == 1, 7, masks), labels
        ),
    ):
        np.testing.assert_array_equal(result.confusion, scored.confusion)
        assert np.isnan(result.risk_sum).all()
    summary = metrics.summarize(result)
    assert summary["fg_flip"] == metrics.summarize(scored)["fg_flip"]
    assert summary["n_images_without_risk"] == 3 and np.isnan(summary["risk_auroc"])
    codes = metrics.error_map(masks, labels, kind="masks")
    np.testing.assert_array_equal(codes, metrics.error_map(logits, labels))
    assert metrics.decompose(masks, labels, kind="masks", num_classes=7).confusion.shape == (3, 7, 7)


def test_parts_become_one():
    logits, labels = random_case(4, (7, 5, 6))
    whole = metrics.decompose(logits, labels)
    parts = [metrics.decompose(logits[i : i + 3], labels[i : i + 3]) for i in (0, 3)]
    joined = metrics.concatenate([*parts, metrics.decompose(logits[6], labels[6])])
    assert_same(joined, whole, rtol=0)
    assert isinstance(joined.flip, np.ndarray) and joined.flip.dtype == np.float64
    with pytest.raises(ValueError, match=r"parts: .* none"):
        metrics.concatenate([])
    with pytest.raises(ValueError, match=r"3 classes with background 0, 3 classes with background 1"):
        metrics.concatenate([whole, metrics.decompose(logits, labels, background=1)])


@EXAMPLES
@given(
    lead=st.sampled_from([(), (2,), (2, 2)]),
    spatial=st.sampled_from([(9, 7), (8, 8), (2, 9, 8)]),
    classes=st.sampled_from([3, 5, 21]),
    mistake=st.integers(0, 4),
)
def test_the_advice_of_a_message_works(lead, spatial, classes, mistake):
    logits, labels = random_case(7, (*lead, *spatial), classes)
    axis, one_hot = len(lead), np.eye(classes, dtype=int)[labels]
    order = (*range(axis), *range(axis + 1, logits.ndim), axis)
    given, advice = [
        ((np.moveaxis(logits, -1, axis), labels), f"np.transpose(logits, {order})"),
        ((logits, np.expand_dims(labels, axis)), f"labels.squeeze({axis})"),
        ((logits, labels[..., None]), "labels[..., 0]"),
        ((logits, one_hot), "labels.argmax(-1)"),
        ((logits, np.moveaxis(one_hot, -1, axis)), f"labels.argmax({axis})"),
    ][mistake]
    with pytest.raises(ValueError) as caught:
        metrics.decompose(*given, spatial_ndim=len(spatial))
    assert advice in str(caught.value)
    arrays = dict(zip(("logits", "labels"), given, strict=True))
    repaired = arrays | {"labels" if mistake else "logits": eval(advice, {"np": np} | arrays)}
    np.testing.assert_array_equal(repaired["labels"], labels)
    np.testing.assert_array_equal(repaired["logits"], logits)
