"""Counterfactual pairs, McNemar's exact test, and choosing among methods: hand-computed, and against SciPy."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from flipjax.intervene.identity import SceneSwap
from flipjax.metrics import Decomposition
from flipjax.report.charts import scene_table
from flipjax.report.pictures import member_items
from flipjax.results import gallery, images, pairs
from flipjax.results.choices import method_regret
from flipjax.results.frames import records_of, to_frame
from flipjax.results.repair_sign import agreement, repair_signs
from flipjax.results.text import pair_table, sign_table, to_text
from results import tables

LABELS = np.array([[1, 1], [1, 2], [2, 1], [0, 2], [2, 2]])
"""The predicted labels of five pairs: same, changed, changed, no region in one scene, same."""
PAIRS = np.repeat(np.arange(5), 2)


def member(labels):
    """Counts of images whose true class is 1: ten pixels of the label each, one of the other."""
    confusion = np.zeros((labels.size, 3, 3), int)
    images = np.arange(labels.size)
    confusion[images, 1, labels.ravel()] = 10
    confusion[labels.ravel() > 0, 1, 2] += 1
    return Decomposition(confusion, np.ones(labels.size))


def test_pairs_change_where_their_labels_differ():
    one = member(LABELS)
    assert images.region_class(one).tolist() == LABELS.ravel().tolist()
    np.testing.assert_array_equal(images.label_changes(one, PAIRS), [0, 1, 1, np.nan, 0])
    assert images.counterfactual_flip(one, PAIRS) == 0.5
    assert np.isnan(images.counterfactual_flip(one, np.full(10, -1)))
    order = np.random.default_rng(0).permutation(10)
    shuffled = Decomposition(one.confusion[order], one.risk_sum[order])
    np.testing.assert_array_equal(images.label_changes(shuffled, PAIRS[order]), [0, 1, 1, np.nan, 0])


def test_sets_of_three_scenes_change_where_any_label_differs():
    labels = np.array([[1, 1, 1], [1, 1, 2], [2, 0, 2], [1, 2, 1]])
    three = np.repeat(np.arange(4), 3)
    np.testing.assert_array_equal(images.label_changes(member(labels), three), [0, 1, np.nan, 1])
    assert images.whole_pairs(np.append(three, [9, 9, -1])).tolist() == np.arange(12).reshape(4, 3).tolist()
    _, kinds = gallery.choose_images(member(labels), None, three, riskiest=0, typical=0, paired=1)
    assert kinds.tolist() == ["pair 0"] * 3


def test_scenes_are_tested_class_by_class():
    """Of four objects of class 1 in three scenes one is missed, the others right on the first alone, by most seeds."""
    groups = np.tile([0, 1, 2], 4)
    often = np.array([[1, 2, 2]] * 3 + [[0, 1, 2]])
    members = {"ce0": [member(often)], "ce1": [member(often)], "ce2": [member(np.full((4, 3), 1))]}
    scenes = ("land", "sea", "snow")
    cell = tables.cell_of(members, groups, np.repeat(np.arange(4), 3), scenes=scenes, usual=((0,), (1, 2)))
    rows = to_frame(row for name in members for row in rows_of(name))
    cat, dog = records_of(pairs.scene_tests(rows, {"000": cell}))
    assert [cat[f"right_{name}"] for name in scenes] == [1, 0, 0] and (cat["n"], cat["q"]) == (3, 6.0)
    assert cat["p_holm"] == 2 * cat["p"] == pytest.approx(2 * np.exp(-3)) and (dog["n"], dog["p"]) == (0, 1)
    line = scene_table(pairs.scene_tests(rows, {"000": cell})).rows[0]
    assert line == ["0.9", "hopper", "3", "1.00", "0.00", "0.00", "6.0", "0.0996"]
    assert pairs.scene_tests(rows, {"000": dataclasses.replace(cell, scene_names=("land", "sea"), usual=())}).empty


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 0), (3, 3), (2, 9), (40, 61)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(b, c):
    first = np.concatenate([np.ones(b), np.zeros(c), np.ones(4), [np.nan, 1]])
    second = np.concatenate([np.zeros(b), np.ones(c), np.ones(4), [1, np.nan]])
    test = pairs.mcnemar(first, second)
    assert test[:3] == (b + c + 4, b, c)
    assert test.p == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1)


def rows_of(name, *, reliance=0.1, worst=(0.1, 0.1), flip=(0.3, 0.4)):
    """Rows of the member of a method and a seed, with its numbers on the validation and the test images."""
    member = {"member": name, "rho": 0.9, "seed": int(name[-1]), "method": name[:-1]}
    rows = []
    for (place, split), group in itertools.product(enumerate(("val", "test")), ("all", "common", "rare")):
        row = member | {"split": split, "group": group, "n_images": 4, "fg_flip": flip[place]}
        row |= {"worst_group_iou": worst[place], "scene_reliance": reliance, "repair_flip": 0.2}
        rows.append(row | tables.END)
    return rows


def test_choosing_a_method_by_reliance_is_held_against_choosing_with_labels():
    rows = rows_of("ce0", reliance=0.6, worst=(0.5, 0.4), flip=(0.3, 0.35))
    rows += rows_of("swap0", reliance=0.2, worst=(0.4, 0.3), flip=(0.2, 0.15))
    rows += rows_of("ce1", reliance=0.3, worst=(0.2, 0.1), flip=(0.5, 0.5))
    rows += rows_of("swap1", reliance=0.5, worst=(0.6, 0.5), flip=(0.1, 0.1))
    rows = to_frame(rows)
    names = rows["member"].unique()
    history = [{"member": name, "epoch": epoch, "valid_risk": epoch} for name in names for epoch in (1, 2)]
    found = records_of(method_regret(rows, to_frame(history)))
    table = {(row["selection"], row["quantity"]): row for row in found}
    by_reliance = table["least scene reliance, no labels", "worst_group_iou"]
    # Seed 0: swap (.3) where labels take ce (.4); seed 1: ce (.1) where they take swap (.5).
    assert (by_reliance["mean"], by_reliance["regret"]) == pytest.approx((0.2, 0.25))
    assert (by_reliance["n"], by_reliance["members"]) == (2, 2)
    assert table["any method", "fg_flip"]["regret"] == pytest.approx((0.2 + 0 + 0.4 + 0) / 4)
    assert ("least flip-risk, no labels", "fg_flip") in table
    assert not any(rule == "least validation loss" for rule, _ in table)
    assert method_regret(rows[rows["method"] == "ce"]).empty


def cell_of(**labels):
    members = {name: [member(each)] for name, each in labels.items()}
    return tables.cell_of(members, np.tile([0, 1], 5), PAIRS)


def test_methods_are_tested_on_the_pairs_that_change_in_most_seeds():
    same, other = np.ones_like(LABELS), np.where(LABELS == 0, 1, LABELS)
    cell = cell_of(ce0=other, ce1=other, ce2=same, swap0=same, swap1=same, swap2=other)
    rows = to_frame(row for name in cell.members for row in rows_of(name))
    (row,) = records_of(pairs.pair_tests(rows, {"only": cell}))
    assert (row["method"], row["reference"], row["seeds"], row["n"]) == ("swap", "ce", 3, 5)
    # In two of the three seeds of ce pairs 1, 2 and 3 change; in two of swap none does.
    assert (row["share"], row["reference_share"], row["only"], row["only_reference"]) == (0, 0.6, 0, 3)
    assert row["p"] == pytest.approx(binomtest(0, 3).pvalue)
    assert to_text(pair_table(to_frame([row]))).startswith("method")
    silent = cell_of(ce0=other, ce1=other, ce2=same, swap0=0 * same, swap1=0 * same, swap2=0 * same)
    (row,) = records_of(pairs.pair_tests(rows, {"only": silent}))
    assert (row["n"], row["reference_share"], row["p"]) == (0, 0.6, 1) and np.isnan(row["share"])
    assert pair_table(to_frame([row])).rows[0][-5:] == ["-", "0.600", "0", "0", "1.0000"]


def test_a_pair_in_the_gallery_says_what_became_of_its_label():
    cell = cell_of(m=LABELS)
    indices, kinds = np.array([2, 3, 8, 9, 6]), ["pair 0", "pair 0", "pair 1", "pair 1", "riskiest"]
    blank = np.zeros((5, 4, 4, 3))
    options = {"indices": indices, "groups": [0, 1, 0, 1, 0], "kinds": kinds, "member": "m"}
    made = gallery.make_gallery(blank, blank[..., 0].astype(int), blank, **options)
    swap = SceneSwap(np.arange(10.0), member(LABELS))
    options = {"class_names": cell.class_names, "scene_names": cell.scene_names, "label": "m", "swap": swap}
    items = member_items(made, cell.decomposition("m", "test"), PAIRS, **options)
    changed = "the label changes with the scene, hopper and skimmer"
    assert [item.pair for item in items[::2]] == [changed, "the label stays skimmer", ""]
    assert [item.swap_risk for item in items] == [2, 3, 8, 9, 6]


def test_agreement_is_cohens_kappa():
    first, second = np.array([1, 1, 1, 1, 2, 2, 2, 0, 3]), np.array([1, 1, 1, 2, 2, 2, 1, 1, 0])
    # Of seven images five agree; by chance 4/7 * 4/7 + 3/7 * 3/7 would.
    wanted = (5 / 7 - 25 / 49) / (1 - 25 / 49)
    rows = np.stack([np.arange(9), np.zeros(9, int), np.full(9, 7)])
    np.testing.assert_allclose(agreement(first, second, rows), [wanted, np.nan, np.nan])


def test_repair_is_warned_of_where_the_seeds_disagree():
    names = ("ce0", "ce1", "ce2")
    cell = cell_of(**dict.fromkeys(names, LABELS))
    generator = np.random.default_rng(0)
    value = generator.normal(size=(1, 3, 10, 2, 1))
    odds = value * np.array([-0.5, 0.5])
    part = dataclasses.replace(cell.parts["val"], scene_log_odds=odds, centers=np.zeros((1, 3, 2)))
    cell = dataclasses.replace(cell, parts={"val": part, "test": part})
    rows = to_frame(row for name in names for row in rows_of(name))
    (row,) = records_of(repair_signs(rows, {"only": cell}))
    identity = np.where(LABELS.ravel() > 0, 1 + (value[0].mean((2, 3)) > 0), 0)
    every = np.arange(10)[None]
    kappas = [agreement(identity[a], identity[b], every) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert row["agreement"] == pytest.approx(np.mean(kappas), abs=1e-6)
    assert row["low"] <= row["agreement"] <= row["high"]
    assert (row["rho"], row["seeds"], row["flip"], row["repaired"]) == (0.9, 3, 0.4, 0.2)
    assert sign_table(to_frame([row])).rows[0][-1] == "raises Flip"
    assert sign_table(to_frame([row | {"agreement": 0.6}])).rows[0][-1] == "no harm"
