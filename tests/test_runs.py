"""A sweep from Python: the command line's bytes, its tables, and models that give the stored numbers."""

import json
import pathlib
from concurrent.futures import ThreadPoolExecutor

import faults
import jax
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from results.tables import RECORDED
from run_folder import SETTINGS, TRAINED, make_run

import flipjax
from flipjax.config import ConfigError, reading
from flipjax.data import POOLS, from_arrays
from flipjax.metrics import decompose
from flipjax.metrics.summary.names import title_of
from flipjax.models.weights.pytorch_names import WeightsError
from flipjax.report.page_tables import result_tables
from flipjax.results.run import load
from flipjax.support.frames import read_csv
from flipjax.support.terminal import Bar
from flipjax.sweep.run import Sweep


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, without_pictures):
    """An empty folder; a pool is drawn once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(POOLS, "synthetic", faults.DRAWN)


def test_a_run_has_the_bytes_of_the_command_line_and_continues_what_was_interrupted(tmp_path, monkeypatch):
    config = faults.config_file()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            flipjax.run(config, workdir="run")
    assert not (tmp_path / "run/results.csv").exists() and (tmp_path / "run/checkpoints/000/1").is_dir()
    assert len(read_csv(tmp_path / "run/history.csv")) == 2
    # As in a notebook's thread, where no signal arrives.
    with ThreadPoolExecutor() as threads:
        run = threads.submit(flipjax.run, config, workdir="run").result()
    names = "results.csv", "history.csv", "report/summary.csv", "cells/000/results.npz"
    assert faults.same(run.folder, *names)
    assert not (run.folder / "checkpoints").exists()
    # Nothing to do.
    monkeypatch.setattr(Sweep, "train", None)
    again = flipjax.run(config, workdir="run")
    assert again.members["rho"].tolist() == [0.5, 1.0] and set(again.members["status"]) <= TRAINED
    assert len(again.history) == again.members["epochs"].sum() and "Flip, rare" in again._repr_html_()
    with pytest.raises(ConfigError, match="m000"):
        again.member("m9")


def test_the_page_on_runs_from_python(tmp_path, monkeypatch):
    text = pathlib.Path(flipjax.sweep.__file__).with_name("README.md").read_text().partition("## From Python\n")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.setattr(reading, "shipped_configs", lambda: {"smoke": faults.config_file()})
    exec(code.replace('"train.epochs": 4', '"train.epochs": 3'), {})  # The finished run's programs.
    assert (tmp_path / "model.safetensors").is_file()


def test_a_reloaded_model_gives_the_stored_decomposition_of_every_rule(without_page):
    changes = {"axes.rho": (1.0,), "axes.method": ("ce", "dfr"), "train.selection": ("val_loss", "last")}
    changes |= {"population.keep": "all", "intervene.scenes": "none", "intervene.scores": "none"}
    run = flipjax.run(faults.config_file(), changes)
    assert run.folder.name.startswith("tiny-")
    opened = flipjax.open_run(run.folder)
    for name in run.members.index:
        member = opened.member(name)
        images = member.images()
        for rule in ("val_loss", "last"):
            model = member.model(rule)
            for part in ("val", "test"):
                own, stored = getattr(images, part), member.decomposition(part, rule)
                found = model.decompose(own.images, own.masks)
                np.testing.assert_array_equal(found.confusion, stored.confusion)
                # Sums of floats of another program.
                np.testing.assert_allclose(found.risk_sum, stored.risk_sum, rtol=1e-5)
    path = next(run.folder.glob("cells/*/weights/*"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        opened.member(path.name.split(".")[0]).model(path.name.split(".")[1])


def test_photos_in_memory_and_a_loss_augmentation_and_network_of_ones_own(without_page):
    from data.test_arrays import NAMES, PHOTOS
    from training.test_own import Net, dark, mine

    data = from_arrays(**PHOTOS, **NAMES)
    changes = {"model.width": 8, "model.depth": 3, "model.build": Net, "train.epochs": 1, "axes.rho": (0.75,)}
    changes |= {"split.n_train": 8, "split.n_val": 8, "split.n_test": 8, "intervene.scores": "none"}
    changes |= {"train.loss": mine, "train.augment": dark, "axes.method": ("mine+dark",)}
    run = flipjax.run(faults.config_file(), changes, data=data)
    functions = json.loads((run.folder / "config.json").read_text())["functions"]
    assert "scale=1.0" in functions["mine"] and "dark.SCALE = 3.0" in functions["dark"] and "Net" in functions
    assert set(run.members["status"]) <= TRAINED
    assert run.config.pool.root and data.catalog.content.startswith(run.config.pool.root)
    with pytest.raises(ConfigError, match=r"^data: expected the images in memory .* flipjax.open_run\('.*', data="):
        flipjax.open_run(run.folder).member("m000").images()
    again = flipjax.open_run(run.folder, data=data).member("m000").images()
    np.testing.assert_array_equal(again.test.images, run.member("m000").images().test.images)
    with pytest.raises(ConfigError, match=r"^data: expected the images that .* was made of"):
        flipjax.open_run(run.folder, data=from_arrays(**{**PHOTOS, "images": 255 - PHOTOS["images"]}, **NAMES))
    member = run.member("m000")
    test = member.images().test
    found = member.model().decompose(test.images, test.masks)
    # Compiled quickly, a pixel whose classes tie may turn.
    assert np.abs(found.confusion - member.decomposition().confusion).sum() <= 4
    np.testing.assert_allclose(found.risk_sum, member.decomposition().risk_sum, rtol=1e-3)
    with pytest.raises(WeightsError, match="build"):
        flipjax.open_run(run.folder).member("m000").model()


@pytest.fixture(scope="module")
def recorded():
    return flipjax.open_run(RECORDED)


def test_axes_of_a_member_are_what_training_takes(recorded):
    axes = recorded.member("m003").axes
    assert axes["rho"] == 0.5 and axes["seed"] == 1 and {"method", "learning_rate"} <= axes.keys()
    assert {type(value) for value in axes.values()} <= {int, float, str}
    train = flipjax.make_train(RECORDED.with_name("smoke_run.py"))
    member = train.member(**axes)
    assert float(member.recipe.learning_rate) == pytest.approx(axes["learning_rate"])


def test_stored_predictions_are_those_that_were_counted(recorded):
    member = recorded.member("m001")
    predictions, test = member.predictions(), member.images().test
    assert predictions.shape == test.masks.shape and predictions.dtype == np.uint8
    counted = decompose(predictions, test.masks, kind="masks", num_classes=3).confusion
    np.testing.assert_array_equal(counted, member.decomposition().confusion)
    assert len(member.predictions("val")) == len(member.images().val.masks)


def test_predictions_that_are_not_stored_are_one_sentence(tmp_path):
    make_run(tmp_path / "bare", SETTINGS[:1], stored=False)
    with pytest.raises(ValueError, match=r"predictions: expected a run of two seeds or more.*bare stored none"):
        flipjax.open_run(tmp_path / "bare").member(flipjax.open_run(tmp_path / "bare").members.index[0]).predictions()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda member: member.predictions("tset"), "part: expected one of val, test; found tset"),
        (lambda member: member.decomposition("train"), "part: expected one of val, test; found train"),
        (lambda member: member.decomposition(rule="val_los"), "rule: expected one of .*; found val_los"),
        (lambda member: member.model("val_los"), "rule: expected one of .*; found val_los"),
    ],
    ids=["predictions", "decomposition", "rule of a decomposition", "rule of a model"],
)
def test_parts_and_rules_that_there_are_not_are_one_sentence(recorded, call, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        call(recorded.member("m001"))


def test_a_member_that_diverged_at_once_has_no_numbers(without_page):
    changes = {
        "axes.rho": (1.0,),
        "axes.seed": (0, 1),
        "axes.train.learning_rate": (2e-3, 1e30),
        "intervene.scores": "all",
    }
    run = flipjax.run(faults.config_file(), changes)
    (lost, _) = run.members.index[run.members["status"] == "diverged"]
    assert run.results.query(f"member == '{lost}'")["best_epoch"].max() == 0
    images = run.images.groupby("member")
    assert images["flip"].count()[lost] == 0 == images["mirror"].count()[lost] and images["flip"].count().max() > 0
    assert {*images.get_group(lost)["status"]} == {run.member(lost).status} == {"diverged"}
    assert np.isnan(run.member(lost).decomposition().flip).all()
    with pytest.raises(ConfigError, match=rf"^member: expected one that kept an epoch.*found {lost}, diverged"):
        run.member(lost).predictions()


def test_photos_as_they_are_found_have_no_rho(tmp_path):
    from data.test_arrays import NAMES, PHOTOS

    data = from_arrays(**PHOTOS, **NAMES)
    changes = {"split.folds": 2, "split.n_train": 0, "axes.rho": (0.9,), "train.epochs": 1, "model.width": 4}
    run = flipjax.run(faults.config_file(), changes | {"axes.seed": (0, 1)}, data=data, workdir="folds")
    assert "rho" not in run.results and "rho" not in run.member("m000").axes
    assert len(run.member("m000").images().test.masks) == run.results.query("group == 'all'")["n_images"].iloc[-1]
    page = (tmp_path / "folds/report/index.html").read_text()
    shown = page.partition("<summary>Configuration")[0]
    for claim in ("rho 0.", "rho</dt>", "are balanced", "equally frequent", "no scene was usual"):
        assert claim not in shown, claim


def test_a_plot_is_a_figure_of_its_own(recorded, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = recorded.plot()
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == []
    figure.savefig(tmp_path / "flip.pdf")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert any("bg_swap" in title for title in titles) and figure.get_size_inches()[1] < 4


def test_a_plot_overlays_methods_with_intervals(tmp_path):
    settings = [{"rho": r, "seed": s, "method": m} for m in ("ce", "dro") for r in (0.5, 0.9) for s in range(4)]
    make_run(tmp_path, settings, stored=False)
    run = flipjax.open_run(tmp_path)
    (axes,) = run.plot(quantity="fg_flip", by="method", group="rare").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ce", "dro"]
    rare = run.first_rule.means[run.first_rule.means["quantity"] == "group/rare/fg_flip"]
    # Matplotlib draws the intervals as one collection of lines a method.
    drawn = [line for collection in axes.collections for line in getattr(collection, "get_segments", list)()]
    ends = sorted((low[1], high[1]) for low, high in drawn)
    np.testing.assert_allclose(ends, sorted(zip(rare["low"], rare["high"], strict=True)))
    assert len(run.plot("iou_foreground").axes) == 2


def test_a_plot_is_drawn_on_axes_of_ones_own(tmp_path):
    make_run(tmp_path, stored=False)
    run = flipjax.open_run(tmp_path)
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert run.plot(ax=right) is figure and run.plot("iou_foreground", ax=left) is figure
    assert "foreground IoU" in left.get_ylabel() and right.get_legend() is not None
    with pytest.raises(ConfigError, match=r"^ax: expected as many axes as panels, 1 \(.*\); found 2$"):
        run.plot(ax=[left, right])


@pytest.mark.parametrize("repaired", [False, True])
def test_a_plot_shows_flip_after_repair_on_request(recorded, repaired):
    names = {text.get_text() for axes in recorded.plot(repaired=repaired).axes for text in axes.get_legend().texts}
    assert {"common groups", "rare groups"} <= names
    assert ("rare, repaired" in names) == repaired


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"quantity": "fg_flop"}, "quantity: expected a column of results.csv, such as fg_flip"),
        ({"by": "seed"}, r"by: expected an axis that varies beside rho \(method\); found seed"),
        ({"group": "usual"}, "group: expected one of all, common, rare; found usual"),
    ],
    ids=["quantity", "axis", "group"],
)
def test_what_no_plot_can_show_is_one_sentence(recorded, call, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        recorded.plot(**call)


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        (SETTINGS[:1], "finished", "two levels of rho or two settings; found one"),
        (SETTINGS[::2], "diverged", "members that have learnt the classes; found none"),
    ],
    ids=["one level", "all diverged"],
)
def test_a_run_without_anything_to_draw_is_one_sentence(settings, status, message, tmp_path):
    make_run(tmp_path, settings, status=status)
    with pytest.raises(ConfigError, match=f"^plot: expected a run .*{message}"):
        flipjax.open_run(tmp_path).plot()


def edge_flip(logits, labels):
    """Flipped and all pixels of an image's true objects within a pixel of their edge."""
    inside = labels > 0
    core = jax.lax.reduce_window(inside, True, jax.lax.bitwise_and, (1, 3, 3), (1, 1, 1), "SAME")
    edge, predicted = inside & ~core, logits.argmax(-1)
    return (edge & (predicted > 0) & (predicted != labels)).sum((1, 2)), edge.sum((1, 2))


