"""Counterfactual sets: one object in all scenes."""

import numpy as np

from flipjax.intervene.identity import SceneSwap
from flipjax.metrics import Decomposition
from flipjax.report.pictures import member_items
from flipjax.results import gallery, rows
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
    assert rows.region_class(one).tolist() == LABELS.ravel().tolist()
    np.testing.assert_array_equal(rows.label_changes(one, PAIRS), [0, 1, 1, np.nan, 0])
    assert rows.counterfactual_flip(one, PAIRS) == 0.5
    assert np.isnan(rows.counterfactual_flip(one, np.full(10, -1)))
    order = np.random.default_rng(0).permutation(10)
    shuffled = Decomposition(one.confusion[order], one.risk_sum[order])
    np.testing.assert_array_equal(rows.label_changes(shuffled, PAIRS[order]), [0, 1, 1, np.nan, 0])


def test_sets_of_three_scenes_change_where_any_label_differs():
    labels = np.array([[1, 1, 1], [1, 1, 2], [2, 0, 2], [1, 2, 1]])
    three = np.repeat(np.arange(4), 3)
    np.testing.assert_array_equal(rows.label_changes(member(labels), three), [0, 1, np.nan, 1])
    assert rows.whole_pairs(np.append(three, [9, 9, -1])).tolist() == np.arange(12).reshape(4, 3).tolist()
    _, kinds = gallery.choose_images(member(labels), None, three, riskiest=0, typical=0, paired=1)
    assert kinds.tolist() == ["pair 0"] * 3


def test_a_pair_in_the_gallery_says_what_became_of_its_label():
    cell = tables.cell_of({"m": [member(LABELS)]}, np.tile([0, 1], 5), PAIRS)
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
