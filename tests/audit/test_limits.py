"""Limits of an audit: which fail, how they are written, and that no failed call leaves an old pass."""

import json
import pathlib
from xml.etree import ElementTree

import numpy as np
import pytest
from audited import audit, save_masks

import flipjax.audit
from flipjax.audit import stream, try_limits
from flipjax.audit.__main__ import main
from flipjax.audit.formats.problems import AuditError
from flipjax.audit.statistics.limits import FORMS
from flipjax.audit.statistics.objects import SegmentCounts
from flipjax.metrics import FlipMetric
from flipjax.metrics.summary.names import find_quantity

NAMES = ("background", "cat", "dog")
"""Of the classes."""


def labels_of(images=12):
    """Labels with a cat and a dog in each image."""
    labels = np.zeros((images, 8, 8), np.uint8)
    labels[:, 1:4, 1:4] = 1
    labels[:, 5:8, 5:8] = 2
    return labels


def inputs(folder, predictions, labels=None):
    labels = labels_of(len(predictions)) if labels is None else labels
    return [*save_masks(folder, predictions, labels), f"--class_names={','.join(NAMES)}"]


@pytest.fixture
def flipped(tmp_path, without_pictures):
    """Options of an audit in which the cats of the first three of twelve images are dogs."""
    predictions = labels_of()
    predictions[:3, 1:4, 1:4] = 2
    return inputs(tmp_path / "in", predictions)


def test_three_images_without_a_flip_do_not_pass_a_limit_of_a_thousandth(tmp_path, without_pictures):
    options = inputs(tmp_path / "in", labels_of(3))
    result = audit(tmp_path / "out", *options, "--fail_above=fg_flip:high=0.001", code=1)
    # By Clopper and Pearson.
    assert result["intervals"]["fg_flip"] == pytest.approx([0, 1 - 0.025 ** (1 / 3)])
    assert result["passed"] is False


@pytest.mark.parametrize(
    "limit",
    [
        "--fail_below=mean_iou:low=0.9",
        "--fail_below=iou/cat:low=0.9",
        "--fail_below=dice/cat:low=0.9",
        "--fail_below=mean_dice:low=0.9",
        "--fail_below=fg_correct:low=0.9",
    ],
)
def test_three_perfect_images_do_not_pass_a_limit_of_nine_tenths(tmp_path, without_pictures, limit):
    result = audit(tmp_path / "out", *inputs(tmp_path / "in", labels_of(3)), limit, code=1)
    assert result["gates"][0]["value"] == pytest.approx(0.025 ** (1 / 3), abs=0.03)


@pytest.mark.parametrize("key", ["rim_flip", "interior_flip"])
def test_rims_without_a_flip_do_not_pass_a_limit_of_a_thousandth(tmp_path, without_pictures, key):
    labels = labels_of(3)
    np.save(tmp_path / "p.npy", np.eye(3, dtype=np.float32)[labels] * 5)
    np.save(tmp_path / "l.npy", labels)
    files = [f"--predictions={tmp_path / 'p.npy'}", f"--labels={tmp_path / 'l.npy'}"]
    names = f"--class_names={','.join(NAMES)}"
    result = audit(tmp_path / "out", *files, names, f"--fail_above={key}:high=0.001", code=1)
    assert result["gates"][0]["value"] == pytest.approx(1 - 0.025 ** (1 / 3))


def test_a_model_of_background_alone_fails_the_documented_pair(tmp_path, without_pictures, capsys):
    options = inputs(tmp_path / "in", np.zeros((12, 8, 8), np.uint8))
    result = audit(tmp_path / "out", *options, "--fail_above=fg_flip=0.05", "--fail_below=fg_correct=0.9", code=1)
    assert [limit["passed"] for limit in result["gates"]] == [True, False]
    assert "--fail_below fg_correct=0.9: found 0" in capsys.readouterr().err


@pytest.mark.parametrize("order", [(0.05, 0.9), (0.9, 0.05)], ids=["strict first", "strict last"])
def test_all_limits_of_a_key_hold(tmp_path, flipped, order):
    result = audit(tmp_path / "out", *flipped, *(f"--fail_above=fg_flip={limit}" for limit in order), code=1)
    assert {limit["limit"]: limit["passed"] for limit in result["gates"]} == {0.05: False, 0.9: True}


