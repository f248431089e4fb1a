"""Measures the flips of a PyTorch model in its evaluation loop: python sweeps/examples/pytorch_loop.py

Put your model and your DataLoader in place of the made-up ones; labels are (N, H, W) integers, 255 is ignored. Logits
are reduced on the device where they are, in float32, float16 or bfloat16; only confusion matrices and sums leave it.
For torchmetrics' MetricCollection, Lightning's `self.log_dict` and several processes there is
`flipjax.metrics.TorchFlipMetric`, with the same options. A DataLoader with workers wants `persistent_workers=True`:
forked later, they make JAX warn of its threads.
"""

import torch
from torch.utils.data import DataLoader, StackDataset

from flipjax.metrics import FlipMetric

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.nn.Conv2d(3, 3, kernel_size=3, padding=1).eval().to(device)  # images (N, 3, H, W) to logits (N, C, H, W)
images, labels = torch.rand(32, 3, 24, 24), torch.randint(0, 3, (32, 24, 24))
labels[:, :2] = 255
patients = [f"patient {i // 4}" for i in range(32)]
loader = DataLoader(StackDataset(images, labels, patients), batch_size=8)

flips = FlipMetric(channels="first", ignore_index=255, class_names=["cat", "dog"])
with torch.inference_mode():
    for batch, truth, of_patient in loader:
        logits = model(batch.to(device))
        # Images of a patient are not independent: intervals count them as one. `groups=` would compare sites.
        flips.update(logits, truth.to(device), clusters=of_patient)
summary, intervals = flips.compute(), flips.intervals()
for name in ("fg_correct", "fg_flip", "fg_miss", "dice/cat", "iou/cat"):
    low, high = intervals[name]
    print(f"{name} {summary[name]:.3f} [{low:.3f}, {high:.3f}]")
