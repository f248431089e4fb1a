"""Photos and masks as cameras, annotation tools and libraries write them."""

import functools

import numpy as np
from PIL import Image

from layouts.audits import CLASSES, LABELS, LOGITS, NAMES, PREDICTED, Layout, matrix

TURN = 6
"""The EXIF orientation of a photo that a camera held upright took."""
MASKS = ["--kind=masks", f"--class_names={CLASSES}"]
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]
"""Colours of the first indices of VOC's palette."""


def exif(orientation):
    tags = Image.Exif()
    tags[0x112] = orientation
    return tags


def with_palette(mask, colours, **options):
    """Returns a mask of mode P."""
    image = Image.fromarray(mask)
    image.putpalette(colours)
    return image, options


def recoloured(mask):
    """Returns a mask as Pillow makes it of a photo of colours: indices are numbered anew in each file."""
    colours = np.array(VOC, np.uint8).reshape(3, 3)[mask]
    return Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE, colors=3), {}


def grey(mask, channels):
    return Image.fromarray(np.repeat(mask[..., None], channels, axis=-1))


def plain(mask):
    return Image.fromarray(mask), {}


def save_all(folder, masks, form=plain, suffix=".png"):
    """Writes a mask an image, each as `form` returns it with options of Pillow."""
    folder.mkdir()
    for name, mask in zip(NAMES, masks, strict=True):
        image, options = form(mask)
        image.save(folder / f"{name}{suffix}", **options)
    return folder


def masks(folder, *, form=plain, predicted_form=None, suffix=".png", labels=LABELS, predicted=PREDICTED, more=()):
    """Writes predictions and labels, and returns the options."""
    save_all(folder / "p", predicted, predicted_form or form, suffix)
    save_all(folder / "l", labels, form, suffix)
    return [f"--predictions={folder / 'p'}", f"--labels={folder / 'l'}", *MASKS, *more]


def mask_layout(name, expected=None, *, more=(), **options):
    expected = matrix() if expected is None else expected
    return Layout(name, functools.partial(masks, more=more, **options), expected)


RED = np.array([0, 100, 200], np.uint8)
"""How a photo shows the class that the model predicts."""


def see(photos):
    """A model: the class that the red channel of a photo shows."""
    return 9 * np.eye(3, dtype=np.float32)[np.rint(np.asarray(photos)[..., 0] / 100).astype(int)]


def photos(folder, *, make, suffix=".png"):
    """Writes photos as `make` returns them of (H, W, 3), with plain labels."""
    pictures = [np.dstack([RED[mask], 50 + 0 * mask, 80 + 0 * mask]) for mask in PREDICTED]
    save_all(folder / "l", LABELS)
    save_all(folder / "photos", pictures, make, suffix)
    return [f"--images={folder / 'photos'}", f"--labels={folder / 'l'}"]


def page(folder, *, make):
    """Writes masks, and photos for the page as `make` returns them."""
    options = masks(folder)
    save_all(folder / "photos", [np.dstack([RED[mask]] * 3) for mask in PREDICTED], make)
    return [*options, f"--images={folder / 'photos'}"]


def photo_layout(name, make, expected=None, **options):
    expected = matrix() if expected is None else expected
    return Layout(name, functools.partial(photos, make=make, **options), expected, model=see)


def held_upright(picture):
    """As a camera stores it: turned, with a note."""
    return Image.fromarray(np.rot90(picture)), {"exif": exif(TURN)}


def of_16_bits(picture):
    return Image.fromarray(picture[..., 0].astype(np.uint16) * 257), {}


def see_through(picture):
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    alpha[0, 0] = 0
    return Image.fromarray(np.concatenate([picture, alpha], axis=-1)), {}


def opaque(picture):
    return Image.fromarray(np.concatenate([picture, np.full((*picture.shape[:2], 1), 255, np.uint8)], axis=-1)), {}


def turned_mask(mask):
    return Image.fromarray(mask), {"exif": exif(TURN)}


def in_colours(mask):
    return Image.fromarray(np.array(VOC, np.uint8).reshape(3, 3)[mask]), {}


