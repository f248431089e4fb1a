"""Audits a PyTorch model, from a DataLoader to a page: python sweeps/examples/audit_my_model.py [OUT]

Tables with intervals, which class is taken for which, what to mend first, the images to look at (OUT/index.html). Put
your model and your data in place of the made-up ones. Predictions on disk: `flipjax audit`.
"""

import sys

import torch
from torch.utils.data import DataLoader, TensorDataset

import flipjax.audit

torch.manual_seed(0)
model = torch.nn.Conv2d(3, 3, kernel_size=3, padding=1).eval()  # images (N, 3, H, W) to logits (N, C, H, W)
images, labels = torch.rand(12, 3, 24, 24), torch.randint(0, 3, (12, 24, 24))
loader = DataLoader(TensorDataset(images, labels), batch_size=4)

out = sys.argv[1] if len(sys.argv) > 1 else "runs/my_model"
with (
    torch.inference_mode(),
    flipjax.audit.stream(out, class_names=["background", "cat", "dog"], channels="first") as audit,
):
    for batch, truth in loader:
        photos = (255 * batch.permute(0, 2, 3, 1)).round().byte()
        audit.add(model(batch), truth, images=photos)
for name in ("fg_correct", "fg_flip", "fg_miss", "seg_flip"):
    print(f"{name} {audit.summary[name]:.3f}")
