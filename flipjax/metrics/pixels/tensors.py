"""Reduces PyTorch tensors on the device where they are, with PyTorch's operations: the twin of the kernels in JAX.

`count_tensors` and `map_tensors` are pure functions from tensors to sums and to maps. `decompose_tensors` and
`read_maps` check tensors, call these for a part of the pixels at a time, and return NumPy arrays. So the outputs of a
model never leave their device. What reaches the host are confusion matrices and summed entropies, or maps with four
numbers for each pixel, and the few numbers that a check compares.

A function imports this module once it has a tensor, so that nothing else loads PyTorch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.inputs import checks
from flipjax.metrics.inputs.classes import LabelSpec
from flipjax.metrics.inputs.host import Outputs, read_array

CLASS = 1
"""The axis of classes in outputs (n, C, pixels)."""
LARGEST_GAP = 128.0
"""Largest gap between logits, in nats: exp(-128) is 0 in float32, and times an infinite gap it would be NaN."""
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
"""Smallest normal float32, which stands for 0 in logarithms of probabilities."""
LARGEST_SUBNORMAL = float(np.nextafter(np.finfo(np.float32).tiny, np.float32(0)))
"""Largest subnormal float32. It and all smaller logits count as 0, as on XLA:CPU."""
MOST_ELEMENTS = 1 << 24
"""Most outputs that are reduced at once on an accelerator. Each step needs a few float32 arrays of this size."""
MOST_ELEMENTS_OF_CPU = 1 << 20
"""The same on a CPU, whose caches hold arrays of this size."""
SAMPLED_PIXELS = 36
"""Pixels of each image that mostly show that logits are no probabilities."""


def decompose_tensors(predictions: torch.Tensor, labels: Outputs, spec: LabelSpec) -> Decomposition:
    """Returns what `flipjax.metrics.decompose` does, with NumPy leaves (n, C, C) and (n,) of all leading axes.

    Args:
        predictions: logits, probabilities or masks as `decompose` takes them, on any device.
        labels: integers: a tensor on the same device, or an array, which is copied to it.
        spec: options of both.

    Raises:
        TypeError, ValueError: as in `decompose`, or tensors on two devices.

    Warns:
        UserWarning: logits that look like probabilities.
    """
    with torch.no_grad():
        scores, truth, classes = check_tensors(predictions, labels, spec)
        outputs = arrange(scores, spec)
        pixels = outputs.shape[-1]
        n = len(outputs)
        truth = truth.reshape(n, pixels)
        confusion = torch.zeros((n, classes, classes), dtype=torch.int32, device=outputs.device)
        risk_sum = torch.zeros(n, dtype=torch.float32, device=outputs.device)
        for images, part in _parts(outputs, classes):
            counts, risks = count_tensors(outputs[images, ..., part], truth[images, part], spec, classes=classes)
            confusion[images] += counts
            risk_sum[images] += risks
        return Decomposition(_to_numpy(confusion), _to_numpy(risk_sum), spec.background)


def read_maps(scores: torch.Tensor, spec: LabelSpec) -> list[np.ndarray]:
    """Returns the maps of `map_tensors` as NumPy arrays (*spatial), of checked scores of one image, (*spatial, C)."""
    with torch.no_grad():
        outputs = arrange(scores, spec)
        maps = [map_tensors(outputs[images, ..., part], spec) for images, part in _parts(outputs, 1)]
        return [_to_numpy(torch.cat(parts, -1)).reshape(scores.shape[:-1]) for parts in zip(*maps, strict=True)]


def arrange(outputs: torch.Tensor, spec: LabelSpec) -> torch.Tensor:
    """Returns logits or probabilities as a view (n, C, pixels), or masks as (n, pixels)."""
    shape = tuple(outputs.shape)
    if spec.kind == "masks":
        class_axes = 0
    else:
        class_axes = 1
    lead = shape[: len(shape) - spec.spatial_ndim - class_axes]
    n = math.prod(lead)
    if spec.kind == "masks":
        return outputs.reshape(n, math.prod(shape[len(lead) :]))
    if spec.channels == "first":
        classes, *spatial = shape[len(lead) :]
        return outputs.reshape(n, classes, math.prod(spatial))
    *spatial, classes = shape[len(lead) :]
    return outputs.reshape(n, math.prod(spatial), classes).movedim(-1, CLASS)


def count_tensors(
    outputs: torch.Tensor, labels: torch.Tensor, spec: LabelSpec, *, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the confusion matrix int32 (n, C, C) and the summed risk float32 (n,) of each image; NaN for masks.

    Args:
        outputs: logits or probabilities (n, C, pixels), or masks (n, pixels).
        labels: integers (n, pixels), each a class or ignored.
        spec: options of both.
        classes: C.
    """
    labels = labels.long()
    counted = torch.ones_like(labels, dtype=torch.bool)
    if spec.ignore_index is not None:
        counted = labels != spec.ignore_index
    if spec.kind == "masks":
        prediction = outputs.long()
        risk_sum = torch.full((len(outputs),), math.nan, dtype=torch.float32, device=outputs.device)
    else:
        logits = _as_logits(outputs, spec.kind)
        # The first of equal ones. NaN is the largest, and makes the risk of its pixel NaN, as in JAX.
        top, prediction = logits.max(CLASS)
        in_foreground = torch.tensor(spec.foreground(classes), device=outputs.device)[prediction]
        on_background = torch.where(top.isnan(), top, 0.0)
        risk = torch.where(in_foreground, _entropy(logits, spec), on_background)
        risk_sum = torch.where(counted, risk, 0.0).sum(-1)
    # Pixels that are not counted have an entry of their own, behind those of the matrix.
    entries = torch.where(counted, labels * classes + prediction, classes * classes)
    entries_of_image = classes * classes + 1
    first_entries = torch.arange(len(labels), device=labels.device)[:, None] * entries_of_image
    counts = torch.bincount((entries + first_entries).flatten(), minlength=len(labels) * entries_of_image)
    matrices = counts.reshape(len(labels), entries_of_image)[:, :-1].int()
    return matrices.reshape(len(labels), classes, classes), risk_sum


