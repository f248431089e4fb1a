"""Folders as people have them: nested, with other file names, tables of any columns, and files that are broken."""

import io
import os
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from audited import audit, refused, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flipjax.audit import stream
from flipjax.audit.formats.label_maps import PUBLISHED, read_label_map
from flipjax.audit.formats.names import name_files, read_pattern
from flipjax.audit.formats.problems import AuditError, BrokenFileError, raise_broken
from flipjax.audit.metadata.clusters import likely_clusters
from flipjax.audit.metadata.groups import read_groups
from flipjax.support.files import cache_folder

pytestmark = pytest.mark.usefixtures("without_pictures")
GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 3, (6, 8, 10)).astype(np.uint8)
MASKS = np.where(GENERATOR.random(LABELS.shape) < 0.3, GENERATOR.integers(0, 3, LABELS.shape), LABELS).astype(np.uint8)
PATIENTS = [f"patient_{i // 2}/slice_{i % 2}" for i in range(6)]
CLASSES = "--class_names=background,cyst,organ"


def save(folder, names, masks):
    for name, mask in zip(names, masks, strict=True):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return folder


def masks_of(tmp_path, predictions=PATIENTS, labels=PATIENTS):
    """Writes masks under these names, and returns the options that name them."""
    found = save(tmp_path / "p", predictions, MASKS), save(tmp_path / "l", labels, LABELS)
    return [f"--predictions={found[0]}", f"--labels={found[1]}", "--kind=masks", CLASSES]


@pytest.fixture
def plain(tmp_path):
    """The flip matrix of all images, from arrays."""
    with stream(tmp_path / "plain", class_names=["background", "cyst", "organ"], kind="masks") as batches:
        batches.add(MASKS, LABELS)
    return (tmp_path / "plain/flip_matrix.csv").read_bytes()


def test_nested_folders_are_matched_by_their_path(tmp_path, plain):
    audit(tmp_path / "out", *masks_of(tmp_path))
    assert (tmp_path / "out/flip_matrix.csv").read_bytes() == plain
    assert sorted(row["name"] for row in rows_of(tmp_path / "out/images.csv")) == PATIENTS


CITIES = [f"rome_{i:06d}" for i in range(6)]


def test_names_are_a_group_of_a_regular_expression(tmp_path, plain):
    labels = [f"rome/{name}_gtFine_labelIds" for name in CITIES]
    line = masks_of(tmp_path, [f"{name}_leftImg8bit" for name in CITIES], labels)
    save(tmp_path / "l", [f"rome/{name}_gtFine_color" for name in CITIES], LABELS)
    (tmp_path / "l/rome/rome_000000_gtFine_polygons.json").write_text("{}")
    audit(tmp_path / "out", *line, r"--names=([a-z]+_\d+)_(?:leftImg8bit|gtFine_labelIds)$")
    assert (tmp_path / "out/flip_matrix.csv").read_bytes() == plain
    assert sorted(row["name"] for row in rows_of(tmp_path / "out/images.csv")) == CITIES
    assert "7 files that --names does not match" in (tmp_path / "out/summary.md").read_text()


def test_other_names_on_both_sides_are_told_the_option_for_them(tmp_path, capsys):
    gt = [f"{name}_gtFine_labelIds" for name in PATIENTS]
    line = refused(capsys, *masks_of(tmp_path, labels=gt), f"--out={tmp_path / 'out'}")
    assert "--names REGEX takes the part of a name that both sides have" in line
    # Where some match, the others are missing files.
    line = refused(capsys, *masks_of(tmp_path / "few", labels=[*PATIENTS[:5], "other"]), f"--out={tmp_path / 'out'}")
    assert "labels without a prediction, other" in line and "--names" not in line


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        pytest.param("(", "--names: expected a regular expression of one group", id="invalid"),
        pytest.param("slice", "--names: expected a regular expression of one group", id="no-group"),
        pytest.param("(x)(y)", "--names: expected a regular expression of one group", id="two-groups"),
        pytest.param("(scan)", "--names: '(scan)' is in no file of", id="nowhere"),
        pytest.param(r"(slice_\d)", "several for 'slice_0': patient_0/slice_0.png, patient_1/slice_0.png", id="twice"),
    ],
)
def test_names_that_do_not_fit_are_one_line(pattern, message, tmp_path, capsys):
    assert message in refused(capsys, *masks_of(tmp_path), f"--names={pattern}", f"--out={tmp_path / 'out'}")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param("patient_0/slice_0.npy", "several for 'patient_0/slice_0'", id="two-types"),
        pytest.param("patient_0/notes.txt", "found patient_0/notes.txt", id="other-type"),
        pytest.param("empty/", "found empty", id="empty-folder"),
        pytest.param("link", "found link", id="link-to-a-folder"),
    ],
)
def test_other_things_in_nested_folders_are_named(file, message, tmp_path, capsys):
    line = masks_of(tmp_path)
    path = tmp_path / "p" / file
    if file == "link":
        path.symlink_to(tmp_path / "l")
    elif file.endswith("/"):
        path.mkdir()
    elif path.suffix == ".npy":
        np.save(path, MASKS[0])
    else:
        path.write_text("x")
    assert message in refused(capsys, *line, f"--out={tmp_path / 'out'}")


