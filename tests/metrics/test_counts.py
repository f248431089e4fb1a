"""FlipCounts against `summarize` of the concatenation, under JAX's transformations, and as a metric of Flax NNX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from flipjax.metrics import FlipCounts
from flipjax.metrics.nnxmetric import NnxFlipMetric
from metrics.logits import EXAMPLES, random_case

SPECS = [{}, {"background": (1, 3), "ignore_index": 255}, {"background": None}]
SHAPE = (4, 3, 5)
C = 5
count = jax.jit(FlipCounts.from_model_output, static_argnames=("background", "ignore_index"))


def case(seed, spec=None):
    """Logits and labels of four images, the first of label 0 alone and some pixels ignored."""
    logits, labels = random_case(seed, SHAPE, C)
    labels[0] = 0
    if spec and "ignore_index" in spec:
        labels[:, 0] = spec["ignore_index"]
    return logits, labels


def check(found, summary, rtol=1e-12):
    """Asserts that what is found equals the summary; shares of single images are as precise as float32."""
    for name, value in found.items():
        precision = 1e-6 if name == "flip_image_mean" else rtol
        np.testing.assert_allclose(value, summary[name], rtol=precision, err_msg=name)


def summaries(seeds, spec):
    parts = [metrics.decompose(*case(seed, spec), **spec) for seed in seeds]
    return metrics.summarize(metrics.concatenate(parts))


@EXAMPLES
@given(st.lists(st.integers(0, 2**16), min_size=1, max_size=4), st.sampled_from(SPECS))
def test_merged_counts_are_those_of_the_concatenation(seeds, spec):
    counts = FlipCounts.empty()
    for seed in seeds:
        counts = counts.merge(count(*case(seed, spec), **spec))
    found = counts.compute()
    check(found, summaries(seeds, spec))
    assert {"n_images", "fg_flip", "flip_image_mean", "mean_iou", "flip/class2", "flip_matrix"} <= found.keys() or spec


@EXAMPLES
@given(st.permutations(range(4)))
def test_the_order_of_merges_changes_no_bit(order):
    parts = [count(*case(seed)) for seed in range(4)]
    first, second = (functools.reduce(FlipCounts.merge, [parts[k] for k in places]) for places in (range(4), order))
    assert first.compute() == second.compute()


def test_names_of_classes():
    names = ["sky", "cat", "dog", "cow", "ox"]
    logits, labels = case(1)
    found = count(logits, labels).compute(class_names=names)
    check(found, metrics.summarize(metrics.decompose(logits, labels), class_names=names))
    assert "flip/cat" in found and "iou/sky" in found


def test_a_scan_carries_them():
    logits, labels = map(jnp.stack, zip(*(case(seed) for seed in range(3)), strict=True))

    @jax.jit
    def evaluate(logits, labels):
        def step(counts, batch):
            return counts.merge(FlipCounts.from_model_output(*batch)), None

        return jax.lax.scan(step, FlipCounts.empty(num_classes=C), (logits, labels))[0]

    check(evaluate(logits, labels).compute(), summaries(range(3), {}))


def test_seeds_are_a_leading_axis():
    logits, labels = map(jnp.stack, zip(*(case(seed) for seed in range(3)), strict=True))
    counts = jax.jit(jax.vmap(FlipCounts.from_model_output))(logits, labels)
    twice = counts.merge(counts).compute()
    for seed in range(3):
        check({name: value[seed] for name, value in twice.items()}, summaries([seed, seed], {}))
    check(counts.reduce().compute(), summaries(range(3), {}))


@pytest.mark.parametrize("mapped", ["vmap", "shard_map"])
def test_psum_over_devices(two_devices, mapped):
    logits, labels = map(jnp.stack, zip(*(case(seed) for seed in range(2)), strict=True))

    def total(logits, labels):
        return jax.lax.psum(FlipCounts.from_model_output(logits, labels), "devices")

    if mapped == "vmap":
        counts = jax.tree.map(lambda leaf: leaf[0], jax.vmap(total, axis_name="devices")(logits, labels))
    else:
        mesh = jax.make_mesh((2,), ("devices",), (jax.sharding.AxisType.Auto,))
        total = jax.shard_map(total, mesh=mesh, in_specs=jax.P("devices"), out_specs=jax.P())
        counts = jax.jit(total)(logits, labels)
    check(counts.compute(), summaries(range(2), {}))
    check(counts.merge(count(*case(5))).compute(), summaries([0, 1, 5], {}))


def test_computed_under_jit_it_is_float32_of_the_same():
    counts = count(*case(3))
    found = jax.jit(lambda counts: counts.compute(class_names=["a", "b", "c", "d"]))(counts)
    check(found, counts.compute(class_names=["a", "b", "c", "d"]), rtol=1e-5)
    assert found["fg_flip"].dtype == jnp.float32


def test_counts_beyond_int32_are_exact():
    logits, labels = random_case(4, (1, 150, 150), C)
    counts = count(logits, labels)
    for _ in range(22):
        counts = counts.merge(counts)
    found = counts.compute()
    one = metrics.summarize(metrics.decompose(logits, labels))
    np.testing.assert_array_equal(found["flip_matrix"], np.array(one["flip_matrix"], object) * 2**22)
    assert np.max(found["flip_matrix"]) > 2**31
    check(found, one | {"n_images": 2**22, "flip_matrix": found["flip_matrix"]})


def test_a_mask_leaves_images_out():
    logits, labels = case(6)
    mask = np.array([False, True, False, True])
    found = count(logits, labels, mask=mask).compute()
    check(found, metrics.summarize(metrics.decompose(logits[mask], labels[mask])))


def test_outputs_of_other_metrics_are_passed_over():
    logits, labels = case(7)
    found = FlipCounts.from_model_output(logits=logits, labels=labels, loss=jnp.ones(3))
    assert found.compute() == count(logits, labels).compute()


def test_options_are_bound_to_a_class():
    spec = SPECS[1]
    bound = FlipCounts.with_options(num_classes=C, **spec)
    logits, labels = case(8, spec)
    assert bound.empty().num_classes == C and bound.empty().background == (1, 3)
    counts = bound.empty().merge(jax.jit(bound.from_model_output)(logits, labels))
    assert type(counts) is bound
    check(counts.compute(), summaries([8], spec))


def test_masks_are_predictions_too():
    _, labels = case(9)
    predictions = np.roll(labels, 1, axis=2)
    found = FlipCounts.from_model_output(predictions, labels, kind="masks", num_classes=C).compute()
    check(found, metrics.summarize(metrics.decompose(predictions, labels, kind="masks", num_classes=C)))


LOGITS, LABELS = case(0)
REFUSED = {
    "no image": (lambda: FlipCounts.empty().compute(), "FlipCounts: expected at least one image, found none"),
    "no image of C": (lambda: FlipCounts.empty(num_classes=3).compute(), "FlipCounts: expected at least one image"),
    "all masked": (
        lambda: count(LOGITS, LABELS, mask=np.zeros(4, bool)).compute(),
        "FlipCounts: expected at least one image, found none",
    ),
    "other classes": (
        lambda: count(LOGITS, LABELS).merge(FlipCounts.empty(num_classes=3)),
        "num_classes: expected 5, as in the counts to merge with, found 3",
    ),
    "other background": (
        lambda: count(LOGITS, LABELS).merge(FlipCounts.empty(num_classes=C, background=None)),
        "background: expected 0, .* found None",
    ),
    "other axes": (
        lambda: count(LOGITS, LABELS).merge(jax.tree.map(lambda leaf: leaf[None], count(LOGITS, LABELS))),
        r"merge: expected counts with leading axes \(\), found \(1,\); reduce sums over the first axis",
    ),
    "no counts": (lambda: count(LOGITS, LABELS).merge({"flips": 3}), "merge: expected FlipCounts, found dict"),
    "no axis": (lambda: count(LOGITS, LABELS).reduce(), "reduce: expected a leading axis"),
    "shape of labels": (lambda: FlipCounts.from_model_output(LOGITS, LABELS[:, 1:]), "labels: expected shape"),
    "shape of mask": (
        lambda: FlipCounts.from_model_output(LOGITS, LABELS, mask=np.ones(3, bool)),
        "mask: expected bool",
    ),
    "type of mask": (lambda: FlipCounts.from_model_output(LOGITS, LABELS, mask=np.ones(4)), "mask: expected bool"),
    "unknown option": (lambda: FlipCounts.from_model_output(LOGITS, LABELS, backgroud=1), "backgroud: expected one of"),
    "names": (
        lambda: count(LOGITS, LABELS).compute(class_names=["a"]),
        "class_names: expected 5 different names, or 4 without the background's, none",
    ),
    "names without a background": (
        lambda: count(LOGITS, LABELS, background=None).compute(class_names=["a"]),
        "class_names: expected 5 different names, none",
    ),
    "options": (lambda: FlipCounts.with_options(kind="scores"), "kind: expected"),
    "names as options": (lambda: FlipCounts.with_options(class_names=["a", "b"]), "class_names: expected by compute"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)


def test_in_a_multi_metric_of_nnx():
    metric = nnx.MultiMetric(loss=nnx.metrics.Average("loss"), flips=NnxFlipMetric(C, class_names=list("abcd")))
    update = nnx.jit(lambda metric, logits, labels: metric.update(logits=logits, labels=labels, loss=jnp.ones(2)))
    for seed in range(2):
        update(metric, *map(jnp.asarray, case(seed)))
    parts = metrics.concatenate([metrics.decompose(*case(seed)) for seed in range(2)])
    check(metric.compute()["flips"], metrics.summarize(parts, class_names=list("abcd")))
    metric.reset()
    with pytest.raises(ValueError, match=r"^FlipCounts: expected at least one image"):
        metric.flips.compute()


def test_under_vmap_of_nnx_over_seeds():
    logits, labels = map(jnp.stack, zip(*(case(seed) for seed in range(3)), strict=True))
    metric = nnx.vmap(lambda _: NnxFlipMetric(C))(jnp.arange(3))
    update = nnx.jit(nnx.vmap(lambda metric, logits, labels: metric.update(logits=logits, labels=labels)))
    update(metric, logits, labels)
    update(metric, logits, labels)
    for seed, share in enumerate(metric.compute()["fg_flip"]):
        assert share == pytest.approx(summaries([seed, seed], {})["fg_flip"], rel=1e-12)


def test_the_metric_of_nnx_refuses_other_classes():
    with pytest.raises(ValueError, match=r"^num_classes: expected 4, .* found 5"):
        NnxFlipMetric(4).update(logits=LOGITS, labels=LABELS)
    with pytest.raises(ValueError, match=r"^class_names: expected 4 different names"):
        NnxFlipMetric(4, class_names=["a"])