def test_a_quantity_of_ones_own_has_a_column_an_interval_and_a_title(without_page):
    changes = {"quantities": (edge_flip,), "train.epochs": 1, "axes.rho": (1.0,), "axes.seed": (0, 1)}
    changes |= {"intervene.scenes": "none", "intervene.scores": "logits"}
    run = flipjax.run(faults.config_file(), changes)
    test = run.results.query("split == 'test' and member == 'm000'").set_index("group")
    member = run.member("m000")
    predictions, masks = member.predictions(), member.images().test.masks
    flipped, pixels = edge_flip(jax.nn.one_hot(predictions, 3), masks)
    assert test.loc["all", "own_edge_flip"] == pytest.approx(float(flipped.sum() / pixels.sum()), abs=1e-6)
    rare = np.isin(member.images().test.groups, (1, 2))
    assert test.loc["rare", "own_edge_flip"] == pytest.approx(float(flipped[rare].sum() / pixels[rare].sum()), abs=1e-6)
    assert title_of("group/rare/own/edge_flip") == "edge flip, rare"
    assert run.config.quantities == (edge_flip,) and flipjax.open_run(run.folder).config.quantities == ()
    assert "own_edge_flip" in run.dataset
    (table,) = [
        table for table in result_tables(load(run.folder).first_rule) if "of the configuration" in table.caption
    ]
    assert table.table.header[-3:] == ["edge flip", "edge flip, common", "edge flip, rare"]


def of_nothing(logits, labels):
    return labels.sum((1, 2))


def of_pixels(logits, labels):
    return labels > 0, labels


@pytest.mark.parametrize(
    ("quantities", "words"),
    [
        ((of_nothing,), "of_nothing"),
        ((of_pixels,), "of_pixels to return"),
        ((edge_flip, edge_flip), "config.quantities: expected a named function"),
        ("edge_flip", "config.quantities: expected a named function"),
        ((lambda logits, labels: (labels, labels),), "config.quantities: expected a named function"),
    ],
    ids=["one number", "pixels", "a name twice", "a string", "no name"],
)
def test_what_is_no_quantity_is_one_sentence(quantities, words):
    with pytest.raises(ConfigError, match=words):
        flipjax.run(faults.config_file(), {"quantities": quantities})