WITHOUT_CAT = np.where((np.arange(12) % 3 == 0)[:, None, None] & (LABELS == 1), 0, LABELS).astype(np.uint8)
"""Labels of which some images hold other classes than the others."""
VOID = LABELS.copy()
VOID[:, 0] = 255
VOID_PREDICTED = np.where(VOID == 255, 255, PREDICTED).astype(np.uint8)
WRONG_VOID = PREDICTED.copy()
WRONG_VOID[0, -1, -1] = 255


def scores(folder, *, stored, suffix=".npy", more=()):
    """Writes scores a file an image, or all in one file, with labels in the same manner."""
    if suffix == "stack":
        np.save(folder / "p.npy", stored)
        np.save(folder / "l.npy", LABELS[: len(stored)])
        return [f"--predictions={folder / 'p.npy'}", f"--labels={folder / 'l.npy'}", f"--class_names={CLASSES}", *more]
    (folder / "p").mkdir()
    for name, values in zip(NAMES, stored, strict=True):
        np.save(folder / "p" / f"{name}.npy", values)
    return [
        f"--predictions={folder / 'p'}",
        f"--labels={save_all(folder / 'l', LABELS)}",
        f"--class_names={CLASSES}",
        *more,
    ]


def score_layout(name, stored, expected=None, **options):
    return Layout(name, functools.partial(scores, stored=stored, **options), matrix() if expected is None else expected)


def stacks(folder, *, predicted_names, label_names, order=slice(None)):
    """Writes npz files with names or without."""
    for name, values, names in (("masks", PREDICTED, predicted_names), ("labels", LABELS[order], label_names)):
        arrays = {name: values} if names is None else {name: values, "names": np.array(names)}
        np.savez(folder / f"{name}.npz", **arrays)
    return [f"--predictions={folder / 'masks.npz'}", f"--labels={folder / 'labels.npz'}", *MASKS]


def floats(folder):
    """Class indices that a framework kept as floats."""
    for name, values in (("p", PREDICTED), ("l", LABELS)):
        np.save(folder / f"{name}.npy", values.astype(np.float32))
    return [f"--predictions={folder / 'p.npy'}", f"--labels={folder / 'l.npy'}", *MASKS]


def of_systems(folder):
    options = masks(folder)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "l" / name).write_bytes(b"x")
    return options


MANY = np.random.default_rng(1).normal(size=(2, 7, 9, 40)).astype(np.float32)
MANY_LABELS = np.random.default_rng(2).integers(0, 40, (2, 7, 9))


def many_classes(folder):
    np.save(folder / "p.npy", MANY)
    np.save(folder / "l.npy", MANY_LABELS)
    return [f"--predictions={folder / 'p.npy'}", f"--labels={folder / 'l.npy'}"]


SIGMOID = 1 / (1 + np.exp(-LOGITS))
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
BORDERED = SOFTMAX * np.pad(np.ones((10, 14)), 1)[None, ..., None].astype(np.float32)

