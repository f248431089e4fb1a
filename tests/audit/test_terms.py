"""The words of an audit's page against the code that they describe, its one weight, and scores that rank nothing."""

import json

import numpy as np
import pandas as pd
import pytest
from audited import segments_of

from flipjax.audit import stream
from flipjax.audit.audit_files import audit_files
from flipjax.audit.page.tables import terms_of
from flipjax.audit.statistics.flips import family_size
from flipjax.audit.statistics.results import Audit

pytestmark = pytest.mark.usefixtures("without_pictures")
NAMES = ("background", "liver", "spleen", "lesion")
SPACINGS = [(1.0, 1.0, 1.0), (0.8, 0.8, 2.5), (0.7, 0.7, 5.0)]


def volumes(count=9):
    """Labels and predictions of volumes with errors of every kind."""
    generator = np.random.default_rng(4)
    labels = np.kron(generator.integers(0, 4, (count, 2, 2, 2)), np.ones((1, 3, 3, 3), int)).astype(np.uint8)
    errors = generator.random(labels.shape) < 0.3
    return np.where(errors, generator.integers(0, 4, labels.shape), labels).astype(np.uint8), labels


@pytest.fixture
def weighted(tmp_path):
    """The folder of an audit of volumes whose spacings differ, in three sites."""
    predictions, labels = volumes()
    with stream(tmp_path / "out", class_names=NAMES, kind="masks", spatial_ndim=3) as audit:
        audit.add(predictions, labels, spacing=[SPACINGS[i % 3] for i in range(9)], groups=np.arange(9) % 3)
    return tmp_path / "out"


def tables_of(path):
    """The tables of summary.md by caption."""
    tables = {}
    for part in path.read_text().split("\n## ")[1:]:
        caption, _, lines = part.partition("\n\n")
        header, _, *rows = [line[2:-2].split(" | ") for line in lines.strip().splitlines()]
        tables[caption] = pd.DataFrame(rows, columns=header)
    return tables


def first_numbers(column):
    return column.str.split(" ").str[0].astype(float).to_numpy()


def test_all_that_should_add_to_1_does(weighted):
    summary = json.loads((weighted / "summary.json").read_text())["summary"]
    for prefix in ("", *(f"group/{i}/" for i in range(3))):
        assert sum(summary[f"{prefix}fg_{outcome}"] for outcome in ("correct", "flip", "miss")) == pytest.approx(1)
    tables = tables_of(weighted / "summary.md")
    classes = next(table for caption, table in tables.items() if caption.startswith("Classes by Flip"))
    classes = classes[classes["class"] != "background"]
    sums = sum(first_numbers(classes[name]) for name in ("correct", "flip [95%]", "miss [95%]"))
    np.testing.assert_allclose(sums, 1, atol=0.0015)
    for column, key in (("IoU [95%]", "iou"), ("Dice [95%]", "dice")):
        expected = [summary[f"{key}/{name}"] for name in classes["class"]]
        np.testing.assert_allclose(first_numbers(classes[column]), expected, atol=0.0005)
    groups = next(table for caption, table in tables.items() if caption.startswith("Groups, "))
    sums = sum(first_numbers(groups[name]) for name in ("correct", "flip", "miss"))
    np.testing.assert_allclose(sums, 1, atol=0.0015)
    matrix = pd.read_csv(weighted / "flip_matrix.csv")
    np.testing.assert_allclose(matrix.groupby("truth")["share"].sum(), 1, atol=1e-5)
    kinds = next(table for caption, table in tables.items() if caption.startswith("Kinds of flips"))
    shares = kinds["share of the true foreground [95%]"].str.split("%").str[0].astype(float)
    assert shares.sum() == pytest.approx(100 * summary["fg_flip"], abs=0.02)
    errors = next(table for caption, table in tables.items() if caption.startswith("Gain in mean IoU"))
    shares = errors["share"].str.rstrip("%").astype(float)
    assert shares.sum() == pytest.approx(100, abs=0.25)


def test_each_class_and_pair_is_by_volume(weighted):
    """The same numbers from the voxels of each volume, a volume at a time."""
    predictions, labels = volumes()
    size = np.array([np.prod(SPACINGS[i % 3]) for i in range(9)])
    matrix = pd.read_csv(weighted / "flip_matrix.csv").set_index(["truth", "prediction"])["share"]
    summary = json.loads((weighted / "summary.json").read_text())["summary"]
    for truth, name in enumerate(NAMES[1:], 1):
        whole = (size * (labels == truth).sum((1, 2, 3))).sum()
        for predicted, other in enumerate(NAMES):
            part = (size * ((labels == truth) & (predictions == predicted)).sum((1, 2, 3))).sum()
            assert matrix[name, other] == pytest.approx(part / whole, abs=1e-6)
        missed = (size * ((labels == truth) & (predictions == 0)).sum((1, 2, 3))).sum()
        assert summary[f"miss/{name}"] == pytest.approx(missed / whole)


def test_the_weight_is_named_once(weighted):
    page = (weighted / "index.html").read_text()
    head = page[: page.index("<main")]
    assert head.count("Every rate is by volume: in 3 spacings a voxel is 1 to 2.45 mm3.") == 1
    body = page[page.index("<main") : page.index('id="terms"')]
    assert "weigh" not in body


