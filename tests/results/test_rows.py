"""Rows of results.csv, counterfactual sets, and the titles of quantities."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest

import flipjax
from flipjax.metrics import Decomposition, summarize
from flipjax.metrics.images import read_images
from flipjax.metrics.registry import EVALUATORS, RANGES
from flipjax.metrics.scenes import flips
from flipjax.metrics.scenes.swap import SceneSwap
from flipjax.metrics.summary import names as quantities
from flipjax.page import gallery
from flipjax.report.run_gallery import member_items
from flipjax.results.rows import member_quantities
from flipjax.results.statistics.verdicts import CORRECTION
from flipjax.results.tables import concatenate, image_tables, results_table, with_dtypes
from flipjax.support.files import DamagedError
from flipjax.support.frames import read_csv, records_of, to_frame, write_csv
from results.tables import CLASSES, END, MEASURES, cell_of, random_decomposition, rows_of

GLOSSARY = pathlib.Path(flipjax.__file__).with_name("GLOSSARY.md")
CONTRACT = ("fg_correct", "fg_flip", "fg_miss", "flip_image_mean", "iou_background", "iou_hopper", "iou_skimmer")
CONTRACT += ("iou_foreground", "risk_auroc", "top_decile_flip_share")


def cell_with(decomposition, *, member="m", groups=None, pairs=None, **options):
    """A cell of one member."""
    count = len(decomposition.confusion)
    groups = np.arange(count) % 4 if groups is None else groups
    return cell_of({member: [decomposition]}, groups, np.full(count, -1) if pairs is None else pairs, **options)


def test_rows_of_a_member_are_the_summaries_of_its_groups():
    decomposition, groups = random_decomposition(40), np.arange(40) % 4
    rows = rows_of(cell_with(decomposition)).query("split == 'test'")
    assert rows["group"].tolist() == ["all", "0", "1", "2", "3", "common", "rare"]
    named = ["hopper on land", "hopper on water", "skimmer on land", "skimmer on water"]
    assert rows["group_name"].tolist() == ["all", *named, "common", "rare"]
    first = ["member", "rho", "seed", "split", "group", "group_name"]
    assert list(rows) == [*first, *map(quantities.column, quantities.of_classes(CLASSES)), *END]
    assert [name for name in rows if name in CONTRACT] == list(CONTRACT)
    rare = rows.iloc[-1]
    assert rare["n_images"] == 20
    confusion = np.asarray(decomposition.confusion)[np.isin(groups, (1, 2))].sum(0, dtype=np.int64)
    assert rare["fg_flip"] == pytest.approx((confusion[1, 2] + confusion[2, 1]) / confusion[1:].sum(), abs=1e-6)
    whole = summarize(decomposition, groups, class_names=CLASSES)
    (record,) = records_of(member_quantities(rows))
    for key in ("gap/hopper", "gap/skimmer", "gap/mean", "worst_group_iou"):
        assert record[key] == round(whole[key], 6) and np.isnan(rare[quantities.column(key)])


def test_a_rule_that_kept_no_epoch_has_blank_rows():
    kept, none = (results_table(cell_with(random_decomposition(8), best_epoch=best).results) for best in (2, 0))
    assert {*none["n_images"]} == {""} and none["fg_flip"].isna().all()
    assert list(none) == list(kept) and len(none) == len(kept)


def test_the_top_decile_sums_the_flip_shares_of_images_and_not_their_pixels():
    # Ten images, of which the riskiest is small and flips wholly, and a large one flips by half.
    confusion = np.zeros((10, 3, 3), np.int64)
    confusion[:, 1, 1] = 100
    confusion[8, 1] = (0, 500, 500)
    confusion[9, 1] = (0, 0, 10)
    whole = summarize(Decomposition(confusion, np.linspace(1, 100, 10)), class_names=CLASSES)
    assert whole["top_decile_flip_share"] == pytest.approx(1.0 / (1.0 + 0.5))
    (said,) = [line for line in GLOSSARY.read_text().splitlines() if line.startswith("- **top-decile share**")]
    assert "sum of the flip shares" in said and "pixels" not in said


def test_a_rule_that_kept_no_epoch_leaves_no_numbers_of_images():
    kept, none = (random_decomposition(8, seed) for seed in range(2))
    stored = cell_of({"a": [kept, kept], "b": [none, none]}, np.arange(8) % 4, np.full(8, -1), rules=("first", "last"))
    images = stored.images.without_numbers(np.array([[False, True], [False, False]]))
    blank = dataclasses.replace(stored, stored_images=images)
    np.testing.assert_array_equal(blank.decomposition("a", "test").confusion, kept.confusion)
    np.testing.assert_array_equal(blank.decomposition("b", "test", "last").confusion, none.confusion)
    counts = blank.decomposition("b", "test")
    assert not counts.confusion.any() and np.isnan(counts.flip).all() and np.isnan(counts.flip_risk).all()
    tables = list(image_tables(blank, rows_of(blank)))
    (of_first,) = [table for table in tables if {*table["selection"]} == {"first"} and {*table["split"]} == {"test"}]
    shares = of_first.groupby("member")["flip"].count()
    assert shares.to_dict() == {"a": 8, "b": 0} and {*of_first["status"]} == {"done"}


def test_a_group_without_images_has_blank_shares():
    empty = rows_of(cell_with(random_decomposition(40), groups=np.zeros(40, int))).iloc[-1]
    assert empty["group"] == "rare" and empty["n_images"] == 0 and empty[MEASURES].isna().all()


def test_csv_round_trip_is_the_same_byte_for_byte(tmp_path):
    axes = {"size": "NA", "learning_rate": 1e-7, "seed": 3, "rho": 0.95, "method": "ce, plain"}
    table = results_table(cell_with(random_decomposition(5), member="12", settings=[axes]).results)
    first, second = tmp_path / "deep" / "a.csv", tmp_path / "b.csv"
    write_csv(first, table)
    read = read_csv(first)
    pd.testing.assert_frame_equal(read, with_dtypes(table), check_dtype=False)
    write_csv(second, read)
    assert first.read_bytes() == second.read_bytes() and b"\r" not in first.read_bytes()
    assert (read["member"][0], read["size"][0], read["iou_hopper"].dtype) == ("12", "NA", np.float64)
    assert [path.name for path in first.parent.iterdir()] == ["a.csv"]


DAMAGED_TABLES = {
    "a longer row": b"a\n1\n1,2,3\n",
    "a column twice": b"a,a\n1,2\n",
    "a line break in a name": b'"a\nb","a\nb"\n1,2\n',
    "a long name": b"a" * 2**18 + b"\n1\n",
    "no UTF-8": b"\xff\n1\n",
    "nothing": b"",
}


@pytest.mark.parametrize("content", DAMAGED_TABLES.values(), ids=DAMAGED_TABLES)
def test_a_damaged_table_is_one_line(content, tmp_path):
    path = tmp_path / "summary.csv"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"summary\.csv: expected") as error:
        read_csv(path)
    assert "\n" not in str(error.value)


def test_cells_of_pools_with_other_classes_share_a_table(tmp_path):
    classes = (CLASSES, ("background", "cat", "dog"))
    cells = [
        cell_with(random_decomposition(16, seed), member=f"m{seed}", settings=[{"seed": seed}], classes=names)
        for seed, names in enumerate(classes)
    ]
    table = with_dtypes(concatenate([results_table(cell.results) for cell in cells]))
    names = list(table)
    assert names.index("n_images") < names.index("iou_cat") < names.index("iou_foreground") < names.index("status")
    assert np.isnan([table["iou_cat"].iloc[0], table["iou_hopper"].iloc[-1]]).all()
    first, second = records_of(member_quantities(table))
    for record, own, other in ((first, CLASSES[1:], ("cat", "dog")), (second, ("cat", "dog"), CLASSES[1:])):
        gaps = [record[f"gap/{name}"] for name in own]
        assert record["gap/mean"] == pytest.approx(sum(gaps) / 2, abs=2e-6)
        assert all(np.isnan(record[f"gap/{name}"]) for name in other)


def test_rows_of_unlike_columns_become_one_frame():
    frame = to_frame([{"member": "a", "n": 1, "flip": ""}, {"member": "b", "n": 2, "more": 3, "flip": 0.5}])
    assert list(frame) == ["member", "n", "more", "flip"] and frame["n"].dtype == np.int64
    assert np.isnan([frame["flip"][0], frame["more"][0]]).all()


LABELS = np.array([[1, 1], [1, 2], [2, 1], [0, 2], [2, 2]])
"""The predicted labels of five pairs: same, changed, changed, no region in one scene, same."""
PAIRS = np.repeat(np.arange(5), 2)


def counts_of(labels):
    """Counts of images whose true class is 1: ten pixels of the label each, one of the other."""
    confusion = np.zeros((labels.size, 3, 3), int)
    images = np.arange(labels.size)
    confusion[images, 1, labels.ravel()] = 10
    confusion[labels.ravel() > 0, 1, 2] += 1
    return Decomposition(confusion, np.ones(labels.size))


def changes(counts, sets):
    """Whether the label of each set changes, 0, 1 or NaN."""
    return [flips.counterfactual_flip(counts, np.where(sets == number, 0, -1)) for number in np.unique(sets)]


def test_a_ranking_worse_than_chance_has_a_negative_gain():
    flips = np.zeros((20, 3, 3), int)
    flips[:, 1, 1] = 10
    # Of four flipped images none is among the two with the highest risk, which could hold two of them.
    flips[:4, 1] = [0, 0, 10]
    numbers = summarize(Decomposition(flips, 10 * np.linspace(0.1, 0.6, 20)))
    assert numbers["top_decile_flip_share"] == 0 and numbers["top_decile_ceiling"] == 0.5
    assert numbers["top_decile_of_ceiling"] == pytest.approx((0 - 0.1) / (0.5 - 0.1))
    assert quantities.title_of("top_decile_of_ceiling") == "top-decile gain over chance, of what is possible"


def test_sets_change_where_their_labels_differ():
    one = counts_of(LABELS)
    assert flips.region_class(one).tolist() == LABELS.ravel().tolist()
    np.testing.assert_array_equal(changes(one, PAIRS), [0, 1, 1, np.nan, 0])
    assert flips.counterfactual_flip(one, PAIRS) == 0.5
    assert np.isnan(flips.counterfactual_flip(one, np.full(10, -1)))
    order = np.random.default_rng(0).permutation(10)
    shuffled = Decomposition(one.confusion[order], one.risk_sum[order])
    np.testing.assert_array_equal(changes(shuffled, PAIRS[order]), [0, 1, 1, np.nan, 0])
    # Sets of three scenes change where any label differs.
    labels = np.array([[1, 1, 1], [1, 1, 2], [2, 0, 2], [1, 2, 1]])
    three = np.repeat(np.arange(4), 3)
    np.testing.assert_array_equal(changes(counts_of(labels), three), [0, 1, np.nan, 1])
    assert flips.whole_pairs(np.append(three, [9, 9, -1])).tolist() == np.arange(12).reshape(4, 3).tolist()
    _, kinds = gallery.choose_images(counts_of(labels), None, three, riskiest=0, typical=0, paired=1)
    assert kinds.tolist() == ["pair 0"] * 3


def test_a_pair_in_the_gallery_says_what_became_of_its_label():
    cell = cell_with(counts_of(LABELS), groups=np.tile([0, 1], 5), pairs=PAIRS)
    indices, kinds = np.array([2, 3, 8, 9, 6]), ["pair 0", "pair 0", "pair 1", "pair 1", "riskiest"]
    blank = np.zeros((5, 4, 4, 3))
    options = {"indices": indices, "groups": [0, 1, 0, 1, 0], "kinds": kinds, "member": "m"}
    labels = blank[..., 0].astype(int)
    made = gallery.make_gallery(blank, labels, gallery.maps_of(blank, labels), **options)
    swap = SceneSwap(np.arange(10.0), counts_of(LABELS))
    options = {
        "class_names": cell.class_names,
        "scene_names": cell.results.scene_name.tolist(),
        "label": "m",
        "swap": swap,
    }
    items = member_items(made, cell.decomposition("m", "test"), PAIRS, **options)
    assert [item.pair for item in items[::2]] == ["predicted as hopper, skimmer", "predicted as skimmer", ""]
    assert [item.swap_risk for item in items] == [2, 3, 8, 9, 6]


WORDS = ("background", "common", "rare")


def test_every_number_of_a_summary_is_in_the_table_of_quantities():
    counts = np.random.default_rng(0).integers(0, 40, (8, 3, 3))
    decomposition = Decomposition(counts, np.linspace(0, 9, 8))
    summary = summarize(decomposition, np.arange(8) % 4, class_names=WORDS)
    keys = [key for key, value in summary.items() if not isinstance(value, list)]
    audited = {key.replace("<foreground>", name) for key in quantities.AUDIT_KEYS for name in WORDS[1:]}
    unlisted = {key for key in keys if not key.startswith("group/")} ^ set(quantities.of_classes(WORDS))
    assert unlisted == audited & set(keys)
    assert {quantities.quantity_of(key).unit for key in summary.keys() - {"flip_matrix"}} <= set(RANGES)
    titles = {"flip/rare": "flip of rare", "group/rare/gap/common": "IoU gap of common, rare"}
    assert {key: quantities.title_of(key) for key in titles} == titles
    with pytest.raises(KeyError, match=r"fg_flip.*found 'flips'"):
        quantities.quantity_of("flips")


LISTS = {"risk_decile", "flip_by_risk_decile"}
"""Quantities of ten numbers each, which are drawn."""


def test_a_quantity_that_is_no_column_of_results_csv_is_a_number_of_an_audit():
    unswept = {evaluator.quantity.key for evaluator in EVALUATORS if not evaluator.swept}
    assert unswept - LISTS <= set(quantities.AUDIT_KEYS), "results.quantities.AUDIT_KEYS lacks it"


def test_summarize_says_what_every_number_is():
    images = read_images(random_decomposition(8, 0), np.arange(8) % 4, class_names=CLASSES)
    returned = [evaluator.quantity.key for evaluator in EVALUATORS if evaluator.exists(images)]
    described = [f"`{key.replace('<foreground>', '<class>')}`" in summarize.__doc__ for key in returned]
    assert described == [True] * len(returned), "the docstring of metrics.summarize lacks a key"


def test_the_glossary_names_the_correction_of_verdicts():
    assert f"significant after {CORRECTION}" in GLOSSARY.read_text()