LAYOUTS = [
    photo_layout("photos that EXIF turns", held_upright),
    photo_layout("photos that EXIF turns, TIFF", held_upright, suffix=".tif"),
    photo_layout("photos of 16 bits", of_16_bits, "more than 8 bits a channel"),
    photo_layout("photos in grey", lambda picture: (Image.fromarray(picture[..., 0]), {})),
    photo_layout("photos with a palette", lambda picture: (Image.fromarray(picture).quantize(8), {})),
    photo_layout("photos with an opaque alpha", opaque),
    photo_layout("photos with transparent pixels", see_through, "transparent pixels"),
    photo_layout("photos called .PNG", lambda picture: (Image.fromarray(picture), {}), suffix=".PNG"),
    Layout("a page with photos that EXIF turns", functools.partial(page, make=held_upright), matrix()),
    Layout("a page with photos of 16 bits", functools.partial(page, make=of_16_bits), "12 broken files: "),
    mask_layout("masks with VOC's palette", form=lambda mask: with_palette(mask, VOC)),
    mask_layout("palettes cut to the used colours", form=lambda mask: with_palette(mask, VOC, optimize=True)),
    mask_layout(
        "palettes numbered anew in each file",
        "numbered anew",
        form=recoloured,
        labels=WITHOUT_CAT,
        predicted=np.where(WITHOUT_CAT == LABELS, PREDICTED, 0).astype(np.uint8),
    ),
    mask_layout(
        "palettes of two kinds, the same colours",
        "numbered anew",
        form=lambda mask: with_palette(mask, VOC),
        predicted_form=lambda mask: with_palette(np.array([0, 2, 1], np.uint8)[mask], [*VOC[:3], *VOC[6:], *VOC[3:6]]),
    ),
    mask_layout(
        "predictions in grey beside labels in colour",
        form=lambda mask: with_palette(mask, VOC),
        predicted_form=plain,
    ),
    mask_layout("masks of 16 bits", form=lambda mask: (Image.fromarray(mask.astype(np.uint16)), {})),
    mask_layout(
        "masks of 32 bits, TIFF", form=lambda mask: (Image.fromarray(mask.astype(np.int32)), {}), suffix=".tif"
    ),
    mask_layout("masks in BMP", suffix=".bmp"),
    mask_layout("masks called .PNG", suffix=".PNG"),
    mask_layout("masks of three equal channels", form=lambda mask: (grey(mask, 3), {})),
    mask_layout("masks of colours", "a mask of colours", form=in_colours),
    mask_layout("masks in grey with an opaque alpha", form=lambda mask: (Image.fromarray(mask).convert("LA"), {})),
    mask_layout(
        "masks in floating point, TIFF",
        "found mode F",
        form=lambda mask: (Image.fromarray(mask.astype(np.float32)), {}),
        suffix=".tif",
    ),
    mask_layout("masks that EXIF turns", "EXIF turns", form=turned_mask),
    mask_layout("255 on both sides", "--ignore_index 255", labels=VOID, predicted=VOID_PREDICTED),
    mask_layout("255 in labels alone", "--ignore_index 255", labels=VOID),
    mask_layout(
        "255 on both sides, ignored",
        matrix(PREDICTED, VOID, ignored=255),
        labels=VOID,
        predicted=VOID_PREDICTED,
        more=["--ignore_index=255"],
    ),
    mask_layout(
        "255 predicted where labels have a class",
        "at 1 of them",
        predicted=WRONG_VOID,
        more=["--ignore_index=255"],
    ),
    Layout("files of systems beside masks", of_systems, matrix()),
    Layout("class indices as floats", floats, matrix()),
    Layout(
        "a stack with names beside one without",
        functools.partial(stacks, predicted_names=NAMES, label_names=None),
        "in both stacks or in neither",
    ),
    Layout(
        "stacks with names in another order",
        functools.partial(stacks, predicted_names=NAMES, label_names=NAMES[::-1], order=slice(None, None, -1)),
        matrix(),
    ),
    Layout("stacks without names", functools.partial(stacks, predicted_names=None, label_names=None), matrix()),
    Layout("two images of 40 classes", many_classes, matrix(MANY.argmax(-1), MANY_LABELS, classes=40)),
    score_layout("logits", LOGITS),
    score_layout("logits, classes first", np.moveaxis(LOGITS, -1, 1)),
    score_layout("logits in a batch of one", np.moveaxis(LOGITS, -1, 1)[:, None]),
    score_layout("logits of float16", LOGITS.astype(np.float16)),
    score_layout("sigmoid scores as logits", SIGMOID, "found all values in 0..1"),
    score_layout("probabilities as logits", SOFTMAX, "--kind probabilities"),
    score_layout("probabilities with a border of zeros as logits", BORDERED, "found all values in 0..1"),
    score_layout("probabilities", SOFTMAX, more=["--kind=probabilities"]),
    score_layout("scores in 0..1 as logits", LOGITS / 8 + 0.5, more=["--kind=logits"]),
    score_layout("sigmoid scores as probabilities", SIGMOID, "sigmoid", more=["--kind=probabilities"]),
]
