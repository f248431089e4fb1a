"""Pools as cameras, annotation tools and spreadsheets write them: pixels and groups are those that are meant."""

import numpy as np
import pytest
from PIL import Image

from data.folder.tree import SIZE, problems_of, spec
from flipjax.audit.formats.pictures import read_photo
from flipjax.data.sources.folder import check_folder, load_folder

CLASSES = ("cat", "dog")
KITCHENS = ("Küche", "Garten")
TURN = 6
"""The EXIF orientation of a photo that a camera held upright took."""


def picture(number):
    """A photo of SIZE x SIZE whose upper half differs from the lower one."""
    rows = np.full((SIZE, SIZE, 3), 20 + number, np.uint8)
    rows[: SIZE // 2, :, 0] = 200
    return rows


def object_mask(value):
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[2:9, 3:12] = value
    return mask


def held_upright(pixels):
    """A photo as a camera stores it: turned, with a note."""
    tags = Image.Exif()
    tags[0x112] = TURN
    return Image.fromarray(np.rot90(pixels)), {"exif": tags}


def plain(pixels):
    return Image.fromarray(pixels), {}


ROWS = [(f"{number}.png", CLASSES[number % 2], KITCHENS[number // 2 % 2]) for number in range(8)]


def table(*, header=("filename", "class", "scene"), separator=",", encoding="utf-8", cell=str):
    lines = [separator.join(map(cell, row)) for row in [header, *ROWS]]
    return ("\r\n".join(lines) + "\r\n").encode(encoding)


def photo_folder(root, *, metadata=None, form=plain, mask_form=plain):
    """Writes eight photos with masks and their table."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number, (filename, class_name, _) in enumerate(ROWS):
        for folder, pixels, make in (
            ("images", picture(number), form),
            ("masks", object_mask(1 + CLASSES.index(class_name)), mask_form),
        ):
            image, options = make(pixels)
            image.save(root / folder / filename, **options)
    (root / "metadata.csv").write_bytes(metadata or table())
    return root


TABLES = {
    "commas": {},
    "semicolons": {"separator": ";"},
    "tabs": {"separator": "\t"},
    "Excel in German": {"separator": ";", "encoding": "cp1252"},
    "Excel, UTF-8 with a mark": {"encoding": "utf-8-sig"},
    "Excel, Unicode text": {"separator": "\t", "encoding": "utf-16"},
    "blanks": {"cell": " {} ".format},
    "capitals in the header": {"header": ("Filename", "Class", "SCENE")},
}


@pytest.mark.parametrize("options", TABLES.values(), ids=TABLES)
def test_a_table_of_photos(tmp_path, options):
    _, catalog = load_folder(spec(photo_folder(tmp_path, metadata=table(**options)), usual=("Garten", "Küche")))
    found = [(item.name, catalog.class_names[item.y], catalog.scene_names[item.scene]) for item in catalog.objects]
    assert found == sorted((f"images/{name}", class_name, scene) for name, class_name, scene in ROWS)


PHOTOS = {
    "plain": plain,
    "turned by EXIF": held_upright,
    "with a palette": lambda pixels: (Image.fromarray(pixels).quantize(8), {}),
    "with an opaque alpha": lambda pixels: (Image.fromarray(pixels).convert("RGBA"), {}),
}


@pytest.mark.parametrize("form", PHOTOS.values(), ids=PHOTOS)
def test_a_photo_is_read_alike_for_sweeps_and_audits(tmp_path, form):
    root = photo_folder(tmp_path, form=form)
    pool, catalog = load_folder(spec(root))
    for pixels, item in zip(np.asarray(pool.images), catalog.objects, strict=True):
        number = int(item.name.removeprefix("images/").removesuffix(".png"))
        np.testing.assert_array_equal(pixels, picture(number))
        np.testing.assert_array_equal(read_photo(root / item.name), picture(number))


def test_photos_of_16_bits_are_refused(tmp_path):
    root = photo_folder(tmp_path, form=lambda pixels: (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), {}))
    assert all("more than 8 bits a channel" in problem for problem in problems_of(root))


def with_own_palette(mask):
    """A mask whose colours are numbered anew in each file: the object is 1 in all, of two colours."""
    image = Image.fromarray(np.minimum(mask, 1))
    image.putpalette([0, 0, 0, *((128, 0, 0) if mask.max() == 1 else (0, 128, 0))])
    return image, {}


def test_masks_whose_palettes_differ_are_refused(tmp_path):
    root = photo_folder(tmp_path, mask_form=with_own_palette)
    said = "index 1 is RGB 128, 0, 0"
    assert any(said in problem for problem in problems_of(root))
    assert any(said in problem for problem in check_folder(spec(root)).problems)


def cut_out_folder(root, make):
    """Writes four cut-outs of each class with masks that `make` returns, and scenes."""
    for class_name in CLASSES:
        (root / "cutouts" / class_name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(picture(number)).save(root / "cutouts" / class_name / f"{number}.jpg", quality=95)
            make().save(root / "cutouts" / class_name / f"{number}.png")
    for scene in KITCHENS:
        (root / "scenes" / scene).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(picture(number)).save(root / "scenes" / scene / f"{number}.png")
    return root


MASKS = {
    **{f"0 and {value}": lambda value=value: Image.fromarray(object_mask(value)) for value in (1, 15, 128, 200, 255)},
    "black and white": lambda: Image.fromarray(object_mask(255)).convert("1"),
    "three equal channels": lambda: Image.fromarray(object_mask(255)).convert("RGB"),
    "grey with an alpha": lambda: Image.fromarray(object_mask(255)).convert("LA"),
}


@pytest.mark.parametrize("make", MASKS.values(), ids=MASKS)
def test_a_mask_of_two_values_is_a_mask(tmp_path, make):
    pool, _ = load_folder(spec(cut_out_folder(tmp_path, make)))
    for mask in np.asarray(pool.masks):
        np.testing.assert_array_equal(mask, object_mask(255))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Image.fromarray(np.full((SIZE, SIZE), 200, np.uint8)), id="one value"),
        pytest.param(
            lambda: Image.fromarray(np.dstack([object_mask(255), object_mask(9), object_mask(0)])), id="colours"
        ),
        pytest.param(lambda: Image.fromarray(object_mask(200).astype(np.uint16)), id="16 bits"),
    ],
)
def test_what_may_be_a_mask_or_not_is_refused(tmp_path, make):
    assert all(
        "expected a mask of one grey channel" in problem for problem in problems_of(cut_out_folder(tmp_path, make))
    )
