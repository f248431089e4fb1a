"""`flipjax.data.check`: of arrays what `flipjax data check` prints of the same photos in a folder."""

import ast
import shlex

import numpy as np
import pytest

import flipjax
import flipjax.sweep.__main__
from data.folder.tree import photos
from flipjax.config import ConfigError, PoolSpec
from flipjax.config.plan import plan
from flipjax.data import check, from_arrays
from flipjax.data.sources.arrays import ArrayData, keys_of
from flipjax.data.sources.folder import load_folder
from flipjax.data.store import BadFilesError, say_usual
from flipjax.training.task import make_task

NAMES = {"class_names": ("cat", "dog"), "scene_names": ("indoor", "outdoor")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos") / "data"
    photos(root, per_group=(12, 6, 6, 12))
    return root


@pytest.fixture(scope="module")
def data(folder):
    """The photos of the folder in memory."""
    pool, catalog = load_folder(PoolSpec(name="folder", root=str(folder), size=16))
    y, scene = catalog.object_class, catalog.object_scene
    names = {"class_names": catalog.class_names, "scene_names": catalog.scene_names}
    return from_arrays(np.asarray(pool.images), np.asarray(pool.masks), y, scene, **names)


def tables(overview):
    text = str(overview)
    return text[text.index("Bad files") : text.index("Next")]


def test_arrays_have_the_tables_of_a_folder(folder, data):
    assert tables(check(data)) == tables(check(folder, size=16))


def test_a_folder_has_the_text_of_the_command(folder, capsys):
    from flipjax.data.__main__ import main

    assert main(["check", str(folder), "--size", "16"]) == 0
    assert capsys.readouterr().out == f"{check(folder, size=16)}\n"


def call_of(line):
    """The name and the changes of a call that an overview shows."""
    call = ast.parse(line).body[0].value
    return tuple(ast.literal_eval(argument) for argument in call.args)


def test_the_call_that_fits_is_one_that_runs(data):
    overview = check(data)
    assert str(overview).splitlines()[-1].strip() == overview.next
    name, changes = call_of(overview.next)
    programs = plan(flipjax.configure(name, {**changes, **keys_of(data)})).programs
    _, task = make_task(programs[0], data)
    assert len(task.tables["test"].rows) == changes["split.n_test"]


def drawn(count, size):
    """Photos of two classes on two scenes, as many of each."""
    y, scene = np.divmod(np.arange(count) % 4, 2)
    return from_arrays(np.zeros((count, size, size), np.uint8), np.ones((count, size, size), bool), y, scene, **NAMES)


@pytest.mark.parametrize("count", [80, 200, 600, 2000, 8000])
def test_sizes_take_the_steps_of_a_configuration_that_learns(count):
    """Pools of 400 cut-outs and 800 photos learnt so, as photos_grid with 800 images does (data/README)."""
    name, changes = call_of(check(drawn(count, 16)).next)
    train = plan(flipjax.configure(name, changes)).programs[0].experiment.train
    assert train.epochs * (changes["split.n_train"] // train.batch_size) >= 800
    assert train.patience >= train.epochs // 2 or "train.patience" not in changes


@pytest.mark.parametrize(("count", "few"), [(80, True), (2000, False)])
def test_few_training_images_are_said(count, few):
    assert ("few to learn the classes from" in str(check(drawn(count, 16)))) == few


@pytest.mark.parametrize(("size", "named"), [(16, False), (64, False), (96, True), (104, False)])
def test_features_of_photos_are_named_for_arrays_that_they_can_read(size, named):
    overview = check(drawn(80, size))
    assert (overview.next_frozen != "") == named
    if named:
        assert str(overview).splitlines()[-1].strip() == overview.next_frozen
        name, changes = call_of(overview.next_frozen)
        experiment = plan(flipjax.configure(name, {**changes, "pool.size": size})).programs[0].experiment
        assert experiment.model.name == "frozen"


@pytest.mark.parametrize(("size", "frozen_size"), [(64, 96), (104, 128)])
def test_a_folder_has_a_command_on_features_of_photos(folder, size, frozen_size):
    overview = check(folder, size=size)
    arguments = shlex.split(overview.next_frozen)
    options = flipjax.sweep.__main__._parser().parse(arguments[2:])
    assert options.config.pool.size == frozen_size and options.config.model.name == "frozen"
    assert options.config.split.n_train == overview.changes["split.n_train"]
    plan(options.config)


@pytest.mark.parametrize(
    ("usual", "said"),
    [((), True), (("outdoor", "indoor"), False), (("indoor", "outdoor"), False)],
    ids=["by order", "given", "given as by order"],
)
def test_usual_scenes_by_order_are_said(data, usual, said, capfd):
    say_usual.cache_clear()
    images, masks = data.pool.images, data.pool.masks
    y, scene = data.catalog.object_class, data.catalog.object_scene
    again = from_arrays(images, masks, y, scene, **NAMES, usual=usual)
    line = "pool: usual scenes, by order: cat in indoor, dog in outdoor; usual= sets others"
    assert (line in capfd.readouterr().err) == said
    assert ("set others by usual=" in str(check(again))) == said


def test_usual_scenes_that_few_photos_show_are_doubted(data):
    y, scene = data.catalog.object_class, 1 - data.catalog.object_scene
    other = from_arrays(data.pool.images, data.pool.masks, y, scene, **NAMES)
    assert "below 0.5: the usual scenes may be others; try usual= outdoor,indoor" in str(check(other))


def test_too_few_arrays_have_no_split():
    images = np.zeros((4, 16, 16, 3), np.uint8)
    data = from_arrays(images, np.ones((4, 16, 16), bool), [0, 0, 1, 1], [0, 1, 0, 1], **NAMES)
    overview = check(data)
    assert not overview.fine and overview.changes == {} and "the largest n_val + n_test is 4" in str(overview)


def test_it_is_shown_as_its_text(data):
    assert repr(check(data)) == str(check(data))


@pytest.mark.parametrize(
    ("given", "options", "field"),
    [
        (3, {}, "data"),
        ("absent", {}, "config.pool.root"),
        (".", {"sizes": 3}, "sizes"),
        (".", {"size": 5}, "config.pool.size"),
        (ArrayData(None, None), {"size": 16}, "size"),
    ],
    ids=["a number", "no folder", "another option", "an odd size", "options of arrays"],
)
def test_misuse_is_named(given, options, field):
    with pytest.raises(ConfigError, match=f"^{field}: expected"):
        check(given, **options)


def test_a_folder_that_is_no_pool_is_an_error(tmp_path):
    with pytest.raises(BadFilesError, match="expected cutouts"):
        check(tmp_path)