def test_hidden_files_are_left_out_and_named(tmp_path):
    line = masks_of(tmp_path)
    (tmp_path / "p/patient_0/.DS_Store").write_bytes(b"x")
    found = audit(tmp_path / "out", *line)
    assert found["summary"]["n_images"] == 6
    assert "hidden files, patient_0/.DS_Store" in (tmp_path / "out/summary.md").read_text()


def test_all_broken_files_are_listed(tmp_path, capsys):
    line = masks_of(tmp_path)
    (tmp_path / "p/patient_0/slice_0.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((8, 10), np.float32)).save(tmp_path / "l/patient_2/slice_1.png", format="TIFF")
    found = refused(capsys, *line, f"--out={tmp_path / 'out'}")
    assert "2 broken files: " in found
    assert "p/patient_0/slice_0.png: unreadable" in found and "l/patient_2/slice_1.png: expected one mask" in found


def test_all_files_that_break_while_they_are_read_are_listed(tmp_path, capsys):
    line = masks_of(tmp_path)
    for name in (PATIENTS[1], PATIENTS[4]):
        path = tmp_path / "l" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:-30])
    found = refused(capsys, *line, f"--out={tmp_path / 'out'}")
    assert "2 broken files: " in found and "patient_0/slice_1.png" in found and "patient_2/slice_0.png" in found
    assert not (tmp_path / "out").exists()


@pytest.fixture
def hospital(tmp_path):
    """Masks of three patients at two sites, and a table of them."""
    rows = [f"{name}.png,{'ab'[i % 2]},{i % 2},p{i // 2}" for i, name in enumerate(PATIENTS)]
    (tmp_path / "images.csv").write_text("\n".join(["name,site,group,patient", *rows]) + "\n")
    return [*masks_of(tmp_path), f"--table={tmp_path / 'images.csv'}"]


def test_groups_and_clusters_are_columns_of_a_table(tmp_path, hospital):
    found = audit(tmp_path / "out", *hospital, "--groups=site", "--clusters=patient")
    assert {key.split("/")[1] for key in found["summary"] if key.startswith("group/")} == {"a", "b"}
    with np.load(tmp_path / "out/decomposition.npz") as stored:
        assert stored["clusters"].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_column_is_what_its_header_says(tmp_path, hospital):
    found = audit(tmp_path / "out", *hospital, "--groups=group")
    assert {key.split("/")[1] for key in found["summary"] if key.startswith("group/")} == {"0", "1"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param(["--clusters=ward"], "'ward' is not in patient_0/slice_0", id="not-in-the-table"),
        pytest.param(["--groups=ward"], "'ward' is not in patient_0/slice_0", id="no-group"),
        pytest.param(
            ["--groups=ward"], "--groups: expected a column of the table (site, group, patient)", id="no-column"
        ),
        pytest.param(
            ["--clusters=ward"], "--clusters: expected a column of the table (site, group, patient)", id="no-cluster"
        ),
        pytest.param(["--groups=x.csv"], "pass --table x.csv --groups COLUMN", id="a-table"),
    ],
)
def test_tables_that_do_not_fit_are_one_line(more, message, tmp_path, capsys, hospital):
    assert message in refused(capsys, *hospital, *more, f"--out={tmp_path / 'out'}")


def test_a_folder_of_broken_files_is_counted_after_ten():
    broken = [BrokenFileError(f"{number}.png: empty") for number in range(12)]
    with pytest.raises(AuditError, match=r"^12 broken files: 0.png: empty; .*; 9.png: empty; and 2 more$"):
        raise_broken(broken)


def test_a_path_of_a_table_as_groups_is_one_line():
    with pytest.raises(AuditError, match="found a file; pass --table"):
        read_groups(Path("x.csv"), ["a"], foreground=("cat", "dog"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("p0\n", "\n", "--clusters: expected a cluster for each image, found none for", id="no-cluster"),
        pytest.param("patient_0/slice_0.png,a,0,p0\n", "", "found none for patient_0/slice_0", id="no-image"),
        pytest.param("name,", "image,", "expected a CSV with the column name", id="no-name"),
    ],
)
def test_rows_that_do_not_fit_are_one_line(old, new, message, tmp_path, capsys, hospital):
    table = tmp_path / "images.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    line = [*hospital, "--groups=site", "--clusters=patient", f"--out={tmp_path / 'out'}"]
    assert message in refused(capsys, *line)


def test_likely_clusters_are_said_unless_they_are_given(tmp_path, hospital):
    audit(tmp_path / "out", *hospital)
    said = "6 names have 3 beginnings, such as 'patient_0'"
    assert said in (tmp_path / "out/summary.md").read_text()
    audit(tmp_path / "out", *hospital, "--clusters=^[^/]+")
    assert said not in (tmp_path / "out/summary.md").read_text()


