"""FlipMetric in other people's loops."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python
from matplotlib.figure import Figure

from flipjax import metrics
from flipjax.audit import stream
from flipjax.config.groups import TWO_BY_TWO, NamedGroups
from flipjax.metrics import FlipMetric
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.statistics.intervals import estimate_rate
from metrics.logits import random_case


def test_a_metric_gathers_batches():
    logits, labels = random_case(5, (8, 5, 6))
    groups = np.arange(8) % 4
    labels[:, 0] = 255
    wanted = metrics.summarize(metrics.decompose(logits, labels, ignore_index=255), groups, class_names=["cat", "dog"])
    options = {"channels": "first", "ignore_index": 255, "class_names": ["cat", "dog"], "all_groups": TWO_BY_TWO}
    first, second = (FlipMetric(**options) for _ in range(2))
    moved = np.moveaxis(logits, -1, 1)
    first.update(moved[:3], labels[:3], groups[:3])
    first.update(moved[3:5], labels[3:5], groups[3:5])
    second.update(moved[5:], labels[5:], groups[5:])
    merged = first.merge(pickle.loads(pickle.dumps(second)))
    assert merged is first
    np.testing.assert_equal(merged.compute(), wanted)
    merged.reset()
    assert merged.merge(second).compute()["n_images"] == 3


def test_a_copy_of_a_metric_goes_on_alone():
    logits, labels = random_case(5, (4, 5, 6))
    first = FlipMetric()
    first.update(logits, labels, [0, 1, 2, 3])
    second = copy.copy(first)
    second.update(logits[:1], labels[:1], [0])
    assert first.compute()["n_images"] == 4 and second.compute()["n_images"] == 5


@pytest.mark.parametrize("sites", [["rome", "oslo", "a/b", "rome"], [3, 0, 7, 3]], ids=["texts", "integers"])
def test_groups_are_names_also_of_two_classes(sites):
    """Four sites of two classes are no classes in scenes: nothing is common or rare."""
    logits, labels = random_case(5, (4, 5, 6))
    metric = FlipMetric(class_names=["cat", "dog"])
    metric.update(logits[:2], labels[:2], sites[:2])
    metric.update(logits[2:], labels[2:], np.array(sites[2:]))
    summary = metric.compute()
    names = {key.split("/")[1] for key in summary if key.startswith("group/")}
    assert names == {str(site).replace("/", "_") for site in sites} and "gap/mean" not in summary
    first = f"group/{sites[0]}/fg_flip"
    of_first = metrics.summarize(metrics.decompose(logits[[0, 3]], labels[[0, 3]]))
    assert summary[first] == pytest.approx(of_first["fg_flip"])


def test_intervals_count_images_of_a_patient_as_one():
    logits, labels = random_case(5, (6, 5, 6))
    alone, together = FlipMetric(), FlipMetric()
    alone.update(logits, labels, ["a", "b"] * 3)
    together.update(logits, labels, ["a", "b"] * 3, clusters=["p", "p", "q", "q", "r", "r"])
    ratio = metrics.decompose(logits, labels)
    counts = np.asarray(ratio.confusion)
    flips = counts[:, 1, 2] + counts[:, 2, 1]
    whole = counts[:, 1:].sum((1, 2))
    for metric, clusters in ((alone, None), (together, [0, 0, 1, 1, 2, 2])):
        expected = estimate_rate(Ratio(flips, whole), clusters=clusters)
        assert metric.intervals()["fg_flip"] == pytest.approx(expected[1:])
    assert "group/a/mean_iou" in together.intervals()
    with pytest.raises(ValueError, match="clusters: expected with every batch or with none"):
        together.update(logits, labels, ["a", "b"] * 3)


def test_patients_whose_names_differ_by_a_slash_are_two():
    logits, labels = random_case(5, (6, 5, 6))
    intervals = []
    for names in (["p/1", "p_1", "q"], ["p", "q", "r"]):
        metric = FlipMetric()
        metric.update(logits, labels, clusters=names * 2)
        intervals.append(metric.intervals()["fg_flip"])
    assert intervals[0] == pytest.approx(intervals[1])


def test_listed_names_have_groups_without_images():
    labels = np.array([[[0, 1, 2]]])
    metric = FlipMetric(kind="masks", num_classes=3, all_groups=NamedGroups(("north", "south")))
    metric.update(labels, labels, ["south"])
    metric.update(labels, labels, [0])
    assert metric.compute()["group/north/n_images"] == 1
    with pytest.raises(ValueError, match="groups: expected names of north, south, found west"):
        metric.update(labels, labels, ["west"])


def test_a_metric_summarises_each_batch():
    labels = np.array([[[1, 1, 2, 3]], [[1, 1, 2, 0]]])
    predictions = np.array([[[2, 2, 2, 3]], [[2, 1, 3, 0]]])
    metric = FlipMetric(kind="masks", num_classes=4, class_names=["cat", "dog", "cow"])
    assert [metric(p[None], y[None])["fg_flip"] for p, y in zip(predictions, labels, strict=True)] == [2 / 4, 2 / 3]
    summary = metric.compute()
    assert (summary["flip/cat"], summary["flip/cow"]) == (3 / 4, 0)
    assert summary["flip_matrix"] == [[1, 0, 0, 0], [0, 1, 3, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    absent = FlipMetric(kind="masks", num_classes=4)(labels[:1, :, :1], labels[:1, :, :1])
    assert np.isnan(absent["flip/class2"]) and np.isnan(absent["iou/class2"]) and absent["mean_iou"] == 1
    # Images of any sizes, with an image axis or without.
    ragged = FlipMetric(kind="masks", num_classes=3, ignore_index=255)
    ragged.update(np.array([[0, 1], [2, 2]]), np.array([[0, 1], [1, 255]]))
    ragged.update(np.array([[[1, 1, 0]]]), np.array([[[1, 2, 2]]]))
    assert [ragged.compute()[f"fg_{name}"] for name in ("correct", "flip", "miss")] == [2 / 5, 2 / 5, 1 / 5]


def test_what_a_metric_refuses_changes_nothing():
    logits, labels = random_case(7, (3, 5, 6))
    more, theirs = random_case(7, (3, 5, 6), 4)
    groups, diverged = np.array([0, 1, 2]), logits.copy()
    diverged[1] = np.nan
    metric = FlipMetric(all_groups=TWO_BY_TWO)
    metric.update(logits, labels, groups)
    groups[:] = 3
    before = metric.compute()
    assert before["group/1/n_images"] == 1
    with_groups, without_groups, of_four = FlipMetric(), FlipMetric(), FlipMetric()
    with_groups.update(logits, labels, [0, 1, 2])
    without_groups.update(logits, labels)
    of_four.update(more, theirs, [0, 1, 2])
    other_names = {names: FlipMetric(class_names=list(names)) for names in ("ab", "ba")}
    refused = {
        r"NaN in images \[1\]": lambda: metric.update(diverged, labels, [0, 1, 2]),
        r"groups: expected 0..3": lambda: metric.update(logits, labels, [0, 1, 7]),
        "groups: expected 3 integers": lambda: metric.update(logits, labels, groups[:2]),
        "groups: expected with every batch": lambda: metric.update(logits, labels),
        "expected 3 classes, found 4": lambda: metric.update(more, theirs, [0, 1, 2]),
        "background: expected the same": lambda: metric.merge(FlipMetric(), FlipMetric(background=1)),
        "ignore_index: expected the same": lambda: metric.merge(FlipMetric(ignore_index=255)),
        "with groups: expected the same": lambda: with_groups.merge(without_groups),
        "classes: expected the same": lambda: with_groups.merge(of_four),
        "class_names: expected the same": lambda: without_groups.merge(other_names["ab"], other_names["ba"]),
        r"class_names: .* found .*'a', 'b'.*'b', 'a'": lambda: FlipMetric(class_names=["a", "b"]).merge(
            other_names["ba"]
        ),
        "at least one update": lambda: FlipMetric().compute(),
        "num_classes": lambda: FlipMetric(kind="masks"),
        "channels": lambda: FlipMetric(channels="middle"),
    }
    for message, call in refused.items():
        with pytest.raises(ValueError, match=message):
            call()
        np.testing.assert_equal(metric.compute(), before)


def test_a_metric_draws_its_shares():
    metric, labels = FlipMetric(kind="masks", num_classes=3), np.array([[[0, 1, 2]]])
    metric.update(labels, labels)
    figure, axes = metric.plot(Figure().subplots())
    assert axes.figure is figure and [bar.get_height() for bar in axes.patches] == [1, 0, 0]


def test_without_torch_the_metric_of_torchmetrics_raises_a_sentence():
    code = """
