"""Audits a PyTorch model on slices of patients from two sites: python sweeps/examples/audit_my_model.py [OUT]

Rates with intervals over patients, which class is missed or taken for which, on which site, the images to look at
(OUT/index.html), and limits that a release must pass. Put your model and your data in place of the made-up ones.
Predictions on disk: `flipjax audit`.
"""

import sys

import torch
from torch.utils.data import DataLoader

import flipjax.audit

torch.manual_seed(0)
model = torch.nn.Conv2d(3, 3, kernel_size=3, padding=1).eval()  # images (N, 3, H, W) to logits (N, C, H, W)
images, labels = torch.rand(12, 3, 24, 24), torch.randint(0, 3, (12, 24, 24))
patients = [f"patient_{i // 3}" for i in range(12)]
sites = ["north" if i < 6 else "south" for i in range(12)]
loader = DataLoader(list(zip(images, labels, patients, sites, strict=True)), batch_size=4)

out = sys.argv[1] if len(sys.argv) > 1 else "runs/my_model"
limits = {"fg_flip:high": 0.9, "missed_segments/dog": 0.5}
options = {"class_names": ["background", "cat", "dog"], "channels": "first"}
with torch.inference_mode(), flipjax.audit.stream(out, fail_above=limits, **options) as audit:
    for batch, truth, of_patient, of_site in loader:
        photos = (255 * batch.permute(0, 2, 3, 1)).round().byte()
        audit.add(model(batch), truth, images=photos, groups=of_site, clusters=of_patient)
for name in ("fg_correct", "fg_flip", "fg_miss", "group/south/fg_flip"):
    low, high = audit.intervals[name]
    print(f"{name} {audit.summary[name]:.3f} [{low:.3f}, {high:.3f}]")
for line in audit.failed:
    print(line)
