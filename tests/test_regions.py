"""Rims, interiors and calibration of regions against hand-made masks and a slow NumPy twin."""

import jax
import numpy as np
import pytest

from flipjax import metrics
from flipjax.results.region_shares import region_quantities


def draw(text):
    return np.array([[int(c) for c in line] for line in text.split()])


def test_rims_by_hand():
    rim = jax.jit(metrics.rim, static_argnames=("width", "spatial_ndim"))
    region = draw("0000000 0111111 0111111 0111111 0111111")
    wanted = draw("0000000 0111111 0100000 0100000 0100000")
    np.testing.assert_array_equal(rim(region, width=1), wanted)
    # Diagonal neighbours count, the border of the image does not.
    wanted = draw("0000000 0111111 0111111 0110000 0110000")
    np.testing.assert_array_equal(rim(region, width=2), wanted)
    np.testing.assert_array_equal(rim(draw("111 111 110"), width=1), draw("000 011 010"))
    assert not rim(np.ones((4, 4), bool)).any()
    square = np.pad(np.ones((30, 30), bool), 9)
    assert np.sum(rim(square)) == 30**2 - 26**2  # Two pixels of 48.
    assert np.sum(rim(np.pad(np.ones((3, 3, 3), bool), 1), width=1, spatial_ndim=3)) == 26
    with pytest.raises(ValueError, match=r"^width"):
        metrics.rim(square, width=0)


def twin(logits, labels, *, width, bins, background, ignore_index):
    """One image, pixel by pixel, in float64."""
    C = logits.shape[-1]
    place = {name: np.zeros(2) for name in ("true", "flips", "predicted", "risk")}
    shared, confidences, rights = 0, [], []
    predictions = logits.argmax(-1)
    for (y, x), label in np.ndenumerate(labels):
        if label == ignore_index:
            continue
        z = np.delete(logits[y, x].astype(np.float64), background)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        around = [(v, u) for v, u in np.ndindex(labels.shape) if max(abs(v - y), abs(u - x)) <= width]
        around = [each for each in around if labels[each] != ignore_index]
        if label != background:
            half = 0 if any(labels[each] == background for each in around) else 1
            place["true"][half] += 1
            place["flips"][half] += predictions[y, x] not in (background, label)
        if predictions[y, x] != background:
            half = 0 if any(predictions[each] == background for each in around) else 1
            place["predicted"][half] += 1
            place["risk"][half] -= (p * np.log(p)).sum()
            if label != background:
                shared += 1
                confidences.append(p.max())
                rights.append(predictions[y, x] == label)
    gaps = np.zeros(bins)
    for confidence, right in zip(confidences, rights, strict=True):
        for b in range(bins):
            if b / bins < confidence <= (b + 1) / bins:
                gaps[b] += confidence - right
    assert C >= 3
    return *place.values(), shared, gaps, np.array(confidences), np.array(rights)


@pytest.mark.parametrize(("C", "background"), [(3, 0), (4, 2)])
def test_sums_equal_their_twin(C, background):
    rng = np.random.default_rng(C)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 1, (3, 12, 10, C)), 1), 2).astype(np.float32)
    logits = smooth - smooth.mean(-1, keepdims=True)
    labels = np.roll(logits, 1, axis=1).argmax(-1)
    labels[0, 3:5, 2:6] = 255
    labels[2] = background
    options = {"width": 1, "bins": 7, "background": background, "ignore_index": 255}
    sums = jax.tree.map(np.asarray, metrics.region_sums(logits, labels, **options))
    ranked = []
    for i in range(3):
        *wanted, confidence, right = twin(logits[i], labels[i], **options)
        for name, leaf, value in zip(sums._fields, sums, wanted, strict=True):
            np.testing.assert_allclose(leaf[i], value, rtol=2e-5, atol=1e-5, err_msg=name)
        ranked.append((confidence, right))
    confidence, right = (np.concatenate(part) for part in zip(*ranked, strict=True))
    pooled = region_quantities(sums)["fg_ece"]
    assert pooled == pytest.approx(metrics.selective.calibration_error(confidence, right, bins=7), abs=1e-5)
    # Rim and interior are all of the region.
    whole = jax.tree.map(np.asarray, metrics.decompose(logits, labels, background=background, ignore_index=255))
    foreground = [c for c in range(C) if c != background]
    np.testing.assert_array_equal(sums.true.sum(-1), whole.confusion[:, foreground].sum((1, 2)))
    np.testing.assert_allclose(sums.risk.sum(-1), whole.risk_sum, rtol=1e-5)
    traced = jax.jit(lambda logits, labels: metrics.region_sums(logits, labels, **options))(logits, labels)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), traced, sums)
    softmax = np.asarray(jax.nn.softmax(logits))
    of_probabilities = metrics.region_sums(softmax, labels, **options, kind="probabilities")
    np.testing.assert_allclose(of_probabilities.gaps, sums.gaps, atol=1e-4)
    np.testing.assert_allclose(of_probabilities.risk, sums.risk, rtol=1e-4)


def test_quantities_of_groups():
    logits = np.eye(3, dtype=np.float32)[np.array([[[0, 1, 1, 1]], [[0, 2, 2, 2]], [[0, 0, 0, 0]]])] * 9
    sums = metrics.region_sums(logits, np.array([[[0, 1, 1, 1]]] * 3), width=1)
    values = region_quantities(sums, np.array([0, 1, 3]))
    assert (values["rim_flip"], values["group/rare/interior_flip"], values["group/0/rim_flip"]) == (1 / 3, 1, 0)
    assert values["group/1/fg_ece"] == pytest.approx(1, abs=1e-3)
    assert np.isnan([values["group/2/rim_flip"], values["group/3/fg_ece"]]).all()
    assert "group/common/rim_flip" not in region_quantities(sums, np.array([0, 7, 9]), all_groups=None)
    with pytest.raises(ValueError, match=r"^bins"):
        metrics.region_sums(logits, np.zeros((3, 1, 4), int), bins=0)