def test_limits_on_groups(tmp_path, flipped):
    (tmp_path / "sites.csv").write_text("name,site\n" + "".join(f"i{i},{'a' if i < 4 else 'b'}\n" for i in range(12)))
    limits = [
        "--fail_above=group_difference/cat/a=0.5",
        "--fail_below=group_q/cat/b=0.05",
        "--fail_below=least_group_q=0.05",
    ]
    result = audit(tmp_path / "out", *flipped, f"--table={tmp_path / 'sites.csv'}", "--groups=site", *limits, code=1)
    values = [limit["value"] for limit in result["gates"]]
    # 3 of 4 against 0 of 8 cats flip: p is C(4, 3) / C(12, 3). Dogs never flip, which is no test.
    assert values == pytest.approx([0.75, 4 / 220, 4 / 220]) and not result["passed"]
    assert result["summary"]["group_difference/cat/b"] == pytest.approx(-0.75)


@pytest.mark.parametrize("key", ["rim_flip", "interior_flip", "rim_risk", "interior_risk", "fg_ece"])
def test_limits_on_regions_of_a_group(tmp_path, without_pictures, key):
    labels = labels_of(4)
    logits = 5 * np.eye(3, dtype=np.float32)[labels]
    names = [f"i{i}" for i in range(4)]
    np.savez(tmp_path / "in.npz", predictions=logits, labels=labels, names=names)
    (tmp_path / "sites.csv").write_text("name,site\n" + "".join(f"{name},{name < 'i2'}\n" for name in names))
    files = [f"--{name}={tmp_path / 'in.npz'}" for name in ("predictions", "labels")]
    groups = [f"--class_names={','.join(NAMES)}", f"--table={tmp_path / 'sites.csv'}", "--groups=site"]
    limit = f"group/True/{key}"
    result = audit(tmp_path / "out", *files, *groups, f"--fail_above={limit}=0.9")
    assert result["gates"][0]["value"] == pytest.approx(result["summary"][limit])


def test_the_page_on_audits_lists_the_forms_of_keys():
    page = pathlib.Path(flipjax.audit.__file__).with_name("README.md").read_text()
    assert [form for form in FORMS.split(", ") if f"`{form}`" not in page] == [], "audit/README.md: Limits"


def test_every_rate_of_segments_has_a_title():
    rates = SegmentCounts.empty(len(NAMES)).ratios(NAMES, [1, 2])
    assert [key for key in rates if find_quantity(key) is None] == [], "results.quantities.OBJECT_QUANTITIES"


def test_sites_that_are_called_by_numbers_keep_their_names(tmp_path, flipped):
    (tmp_path / "sites.csv").write_text("name,site\n" + "".join(f"i{i},{1 + (i < 4)}\n" for i in range(12)))
    result = audit(tmp_path / "out", *flipped, f"--table={tmp_path / 'sites.csv'}", "--groups=site")
    assert result["summary"]["group/2/n_images"] == 4 and result["summary"]["group/1/n_images"] == 8
    assert result["summary"]["group/2/flip/cat"] == pytest.approx(0.75)


def test_a_junit_report(tmp_path, flipped):
    report = tmp_path / "reports" / "gates.xml"
    audit(
        tmp_path / "out",
        *flipped,
        "--fail_above=fg_flip=0.05",
        "--fail_below=mean_iou=0.1",
        f"--junit={report}",
        code=1,
    )
    root = ElementTree.parse(report).getroot()
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {"--fail_above fg_flip=0.05": ["failure"], "--fail_below mean_iou=0.1": []}
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")


def test_a_failed_call_leaves_no_old_pass(tmp_path, flipped):
    out, report = tmp_path / "out", tmp_path / "gates.xml"
    assert audit(out, *flipped, "--fail_above=fg_flip=0.9")["passed"] is True
    code = main([*map(str, flipped), f"--labels={tmp_path / 'none'}", f"--out={out}", f"--junit={report}"])
    stored = json.loads((out / "summary.json").read_text())
    assert code == 2 and stored["passed"] is False and "none" in stored["error"]
    assert [child.tag for child in ElementTree.parse(report).getroot().iter() if child.tag == "error"] == ["error"]
    assert main(["--compare", str(out), str(out), f"--out={tmp_path / 'compared'}"]) == 2
    # The same folder takes the next audit.
    assert audit(out, *flipped, "--fail_above=fg_flip=0.9")["passed"] is True


