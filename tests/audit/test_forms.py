"""The same predictions and masks in other forms give the same numbers; forms that hold others are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from flipjax.audit.__main__ import main

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(3, 8, 8, 3)).astype(np.float32)
LABELS = GENERATOR.integers(0, 3, (3, 8, 8)).astype(np.uint8)


def picture(array, *, palette=False, kind="PNG", **options):
    image = Image.fromarray(array)
    if palette:
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def audit(folder, *, logits=LOGITS[0], mask=None):
    """The exit code and the summary of an audit of three images, the first of another form."""
    for name in ("logits", "labels"):
        (folder / name).mkdir(parents=True)
    for index in range(3):
        np.save(folder / f"logits/{index}.npy", LOGITS[index])
        (folder / f"labels/{index}.png").write_bytes(picture(LABELS[index]))
    np.save(folder / "logits/0.npy", logits)
    (folder / "labels/0.png").write_bytes(picture(LABELS[0]) if mask is None else mask)
    code = main([f"--{name}={folder / name}" for name in ("logits", "labels", "out")])
    return code, (folder / "out/summary.csv").read_bytes() if code == 0 else b""


def test_forms_of_the_same_numbers(tmp_path):
    plain = audit(tmp_path / "plain")
    assert plain[0] == 0
    forms = [{"logits": logits} for logits in (np.asfortranarray(LOGITS[0]), LOGITS[0].astype(">f4"), LOGITS[0] * 1.0)]
    forms += [{"logits": LOGITS[0].astype(np.longdouble)}, {"mask": picture(LABELS[0].astype(np.uint16))}]
    forms += [{"mask": picture(LABELS[0], palette=True, **options)} for options in ({}, {"transparency": 1})]
    for index, form in enumerate(forms):
        assert audit(tmp_path / str(index), **form) == plain, form


@pytest.mark.parametrize(
    "form",
    [
        {"logits": LOGITS[0] * np.float64(1e300)},
        {"mask": picture(np.where(np.arange(8) < 1, 300, LABELS[0]).astype(np.uint16))},
        {"mask": picture(LABELS[0], exif=turned())},
        {"mask": picture(LABELS[0], kind="GIF")},
        {"mask": picture(LABELS[0], kind="WEBP")},
    ],
)
def test_forms_that_hold_other_numbers_are_refused(tmp_path, capsys, form):
    assert audit(tmp_path / "a", **form)[0] == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("flipjax audit: ")
