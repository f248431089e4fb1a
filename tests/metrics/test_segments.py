"""Tables of segments against hand-made images, and a slow twin, whose matches are those of panoptic quality."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from flipjax import metrics
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.objects.units import near_border
from flipjax.metrics.statistics.intervals import estimate_rate
from metrics.logits import EXAMPLES, check_refused, draw, one_hot, random_case, softmax

TRUTH = draw("111022 111022 000000 330119 330119")
PREDICTION = draw("222022 221322 000000 000131 010121")
OPTIONS = {"kind": "masks", "num_classes": 4, "ignore_index": 9, "min_pixels": 1, "rim": 1}


def test_segments_by_hand():
    """Columns that the slow twin leaves out: boxes, shares, bleeding, context and rims."""
    table = metrics.segments(PREDICTION, TRUTH, unit="component", **OPTIONS).set_index(["class", "top"])
    assert table.index.tolist() == [(1, 0), (1, 3), (2, 0), (3, 3)]
    flip, mixed, _, miss = (table.iloc[k] for k in range(4))
    assert flip[["left", "bottom", "right", "predicted", "matched"]].tolist() == [0, 2, 3, 2, 2]
    assert (flip["predicted_share"], flip["second"], flip["second_share"]) == (5 / 6, 1, 1 / 6)
    assert flip[["third"]].isna().all() and np.isnan(flip["third_share"]) and miss[["matched"]].isna().all()
    assert table["bleeding"].tolist() == [True, pd.NA, pd.NA, pd.NA]
    # Its own other component, in 28 pixels that count of 30, and class 2 outside of it.
    assert flip["context_1"] == pytest.approx(4 / 30) and flip["context_2"] == pytest.approx(4 / 30)
    assert (mixed["pixels"], mixed["predicted_share"], mixed["second_share"]) == (4, 0.5, 0.25)
    # Void joins nothing to a rim: the right column of the lower cat has no other label beside it but the row above.
    assert (mixed["rim_pixels"], mixed["rim_errors"], mixed["inside_errors"]) == (3, 1, 1)
    assert table["flip_risk"].isna().all()


def test_void_has_the_nearest_label_for_components_alone():
    truth = np.array([[1, 1, 9, 9, 1, 0, 9, 2, 9, 2]])
    table = metrics.segments(np.where(truth == 9, 3, truth), truth, unit="component", **OPTIONS)
    assert table[["class", "pixels", "right"]].values.tolist() == [[1, 3, 5], [2, 2, 10]]
    assert (table["outcome"] == "correct").all()
    nothing = metrics.segment_tables(truth, np.full_like(truth, 9), **(OPTIONS | {"num_classes": 10}))
    assert [len(frame) for frame in nothing] == [0, 0, 0]


@pytest.mark.parametrize("least", [0, 250, 253, 254, 255])
def test_a_border_is_one_whatever_the_numbers_of_the_labels(least):
    labels = np.array([[least, least, least, least + 256]])
    assert near_border(labels, None, 1).tolist() == [[False, False, True, True]]
    assert near_border(labels, labels > 0, 1)[0, :2].tolist() == [False, False]


def test_instances_are_units_and_small_ones_have_no_row():
    truth = np.array([[1, 1, 0, 1], [1, 1, 0, 1]])
    table = metrics.segments(truth, truth, unit=np.array([[5, 5, 0, 7], [5, 6, 0, 7]]), **OPTIONS)
    assert table[["instance", "pixels", "matched"]].values.tolist() == [[5, 3, 1], [6, 1, pd.NA], [7, 2, 1]]
    assert metrics.segments(truth, truth, **(OPTIONS | {"min_pixels": 7}))["class"].tolist() == []
    # By default every segment has a row, whatever its share of the image.
    large = np.zeros((400, 400), int)
    large[7, 9] = 1
    assert metrics.segments(large, large, kind="masks", num_classes=3)["pixels"].tolist() == [1]


def slow_units(labels, classes, unit):
    """Classes and pixels of the units: of a class, or of each of its 8-connected components."""
    units = []
    for c in classes:
        there = labels == c
        numbers = ndimage.label(there, np.ones((3, 3)))[0] if unit == "component" else there.astype(int)
        units += [(c, {*zip(*np.nonzero(numbers == k), strict=True)}) for k in range(1, numbers.max() + 1)]
    return sorted(units, key=lambda own: (own[0], min(own[1])))


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


def slow_outcome(c, counts, foreground):
    largest = [d for d in range(len(counts)) if counts[d] == counts.max()]
    others = [d for d in largest if d in foreground and d != c]
    backgrounds = [d for d in largest if d not in foreground]
    winner = (others + backgrounds + [c])[0]
    if largest == [c]:
        return winner, "correct"
    if others and 2 * counts[others[0]] >= counts.sum():
        return winner, "flip"
    if largest == backgrounds:
        return winner, "miss"
    return winner, "mixed"


TIES = {
    "own and another": ([1, 1, 1, 2, 2, 2], 2, "flip"),
    "own and a lower class": ([2, 2, 2, 1, 1, 1], 1, "flip"),
    "own, another and background": ([1, 1, 2, 2, 0, 0], 2, "mixed"),
    "own and background": ([1, 1, 1, 0, 0, 0], 0, "mixed"),
    "another and background": ([2, 2, 2, 0, 0, 0], 2, "flip"),
    "two others": ([2, 2, 2, 3, 3, 3], 2, "flip"),
    "own before two others": ([1, 1, 2, 3, 0, 1], 1, "correct"),
}


@pytest.mark.parametrize(("predicted", "first", "outcome"), TIES.values(), ids=TIES)
def test_ties_within_a_segment(predicted, first, outcome):
    own = 2 if predicted == [2, 2, 2, 1, 1, 1] else 1
    truth = np.full((1, 6), own)
    table = metrics.segments(np.array([predicted]), truth, kind="masks", num_classes=4)
    assert table[["predicted", "outcome"]].values.tolist() == [[first, outcome]]


@EXAMPLES
@given(
    unit=st.sampled_from(["class", "component"]),
    background=st.sampled_from([(), (0,), (0, 1)]),
    void=st.booleans(),
    skill=st.sampled_from([0, 2, 6]),
    seed=st.integers(0, 2**16),
)
def test_segments_equal_their_slow_twin(unit, background, void, skill, seed):
    logits, labels = random_case(seed, (7, 8), 4)
    labels = np.repeat(np.repeat(labels[::2, ::2], 2, 0), 2, 1)[:7, :8]
    logits = logits + one_hot(labels, 4, skill)  # Of a good model some segments match.
    known = np.ones(labels.shape, bool)
    # Void that no component reaches over: the twin does not fill it.
    if void and unit == "class":
        known = np.random.default_rng(seed).random(labels.shape) > 0.2
    options = {"background": background, "ignore_index": 255, "unit": unit, "min_pixels": 2, "rim": 1}
    tables = metrics.segment_tables(logits, np.where(known, labels, 255), **options)
    prediction, risk = logits.argmax(-1), np.asarray(metrics.risk_map(logits, background=background))
    foreground = [c for c in range(4) if c not in background]
    places = list(zip(*np.nonzero(known), strict=True))
    kinds = {place: slow_kind(place, labels, prediction, known, foreground) for place in places}
    predicted = [(c, {p for p in pixels if known[p]}) for c, pixels in slow_units(prediction, foreground, unit)]
    rows = []
    for c, pixels in slow_units(labels, foreground, unit):
        own = sorted(p for p in pixels if known[p])
        if len(own) < 2:
            continue
        winner, outcome = slow_outcome(c, np.bincount([prediction[p] for p in own], minlength=4), foreground)
        ious = [(len(others & set(own)) / len(others | set(own)), d) for d, others in predicted]
        matched = [(iou, d) for iou, d in ious if iou > 0.5]
        assert len(matched) <= 1
        wrong = [p for p in own if prediction[p] != c]
        near = sum(is_near(p, labels, known) for p in wrong)
        found = [risk[p] for p in own if prediction[p] in foreground]
        rows.append((c, len(own), winner, outcome, near, len(wrong) - near, matched, found))
        if outcome == "flip":
            kinds |= {p: "whole" for p in own if kinds[p] in ("rim", "inside")}
    columns = ["class", "pixels", "predicted", "outcome", "rim_errors", "inside_errors"]
    assert tables.true[columns].values.tolist() == [list(row[:6]) for row in rows]
    for (_, row), (*_, matched, found) in zip(tables.true.iterrows(), rows, strict=True):
        assert (row["iou"], row["matched"]) == matched[0] if matched else np.isnan(row["iou"])
        np.testing.assert_allclose(row["flip_risk"], np.mean(found) if found else np.nan, rtol=1e-5)
    counted = Counter((kinds[place], int(labels[place]), int(prediction[place])) for place in places)
    assert {(kind, c, p): n for _, kind, c, p, n in tables.pixels.itertuples(index=False)} == counted
    expected, means = [], []
    for c, own in predicted:
        if len(own) >= 2:
            owner = int(np.bincount([labels[p] for p in own], minlength=4).argmax())
            expected.append([c, len(own), owner, owner == c])
            means.append(np.mean([1 - softmax(logits[p]).max() for p in own]))
    assert tables.predicted[["class", "pixels", "truth", "right"]].values.tolist() == expected
    np.testing.assert_allclose(tables.predicted["max_softmax"], means, atol=1e-6)


def test_many_images_of_any_layout_give_the_same_rows():
    logits, labels = random_case(5, (3, 9, 10), 3)
    options = {"min_pixels": 3, "unit": "component", "ignore_index": 0, "background": None}
    table = metrics.segments(logits, labels, **options)
    parts = [metrics.segments(logits[k], labels[k], **options).assign(image=k) for k in range(3)]
    for other in (
        metrics.segments(np.moveaxis(logits, -1, 1), labels, channels="first", **options),
        metrics.segments(list(logits), [y.astype(np.uint8) for y in labels], **options),
        pd.concat(parts, ignore_index=True),
    ):
        assert other.equals(table.astype(other.dtypes))
    ragged = metrics.segments([logits[0], logits[1, :5]], [labels[0], labels[1, :5]], **options)
    assert set(ragged["image"]) == {0, 1}


Y = np.arange(40).reshape(2, 4, 5) % 3


def test_ids_of_another_number_of_images_are_refused_as_the_unit():
    masks = np.ones((3, 2, 2), int)
    with pytest.raises(ValueError, match=r"^unit: expected ids of 3 images, as of the labels, found ids of 2"):
        metrics.segments(masks, masks, unit=masks[:2], **OPTIONS)


def test_inputs_that_do_not_fit_are_refused():
    whole = {"predictions": Y, "labels": Y, "kind": "masks"}
    spoiled = {"predictions": [Y[..., 1:]], "labels": [Y[:1], Y[None]], "unit": ["instance", Y[:, 1:]], "rim": [0]}
    check_refused(metrics.segments, whole, spoiled)
    check_refused(metrics.segments, whole | {"num_classes": 3}, {"labels": [Y + 7]})
    check_refused(metrics.segments, whole | {"predictions": []}, {"labels": [[]]})


def test_segment_flips_and_intervals_by_hand():
    truth = np.array([[[1, 1, 2, 2]], [[1, 1, 2, 2]], [[1, 1, 3, 3]]])
    prediction = np.array([[[2, 2, 2, 2]], [[1, 1, 0, 0]], [[3, 3, 3, 3]]])
    table = metrics.segments(prediction, truth, kind="masks", num_classes=5, min_pixels=1)
    names = ["b", "cat", "dog", "cow", "ox"]
    rates = metrics.segment_flips(table, class_names=names)
    assert rates.index.tolist() == ["cat", "dog", "cow", "all"]
    assert rates["seg_flip"].tolist() == [2 / 3, 0, 0, 2 / 6]
    assert rates["flip_of_found"].tolist() == [2 / 3, 0, 0, 2 / 5]
    assert rates.loc["cat", "bleeding"] == 1 and np.isnan(rates.loc["dog", "bleeding"])
    assert rates["matched"].tolist() == [1, 0, 0, 1] and np.isnan(rates.loc["cow", "strict_flip"])
    # Of all segments one flips in the first image, none in the second, one in the third.
    by_image = estimate_rate(Ratio(np.array([1, 0, 1]), np.array([2, 2, 2])))
    np.testing.assert_allclose(rates.loc["all", ["seg_flip_low", "seg_flip_high"]], by_image[1:])
    by_patient = estimate_rate(Ratio(np.array([1, 1]), np.array([4, 2])))
    clustered = metrics.segment_flips(table, clusters=np.array([7, 7, 3]))
    np.testing.assert_allclose(clustered.loc["all", ["seg_flip_low", "seg_flip_high"]], by_patient[1:])
    assert "seg_flip_low" not in metrics.segment_flips(table, clusters=np.zeros(3, int))
    counts = metrics.segment_confusion(table, num_classes=4)
    assert counts.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]]
    empty = metrics.segments(truth, truth, kind="masks", num_classes=5, min_pixels=3)
    assert np.isnan(metrics.segment_flips(empty)["seg_flip"]).all()


def test_scores_are_judged_within_strata_of_size():
    # Small segments are wrong and uncertain; within a stratum the score is no better than chance.
    risk, wrong = [0.8, 0.9, 0.9, 0.8, 0.1, 0.2, 0.2, 0.1], [1, 1, 0, 1, 0, 0, 1, 0]
    table = pd.DataFrame({"flip_risk": risk, "right": 1 - np.array(wrong), "pixels": [70] * 4 + [700] * 4})
    table["stratum"] = [0] * 4 + [1] * 4
    judged = metrics.segment_auroc(table)
    pairs = [(a, b) for a in range(8) for b in range(8) if wrong[a] and not wrong[b]]
    score = np.array([((risk[a] > risk[b]) + 0.5 * (risk[a] == risk[b]), a // 4 == b // 4) for a, b in pairs])
    assert judged.loc["all", "auroc"] == pytest.approx(score[:, 0].mean())
    assert judged.loc["within strata", "auroc"] == pytest.approx(score[score[:, 1] == 1, 0].mean())
    assert judged.loc["within strata", "size_auroc"] == 0.5


@settings(EXAMPLES, max_examples=10)
@given(seed=st.integers(0, 2**16), background=st.sampled_from([None, 0, (0, 1)]))
def test_the_budget_is_the_confusion_and_its_gains_those_of_mended_masks(seed, background):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.repeat(rng.integers(0, 4, (2, 3, 3)), 3, 1), 3, 2)
    prediction = np.where(rng.random(truth.shape) < 0.5, rng.integers(0, 4, truth.shape), truth)
    options = {"kind": "masks", "num_classes": 4, "background": background}
    tables = metrics.segment_tables(prediction, truth, min_pixels=4, rim=1, unit="component", **options)
    budget = metrics.error_budget(tables.pixels, num_classes=4)
    before = metrics.decompose(prediction, truth, **options)
    stored = np.zeros((2, 4, 4), int)
    np.add.at(stored, tuple(tables.pixels[["image", "class", "predicted"]].to_numpy().T), tables.pixels["pixels"])
    np.testing.assert_array_equal(stored, before.confusion)
    codes = np.asarray(metrics.error_map(prediction, truth, **options))
    own = metrics.summarize(before)["mean_iou"]
    for kind, wrong in {"miss": codes == 3, "spill": codes == 4, "all": prediction != truth}.items():
        mended = metrics.decompose(np.where(wrong, truth, prediction), truth, **options)
        assert budget.loc[kind, "pixels"] == wrong.sum()
        assert budget.loc[kind, "gain"] == pytest.approx(metrics.summarize(mended)["mean_iou"] - own)
    assert budget["pixels"].drop("all").sum() == budget.loc["all", "pixels"]
    assert budget.loc[["whole", "rim", "inside"], "pixels"].sum() == (codes == 2).sum()
