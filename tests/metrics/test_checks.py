"""Errors and warnings of flipjax.metrics at the door."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.metrics.inputs.classes import LabelOptions, LabelSpec
from metrics.logits import EXAMPLES, random_case, softmax

LABELLED = (metrics.decompose, metrics.error_map, metrics.region_sums)
UNLABELLED = (metrics.flip_risk, metrics.risk_map, metrics.logit_scores)


def masks(change):
    """Changes masks, which only `decompose` and `error_map` take."""
    return lambda x, y: {"kind": "masks", "num_classes": 21, "logits": y} | change(y)


OPTIONS = [{"spatial_ndim": 1}, {"channels": "middle"}, {"kind": "scores"}, {"background": (0, -1)}]
OPTIONS += [{"background": 1.0}, {"background": "none"}, {"ignore_index": 2**31}, {"ignore_index": 255.0}]
# The thing that a message names first, and what spoils valid logits x and labels y of 5 to 21 classes.
SPOILED_SCORES = [
    *((name, lambda x, y, own=own: own) for own in OPTIONS for name in own),
    ("background", lambda x, y: {"background": x.shape[-1]}),
    ("logits", lambda x, y: {"background": tuple(range(x.shape[-1] - 1))}),
    ("logits", lambda x, y: {"logits": x[..., :2]}),
    ("logits", lambda x, y: {"logits": x.astype(int)}),
    ("logits", lambda x, y: {"logits": {"aux": x, 0: x}}),
    ("logits", lambda x, y: {"logits": np.ma.array(x)}),
    ("logits", lambda x, y: {"logits": x[(0,) * (x.ndim - 2)]}),
    ("logits", lambda x, y: {"logits": x[..., :0, :], "labels": y[..., :0]}),
    ("probabilities", lambda x, y: {"kind": "probabilities"}),
    ("probabilities", lambda x, y: {"kind": "probabilities", "logits": 1 / (1 + np.exp(-x))}),
]
SPOILED_LABELS = [
    ("labels", lambda x, y: {"labels": y[..., 1:]}),
    ("labels", lambda x, y: {"labels": None}),
    ("labels", lambda x, y: {"labels": y.astype(np.float32)}),
    ("labels", lambda x, y: {"labels": y + 253}),
    ("labels", lambda x, y: {"labels": jnp.asarray(y - 1)}),
    ("labels", lambda x, y: {"labels": np.where(y == 0, 255, y + 2), "ignore_index": 255}),
    ("labels", lambda x, y: {"labels": y + 2**32}),
]
SPOILED_MASKS = [
    ("labels", masks(lambda y: {"labels": y + 21})),
    ("predictions", masks(lambda y: {"logits": y + 21})),
    ("predictions", masks(lambda y: {"logits": y[..., 1:]})),
    ("predictions", masks(lambda y: {"logits": y.astype(float)})),
    ("num_classes", masks(lambda y: {"labels": np.where(y == 0, 10**6, y), "num_classes": None})),
    ("num_classes", masks(lambda y: {"num_classes": 2})),
    ("num_classes", masks(lambda y: {"num_classes": 21.0})),
    ("predictions", masks(lambda y: dict.fromkeys(("logits", "labels"), np.broadcast_to(np.uint8(1), (1 << 16,) * 2)))),
]


DOORS = {
    "scores with labels": (SPOILED_SCORES, LABELLED),
    "scores alone": (SPOILED_SCORES, UNLABELLED),
    "labels": (SPOILED_LABELS, LABELLED),
    "masks": (SPOILED_MASKS, LABELLED[:2]),
}


@pytest.mark.parametrize(("spoiled", "functions"), DOORS.values(), ids=DOORS)
@EXAMPLES
@given(st.sampled_from([(), (2,), (2, 1)]), st.sampled_from([5, 21]), st.integers(0, 2**16))
def test_spoiled_inputs_are_refused_by_name(spoiled, functions, lead, classes, seed):
    logits, labels = random_case(seed, (*lead, 6, 7), classes)
    labels.flat[:2] = 0, classes - 1
    for (name, change), function in ((each, function) for each in spoiled for function in functions):
        arguments = {"logits": logits, "labels": labels} | change(logits, labels)
        arrays = [arguments.pop("logits"), arguments.pop("labels")][: 1 if functions is UNLABELLED else 2]
        with pytest.raises((TypeError, ValueError)) as error:
            function(*arrays, **arguments)
        assert name in str(error.value).split(":")[0], (function, change, error)
        assert "\n" not in str(error.value)


def test_label_maps_without_a_number_of_classes_are_refused_under_jit():
    _, labels = random_case(8, (2, 5, 6))
    with pytest.raises(ValueError):
        jax.jit(lambda masks: metrics.decompose(masks, labels, kind="masks"))(labels)


def test_labels_of_another_shape_are_refused_under_jit():
    logits, labels = random_case(8, (2, 5, 6))
    with pytest.raises(ValueError):
        jax.jit(metrics.decompose)(logits, labels[:1])


def test_constant_labels_out_of_range_are_refused_under_jit():
    logits, labels = random_case(8, (2, 5, 6))
    constant = jnp.asarray(labels + 1)
    with pytest.raises(ValueError):
        jax.jit(lambda logits: metrics.decompose(logits, constant))(logits)


@pytest.fixture(scope="module")
def large_case():
    """Logits and labels of images that are large enough to be told from other scores."""
    return random_case(2, (2, 40, 70), 5)


PROBABILITIES = {
    "rounded": lambda logits: softmax(logits).astype(np.float16),
    "JAX's": lambda logits: jnp.asarray(softmax(logits)),
}


@pytest.mark.parametrize("change", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_passed_as_logits_are_recognised(large_case, change):
    logits, labels = large_case
    with pytest.warns(UserWarning, match="kind=") as caught:
        metrics.decompose(change(logits), labels)
    assert caught[0].filename == __file__


def test_labels_passed_as_logits_are_recognised(large_case):
    _, labels = large_case
    with pytest.warns(UserWarning, match="kind=") as caught:
        metrics.flip_risk(labels.astype(np.float32))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("shape", [(2, 7, 9, 40), (5, 64, 64), (3, 40, 40)], ids=str)
def test_the_last_axis_is_one_of_classes_whatever_the_sizes(shape):
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert metrics.decompose(logits, np.zeros(shape[:-1], int)).confusion.shape[-1] == shape[-1]
    assert metrics.flip_risk(logits).shape == shape[:-3]


# Warnings are errors here.
LOGITS = {
    "drawn": lambda logits, labels: logits,
    "cut at 0 and 1": lambda logits, labels: np.clip(logits, 0, 1),
    "one-hot": lambda logits, labels: np.eye(5)[labels],
}


@pytest.mark.parametrize("change", LOGITS.values(), ids=LOGITS)
def test_of_logits_no_warning_is_given(large_case, change):
    logits, labels = large_case
    metrics.decompose(change(logits, labels), labels)


def test_of_one_hot_scores_of_many_classes_no_warning_is_given(large_case):
    _, labels = large_case
    metrics.flip_risk(np.eye(40)[labels])


def test_infinite_logits_of_the_right_class_flip_nothing(large_case):
    _, labels = large_case
    infinite = np.where(np.eye(5)[labels] > 0, np.inf, -np.inf)
    assert (metrics.decompose(infinite, labels).flip == 0).all()


def test_a_number_of_classes_may_be_an_array_of_numpy(large_case):
    _, labels = large_case
    counts = [metrics.decompose(labels, labels, kind="masks", num_classes=C).confusion for C in (5, np.array(5))]
    np.testing.assert_array_equal(*counts)


@EXAMPLES
@given(
    lead=st.sampled_from([(), (2,), (2, 2)]),
    spatial=st.sampled_from([(9, 7), (8, 8), (2, 9, 8)]),
    classes=st.sampled_from([3, 5, 21]),
)
def test_the_advice_of_a_message_works(lead, spatial, classes):
    logits, labels = random_case(7, (*lead, *spatial), classes)
    axis, one_hot, ndim = len(lead), np.eye(classes, dtype=int)[labels], len(spatial)
    order = (*range(axis), *range(axis + 1, logits.ndim), axis)
    for scores, truth, advice in (
        (np.moveaxis(logits, -1, axis), labels, f"np.transpose(logits, {order})"),
        (logits, np.expand_dims(labels, axis), f"labels.squeeze({axis})"),
        (logits, labels[..., None], "labels[..., 0]"),
        (logits, one_hot, "labels.argmax(-1)"),
        (logits, np.moveaxis(one_hot, -1, axis), f"labels.argmax({axis})"),
        (logits, np.kron(labels, np.ones((2,) * ndim, int)), "resize first"),
    ):
        with pytest.raises(ValueError) as caught:
            metrics.decompose(scores, truth, spatial_ndim=ndim)
        assert advice in str(caught.value)
        if "resize" not in advice:
            repaired = eval(advice, {"np": np, "logits": scores, "labels": truth})
            np.testing.assert_array_equal(repaired, logits if "logits" in advice else labels)


def test_options_are_the_fields_of_a_label_spec():
    fields = {field.name: field.type for field in dataclasses.fields(LabelSpec)}
    options = {name: hint.__forward_arg__ for name, hint in LabelOptions.__annotations__.items()}
    assert options == {name: kind for name, kind in fields.items() if name != "class_names"}
