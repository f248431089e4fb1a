"""Measures the flips of a PyTorch model in its evaluation loop: python sweeps/examples/pytorch_loop.py

Put your model and your DataLoader in place of the made-up ones; labels are (N, H, W) integers, 255 is ignored. For
torchmetrics' MetricCollection, Lightning's `self.log_dict` and several processes there is
`flipjax.metrics.torchmetric.TorchFlipMetric`, with the same options. A DataLoader with workers wants
`persistent_workers=True`: forked later, they make JAX warn of its threads.
"""

import torch
from torch.utils.data import DataLoader, TensorDataset

from flipjax.metrics import FlipMetric


def scalars(flips):
    """Returns the numbers of a metric that are no lists, as loggers take them."""
    return {name: value for name, value in flips.compute().items() if isinstance(value, (int, float))}


torch.manual_seed(0)
model = torch.nn.Conv2d(3, 3, kernel_size=3, padding=1).eval()  # images (N, 3, H, W) to logits (N, C, H, W)
images, labels = torch.rand(32, 3, 24, 24), torch.randint(0, 3, (32, 24, 24))
labels[:, :2] = 255
loader = DataLoader(TensorDataset(images, labels), batch_size=8)

flips = FlipMetric(channels="first", ignore_index=255, class_names=["cat", "dog"])
with torch.inference_mode():
    for batch, truth in loader:
        flips.update(model(batch), truth)
for name in ("fg_correct", "fg_flip", "fg_miss", "iou/cat", "risk_auroc"):
    print(f"{name} {scalars(flips)[name]:.3f}")
