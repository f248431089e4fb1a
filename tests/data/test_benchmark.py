"""`flipjax.data.benchmark` hands over a member's images, and `flipjax.results.score` makes a sweep's rows of them."""

import functools
import pathlib
import re

import jax
import numpy as np
import pytest
from results.tables import cell_of, rows_of

from flipjax.config import ConfigError
from flipjax.config.plan import plan
from flipjax.config.reading import configure, read_config
from flipjax.data import POOLS, benchmark
from flipjax.data.pool import gather
from flipjax.results import load, score
from flipjax.results.scores import unpack_classes
from flipjax.training.member import init_state
from flipjax.training.network.forward import evaluate, predict
from flipjax.training.task import make_members, make_task

RECORDED = pathlib.Path(__file__).parents[1] / "recorded"


@pytest.fixture
def config():
    return read_config(RECORDED / "smoke_run.py")


@pytest.fixture(scope="module", autouse=True)
def images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(POOLS, "synthetic", functools.cache(POOLS["synthetic"]))  # Each pool is drawn once for all.
        yield benchmark(RECORDED / "smoke_run.py", rho=0.95, seed=1)


def test_the_images_are_a_members_own(config, images):
    config.axes.train.schedule = ("constant", "cosine")
    program, task = make_task(plan(config).programs[0])
    index = next(i for i, s in enumerate(program.settings) if (s.axes["rho"], s.axes["seed"]) == (0.95, 1))
    members = make_members(program, task)
    scheduled = [setting.axes["schedule"] == "cosine" for setting in program.settings]
    assert [float(member.recipe.schedule) for member in members] == scheduled and 0 < sum(scheduled) < len(scheduled)
    member = members[index]
    for part, table in {"train": member, **task.tables}.items():
        made = getattr(images, part)
        jax.tree.map(np.testing.assert_array_equal, jax.jit(gather)(task.pool, table.rows), (made.images, made.masks))
        np.testing.assert_array_equal(table.groups, made.groups)
        assert made.images.dtype == np.float32 and all(len(column) == len(table.rows) for column in made)
    np.testing.assert_array_equal(images.test.classes, images.test.masks.max((1, 2)) - 1)
    np.testing.assert_array_equal(images.test.pairs, task.tables["test"].pairs)


def test_images_have_the_members_strength_of_the_cue(config, images):
    config.axes.pool.cue_strength = (1.0, 0.0)
    none = benchmark(config, rho=0.95, seed=1, cue_strength=0.0).test
    sets = none.images[np.argsort(none.pairs, kind="stable")]
    np.testing.assert_array_equal(sets[::2], sets[1::2])
    np.testing.assert_array_equal(benchmark(config, rho=0.95, seed=1).test.images, images.test.images)
    with pytest.raises(ConfigError, match="cue_strength"):
        benchmark(config, rho=0.95, cue_strength=-0.5)


def test_the_rows_are_those_of_the_sweep(images):
    """Scores the stored predictions of the recorded run; quantities without scores equal its results.csv."""
    data = load(RECORDED / "run")
    (cell,), run = data.cells.values(), data.results
    chosen = run[(run.rho == 0.95) & (run.seed == 1) & (run.split == "test") & (run.selection == "val_loss")]
    for member, own in chosen.groupby("member"):
        packed = cell.images.masks[cell.results.index_of_member[member], cell.images.inside("test")]
        masks = unpack_classes(packed).reshape(images.test.masks.shape)
        rows = score(masks, images, kind="masks", member=member).set_index("group")
        own = own.set_index("group")
        columns = [name for name in own if "risk" not in name and name in rows and rows[name].dtype == float]
        columns = [name for name in columns if not re.search("rim|interior|ece|decile|epoch", name)]
        assert len(columns) > 12 and "counterfactual_flip" in columns
        np.testing.assert_allclose(rows[columns], own.loc[rows.index, columns].astype(float), atol=2e-6)


def test_logits_give_the_numbers_of_a_member(config, images):
    program, task = make_task(plan(config).programs[0])
    experiment = program.experiment
    rows = task.tables["test"].rows
    weights = jax.jit(init_state, static_argnums=0)(experiment, make_members(program, task)[0]).weights

    @jax.jit
    def answer(weights):
        return [function(experiment, weights, task.pool, rows) for function in (predict, evaluate)]

    logits, counts = answer(weights)
    own = score(logits, images, method="mine")
    assert score(np.moveaxis(logits, -1, 1), images, channels="first", method="mine").equals(own)
    assert {*own["method"]} == {"mine"} and {*own["rho"]} == {0.95}
    cell = cell_of({"m": [counts]}, images.test.groups, images.test.pairs, classes=images.class_names)
    theirs = rows_of(cell).query("split == 'test'")
    columns = [name for name in theirs if theirs[name].dtype == float and name != "rho"]
    assert {"risk_auroc", "fg_flip"} <= {*columns} and own["rim_risk"].notna().any()
    np.testing.assert_allclose(own[columns], theirs[columns], atol=2e-6)


def test_any_number_of_classes_and_scenes(config):
    config.pool.update(size=16, objects=16, scenes=10, scene_kinds=("land", "water", "desert"))
    config.pool.usual, config.axes.rho = ("land", ("water", "desert")), (0.9,)
    config.split.update(n_train=16, n_val=6, n_test=12)
    made = benchmark(config, rho=0.9)
    test = made.test
    np.testing.assert_array_equal(test.groups, 3 * test.classes + test.scenes)
    assert np.bincount(test.pairs).tolist() == [3] * 4 and made.all_groups.common == (0, 4, 5)
    rows = score(test.masks, made, kind="masks")
    assert rows["group"].tolist() == ["all", *"012345", "common", "rare"] and (rows["fg_correct"] == 1).all()


def test_one_value_of_the_grid_is_that_of_the_pool(config):
    alone = benchmark(configure(config, {"axes.pool.size": (24,), "axes.split.seed": (7,)}), rho=0.9)
    same = benchmark(configure(config, {"pool.size": 24, "split.seed": 7}), rho=0.9)
    assert alone.test.images.shape[1] == 24 and (alone.train.images == same.train.images).all()


def test_what_is_refused(config, images):
    with pytest.raises(ValueError, match=r"expected 3 classes \(background, mossling, ripplet\), found 4"):
        score(np.zeros((*images.test.masks.shape, 4), np.float32), images)
    config.axes.split = {"seed": (0, 1)}
    with pytest.raises(ConfigError, match=r"config\.axes\.split\.seed: expected one value, as config\.split\.seed"):
        benchmark(config, rho=0.9)
    with pytest.raises(ConfigError, match=r"config\.axes\.rho: expected a number in"):
        benchmark(RECORDED / "smoke_run.py", rho=0.2)
