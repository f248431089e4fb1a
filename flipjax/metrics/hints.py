"""What is said where shapes do not fit: what they look like, and what to pass."""

from __future__ import annotations

# Without labels, a channels-first array is only recognisable where its last axis cannot be a number of classes.
_FEW_ROWS = range(3, 8)
MANY_CLASSES = 32


def looks_channels_first(shape: tuple[int, ...], spatial_ndim: int) -> bool:
    """Says whether the last axis is too long for classes and the first spatial one short, or the last two a square."""
    first, *_, before, last = shape[-1 - spatial_ndim :]
    return last >= MANY_CLASSES and (first in _FEW_ROWS or first < before == last)


def channels_first_hint(shape: tuple[int, ...], spatial_ndim: int) -> str:
    """Says how to pass an array of this shape, whose classes stand before its spatial axes."""
    lead = len(shape) - spatial_ndim - 1
    axes = (*range(lead), *range(lead + 1, len(shape)), lead)
    return (
        f"shape {shape} is channels-first, expected channels last: "
        f"pass channels='first', or np.transpose(logits, {axes}), for PyTorch logits.permute{axes}."
    )


def shape_message(labels: tuple[int, ...], logits: tuple[int, ...], spatial_ndim: int) -> str:
    """Says why the labels' shape is not that of the logits without their last axis, and what to pass in their place."""
    lead = len(logits) - spatial_ndim - 1
    before, after, spatial = logits[:lead], logits[lead + 1 :], logits[lead:-1]
    first = f"The logits' {channels_first_hint(logits, spatial_ndim)}"
    # Of two that are the same shape, the later.
    advice = {
        (*before, logits[-1], *spatial): f"One-hot labels? Pass labels.argmax({lead}).",
        (*before, 1, *spatial): f"Pass labels.squeeze({lead}).",
        (*logits[:-1], 1): "Pass labels[..., 0].",
        logits: f"One-hot labels? Pass labels.argmax(-1), or channels first labels.argmax({lead}). Class indices "
        "in place of logits? Pass integers and kind='masks', for PyTorch logits.long().",
        (*before, 1, *after): f"Pass labels.squeeze({lead}). {first}",
        (*before, *after): first,
    }
    message = (
        f"labels: expected shape {logits[:-1]}, that of the logits {logits} without their last axis, found {labels}."
    )
    return f"{message} {advice[labels]}" if labels in advice else message + resize_hint(labels, logits, spatial_ndim)


def resize_hint(labels: tuple[int, ...], logits: tuple[int, ...], spatial_ndim: int) -> str:
    """Says what to do where the logits are smaller than the labels by one factor along all axes, in either layout."""
    target = labels[-spatial_ndim:]
    for source in (logits[-1 - spatial_ndim : -1], logits[-spatial_ndim:]):
        factors = {large / small for large, small in zip(target, source, strict=True) if small}
        if len(target) == spatial_ndim and len(factors) == 1 and factors != {1.0}:
            return (
                f" The logits are {' x '.join(map(str, source))}, the labels {' x '.join(map(str, target))}: resize "
                f"first, in PyTorch torch.nn.functional.interpolate(logits, size={tuple(target)}), in JAX "
                "jax.image.resize."
            )
    return ""
