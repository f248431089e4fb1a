"""The metric in torchmetrics' MetricCollection, against FlipMetric; tests/sweeps/test_examples.py runs it in
Lightning.
"""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is no dependency")

from flipjax.config.groups import TWO_BY_TWO  # noqa: E402
from flipjax.metrics import FlipMetric  # noqa: E402
from flipjax.metrics.torchmetric import TorchFlipMetric  # noqa: E402

OPTIONS = {"ignore_index": 255, "class_names": ["cat", "dog"]}


@pytest.fixture
def batches():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (3, 4, 6, 7))
    labels[:, :, 0] = 255
    return [(torch.randn(4, 3, 6, 7), batch) for batch in labels]


def expected(batches, groups=None, **options):
    metric = FlipMetric(channels="first", **OPTIONS, **options)
    for logits, labels in batches:
        metric.update(logits, labels, groups)
    return metric.compute()


def check(found, summary):
    for name, value in found.items():
        torch.testing.assert_close(value, torch.tensor(float(summary[name])), equal_nan=True)


def test_in_a_metric_collection(batches):
    accuracy = torchmetrics.classification.MulticlassAccuracy(3, ignore_index=255)
    metrics = torchmetrics.MetricCollection({"accuracy": accuracy, "flips": TorchFlipMetric(**OPTIONS)}, prefix="val_")
    for batch in batches:
        told = metrics(*batch)
        check({"fg_flip": told["val_fg_flip"]}, expected([batch]))
    found = metrics.compute()
    summary = expected(batches)
    scalars = [name for name, value in summary.items() if isinstance(value, int | float)]
    assert set(found) == {"val_accuracy", *(f"val_{name}" for name in scalars)}
    check({name: found[f"val_{name}"] for name in scalars}, summary)
    metrics.reset()
    metrics.update(preds=batches[0][0], target=batches[0][1])
    check({"fg_flip": metrics.compute()["val_fg_flip"]}, expected(batches[:1]))


def test_groups_are_names_of_sites(batches):
    sites = ["Köln", "west", "west", "north"]
    metric = TorchFlipMetric(ignore_index=255)
    for logits, labels in batches:
        metric.update(logits, labels, sites)
    found = metric.compute()
    assert "gap/mean" not in found and "group/Köln/fg_flip" in found
    check({name: found[name] for name in ("group/west/fg_flip", "fg_flip")}, expected(batches, sites))
    with pytest.raises(ValueError, match="at most 64 bytes"):
        metric.update(*batches[0], ["x" * 65] * 4)


def test_groups_keys_and_what_is_refused(batches):
    groups = torch.arange(4)
    metric = TorchFlipMetric(keys=("gap/mean", "fg_flip"), ignore_index=255, all_groups=TWO_BY_TWO)
    for logits, labels in batches:
        metric.update(logits, labels, groups)
    check(metric.compute(), expected(batches, groups, all_groups=TWO_BY_TWO))
    assert list(metric.compute()) == ["gap/mean", "fg_flip"]
    with pytest.raises(ValueError, match="groups: expected with every batch or with none"):
        metric.update(*batches[0])
    with pytest.raises(ValueError, match="predictions: expected 3 classes, found 4"):
        metric.update(torch.randn(4, 4, 6, 7), batches[0][1], groups)
    assert len(metric.confusion) == len(batches)
    for key in ("fg_flop", "risk_decile", "iuo/a"):  # Unknown, or no number: before any batch.
        with pytest.raises(ValueError, match=f"^keys: .* found {key}"):
            TorchFlipMetric(keys=("fg_flip", key))
    with pytest.raises(ValueError, match=r"^keys: .* found gap/mean"):
        TorchFlipMetric(keys=("fg_flip", "gap/mean"), ignore_index=255).update(*batches[0])
    # As torch.distributed would gather them.
    first, second = TorchFlipMetric(**OPTIONS), TorchFlipMetric(**OPTIONS)
    first.update(*batches[0])
    second.update(*batches[1])
    first._reduce_states({name: getattr(second, name) for name in ("confusion", "risk_sum", "groups")})
    check(first.compute(), expected(batches[:2]))
