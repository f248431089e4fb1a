"""Drawn and random arrays, other libraries' tensors, and slow twins of the kernels."""

import numpy as np
import pytest
from hypothesis import settings

EXAMPLES = settings(max_examples=20)


def draw(text):
    """Small integers (H, W), a digit each, of lines."""
    return np.array([[int(digit) for digit in line] for line in text.split()])


def one_hot(prediction, classes=3, scale=1.0):
    return scale * np.eye(classes, dtype=np.float32)[np.asarray(prediction)]


def random_case(seed, shape=(2, 6, 7), classes=3, scale=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, scale, (*shape, classes)).astype(np.float32), rng.integers(0, classes, shape)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


class FakeTensor:
    """A PyTorch tensor that requires a gradient, as NumPy sees it: readable once detached, and never in bfloat16."""

    def __init__(self, array, dtype=None, detached=False):
        self.array, self.dtype, self.detached = array, dtype or f"torch.{array.dtype}", detached

    def detach(self):
        return FakeTensor(self.array, self.dtype, detached=True)

    def cpu(self):
        return self

    def float(self):
        return FakeTensor(self.array.astype(np.float32), "torch.float32", self.detached)

    def __array__(self, dtype=None, copy=None):
        if not self.detached or self.dtype == "torch.bfloat16":
            raise TypeError("cannot read")
        return self.array


def slow_entropy(foreground):
    """Float64 entropy of one pixel's foreground logits."""
    z = np.sort(np.asarray(foreground, np.float64))[::-1]
    e = np.exp(z - z[0])
    return np.log1p(e[1:].sum()) + (e * (z[0] - z)).sum() / e.sum()


def slow_decompose(logits, labels, background, ignore_index=None):
    """Confusion, entropies over the predicted foreground, and codes of one image, pixel by pixel."""
    classes = logits.shape[-1]
    confusion, entropies, codes = np.zeros((classes, classes), int), [], np.zeros(labels.shape, int)
    for place in np.ndindex(labels.shape):
        label, prediction = int(labels[place]), int(np.argmax(logits[place]))
        if label == ignore_index:
            continue
        confusion[label, prediction] += 1
        if prediction not in background:
            entropies.append(slow_entropy(np.delete(logits[place], background)))
        if label in background:
            codes[place] = 0 if prediction in background else 4
        else:
            codes[place] = 1 if prediction == label else 3 if prediction in background else 2
    return confusion, entropies, codes


def check_refused(function, whole, spoiled):
    """Replaces one valid argument at a time and asserts that the error names its field first."""
    for field, values in spoiled.items():
        for value in values:
            with pytest.raises((TypeError, ValueError)) as refused:
                function(**whole | {field: value})
            assert field in str(refused.value).split(":")[0], refused.value
            assert "\n" not in str(refused.value)
