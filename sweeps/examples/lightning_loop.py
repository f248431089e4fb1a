"""Logs flips from Lightning, and from a MetricCollection of torchmetrics: python sweeps/examples/lightning_loop.py

Needs `lightning`, which brings torchmetrics. Put your module and your DataLoader in place of the made-up ones. Logits
are reduced on the device where they are, and sums are joined over processes. `update` also takes `groups` and
`clusters`, and `intervals()` returns 95% intervals.
"""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from flipjax.metrics import TorchFlipMetric


class Segmenter(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Conv2d(3, 3, kernel_size=3, padding=1)
        flips = TorchFlipMetric(keys=("fg_correct", "fg_flip", "fg_miss", "mean_dice"), ignore_index=255)
        accuracy = MulticlassAccuracy(num_classes=3, ignore_index=255)
        self.metrics = MetricCollection({"flips": flips, "accuracy": accuracy}, prefix="val_")

    def validation_step(self, batch, index):
        images, labels = batch
        self.metrics.update(self.network(images), labels)

    def on_validation_epoch_end(self):
        self.log_dict(self.metrics.compute())
        self.metrics.reset()


torch.manual_seed(0)
images, labels = torch.rand(32, 3, 24, 24), torch.randint(0, 3, (32, 24, 24))
labels[:, :2] = 255
trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
(logged,) = trainer.validate(Segmenter(), DataLoader(TensorDataset(images, labels), batch_size=8), verbose=False)
for name, value in logged.items():
    print(f"{name} {value:.3f}")