import sys
sys.modules["torch"] = None
from flipjax.metrics import *
try:
    from flipjax.metrics import TorchFlipMetric
except ImportError as error:
    print(error)
"""
    expected = "TorchFlipMetric: expected PyTorch and torchmetrics, found no torch; pip install torchmetrics.\n"
    assert python(code).stdout == expected


@pytest.fixture
def on_device(monkeypatch):
    """Logits on the host and on two devices, whence fewer numbers than an image's may reach the host, and labels."""
    generator = np.random.default_rng(3)
    labels = np.kron(generator.integers(0, 6, (4, 3, 3)), np.ones((4, 4), int))
    logits = (generator.normal(0, 2, (4, 12, 12, 6)) + 3 * np.eye(6)[labels]).astype(np.float32)
    mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    # A device holds rows of each image, so that an image alone is on all devices, too.
    placed = jax.device_put(logits, jax.NamedSharding(mesh, jax.P(None, "rows")))
    array_type = type(placed)
    read = array_type.__array__

    def guarded(array, *args, **options):
        assert array.size < 12 * 12 * 6, f"the host reads {array.shape}"
        return read(array, *args, **options)

    monkeypatch.setattr(array_type, "__array__", guarded)
    return logits, placed, labels


def test_arrays_of_jax_are_counted_on_their_device(on_device):
    logits, placed, labels = on_device
    metric = FlipMetric()
    metric.update(placed, labels)
    expected = metrics.decompose(logits, labels)
    np.testing.assert_array_equal(metric.decomposition.confusion, expected.confusion)
    np.testing.assert_allclose(metric.decomposition.risk_sum, expected.risk_sum, rtol=1e-5)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_a_stream_reads_maps_of_arrays_of_jax_and_no_scores(tmp_path, without_pictures, on_device, channels):
    logits, placed, labels = on_device
    summaries = []
    for name, scores in (("host", logits), ("device", placed)):
        if channels == "first":
            scores = scores.transpose(0, 3, 1, 2)
        with stream(tmp_path / name, channels=channels) as audit:
            audit.add(scores, labels)
        summaries.append(audit.summary)
    assert summaries[0].keys() == summaries[1].keys()
    for key, value in summaries[0].items():
        np.testing.assert_allclose(summaries[1][key], value, rtol=1e-4, atol=1e-6, err_msg=key)


def test_a_stream_refuses_what_is_on_a_device_as_what_is_not(tmp_path, on_device):
    _, placed, labels = on_device
    audit = stream(tmp_path / "out")
    with pytest.raises(ValueError, match="found 1 without, the first at row 2, column 3, of nan"):
        audit.add(placed.at[1, 2, 3].set(jnp.nan), labels)
    with pytest.raises(ValueError, match=r"predictions: expected logits, found values in 0..1"):
        audit.add(jax.nn.softmax(placed), labels)
