"""Tables of segments against hand-made images, slow twins, and panoptic quality's own matching."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax import metrics
from metrics.logits import EXAMPLES, one_hot, random_case

TRUTH = np.array(
    [
        [1, 1, 1, 0, 2, 2],
        [1, 1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0, 0],
        [3, 3, 0, 1, 1, 9],
        [3, 3, 0, 1, 1, 9],
    ]
)
PREDICTION = np.array(
    [
        [2, 2, 2, 0, 2, 2],
        [2, 2, 1, 3, 2, 2],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 3, 1],
        [0, 1, 0, 1, 2, 1],
    ]
)
OPTIONS = {"kind": "masks", "num_classes": 4, "ignore_index": 9, "min_pixels": 1, "rim": 1}


def test_segments_by_hand():
    table = metrics.segments(PREDICTION, TRUTH, unit="component", **OPTIONS).set_index(["class", "top"])
    assert table.index.tolist() == [(1, 0), (1, 3), (2, 0), (3, 3)]
    flip, mixed, right, miss = (table.iloc[k] for k in range(4))
    assert table["outcome"].tolist() == ["flip", "correct", "correct", "miss"]
    assert flip[["pixels", "left", "bottom", "right", "predicted"]].tolist() == [6, 0, 2, 3, 2]
    assert (flip["predicted_share"], flip["second"], flip["second_share"]) == (5 / 6, 1, 1 / 6)
    assert flip[["third"]].isna().all() and np.isnan(flip["third_share"])
    assert (flip["bleeding"], flip["matched"], flip["iou"]) == (True, 2, 5 / 6)
    # Its own other component, in 28 pixels that count of 30, and class 2 outside of it.
    assert flip["context_1"] == pytest.approx(4 / 30) and flip["context_2"] == pytest.approx(4 / 30)
    assert (mixed["pixels"], mixed["predicted_share"], mixed["second_share"]) == (4, 0.5, 0.25)
    # Void joins nothing to a rim: the right column of the lower cat has no other label beside it but the row above.
    assert (mixed["rim_pixels"], mixed["rim_errors"], mixed["inside_errors"]) == (3, 1, 1)
    assert (right["iou"], right["rim_errors"], right["inside_errors"]) == (1, 0, 0)
    assert table["bleeding"].isna().tolist() == [False, True, True, True]
    assert np.isnan(miss["iou"]) and miss[["matched"]].isna().all()
    assert table["flip_risk"].isna().all()


def test_outcomes_by_their_limits():
    """Half of it as one other class is a flip; less is mixed; most of it as background is a miss."""
    rows = {
        "flip": [2, 2, 3, 0],
        "mixed": [2, 2, 3, 3, 0],
        "miss": [0, 0, 0, 2, 2],
        "correct": [1, 1, 2, 3, 0],
    }
    for outcome, row in rows.items():
        found = metrics.segments(
            np.array([row]), np.ones((1, len(row)), int), kind="masks", num_classes=4, min_pixels=1
        )["outcome"].item()
        assert found == outcome
    # Of equal shares the first class is the largest.
    table = metrics.segments(np.array([[2, 2, 1, 1]]), np.array([[2, 2, 2, 2]]), kind="masks", min_pixels=1)
    assert table[["predicted", "outcome"]].values.tolist() == [[1, "flip"]]


def test_void_has_the_nearest_label_for_components_alone():
    truth = np.array([[1, 1, 9, 9, 1, 0, 9, 2, 9, 2]])
    table = metrics.segments(np.where(truth == 9, 3, truth), truth, unit="component", **OPTIONS)
    assert table[["class", "pixels", "right"]].values.tolist() == [[1, 3, 5], [2, 2, 10]]
    assert (table["outcome"] == "correct").all()
    nothing = metrics.segment_tables(truth, np.full_like(truth, 9), **(OPTIONS | {"num_classes": 10}))
    assert [len(frame) for frame in nothing] == [0, 0, 0]


def test_units_are_classes_components_or_instances():
    truth = np.array([[1, 1, 0, 1], [1, 1, 0, 1]])
    ids = np.array([[5, 5, 0, 7], [5, 6, 0, 7]])
    sizes = {unit: metrics.segments(truth, truth, unit=unit, **OPTIONS)["pixels"].tolist() for unit in UNIT_NAMES}
    assert sizes == {"class": [6], "component": [4, 2]}
    table = metrics.segments(truth, truth, unit=ids, **OPTIONS)
    assert table[["instance", "pixels"]].values.tolist() == [[5, 3], [6, 1], [7, 2]]
    # Smaller than 64 pixels or 0.1 % of the image: no row.
    assert len(metrics.segments(truth, truth, kind="masks", num_classes=3)) == 0


UNIT_NAMES = ("class", "component")


def slow_components(labels, classes):
    """8-connected components of each class by flood fill: {(class, first pixel): pixels}."""
    seen, units = set(), {}
    for start in np.ndindex(labels.shape):
        if start in seen or labels[start] not in classes:
            continue
        pixels, stack = set(), [start]
        while stack:
            y, x = stack.pop()
            if (y, x) in seen or not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
                continue
            if labels[y, x] == labels[start]:
                seen.add((y, x))
                pixels.add((y, x))
                stack += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        units[int(labels[start]), start] = pixels
    return units


def slow_units(labels, classes, unit):
    units = slow_components(labels, classes)
    if unit == "component":
        return [(c, pixels) for (c, _), pixels in sorted(units.items())]
    return [(c, set().union(*(p for (k, _), p in units.items() if k == c))) for c in sorted({k for k, _ in units})]


@EXAMPLES
@given(
    unit=st.sampled_from(UNIT_NAMES),
    background=st.sampled_from([None, 0, (0, 1)]),
    void=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_segments_equal_their_slow_twin(unit, background, void, seed):
    logits, labels = random_case(seed, (7, 8), 4)
    labels = np.repeat(np.repeat(labels[::2, ::2], 2, 0), 2, 1)[:7, :8]
    # Void that no component reaches over: the twin does not fill it.
    known = np.ones(labels.shape, bool)
    if void and unit == "class":
        known = np.random.default_rng(seed).random(labels.shape) > 0.2
    marked = np.where(known, labels, 255)
    prediction = logits.argmax(-1)
    foreground = [c for c in range(4) if c not in background_of(background)]
    tables = metrics.segment_tables(
        logits, marked, background=background, ignore_index=255, unit=unit, min_pixels=2, rim=1
    )
    risk = np.asarray(metrics.risk_map(logits, background=background))
    predicted = slow_units(prediction, foreground, unit)
    rows, kinds = [], np.full(labels.shape, "", object)
    for place in zip(*np.nonzero(known), strict=True):
        kinds[place] = slow_kind(place, labels, prediction, known, foreground)
    for c, pixels in slow_units(labels, foreground, unit):
        own = sorted(p for p in pixels if known[p])
        if len(own) < 2:
            continue
        counts = np.bincount([prediction[p] for p in own], minlength=4)
        winner = int(counts.argmax())
        if winner == c:
            outcome = "correct"
        elif winner not in foreground:
            outcome = "miss"
        else:
            outcome = "flip" if counts[winner] >= len(own) / 2 else "mixed"
        if outcome == "flip":
            for p in own:
                kinds[p] = "whole" if kinds[p] in ("rim", "inside") else kinds[p]
        overlaps = [(d, others & set(own), {q for q in others if known[q]}) for d, others in predicted]
        ious = [(len(both) / len(set(own) | others), d) for d, both, others in overlaps]
        matched = [(iou, d) for iou, d in ious if iou > 0.5]
        assert len(matched) <= 1
        wrong = [p for p in own if prediction[p] != c]
        near = [p for p in wrong if is_near(p, labels, known)]
        found = [risk[p] for p in own if prediction[p] in foreground]
        rows.append((c, len(own), winner, outcome, len(near), len(wrong) - len(near), matched, found))
    true = tables.true
    assert true[["class", "pixels", "predicted", "outcome", "rim_errors", "inside_errors"]].values.tolist() == [
        list(row[:6]) for row in rows
    ]
    for (_, row), (*_, matched, found) in zip(true.iterrows(), rows, strict=True):
        assert (row["iou"], row["matched"]) == matched[0] if matched else np.isnan(row["iou"])
        np.testing.assert_allclose(row["flip_risk"], np.mean(found) if found else np.nan, rtol=1e-5)
    counted = {}
    for place in zip(*np.nonzero(known), strict=True):
        cell = (kinds[place], int(labels[place]), int(prediction[place]))
        counted[cell] = counted.get(cell, 0) + 1
    stored = {(k, c, p): n for _, k, c, p, n in tables.pixels.itertuples(index=False)}
    assert stored == counted
    expected = []
    for c, pixels in predicted:
        own = [p for p in pixels if known[p]]
        if len(own) >= 2:
            truth = np.bincount([labels[p] for p in own], minlength=4)
            expected.append((c, len(own), int(truth.argmax()), bool(truth.argmax() == c)))
    assert list(tables.predicted[["class", "pixels", "truth", "right"]].itertuples(index=False, name=None)) == expected


def background_of(background):
    return () if background is None else (background,) if isinstance(background, int) else background


def is_near(place, labels, known):
    y, x = place
    window = (slice(max(0, y - 1), y + 2), slice(max(0, x - 1), x + 2))
    return bool((known[window] & (labels[window] != labels[place])).any())


def slow_kind(place, labels, prediction, known, foreground):
    truth, found = labels[place], prediction[place]
    if truth == found:
        return "correct"
    if truth not in foreground:
        return "spill" if found in foreground else "background"
    if found not in foreground:
        return "miss"
    return "rim" if is_near(place, labels, known) else "inside"


def panoptic_matches(truth_ids, predicted_ids, void):
    """Pairs of segments that match, as panopticapi has them: areas by id, void out of the predicted ones' areas."""
    areas = dict(zip(*np.unique(truth_ids, return_counts=True), strict=True))
    predicted_areas = dict(zip(*np.unique(predicted_ids, return_counts=True), strict=True))
    pairs, counts = np.unique(np.stack([truth_ids.ravel(), predicted_ids.ravel()]), axis=1, return_counts=True)
    shared = {(int(t), int(p)): int(n) for t, p, n in zip(*pairs, counts, strict=True)}
    matches = {}
    for (truth, prediction), n in shared.items():
        if truth == void or prediction == void:
            continue
        union = areas[truth] + predicted_areas[prediction] - n - shared.get((void, prediction), 0)
        if n / union > 0.5:
            assert truth not in matches
            matches[truth] = (prediction, n / union)
    return matches


