"""Laws of groups, of the split and of the index tables, over random small pools."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flipjax.config.groups import Groups
from flipjax.data.correlation import evaluation_table, largest_n_train, training_table
from flipjax.data.part_names import PARTS
from flipjax.data.pool import Catalog, PoolItem
from flipjax.data.seeded_order import assign_scenes, draw_order, scene_orders
from flipjax.data.split import count_content, split_pool, strata


@pytest.mark.parametrize(("classes", "scenes"), [(2, 2), (4, 4), (5, 3), (3, 2)])
def test_every_group_is_a_class_in_a_scene(classes, scenes):
    groups, numbers = Groups(classes, scenes), np.arange(classes * scenes)
    y, scene = np.divmod(numbers, scenes)
    found = groups.class_of(numbers), groups.scene_of(numbers), groups.of(y, scene)
    np.testing.assert_array_equal(found, (y, scene, numbers))
    assert [groups.kind_of(group) == "common" for group in numbers] == (scene == y % scenes).tolist()
    assert sorted(groups.common + groups.rare) == numbers.tolist()
    for steps in range(scenes):
        moved = groups.moved(numbers.astype(np.int32), steps)
        np.testing.assert_array_equal(moved, groups.of(y, (scene + steps) % scenes).astype(np.int32), strict=True)


IMPOSSIBLE_GROUPS = {
    "no usual scene of the second class": (2, 2, ((0,),)),
    "no rare scene": (2, 2, ((0, 1), (1,))),
    "an empty set": (2, 2, ((0,), ())),
    "a scene that is none": (2, 2, ((0,), (2,))),
    "one class": (1, 2),
    "more scenes than classes": (2, 3),
}


@pytest.mark.parametrize("arguments", IMPOSSIBLE_GROUPS.values(), ids=IMPOSSIBLE_GROUPS)
def test_usual_scenes_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match=r"groups|usual"):
        Groups(*arguments)


def test_groups_have_names_and_sides():
    assert Groups().named == {"0": (0,), "1": (1,), "2": (2,), "3": (3,), "common": (0, 3), "rare": (1, 2)}
    evaluated = Groups(2, 2, ((0,), ()), partial=True)
    assert (evaluated.common, evaluated.rare, evaluated.sides_of(1)) == ((0,), (1,), ((), ()))


SHARES = st.floats(0, 1)
SEEDS = st.integers(0, 2**31 - 1)


def catalog(kind="composite", objects=(12, 12), scenes=(6, 6), usual=()):
    """`objects`: number per class (composite) or per group (photo); `scenes`: number per kind."""
    count = len(scenes)
    cells = np.repeat(np.arange(len(objects)), objects).tolist()
    places = [(cell // count, cell % count) if kind == "photo" else (cell, -1) for cell in cells]
    kinds = [] if kind == "photo" else np.repeat(np.arange(count), scenes).tolist()
    names = ("cat", "dog", "cow", "horse", "sheep")[: 1 + places[-1][0]], ("land", "water", "sand", "snow")[:count]
    items = [PoolItem(f"o{i}", (), *place) for i, place in enumerate(places)]
    photos = [PoolItem(f"s{i}", scene=scene) for i, scene in enumerate(kinds)]
    return Catalog("", kind, *names, items, photos, usual=usual)


@st.composite
def pools(draw):
    """Pools of 2 to 5 classes and 2 to 4 scenes, of which each class has any number as usual ones."""
    classes, scenes = draw(st.integers(2, 5)), draw(st.integers(2, 4))
    kind = draw(st.sampled_from(["composite", "photo"]))
    turn = draw(st.integers(1, scenes - 1))
    # Several scenes each in turn, or sets of any size.
    usual = [{(y + step) % scenes for step in range(turn)} for y in range(classes)]
    if draw(st.booleans()):
        usual = [draw(st.sets(st.integers(0, scenes - 1), min_size=1, max_size=scenes - 1)) for _ in usual]
    assume(not set(range(scenes)).difference(*usual))
    numbers = st.integers(9, 20)
    made = catalog(
        kind,
        objects=[draw(numbers) for _ in range(classes * (scenes if kind == "photo" else 1))],
        scenes=[draw(numbers) for _ in range(scenes)],
        usual=tuple(tuple(sorted(own)) for own in usual),
    )
    # Some of an equal number of the first of each have a part of their own.
    parts = np.random.default_rng(draw(SEEDS)).integers(-1, 3, 99)
    for column, own in ((made.object_split, strata(made)), (made.scene_split, made.scene_kind)):
        first = np.arange(len(own)) - np.searchsorted(own, own) < draw(st.integers(0, 3))
        column[first] = parts[np.flatnonzero(first) % len(parts)]
    return made


def regular(groups):
    """Whether scenes share the classes evenly: each is as often usual, for as many classes more than another."""
    times = [sum(scene in own for own in groups.usual) for scene in range(groups.scenes)]
    return groups.classes % groups.scenes == 0 and len(set(times)) == len(set(map(len, groups.usual))) == 1


def rho_of(groups, share):
    return groups.independence + share * (1 - groups.independence)


law = settings(max_examples=200)


@law
@given(pool=pools(), share=SHARES, seed=SEEDS, split_seed=SEEDS, fraction=SHARES)
def test_training_table_counts(pool, share, seed, split_seed, fraction):
    groups, rho = pool.groups, rho_of(pool.groups, share)
    split = split_pool(pool, n_val=groups.count, n_test=2 * groups.count, seed=split_seed)
    largest = largest_n_train(pool, split, rhos=[rho])
    n = max(1, int(fraction * largest / groups.classes)) if largest else 0
    if n == 0:
        with pytest.raises(ValueError, match="Largest n_train"):
            training_table(pool, split, rho=rho, seed=seed, n_train=groups.classes)
        return
    table = training_table(pool, split, rho=rho, seed=seed, n_train=groups.classes * n)
    counts = np.bincount(table.groups, minlength=groups.count).reshape(groups.classes, -1)
    for y, own in enumerate(groups.usual):
        common = np.isin(np.arange(groups.scenes), own)
        assert counts[y, common].sum() == round(rho * n) and counts[y].sum() == n
        assert all(np.ptp(counts[y, side]) <= 1 for side in (common, ~common))
    assert len(set(table.rows[:, 0])) == len(table.rows) and set(table.rows[:, 0]) <= set(split.train.objects)
    assert (pool.object_class[table.rows[:, 0]] == groups.class_of(table.groups)).all()
    assert (groups.class_of(table.groups) == np.arange(len(table.rows)) % groups.classes).all()
    scene = pool.object_scene[table.rows[:, 0]] if pool.kind == "photo" else pool.scene_kind[table.rows[:, 1]]
    assert (scene == groups.scene_of(table.groups)).all()
    assert (table.pairs == -1).all()
    with pytest.raises(ValueError, match=f"Largest n_train at rho {rho:g}: {largest}, which config.split.n_train = 0"):
        training_table(pool, split, rho=rho, seed=seed, n_train=largest + groups.classes)


@settings(law, max_examples=10)
@given(pool=pools(), share=SHARES, seed=SEEDS)
def test_jax_assigns_the_scenes_of_numpy(pool, share, seed):
    groups = pool.groups
    split = split_pool(pool, n_val=groups.count, n_test=groups.count, seed=0)
    n = largest_n_train(pool, split, rhos=[rho_of(groups, share)]) // groups.classes
    if n:
        common = round(rho_of(groups, share) * n)
        order = draw_order(pool, split, seed=seed, n_train=n * groups.classes)
        # One program: operation by operation it would be dozens.
        in_jax = jax.jit(lambda common: assign_scenes(groups, order, common, n=n))(jnp.int32(common))
        for one, two in zip(assign_scenes(groups, order, common, n=n), in_jax, strict=True):
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype == np.int32


@pytest.mark.parametrize("pool", [catalog(), catalog("photo", objects=(8,) * 4)], ids=lambda pool: pool.kind)
def test_a_traced_seed_draws_as_numpy_does(pool):
    split = split_pool(pool, n_val=4, n_test=4, seed=0)
    draw = jax.jit(lambda seed: draw_order(pool, split, seed=seed, n_train=8))
    for seed in (0, 7, 2**31 - 1):
        jax.tree.map(
            np.testing.assert_array_equal, draw(jnp.int32(seed)), draw_order(pool, split, seed=seed, n_train=8)
        )


@law
@given(pool=pools(), low=SHARES, high=SHARES, seed=SEEDS)
def test_draws_are_nested(pool, low, high, seed):
    groups = pool.groups
    low, high = (rho_of(groups, share) for share in sorted((low, high)))
    split = split_pool(pool, n_val=groups.count, n_test=groups.count, seed=0)
    size = largest_n_train(pool, split, rhos=[low, high])
    if size == 0:
        return
    n = size // groups.classes
    one, two = (training_table(pool, split, rho=rho, seed=seed, n_train=size) for rho in (low, high))
    changed = one.groups != two.groups
    expected = round(high * n) - round(low * n)
    assert changed.reshape(n, -1).sum(0).tolist() == [expected] * groups.classes
    assert (one.rows[~changed] == two.rows[~changed]).all()
    if pool.kind == "composite":
        assert (one.rows[:, 0] == two.rows[:, 0]).all()
        photos = [Counter(table.rows[:, 1].tolist()) for table in (one, two)]
        if regular(groups):
            assert photos[0] == photos[1]
        for kind in range(groups.scenes):
            held = split.train.scenes[pool.scene_kind[split.train.scenes] == kind]
            shown = [photos[0][int(photo)] for photo in held]
            assert max(shown) - min(shown) <= 2 - regular(groups)


@law
@given(pool=pools(), seed=SEEDS, n_val=st.sampled_from([1, 2]), n_test=st.sampled_from([1, 2, 3]))
def test_split_and_evaluation_tables(pool, seed, n_val, n_test):
    groups, cells = pool.groups, strata(pool)
    split = split_pool(pool, n_val=n_val * groups.count, n_test=n_test * groups.count, seed=seed)
    objects = np.concatenate([part.objects for part in split])
    scenes = np.concatenate([part.scenes for part in split])
    assert len(set(objects)) == len(objects) and sorted(scenes) == list(range(len(pool.scene_photo_names)))
    # What has a part of its own is drawn first there, or left out.
    assert (np.delete(pool.object_split, objects) > 0).all()
    for code, own in enumerate(split):
        assert {*pool.object_split[own.objects], *pool.scene_split[own.scenes]} <= {-1, code}
    for part, each in (("val", n_val), ("test", n_test)):
        table = evaluation_table(pool, split, part)
        assert np.bincount(table.groups).tolist() == [each] * groups.count
        assert (pool.object_class[table.rows[:, 0]] == groups.class_of(table.groups)).all()
        assert set(table.rows[:, 0]) == set(getattr(split, part).objects)
        fixed, drawn = pool.object_split == PARTS.index(part), np.isin(np.arange(len(cells)), table.rows[:, 0])
        counts = [np.bincount(cells[each], minlength=cells.max() + 1) for each in (fixed, fixed & drawn)]
        assert (np.minimum(counts[0], each) == counts[1]).all()
        # DFR's halves: as many of each group in both, up to one, and a set on one side.
        assert np.bincount(table.groups[table.refit], minlength=groups.count).tolist() == [-(-each // 2)] * groups.count
        if pool.kind == "photo":
            assert (pool.object_scene[table.rows[:, 0]] == groups.scene_of(table.groups)).all()
            assert (table.rows[:, 1] == -1).all() and (table.pairs == -1).all()
            continue
        assert (pool.scene_kind[table.rows[:, 1]] == groups.scene_of(table.groups)).all()
        assert set(table.rows[:, 1]) <= set(getattr(split, part).scenes)
        for column in (table.pairs, table.refit, table.rows[:, 0]):
            sets = column.reshape(-1, groups.scenes)
            assert (sets == sets[:, :1]).all()
        assert len(set(table.pairs)) == each * groups.classes
        assert (table.groups.reshape(-1, groups.scenes) % groups.scenes == np.arange(groups.scenes)).all()
        for kind in range(groups.scenes):
            held = getattr(split, part).scenes
            counts = Counter(table.rows[groups.scene_of(table.groups) == kind, 1].tolist())
            shown = [counts[int(photo)] for photo in held[pool.scene_kind[held] == kind]]
            assert max(shown) - min(shown) <= 1


def test_draws_are_the_same_on_every_version():
    split = split_pool(catalog(), n_val=8, n_test=8, seed=0)
    table = training_table(catalog(), split, rho=0.8, seed=5, n_train=10)
    assert split.test.objects.tolist() == [7, 23, 2, 17]
    assert table.rows[:, 0].tolist() == [8, 18, 1, 22, 0, 16, 3, 20, 9, 21]
    assert table.rows[:, 1].tolist() == [1, 9, 3, 7, 2, 11, 4, 10, 9, 1]


def test_each_class_passes_through_its_scenes_in_a_fixed_order():
    """Any version of SciPy gives these; at every step the classes stand in all of the scenes."""
    assert scene_orders(Groups(4, 4)) == ([[0], [1], [2], [3]], [[1, 2, 3], [0, 3, 2], [3, 1, 0], [2, 0, 1]])
    halves = [[1, 0], [0, 1], [2, 3], [3, 2]], [[2, 3], [3, 2], [1, 0], [0, 1]]
    assert scene_orders(Groups(4, 4, ((0, 1), (0, 1), (2, 3), (2, 3)))) == halves
    assert scene_orders(Groups(3, 3, ((0, 1), (1, 2), (0, 2)))) == ([[1, 0], [2, 1], [0, 2]], [[2], [0], [1]])


@pytest.mark.parametrize(
    ("photos", "n_val", "n_test", "wanted"),
    [(12, 8, 8, [12, 6, 6]), (100, 8, 8, [184, 8, 8]), (3, 4, 16, [2, 2, 2])],
    ids=["in proportion", "many photos", "few photos"],
)
def test_scene_photos_are_shared_in_proportion(photos, n_val, n_test, wanted):
    """24 objects: 4 + 4 evaluate, 16 train, so kinds show 4, 4 and 8 images: 12 photos go 3 : 3 : 6."""
    split = split_pool(catalog(scenes=(photos, photos)), n_val=n_val, n_test=n_test, seed=0)
    assert [len(part.scenes) for part in split] == wanted


SPLIT, TRAIN = {"n_val": 8, "n_test": 8, "seed": 0}, {"rho": 0.9, "seed": 0, "n_train": 8}
IMPOSSIBLE = [
    (split_pool, SPLIT | {"n_val": 6}, "n_val: .*4"),
    (split_pool, SPLIT | {"n_test": 0}, "n_test: .*4"),
    (split_pool, SPLIT | {"n_val": 24, "n_test": 24}, r"n_val \+ n_test is 44"),
    (split_pool, SPLIT | {"seed": -1}, "non-negative"),
    (training_table, TRAIN | {"rho": 0.4}, "rho: "),
    (training_table, TRAIN | {"n_train": 7}, "n_train: .*2"),
    (training_table, TRAIN | {"n_train": 20}, "train cat 8, dog 8, land scenes 4"),
    (largest_n_train, {"rhos": []}, "rhos"),
]


@pytest.mark.parametrize(("function", "options", "message"), IMPOSSIBLE, ids=[message for *_, message in IMPOSSIBLE])
def test_impossible_requests_say_what_is_possible(function, options, message):
    pool = catalog()
    arguments = [] if function is split_pool else [split_pool(pool, **SPLIT)]
    with pytest.raises(ValueError, match=message):
        function(pool, *arguments, **options)


def test_too_few_scene_photos_are_named():
    with pytest.raises(ValueError, match="'land'"):
        split_pool(catalog(scenes=(2, 6)), **SPLIT)


def test_photo_pool_says_its_largest_size_and_rho():
    """After 1 + 1 photos of each group for val and test, train holds 10, 4, 4, 10."""
    pool = catalog("photo", objects=(12, 6, 6, 12))
    split = split_pool(pool, n_val=4, n_test=4, seed=0)
    assert [[*count_content(pool, part).values()] for part in split] == [[10, 4, 4, 10], [1] * 4, [1] * 4]
    assert [largest_n_train(pool, split, rhos=[rho]) for rho in (0.5, 0.75, 1)] == [16, 28, 20]
    assert largest_n_train(pool, split, rhos=[0.5, 0.75, 1]) == 16


@pytest.mark.parametrize(
    ("n_train", "rho", "message"),
    [
        (20, 0.5, r"cat in land 10, cat in water 4.*Largest n_train at rho 0\.5, 0\.75, 1: 16, which"),
        (24, 0.95, r"With n_train 24: rho must lie in \[0.666667, 0.833333\]"),
        (30, 0.95, "With n_train 30: no rho is possible"),
    ],
    ids=["another size", "another rho", "none"],
)
def test_a_photo_pool_that_is_too_small_says_what_it_allows(n_train, rho, message):
    pool = catalog("photo", objects=(12, 6, 6, 12))
    split = split_pool(pool, n_val=4, n_test=4, seed=0)
    with pytest.raises(ValueError, match=message):
        training_table(pool, split, rho=rho, seed=0, n_train=n_train, rhos=(0.5, 0.75, 1))
