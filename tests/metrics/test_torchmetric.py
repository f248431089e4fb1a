"""The metric of torchmetrics against FlipMetric: in a MetricCollection, in Lightning and over processes."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is no dependency")

from flipjax.config.groups import TWO_BY_TWO  # noqa: E402
from flipjax.metrics import FlipMetric  # noqa: E402
from flipjax.metrics.torchmetric import STATES, TorchFlipMetric  # noqa: E402

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
    first._reduce_states({name: getattr(second, name) for name in STATES})
    check(first.compute(), expected(batches[:2]))


def test_intervals_count_the_images_of_a_patient_as_one(batches):
    patients = ["a", "a", "b", "c"]
    ours, theirs = FlipMetric(channels="first", **OPTIONS), TorchFlipMetric(**OPTIONS)
    for logits, labels in batches:
        ours.update(logits, labels, clusters=patients)
        theirs.update(logits, labels, clusters=patients)
    assert theirs.intervals() == ours.intervals()
    alone = expected_intervals(batches)
    assert theirs.intervals()["fg_flip"] != alone["fg_flip"]
    with pytest.raises(ValueError, match="clusters: expected with every batch or with none"):
        theirs.update(*batches[0])
    with pytest.raises(ValueError, match="clusters: expected names of at most 64 bytes"):
        theirs.update(*batches[0], clusters=["x" * 65] * 4)


def expected_intervals(batches):
    metric = FlipMetric(channels="first", **OPTIONS)
    for batch in batches:
        metric.update(*batch)
    return metric.intervals()


def test_before_the_first_update_there_are_no_numbers():
    with pytest.raises(ValueError, match="TorchFlipMetric: expected at least one update, found none"):
        TorchFlipMetric().intervals()


def test_under_inference_mode(batches):
    metric = TorchFlipMetric(**OPTIONS)
    with torch.inference_mode():
        for batch in batches:
            metric.update(*batch)
    check({"fg_flip": metric.compute()["fg_flip"]}, expected(batches))


# Each process has batches of its own, and prints the numbers of all.
PROCESS = """
import json, sys, torch
from flipjax.metrics import TorchFlipMetric
file, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
torch.manual_seed(0)
labels = torch.randint(0, 3, (3, 4, 6, 7))
batches = [(torch.randn(4, 3, 6, 7), batch) for batch in labels]
metric = TorchFlipMetric(class_names=["cat", "dog"])
for batch in batches[rank::2]:
    metric.update(*batch, ["north", "Köln", "south", "north"], clusters=[rank, rank, "b", "b"])
summary = {key: value.item() for key, value in metric.compute().items()}
print(json.dumps([summary, metric.intervals()["fg_flip"]]))
"""


def test_two_processes_have_the_sums_of_one(tmp_path):
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "meeting")]
    processes = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    found = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert found[0] == found[1]
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (3, 4, 6, 7))
    batches = [(torch.randn(4, 3, 6, 7), batch) for batch in labels]
    alone = FlipMetric(channels="first", class_names=["cat", "dog"])
    # In the order of the processes, which hold the first and third batch, and the second.
    for rank, place in ((0, 0), (0, 2), (1, 1)):
        patients = np.array([rank, rank, "b", "b"], object)
        alone.update(*batches[place], ["north", "Köln", "south", "north"], clusters=patients)
    summary, (low, high) = found[0]
    check({key: torch.tensor(value) for key, value in summary.items()}, alone.compute())
    assert "group/Köln/dice/cat" in summary and alone.intervals()["fg_flip"] == (low, high)


def test_in_lightning(batches):
    lightning = pytest.importorskip("lightning", reason="Lightning is no dependency")

    class Segmenter(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.flips = TorchFlipMetric(keys=("fg_flip", "dice/cat"), **OPTIONS)

        def validation_step(self, batch, index):
            self.flips.update(*batch)

        def on_validation_epoch_end(self):
            self.log_dict(self.flips.compute())
            self.flips.reset()

    images = torch.utils.data.StackDataset(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with warnings.catch_warnings():
        # Lightning's advice on workers, checkpoints and a Slurm that it finds.
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(accelerator="cpu", **options)
        (logged,) = trainer.validate(Segmenter(), torch.utils.data.DataLoader(images, batch_size=5), verbose=False)
    check({key: torch.tensor(value) for key, value in logged.items()}, expected(batches))