@pytest.mark.parametrize(
    ("names", "several"),
    [
        pytest.param([f"film{f}_{k}" for f in range(4) for k in range(9)], 4, id="frames"),
        pytest.param([f"{city}_{k:06d}_{k}" for city in ("rome", "oslo") for k in range(3)], 0, id="all-different"),
        pytest.param([f"img{k}" for k in range(9)], 0, id="one-beginning"),
        pytest.param([str(k) for k in range(9)], 0, id="numbers"),
        pytest.param([], 0, id="none"),
    ],
)
def test_clusters_are_likely_where_beginnings_are_few(names, several):
    said = likely_clusters(names)
    assert said.startswith(f"{len(names)} names have {several} beginnings") if several else said == ""


def test_accents_are_composed_in_any_way(tmp_path):
    """As macOS writes the names of files, and as others do."""
    line = masks_of(tmp_path, [*PATIENTS[:5], "cafe\u0301"], [*PATIENTS[:5], "caf\u00e9"])
    assert audit(tmp_path / "out", *line)["summary"]["n_images"] == 6


@pytest.mark.skipif(not hasattr(os, "fsencode"), reason="names of files are text here")
def test_file_names_that_are_no_text_are_refused(tmp_path, capsys):
    line = masks_of(tmp_path)
    for side, values in (("p", MASKS), ("l", LABELS)):
        path = os.path.join(os.fsencode(tmp_path / side), b"caf\xe9.png")
        with open(path, "wb") as file:
            Image.fromarray(values[0]).save(file, "PNG")
    assert r"expected file names of one line in UTF-8, found 'caf\udce9.png'" in refused(
        capsys, *line, f"--out={tmp_path / 'out'}"
    )


@pytest.mark.parametrize("name", ["a\rb", "a\nb"])
def test_names_of_two_lines_are_refused(name, tmp_path, capsys):
    line = masks_of(tmp_path, [*PATIENTS[:5], name], [*PATIENTS[:5], name])
    assert "expected file names of one line" in refused(capsys, *line, f"--out={tmp_path / 'out'}")


def test_published_label_maps_name_their_classes(tmp_path):
    labels = np.where(LABELS == 2, 26, np.where(LABELS == 1, 24, 7)).astype(np.uint8)
    inputs = save(tmp_path / "p", CITIES, labels), save(tmp_path / "l", CITIES, labels)
    line = [f"--predictions={inputs[0]}", f"--labels={inputs[1]}", "--kind=masks", "--label_map=cityscapes"]
    found = audit(tmp_path / "out", *line, "--prediction_map=cityscapes", "--background=none")
    assert found["class_names"][:3] == ["road", "sidewalk", "building"] and found["class_names"][-1] == "bicycle"
    assert found["summary"]["iou/car"] == 1
    label_maps = [read_label_map(name) for name in PUBLISHED]
    assert [len(label_map.class_names) for label_map in label_maps] == [150, 19, 19]
    assert all(len(set(label_map.class_names)) == label_map.count for label_map in label_maps)


def test_a_csv_of_labels_may_name_the_classes(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("from,to,name\n10,0,background\n11,1,cyst\n12,1,cyst\n13,2,organ\n9,ignore,\n")
    assert read_label_map(str(path)).class_names == ("background", "cyst", "organ")
    path.write_text("from,to,name\n10,0,background\n11,1,cyst\n12,1,mass\n")
    with pytest.raises(AuditError, match="expected one name for class 1, found cyst, mass"):
        read_label_map(str(path))


@given(st.lists(st.text("ab/_01", min_size=1, max_size=6), unique=True, max_size=8))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_file_has_one_name_or_an_error(tmp_path_factory, stems):
    """With a pattern that matches everything, names are the stems: a law of `name_files`."""
    files = [PurePosixPath(f"{stem.strip('/') or 'x'}.png") for stem in stems]
    folder = tmp_path_factory.getbasetemp()
    try:
        named = name_files(folder, files, read_pattern("^(.*)$"))
    except AuditError as error:
        assert len({*files}) < len(files) or "several for" in str(error)
        return
    assert named == name_files(folder, files, None) and len(named) == len(files)


def test_names_of_any_language_are_printed_on_any_terminal(tmp_path, monkeypatch):
    names = ["Müller", "日本", *PATIENTS[2:]]
    line = masks_of(tmp_path, names, names)
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    audit(tmp_path / "out", *line[:-1], "--class_names=background,größe,organ")
    terminal.flush()
    assert rb"gr\xf6\xdfe" in terminal.buffer.getvalue()
    assert {row["name"] for row in rows_of(tmp_path / "out/images.csv")} == {*names}


def test_a_user_without_a_home_has_a_cache(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder().is_dir() and cache_folder() == cache_folder()