def test_a_failed_comparison_leaves_no_old_pass(tmp_path, flipped):
    out = tmp_path / "compared"
    audit(tmp_path / "a", *flipped)
    assert main(["--compare", *[str(tmp_path / "a")] * 2, f"--out={out}", "--fail_above=fg_flip=0"]) == 0
    assert json.loads((out / "compare.json").read_text())["passed"] is True
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "none"), f"--out={out}"]) == 2
    assert json.loads((out / "compare.json").read_text())["passed"] is False


@pytest.mark.parametrize("limit", ["fg_flop=0.1", "least_group_q=0.05", "flip_mirror=0", "fg_flip=nan", "fg_flip="])
def test_limits_that_cannot_be_tried(tmp_path, flipped, capsys, limit):
    assert main([*map(str, flipped), f"--out={tmp_path / 'out'}", f"--fail_above={limit}"]) == 2
    assert "--fail_above" in capsys.readouterr().err and not (tmp_path / "out").exists()


SITES = ["north"] * 6 + ["south"] * 6
PATIENTS = [f"p{i // 2}" for i in range(12)]
ABOVE = {"flip/cat": 0.2, "fg_flip:high": 0.6, "group/north/fg_flip:high": 0.1}
BELOW = {"group/south/fg_correct": 1, "mean_iou:low": 0.9}


def flipped_masks():
    """Labels of six patients from two sites, and masks in which the cats of the first three images are dogs."""
    labels = labels_of()
    masks = labels.copy()
    masks[:3, 1:4, 1:4] = 2
    return masks, labels


def limits_of_a_command(folder):
    masks, labels = flipped_masks()
    rows = [f"i{i},{site},{patient}\n" for i, (site, patient) in enumerate(zip(SITES, PATIENTS, strict=True))]
    folder.mkdir()
    (folder / "patients.csv").write_text("name,site,patient\n" + "".join(rows))
    line = [*inputs(folder / "in", masks, labels), f"--table={folder / 'patients.csv'}"]
    line += ["--groups=site", "--clusters=patient"]
    line += [f"--fail_above={key}={limit}" for key, limit in ABOVE.items()]
    line += [f"--fail_below={key}={limit}" for key, limit in BELOW.items()]
    result = audit(folder / "out", *line, code=1)
    return {limit["gate"]: (pytest.approx(limit["value"]), limit["passed"]) for limit in result["gates"]}


def limits_of_a_stream(folder):
    with stream(folder, class_names=NAMES, kind="masks") as batches:
        batches.add(*flipped_masks(), groups=SITES, clusters=PATIENTS)
    return try_limits(batches.summary, batches.intervals, fail_above=ABOVE, fail_below=BELOW)


def limits_of_a_metric(folder):
    metric = FlipMetric(kind="masks", num_classes=3, class_names=NAMES)
    metric.update(*flipped_masks(), SITES, clusters=PATIENTS)
    return try_limits(metric.compute(), metric.intervals(), fail_above=ABOVE, fail_below=BELOW)


@pytest.mark.parametrize("limits_of", [limits_of_a_stream, limits_of_a_metric])
def test_limits_in_python_are_those_of_the_command(tmp_path, without_pictures, limits_of):
    expected = limits_of_a_command(tmp_path / "command")
    limits = limits_of(tmp_path / "python")
    assert {str(limit): (limit.value, limit.passed) for limit in limits} == expected
    assert [limit.passed for limit in limits] == [False, True, False, True, False]


@pytest.mark.parametrize("key", ["flip/cow", "group/west/fg_flip", "fg_flip:middle", "risk_decile"])
def test_a_metric_refuses_limits_on_what_it_has_not(key):
    metric = FlipMetric(class_names=NAMES)
    metric.update(np.eye(3, dtype=np.float32)[labels_of()], labels_of())
    with pytest.raises(AuditError, match=f"--fail_above: expected a key of the summary .* found '{key}'"):
        try_limits(metric.compute(), metric.intervals(), fail_above={key: 0.1})


def test_a_limit_on_an_interval_that_does_not_exist_fails():
    metric = FlipMetric(class_names=NAMES)
    metric.update(np.eye(3, dtype=np.float32)[labels_of()], labels_of())
    [limit] = try_limits(metric.compute(), metric.intervals(), fail_above={"risk_auroc:high": 1})
    assert not limit.passed and limit.line == "--fail_above risk_auroc:high=1: found no number"
