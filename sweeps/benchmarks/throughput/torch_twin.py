"""The same U-Net in PyTorch, and the models one after another; only processes of `bench.py` and `gpu.py` import it."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

IMAGES, BATCH = 256, 16


def block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, widths=(16, 32, 64), classes=3):
        super().__init__()
        self.encoder = nn.ModuleList(block(i, o) for i, o in zip((3, *widths), widths, strict=False))
        self.decoder = nn.ModuleList(block(d + s, s) for d, s in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images):
        hidden, skips = images, []
        for level, encode in enumerate(self.encoder):
            hidden = encode(functional.max_pool2d(hidden, 2) if level else hidden)
            skips.append(hidden)
        for decode, skip in zip(self.decoder, skips[-2::-1], strict=True):
            hidden = decode(torch.cat([functional.interpolate(hidden, scale_factor=2.0, mode="nearest"), skip], 1))
        return self.head(hidden)

    def take_over(self, params):
        """Copies flipjax's weights: kernels (height, width, inputs, outputs), the two blocks' parts by name."""

        def kernel(array):
            return torch.from_numpy(array.transpose(3, 2, 0, 1).copy())

        with torch.no_grad():
            for side in ("encoder", "decoder"):
                for index, (convolution, norm, _, second, second_norm, _) in enumerate(getattr(self, side)):
                    source = params[side][index]
                    for name, conv, bn in (("first", convolution, norm), ("second", second, second_norm)):
                        conv.weight.copy_(kernel(source[name]))
                        bn.weight.copy_(torch.from_numpy(source[f"{name}_norm"]["scale"].copy()))
                        bn.bias.copy_(torch.from_numpy(source[f"{name}_norm"]["bias"].copy()))
            self.head.weight.copy_(kernel(params["head"]["kernel"][None, None]))
            self.head.bias.copy_(torch.from_numpy(params["head"]["bias"].copy()))


def take_step(model, optimizer, images, labels):
    loss = functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def make_model(*, device="cpu", compiled=False, width=16):
    model = UNet((width, 2 * width, 4 * width)).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    # One launch a pass on a card (CUDA graphs), where launches are what small models wait for.
    return torch.compile(model, mode="reduce-overhead") if compiled else model, optimizer


class Sequential:
    """Models trained one after another. Their images are ready as float32: nothing is composed or flipped."""

    def __init__(self, *, members, steps, threads, size=32, width=16, device="cpu", compiled=False):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.steps = steps
        self.models = [make_model(device=device, compiled=compiled, width=width) for _ in range(members)]
        # Gathered as (B, H, W, 3) and permuted, a batch is channels_last without a copy.
        self.images = torch.rand(IMAGES, size, size, 3, device=device)
        self.labels = torch.randint(0, 3, (IMAGES, size, size), device=device)

    def epoch(self):
        for model, optimizer in self.models:
            order = torch.randint(0, IMAGES, (self.steps, BATCH), device=self.images.device)
            for batch in order:
                loss = take_step(model, optimizer, self.images[batch].permute(0, 3, 1, 2), self.labels[batch])
            assert torch.isfinite(loss), loss

    def check(self, params, images, labels, expected):
        """Repeats flipjax's steps from the same weights; returns parameters and the largest difference in the loss."""
        model, optimizer = make_model()
        model.take_over(params)
        batch = torch.from_numpy(images.copy()).permute(0, 3, 1, 2), torch.from_numpy(labels.copy()).long()
        result = [float(take_step(model, optimizer, *batch)) for _ in expected]
        np.testing.assert_allclose(result, expected, rtol=1e-4)
        return sum(p.numel() for p in model.parameters()), float(np.abs(np.subtract(result, expected)).max())


def make(kind, *, members, steps, cores, augmented=False, size=32, width=16):
    """Returns a contender. `kind`: "threads" or "single" of a CPU, or a device and "eager" or "compiled"."""
    if kind in ("threads", "single"):
        threads = cores if kind == "threads" else 1
        return Sequential(members=members, steps=steps, threads=threads, size=size, width=width)
    device, form = kind.split()
    return Sequential(members=members, steps=steps, threads=1, size=size, device=device, compiled=form == "compiled")
