"""Folds of images as they are found: each is tested once, clusters stay whole, draws are nested."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flipjax
from flipjax.config import ConfigError, SplitSpec
from flipjax.config.plan import plan
from flipjax.data import from_arrays
from flipjax.data.pool import Catalog, PoolItem
from flipjax.data.sources.arrays import keys_of
from flipjax.data.split import split_pool, strata
from flipjax.data.splits.folds import find_images, fold_numbers, found_size, found_table
from flipjax.data.splits.parts import make_parts
from flipjax.training.task import make_task

NAMES = {"class_names": ("cat", "dog"), "scene_names": ("land", "water")}


def photos(counts, clusters=()):
    """A catalog with as many photos of each group."""
    groups = np.repeat(np.arange(4), counts)
    items = []
    for i, group in enumerate(groups):
        cluster = clusters[i] if len(clusters) else ""
        items.append(PoolItem(f"{i}", y=group // 2, scene=group % 2, cluster=cluster))
    return Catalog("photos", "photo", *NAMES.values(), items)


def cut_outs(objects, scenes):
    items = [PoolItem(f"{i}", y=i % 2) for i in range(objects)]
    kinds = [PoolItem(f"{i}", scene=i % 2) for i in range(scenes)]
    return Catalog("cut-outs", "composite", *NAMES.values(), items, kinds)


COUNTS = st.lists(st.integers(3, 30), min_size=4, max_size=4)


@given(counts=COUNTS, folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_every_image_is_tested_once_and_trains_or_validates_beside_other_folds(counts, folds, seed):
    found = find_images(photos(counts), folds=folds, seed=seed, rho=1.0)
    tested = np.concatenate([np.flatnonzero(found.folds == fold) for fold in range(folds)])
    assert sorted(tested) == list(range(sum(counts)))
    for fold in range(folds):
        parts = [found.training(fold), found.validation(fold), np.flatnonzero(found.folds == fold)]
        assert sorted(np.concatenate(parts)) == list(range(sum(counts)))


@given(counts=COUNTS, folds=st.integers(2, 5), seed=st.integers(0, 9))
def test_folds_of_single_images_differ_by_one_in_each_group(counts, folds, seed):
    found = find_images(photos(counts), folds=folds, seed=seed, rho=1.0)
    table = np.zeros((folds, 4), int)
    np.add.at(table, (found.folds, found.groups), 1)
    assert np.ptp(table, axis=0).max() <= 1
    assert np.ptp(table.sum(1)) <= 1


@given(st.lists(st.integers(0, 11), min_size=30, max_size=60), st.integers(0, 9))
def test_no_cluster_is_on_two_sides(clusters, seed):
    clusters = np.array([*clusters, *range(12)])
    groups = np.arange(len(clusters)) % 4
    numbers = fold_numbers(groups, clusters, folds=3, seed=seed)
    for cluster in np.unique(clusters):
        assert len(set(numbers[clusters == cluster])) == 1
    assert set(numbers) == {0, 1, 2}


def test_validation_keeps_clusters_whole():
    clusters = [f"patient {i // 5}" for i in range(100)]
    found = find_images(photos([45, 5, 5, 45], clusters), folds=4, seed=0, rho=1.0)
    for fold in range(4):
        sides = [set(found.clusters[part]) for part in (found.training(fold), found.validation(fold))]
        assert sides[0].isdisjoint(sides[1])


@given(kept=st.lists(st.floats(0, 1), min_size=2, max_size=2), seed=st.integers(0, 9))
def test_fewer_rare_images_are_part_of_more(kept, seed):
    found = find_images(photos([40, 8, 8, 40]), folds=2, seed=0, rho=1.0)
    fewer, more = (
        set(found_table(found, 0, rare_kept=share, seed=seed, n_train=80).rows[:, 0]) for share in sorted(kept)
    )
    assert {row for row in fewer if found.rare[row]} <= {row for row in more if found.rare[row]}


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.25, 0.0])
def test_all_common_images_and_a_fraction_of_the_rare_ones(kept):
    found = find_images(photos([40, 8, 8, 40]), folds=2, seed=0, rho=1.0)
    table = found_table(found, 0, rare_kept=kept, seed=3, n_train=found_size(found))
    trained = found.training(0)
    shown = np.unique(table.rows[:, 0])
    assert set(shown) <= set(trained)
    assert len(table.rows) == found_size(found)
    assert set(trained[~found.rare[trained]]) <= set(shown)
    for group in found.all_groups.rare:
        assert (found.groups[shown] == group).sum() == round(kept * (found.groups[trained] == group).sum())


def test_repeated_images_keep_their_proportions():
    found = find_images(photos([40, 8, 8, 40]), folds=2, seed=0, rho=1.0)
    counts = np.bincount(found_table(found, 0, rare_kept=1.0, seed=0, n_train=420).groups, minlength=4)
    trained = np.bincount(found.groups[found.training(0)], minlength=4)
    np.testing.assert_allclose(counts / 420, trained / trained.sum(), atol=0.01)


def test_a_composite_pool_shows_each_object_once_with_a_photo_of_its_fold():
    found = find_images(cut_outs(80, 20), folds=4, seed=0, rho=0.9)
    assert np.bincount(found.groups, minlength=4).tolist() == [36, 4, 4, 36]
    photos_of = [set(found.rows[found.folds == fold, 1]) for fold in range(4)]
    for fold in range(4):
        for other in range(fold):
            assert photos_of[fold].isdisjoint(photos_of[other])
    kinds = np.arange(20) % 2
    assert (kinds[found.rows[:, 1]] == found.groups % 2).all()


@given(
    clusters=st.lists(st.integers(0, 11), min_size=40, max_size=40),
    counts=st.lists(st.integers(4, 10), min_size=4, max_size=4),
    seed=st.integers(0, 9),
)
def test_a_cluster_stays_in_one_part(clusters, counts, seed):
    pool = photos(counts, [f"p{cluster}" for cluster in clusters])
    try:
        split = split_pool(pool, n_val=4, n_test=4, seed=seed)
    except ValueError as error:
        assert "the images of a cluster stay in one part" in str(error)
        return
    names = np.array(pool.object_clusters)
    train, val, test = (set(names[part.objects]) for part in split)
    assert not train & val and not train & test and not val & test
    for part in (split.val, split.test):
        assert np.bincount(strata(pool)[part.objects]).tolist() == [1] * 4


@pytest.mark.parametrize("seed", [0, 1])
def test_clusters_beyond_those_that_test_and_validation_need_are_for_training(seed):
    pool = photos([7] * 4, [f"p{number}" for number in range(7)] * 4)
    split = split_pool(pool, n_val=8, n_test=4, seed=seed)
    assert [len(part.objects) for part in (split.train, split.val, split.test)] == [16, 8, 4]


def test_a_cluster_with_two_fixed_parts_is_refused():
    pool = photos([2, 2, 2, 2], ["p"] * 8)
    items = [dataclasses.replace(item, part=2 * (number > 5)) for number, item in enumerate(pool.objects)]
    found = "found 'p' in train and, with 6, in test"
    with pytest.raises(ConfigError, match=f"clusters: expected all images of a cluster in one part; {found}"):
        split_pool(dataclasses.replace(pool, objects=items), n_val=4, n_test=4, seed=0)


def with_fixed(pool, part):
    """The pool with every third object in a part."""
    items = [dataclasses.replace(item, part=part if i % 3 == 0 else item.part) for i, item in enumerate(pool.objects)]
    return dataclasses.replace(pool, objects=items)


TOO_SMALL = {
    "photos": (photos([3] * 4), "group, .* dog in water 3; the largest n_val [+] n_test is 12"),
    "cut-outs": (cut_outs(6, 4), "class, .* cat 3, dog 3; the largest n_val [+] n_test is 8"),
    "fixed to train": (
        with_fixed(photos([3] * 4), 0),
        r"dog in water 3 \(free 2, fixed train 1, val 0, test 0\); the largest n_val [+] n_test is 8",
    ),
    "fixed to val": (with_fixed(photos([3] * 4), 1), r"dog in water 3 \(free 2, fixed train 0, val 1, test 0\)"),
    "fixed to test": (with_fixed(photos([3] * 4), 2), r"dog in water 3 \(free 2, fixed train 0, val 0, test 1\)"),
    "clusters": (photos([3] * 4, ["p"] * 12), "dog in water 3; the images of a cluster stay in one part"),
}


@pytest.mark.parametrize(("pool", "message"), TOO_SMALL.values(), ids=TOO_SMALL)
def test_a_pool_that_is_too_small_says_what_it_holds_and_what_would_fit(pool, message):
    with pytest.raises(ValueError, match=f"{message}$"):
        split_pool(pool, n_val=8, n_test=8, seed=0)


def test_folds_share_one_experiment():
    """And so compiled programs."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 16, 16), np.uint8)
    data = from_arrays(images, np.tile(np.arange(16) < 5, (40, 16, 1)), [0, 1] * 20, [0, 1, 1, 0] * 10, **NAMES)
    sizes = {"split.folds": 4, "split.n_train": 0, "train.batch_size": 8, "axes.rho": (0.9,)}
    config = flipjax.configure("smoke", {**sizes, "axes.split.fold": (0, 1, 2, 3)})
    made = [make_task(program, data) for program in plan(flipjax.configure(config, keys_of(data))).programs]
    assert len({program.experiment for program, _ in made}) == 1
    tested = np.concatenate([task.tables["test"].rows[:, 0] for _, task in made])
    assert sorted(tested) == list(range(40))


