"""Takes a trained U-Net out of a run: to a file, to PyTorch, and into an audit: python sweeps/examples/model_out.py

It needs PyTorch; `benchmark_pytorch.py`, whose network it is there, lies beside it.
"""

import numpy as np
import torch
from benchmark_pytorch import UNet, channels_first
from safetensors.torch import load_file

import flipjax

flipjax.setup()  # A device per core.
run = flipjax.run("smoke", {"train.epochs": 4, "axes.seed": (0,)}, workdir="runs/model_out")
member = run.member("m001")
model = member.model()  # a pure function of images, for jit, vmap and grad
path = model.save("model.safetensors")
images = member.images().test

net = UNet(len(model.class_names)).eval()
net.load_state_dict(load_file(path))
with torch.inference_mode():
    logits = np.moveaxis(net(channels_first(images.images)).numpy(), 1, -1)
print(f"largest difference of logits {np.abs(logits - model.logits(images.images)).max():.1e}")

again = flipjax.load_model(path)
with flipjax.audit.stream("runs/model_out_audit", class_names=again.class_names) as audit:
    audit.add(again.logits(images.images), images.masks, images=np.rint(255 * images.images).astype(np.uint8))
print(f"Flip {audit.summary['fg_flip']:.3f}, as stored {member.decomposition().flip.mean():.3f} a mean image")