@EXAMPLES
@given(seed=st.integers(0, 2**16), noise=st.floats(0, 0.6))
def test_matches_are_panoptic_qualitys(seed, noise):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(rng.integers(0, 5, (4, 4)), 4, 0), 4, 1)
    labels = np.where(truth == 4, 255, truth)
    prediction = np.where(rng.random(truth.shape) < noise, rng.integers(0, 4, truth.shape), truth % 4)
    table = metrics.segments(
        prediction, labels, background=None, kind="masks", num_classes=4, ignore_index=255, min_pixels=1
    )
    expected = panoptic_matches(truth, prediction, 4)
    found = {c: (m, i) for c, m, i in table[table["matched"].notna()][["class", "matched", "iou"]].values.tolist()}
    assert found == expected


def test_many_images_of_any_layout_give_the_same_rows():
    logits, labels = random_case(5, (3, 9, 10), 3)
    options = {"min_pixels": 3, "unit": "component", "ignore_index": 0, "background": None}
    table = metrics.segments(logits, labels, **options)
    parts = [
        metrics.segments(x, y, **options).assign(image=k) for k, (x, y) in enumerate(zip(logits, labels, strict=True))
    ]
    for other in (
        metrics.segments(np.moveaxis(logits, -1, 1), labels, channels="first", **options),
        metrics.segments(list(logits), [y.astype(np.uint8) for y in labels], **options),
        pd.concat(parts, ignore_index=True),
    ):
        assert other.equals(table.astype(other.dtypes))
    ragged = metrics.segments([logits[0], logits[1, :5]], [labels[0], labels[1, :5]], **options)
    assert set(ragged["image"]) == {0, 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: metrics.segments(y, y[..., 1:], kind="masks"), "predictions: expected class indices"),
        (lambda y: metrics.segments(y, y, kind="masks", unit="instance"), "unit: expected one of class, component"),
        (lambda y: metrics.segments(y, y, kind="masks", unit=y[:, 1:]), r"unit: expected integer ids .*\(4, 5\)"),
        (
            lambda y: metrics.segments(y, y[:1], kind="masks"),
            "labels: expected as many images as predictions, 2, found 1",
        ),
        (lambda y: metrics.segments(y[None], y[None], kind="masks"), r"\(1, 2, 4, 5\).* volume slice by slice"),
        (lambda y: metrics.segments(y, y + 7, kind="masks", num_classes=3), "labels: expected class indices 0..2"),
        (lambda y: metrics.segments(y, y, kind="masks", rim=0), "rim: expected a number of pixels above 0"),
        (lambda y: metrics.segments([], [], kind="masks"), "labels: expected at least one image"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.arange(40).reshape(2, 4, 5) % 3)


def test_a_volume_is_no_image():
    with pytest.raises(ValueError, match="slice by slice"):
        metrics.segments(one_hot(np.zeros((1, 2, 3, 3), int)), np.zeros((1, 2, 3, 3), int))


def test_predicted_segments_have_the_means_of_their_scores():
    logits, labels = random_case(4, (6, 8), 4)
    table = metrics.segment_tables(logits, labels, unit="class", min_pixels=1).predicted
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = {c: np.mean(1 - shares.max(-1)[shares.argmax(-1) == c]) for c in table["class"]}
    assert table["max_softmax"].tolist() == pytest.approx(list(expected.values()), abs=1e-6)
    masks = metrics.segment_tables(logits.argmax(-1), labels, kind="masks", min_pixels=1).predicted
    assert masks["max_softmax"].isna().all()