def test_parts_without_folds_are_balanced():
    parts = make_parts(photos([30, 30, 30, 30]), SplitSpec(n_train=0, n_val=8, n_test=16), rho=0.5)
    assert parts.found_images is None
    assert np.bincount(parts.test.groups).tolist() == [4, 4, 4, 4]


@pytest.mark.parametrize(
    ("catalog", "problem"),
    [
        (photos([2, 2, 2, 2], ["a"] * 4 + ["b"] * 4), "at most the 2 images or clusters, found 3"),
        (cut_outs(40, 4), "at most the 2 scene photos of kind 'land'"),
        (Catalog("fixed", "photo", *NAMES.values(), [PoolItem("0", y=0, scene=0, part=2)]), "without fixed parts"),
    ],
    ids=["clusters", "scene photos", "fixed parts"],
)
def test_what_cannot_be_divided_is_one_sentence(catalog, problem):
    with pytest.raises(ValueError, match=problem):
        find_images(catalog, folds=3, seed=0, rho=0.9)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"split.folds": 3, "split.fold": 3, "axes.rho": (0.9,)}, "config.split.fold"),
        ({"split.fold": 1}, "config.split.fold"),
        ({"split.folds": 3, "axes.rho": (0.5, 0.9)}, "config.axes.rho"),
        ({"axes.split.rare_kept": (0.5, 1.0)}, "config.split.rare_kept"),
        ({"split.folds": 1}, "config.split.folds"),
    ],
    ids=["fold too large", "fold alone", "two levels", "rare_kept alone", "one fold"],
)
def test_keys_of_folds_that_do_not_go_together(changes, field):
    with pytest.raises(ConfigError, match=field):
        plan(flipjax.configure("smoke", changes))


def test_a_column_of_the_table_is_the_scene_and_another_the_cluster(tmp_path):
    from PIL import Image

    from flipjax.config import PoolSpec
    from flipjax.data.sources.layouts import list_folder

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    lines = ["filename,class,scanner,patient"]
    for i in range(8):
        Image.new("RGB", (16, 16)).save(tmp_path / "images" / f"{i}.png")
        Image.new("L", (16, 16)).save(tmp_path / "masks" / f"{i}.png")
        lines.append(f"{i}.png,{'ab'[i % 2]},{'xy'[i // 4]},p{i // 2}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    catalog = list_folder(PoolSpec(root=str(tmp_path), scene_column="scanner", cluster_column="patient"))
    assert catalog.scene_names == ("x", "y")
    assert catalog.object_clusters == ("p0", "p0", "p1", "p1", "p2", "p2", "p3", "p3")
