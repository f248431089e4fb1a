"""A small U-Net (Ronneberger et al., 2015) for populations: written for packs, and a member alone is a pack of one."""

import jax
import jax.numpy as jnp
from flax import nnx

from flipjax.config import ModelSpec
from flipjax.models.packs.layers import ConvolutionBlock, halve, halve_by_slices, he_kernels
from flipjax.models.packs.network import PackNetwork
from flipjax.models.packs.pack import Pack


class UNet(PackNetwork):
    """Encoder of `depth` levels, decoder with skip connections, and head; 2**(depth - 1) divides height and width."""

    def __init__(self, spec: ModelSpec, *, num_classes: int, rngs: nnx.Rngs):
        """Makes the levels with `spec.width * 2**level` channels."""
        widths = [spec.width * 2**level for level in range(spec.depth)]
        # Channels into and out of each block, of the encoder and then of the decoder.
        channels = [*zip([3, *widths[:-1]], widths, strict=True)]
        channels += [(deep + skip, skip) for deep, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        shapes: list[tuple[int, ...]] = []
        for inputs, outputs in channels:
            shapes.append((3, 3, inputs, outputs))
            shapes.append((3, 3, outputs, outputs))
        *kernels, head = he_kernels(rngs.params(), [*shapes, (1, 1, widths[0], num_classes)])
        blocks = []
        for first, second in zip(kernels[::2], kernels[1::2], strict=True):
            blocks.append(ConvolutionBlock(first, second, norm=spec.norm))
        self.dtype = jnp.dtype(spec.dtype)
        self.encoder = nnx.List(blocks[: spec.depth])
        self.decoder = nnx.List(blocks[spec.depth :])
        self.head = nnx.Linear(widths[0], num_classes, kernel_init=lambda *_: head[0, 0], rngs=rngs)

    def inputs_of_head(self, images: jax.Array) -> tuple[Pack, jax.Array]:
        """Maps images (B, H, W, 3) in [0, 1] to a pack of `width` channels, and to whether members are finite."""
        pack = self.as_pack(images, channels=self.head.kernel.shape[-2])
        pool = halve_by_slices
        if self.head.kernel.ndim == 2:
            pool = halve
        skips = []
        finite = []
        for level, block in enumerate(self.encoder):
            if level:
                pack = [pool(chunk) for chunk in pack]
            pack, whole = block(pack)
            skips.append(pack)
            finite.append(whole)
        for block, skip in zip(self.decoder, skips[-2::-1], strict=True):
            pack, whole = block(pack, skip=skip)
            finite.append(whole)
        return [chunk.astype(jnp.float32) for chunk in pack], jnp.stack(finite).all(0)