def map_tensors(outputs: torch.Tensor, spec: LabelSpec) -> tuple[torch.Tensor, ...]:
    """Returns the four maps (n, pixels) of `flipjax.metrics.kernels.PixelMaps`, in the order of its fields.

    Args:
        outputs: logits or probabilities (n, C, pixels).
        spec: their options.
    """
    logits = _as_logits(outputs, spec.kind)
    top, prediction = logits.max(CLASS, keepdim=True)
    foreground = _foreground(logits, spec)
    confidence = _largest_softmax(foreground, foreground.amax(CLASS, keepdim=True))
    return prediction.squeeze(CLASS).int(), confidence, _entropy(logits, spec), _largest_softmax(logits, top)


def check_tensors(
    predictions: torch.Tensor, labels: Outputs, spec: LabelSpec
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Checks predictions and labels on their device; returns both, detached, and the number of classes.

    Raises:
        TypeError, ValueError: as in `flipjax.metrics.inputs.checks.check_pair`, or tensors on two devices.
    """
    name = "predictions" if spec.kind == "masks" else spec.kind
    _check_dense(predictions, name=name)
    scores = predictions.detach()
    truth = _labels_beside(labels, scores)
    if spec.kind == "masks":
        _check_integers(scores, name="predictions")
        _check_integers(truth, name="labels")
        checks.check_shape_of_masks(tuple(scores.shape), spec, labels_shape=tuple(truth.shape))
        classes = spec.num_classes
        if classes is None:
            largest = max(_largest(scores, None), _largest(truth, spec.ignore_index))
            classes = checks.fewest_classes(largest, spec)
        checks.check_number_of_classes(classes, spec)
        _check_range(scores, classes, None, name="predictions")
    else:
        classes = check_scores(scores, spec, labels_shape=tuple(truth.shape))
        _check_integers(truth, name="labels")
        _warn_of_no_logits(scores, spec)
    _check_range(truth, classes, spec.ignore_index, name="labels")
    return scores, truth, classes


def check_scores(scores: torch.Tensor, spec: LabelSpec, *, labels_shape: tuple[int, ...]) -> int:
    """Checks logits or probabilities on their device; returns the number of classes.

    Raises:
        TypeError, ValueError: as in `flipjax.metrics.inputs.checks.check_scores`.
    """
    if not scores.is_floating_point():
        raise TypeError(checks.not_floating(spec.kind, _dtype(scores)))
    classes = checks.check_shape_of_scores(tuple(scores.shape), spec, labels_shape=labels_shape)
    if spec.kind == "probabilities" and scores.numel():
        problem = _no_probabilities(arrange(scores, spec))
        if problem:
            raise ValueError(checks.not_probabilities(problem))
    return classes


def look_like_probabilities(scores: torch.Tensor, spec: LabelSpec) -> bool:
    """Returns whether logits are in 0..1 and sum to 1 at each pixel."""
    outputs = arrange(scores, spec)
    # All pixels are read only if a few of them look like probabilities.
    step = max(1, outputs.shape[-1] // SAMPLED_PIXELS)
    return not (_no_probabilities(outputs[..., ::step]) or _no_probabilities(outputs))


def first_infinite(scores: torch.Tensor) -> tuple[int, tuple[int, ...], float] | None:
    """Looks for pixels of scores (*spatial, C) without a finite largest score.

    Returns:
        Their number, and the place and the largest score of the first; None if there are none.
    """
    tops = scores.amax(-1)
    wrong = ~tops.isfinite()
    count = int(wrong.sum())
    if not count:
        return None
    place = tuple(wrong.nonzero()[0].tolist())
    return count, place, float(tops[place])


def _labels_beside(labels: Outputs, scores: torch.Tensor) -> torch.Tensor:
    """Returns labels as a detached tensor on the device of the scores, to which an array is copied."""
    if isinstance(labels, torch.Tensor):
        _check_dense(labels, name="labels")
        if labels.device != scores.device:
            raise ValueError(f"labels: expected on {scores.device}, as the predictions, found on {labels.device}.")
        return labels.detach()
    array = read_array(labels, name="labels")
    if array.dtype.kind not in "iu":
        raise TypeError(checks.not_integers("labels", array.dtype))
    # PyTorch computes with no other unsigned integers.
    if array.dtype != np.uint8:
        array = array.astype(np.int64)
    return torch.tensor(array, device=scores.device)


def _check_dense(tensor: torch.Tensor, *, name: str) -> None:
    """Raises a TypeError for a sparse or nested tensor."""
    if tensor.is_nested or tensor.layout != torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, found one that is sparse or nested.")


def _check_integers(tensor: torch.Tensor, *, name: str) -> None:
    """Raises a TypeError unless a tensor holds integers."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(checks.not_integers(name, _dtype(tensor)))


def _dtype(tensor: torch.Tensor) -> str:
    """Returns the name of a tensor's type, as NumPy calls it."""
    return str(tensor.dtype).removeprefix("torch.")


def _largest(labels: torch.Tensor, ignore_index: int | None) -> int:
    """Returns the largest label that is not ignored, 0 if there is none."""
    if not labels.numel():
        return 0
    return int(_without_ignored(labels, ignore_index).max())


def _without_ignored(labels: torch.Tensor, ignore_index: int | None) -> torch.Tensor:
    """Returns labels as int64, with 0, which is a class, in place of the ignored one."""
    labels = labels.long()
    if ignore_index is None:
        return labels
    return torch.where(labels != ignore_index, labels, 0)


def _check_range(labels: torch.Tensor, classes: int, ignore_index: int | None, *, name: str) -> None:
    """Raises a ValueError for a label that is no class and not ignored. The host compares two numbers."""
    if not labels.numel():
        return
    low, high = torch.stack(_without_ignored(labels, ignore_index).aminmax()).tolist()
    if low < 0 or high >= classes:
        raise ValueError(checks.no_classes(labels.long().unique().tolist(), classes, ignore_index, name=name))


def _warn_of_no_logits(scores: torch.Tensor, spec: LabelSpec) -> None:
    """Warns of logits that look like probabilities."""
    if spec.kind != "logits" or not scores.numel() or not look_like_probabilities(scores, spec):
        return
    # One-hot scores are probabilities, too, but have no entropy to distort.
    if not bool(((scores == 0) | (scores == 1)).all()):
        # At the caller of `FlipMetric.update`.
        warnings.warn(checks.LOOKS_LIKE_PROBABILITIES, stacklevel=6)


def _no_probabilities(outputs: torch.Tensor) -> str:
    """Returns why values (n, C, pixels) are not probabilities, or an empty string; NaN is ignored."""
    low = math.inf
    high = -math.inf
    worst = 1.0
    for images, part in _parts(outputs, 1):
        values = outputs[images, :, part].float()
        unknown = values.isnan()
        least = torch.where(unknown, math.inf, values).min()
        largest = torch.where(unknown, -math.inf, values).max()
        sums = values.sum(CLASS).flatten()
        farthest = sums[(sums - 1).abs().nan_to_num(nan=0.0).argmax()]
        # Three numbers of each part.
        of_part = torch.stack([least, largest, farthest]).tolist()
        low = min(low, of_part[0])
        high = max(high, of_part[1])
        if abs(of_part[2] - 1) > abs(worst - 1):
            worst = of_part[2]
    if low > high:
        return "NaN alone"
    return checks.problem_of_range(low, high) or checks.problem_of_sum(worst)


def _as_logits(outputs: torch.Tensor, kind: str) -> torch.Tensor:
    """Returns logits (n, C, pixels) in float32, or the logarithms of probabilities, less a constant at each pixel."""
    values = torch.nn.functional.hardshrink(outputs.float(), LARGEST_SUBNORMAL)
    if kind == "logits":
        return values
    # Divided by the largest: probabilities that differ in the last bit could have equal logarithms.
    return (values.clamp(min=SMALLEST_NORMAL) / values.amax(CLASS, keepdim=True)).log()


def _entropy(logits: torch.Tensor, spec: LabelSpec) -> torch.Tensor:
    """Returns the entropy in nats of the softmax over the foreground classes, (n, pixels).

    With the gaps g to the largest logit, and the sum r of exp(-g) over the other classes, it is
    log(1 + r) + sum(g exp(-g)) / (1 + r), which is precise where r is small.
    """
    foreground = _foreground(logits, spec)
    top, largest = foreground.max(CLASS, keepdim=True)
    gaps = _gaps_below(foreground, top)
    shares = torch.exp(-gaps)
    weighted = (gaps * shares).sum(CLASS)
    rest = shares.scatter(CLASS, largest, 0.0).sum(CLASS)
    return torch.log1p(rest) + weighted / (1 + rest)


def _largest_softmax(logits: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Returns the softmax (n, pixels) of the largest logit, `top` (n, 1, pixels)."""
    return 1 / torch.exp(-_gaps_below(logits, top)).sum(CLASS)


def _gaps_below(logits: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Returns how far each logit is below the largest, in nats; 0 for one that equals it, also if infinite."""
    return torch.where(logits == top, 0.0, top - logits).clamp(max=LARGEST_GAP)


def _foreground(logits: torch.Tensor, spec: LabelSpec) -> torch.Tensor:
    """Returns the logits of the foreground classes, in order; a view where these are neighbours."""
    classes = np.flatnonzero(spec.foreground(logits.shape[CLASS]))
    first = int(classes[0])
    end = int(classes[-1]) + 1
    if end - first == len(classes):
        return logits[:, first:end]
    return logits.index_select(CLASS, torch.tensor(classes, device=logits.device))


def _parts(outputs: torch.Tensor, classes: int) -> Iterator[tuple[slice, slice]]:
    """Yields images and pixels of outputs (n, ..., pixels) that are reduced at once, into matrices of C * C."""
    n = len(outputs)
    pixels = outputs.shape[-1]
    of_pixel = math.prod(outputs.shape[1:-1])
    most = MOST_ELEMENTS
    if outputs.device.type == "cpu":
        most = MOST_ELEMENTS_OF_CPU
    images_at_once = max(1, most // max(of_pixel * pixels, classes * classes))
    pixels_at_once = max(1, most // of_pixel)
    for image in range(0, n, images_at_once):
        for pixel in range(0, pixels, pixels_at_once):
            yield slice(image, image + images_at_once), slice(pixel, pixel + pixels_at_once)


def _to_numpy(sums: torch.Tensor) -> np.ndarray:
    """Returns sums or maps in host memory."""
    return sums.cpu().numpy()