SEGMENTS = {
    "correct": ([1, 1, 1, 2], "correct"),
    "half of it another": ([2, 2, 1, 0], "flip"),
    "most of it background": ([0, 0, 0, 2], "miss"),
    "less than half another": ([2, 2, 2, 3, 3, 0, 0, 1], "mixed"),
}


@pytest.mark.parametrize(("predicted", "outcome"), SEGMENTS.values(), ids=SEGMENTS)
def test_a_segment_is_what_the_terms_say_of_every_size(tmp_path, predicted, outcome):
    predictions = np.array([[predicted, [0] * len(predicted)]], np.uint8)
    labels = np.zeros_like(predictions)
    labels[0, 0] = 1
    with stream(tmp_path / "out", class_names=NAMES, kind="masks") as audit:
        audit.add(predictions, labels)
    assert segments_of(tmp_path / "out")["outcome"].tolist() == [outcome]


@pytest.fixture
def concluded(tmp_path):
    """Returns the audit of masks in files, with what differs between tests."""

    def make(**options) -> Audit:
        predictions, labels = volumes()
        sites = "\n".join(f"v{i},{'a' if i % 2 else 'b'}" for i in range(9))
        (tmp_path / "sites.csv").write_text(f"name,site\n{sites}\n")
        np.savez(tmp_path / "in.npz", masks=predictions, labels=labels, names=[f"v{i}" for i in range(9)])
        given = {"kind": "masks", "class_names": NAMES, "table": tmp_path / "sites.csv", "groups": "site", **options}
        return audit_files(tmp_path / "in.npz", tmp_path / "in.npz", out=tmp_path / "out", **given).audit

    return make


def test_terms_say_the_size_from_which_segments_count(concluded):
    assert "of every size" in terms_of(concluded(), "class")["segment"]
    assert "of 20 pixels and more" in terms_of(concluded(min_size=20), "class")["segment"]


@pytest.mark.parametrize("unit", ["class", "component", "instance"])
def test_terms_say_what_a_segment_is(concluded, unit):
    words = {"class": "All voxels of", "component": "A connected region", "instance": "An instance of the labels"}
    assert terms_of(concluded(), unit)["segment"].startswith(words[unit])


def test_the_correction_names_the_number_of_comparisons_that_it_is_for(concluded):
    audit = concluded()
    tested = audit.by_group[audit.by_group["p"].notna()]
    # Of two groups one comparison a class, and no class never flips.
    assert family_size(audit.compared) == len(tested) == 3
    from scipy.stats import false_discovery_control

    np.testing.assert_allclose(tested["q"], false_discovery_control(tested["p"]), atol=1e-6)
    assert "corrected for 3 comparisons" in terms_of(audit, "class")["q"]


def test_the_table_of_groups_has_no_class_that_a_sentence_says_to_differ(tmp_path):
    """Liver flips in group a alone; spleen as often in each group, and by one pixel more in a."""
    labels = np.tile(np.repeat(np.array([1, 2], np.uint8), 18), (40, 2, 1))
    predictions = labels.copy()
    predictions[:20, :, :9] = 3
    predictions[::2, 0, 18:27] = 3
    predictions[0, 1, 18] = 3
    with stream(tmp_path / "out", class_names=NAMES, kind="masks") as audit:
        audit.add(predictions, labels, groups=["a"] * 20 + ["b"] * 20)
    said = (tmp_path / "out/summary.md").read_text()
    assert "liver flips more in a: " in said and "spleen flips more" not in said
    assert "q <0.001 over images." in said and "&lt;" not in said
    tables = tables_of(tmp_path / "out/summary.md")
    others = next(table for caption, table in tables.items() if caption.startswith("The other classes"))
    assert others[["class", "group"]].to_numpy().tolist() == [["spleen", "a"]]
    assert (others["q"].astype(float) > 0.05).all()


def test_scores_that_are_the_same_in_every_image_rank_none(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (40, 6, 6))
    with stream(tmp_path / "out", class_names=NAMES) as audit:
        # One distribution for all pixels.
        audit.add(4 * np.eye(4)[labels], labels)
    said = (tmp_path / "out/summary.md").read_text()
    assert "in every image, so that it ranks none: no AUROC, no deciles." in said
    assert "AUROC |" not in said and "tenth" not in said and "ranks images" not in said
    assert not (tmp_path / "out/figures").is_dir() or not list((tmp_path / "out/figures").glob("deciles*"))


@pytest.mark.parametrize("unit", [1.0, 1e-3], ids=["millimetres", "micrometres"])
def test_images_of_two_magnifications_weigh_by_area(tmp_path, unit):
    labels = np.ones((2, 4, 4), np.uint8)
    predictions = labels.copy()
    predictions[0] = 2
    with stream(out=tmp_path / "out", kind="masks", class_names=["background", "tumour", "stroma"]) as audit:
        audit.add(predictions, labels, spacing=[[0.25 * unit] * 2, [0.5 * unit] * 2])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    # The flipped image has a fifth of the area: 1 of 1 + 4.
    assert summary["summary"]["fg_flip"] == pytest.approx(0.2)
