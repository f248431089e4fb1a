"""Takes a trained U-Net out of a run: to a file, to PyTorch, and into an audit: python sweeps/examples/model_out.py

It needs PyTorch.
"""

import numpy as np
import torch

import flipjax

flipjax.setup()  # A device per core.
run = flipjax.run("smoke", {"train.epochs": 4, "axes.seed": (0,)}, workdir="runs/model_out")
member = run.member("m001")
model = member.model()  # a pure function of images, for jit, vmap and grad
path = model.save("model.safetensors")
images = member.images().test

net = model.torch()  # a torch.nn.Module with the same weights
with torch.inference_mode():
    logits = net(torch.tensor(images.images).movedim(-1, 1)).movedim(1, -1).numpy()
print(f"largest difference of logits {np.abs(logits - model.logits(images.images)).max():.1e}")

again = flipjax.load_model(path)
with flipjax.audit.stream("runs/model_out_audit", class_names=again.class_names) as audit:
    audit.add(again.logits(images.images), images.masks, images=np.rint(255 * images.images).astype(np.uint8))
print(f"Flip {audit.summary['fg_flip']:.3f}, as stored {member.decomposition().flip.mean():.3f} a mean image")
