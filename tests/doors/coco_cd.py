"""Strange archives for `flipjax data prepare coco_cd`: annotations, photos, options."""

import json

import numpy as np
from coco_cd.tree import HEIGHT, SQUARE, WIDTH, change, write_coco
from PIL import Image

from doors.files import picture, write
from doors.folder import sized
from doors.harm import both, edited, fifo, file, linked, nothing, option, options, put, renamed, sparse
from doors.trial import Door, Strange
from flipjax.data.__main__ import main

FILE = "annotations/instances_train2017.json"
STUFF = "annotations/stuff_train2017.json"
PHOTO = "train2017/000000000000.jpg"
NAN = float("nan")


def text(edit):
    """The instances of a year are edited, as text, into text or bytes."""
    return edited(FILE, edit)


def first(part, field, value, *, name="instances_train2017"):
    """The first item of a list has another value of a field."""
    return lambda root: change(root, name, lambda whole: whole[part][0].update({field: value}))


def shape(value):
    """The first animal has another segmentation."""
    return first("annotations", "segmentation", value)


def runs(counts, size=(HEIGHT, WIDTH)):
    """The first animal has run lengths."""
    return shape({"size": list(size), "counts": counts})


def both_years(root):
    """The first image of one year has the id of one of the other."""

    def rename(whole):
        for items, key in (("images", "id"), ("annotations", "image_id")):
            for item in whole.get(items, ())[:1]:
                item[key] = 0

    for name in ("instances_val2017", "stuff_val2017"):
        change(root, name, rename)


def gigapixel(root):
    """The first image is annotated as large, and so is its scene."""
    change(root, "instances_train2017", lambda whole: whole["images"][0].update(width=40_000, height=40_000))
    change(root, "stuff_train2017", lambda whole: whole["annotations"][0].update(area=10.0**9))


def frame():
    """Another frame of a photo."""
    return Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def photo(**options):
    """A photo of the size that is annotated."""
    return picture(np.full((HEIGHT, WIDTH, 3), 9, np.uint8), **options)


CASES = {
    "plain": Strange("done", "train 16", nothing),
    "indented": Strange("done", "train 16", text(lambda text: json.dumps(json.loads(text), indent=4))),
    "CMYK": Strange("done", "train 16", put(PHOTO, photo(kind="JPEG", mode="CMYK"))),
    "grey": Strange("done", "train 16", put(PHOTO, photo(kind="JPEG", mode="L"))),
    "areas of infinity": Strange(
        "listed", "stuff_train2017", first("annotations", "area", 1e999, name="stuff_train2017")
    ),
    "areas of NaN": Strange("listed", "stuff_train2017", first("annotations", "area", NAN, name="stuff_train2017")),
    "areas of a list": Strange("listed", "stuff_train2017", first("annotations", "area", [1], name="stuff_train2017")),
    "areas negative": Strange("listed", "stuff_train2017", first("annotations", "area", -1, name="stuff_train2017")),
    "areas of 400 digits": Strange(
        "listed", "stuff_train2017", first("annotations", "area", 10**400, name="stuff_train2017")
    ),
    "BOM": Strange("listed", FILE, text(lambda text: "\ufeff" + text)),
    "UTF-16": Strange("listed", FILE, text(lambda text: text.encode("utf-16"))),
    "bytes": Strange("listed", FILE, text(lambda text: text.encode().replace(b"cat", b"\xff\xfe"))),
    "a list": Strange("listed", FILE, text(lambda text: f"[{text}]")),
    "a number": Strange("listed", FILE, text(lambda text: "1")),
    "tail": Strange("listed", FILE, text(lambda text: text + "{}")),
    "zero bytes": Strange("listed", FILE, text(lambda text: "\0" * 4096)),
    "objects 200,000 deep": Strange("listed", FILE, text(lambda text: '{"images": ' + '{"a": ' * 200_000)),
    "5,000 digits": Strange(
        "listed", FILE, text(lambda text: text.replace('"image_id": 0', f'"image_id": {"9" * 5000}', 1))
    ),
    "image_id a list": Strange("listed", FILE, first("annotations", "image_id", [0])),
    "image_id text": Strange("listed", FILE, first("annotations", "image_id", "0")),
    "image_id null": Strange("listed", FILE, first("annotations", "image_id", None)),
    "image_id beyond 64 bits": Strange(
        "listed",
        FILE,
        both(first("annotations", "image_id", 2**70), first("images", "id", 2**70)),
    ),
    "category_id a list": Strange("listed", FILE, first("annotations", "category_id", [17])),
    "category's id a list": Strange("listed", FILE, first("categories", "id", [17])),
    "category's name a list": Strange("listed", FILE, first("categories", "name", ["cat"])),
    "image's id a list": Strange("listed", FILE, first("images", "id", [0])),
    "image in both years": Strange("listed", "instances_val2017.json: image 0", both_years),
    "a gigapixel": Strange("listed", f"{FILE}: image 0: 40000 x 40000", gigapixel),
    "width true": Strange("listed", FILE, first("images", "width", True)),
    "width zero": Strange("listed", FILE, first("images", "width", 0)),
    "width of 30 digits": Strange("listed", FILE, first("images", "width", 10**29)),
    "file_name null": Strange("listed", FILE, first("images", "file_name", None)),
    "file_name empty": Strange("listed", FILE, first("images", "file_name", "")),
    "file_name with a zero byte": Strange("listed", r"a\x00.jpg", first("images", "file_name", "a\0.jpg")),
    "file_name half a letter": Strange("listed", "no such file", first("images", "file_name", "a\ud800.jpg")),
    "file_name escape": Strange("listed", r"a\x1b[2J.jpg", first("images", "file_name", "a\x1b[2J.jpg")),
    "file_name of 5,000 letters": Strange("listed", "xxx", first("images", "file_name", "x" * 5000)),
    "file_name that leads out": Strange("listed", FILE, first("images", "file_name", "a/../../b.jpg")),
    "segmentation null": Strange("listed", FILE, shape(None)),
    "polygon of text": Strange("listed", FILE, shape([["a"] * 6])),
    "polygon of NaN": Strange("listed", FILE, shape([[NAN] * 6])),
    "polygon far out": Strange("listed", FILE, shape([[1e300, 4, 12, 4, 12, 12]])),
    "polygon of 7 numbers": Strange("done", "train 16", shape([[*SQUARE[0], 4]])),
    "polygons in polygons": Strange("listed", FILE, shape([SQUARE])),
    "runs negative": Strange("listed", FILE, runs([-1, WIDTH * HEIGHT + 1])),
    "runs beyond 64 bits": Strange("listed", FILE, runs([2**70])),
    "runs of text": Strange("listed", FILE, runs(["a"])),
    "runs of other letters": Strange("listed", FILE, runs("ä")),
    "runs that end amid a number": Strange("listed", FILE, runs("o")),
    "runs of no letters": Strange("listed", FILE, runs("")),
    "runs of another size": Strange("listed", FILE, runs([WIDTH * HEIGHT], size=(1, WIDTH * HEIGHT))),
    "size a number": Strange("listed", FILE, shape({"size": 3, "counts": [1]})),
    "annotations are a link to itself": Strange("listed", FILE, linked(FILE, "instances_train2017.json")),
    "annotations are a FIFO": Strange("listed", FILE, fifo(FILE)),
    "annotations are a device": Strange("listed", FILE, linked(FILE, "/dev/zero")),
    "stuff is the other file": Strange("listed", STUFF, lambda root: write(root / STUFF, (root / FILE).read_bytes())),
    "annotations are a file": Strange(
        "listed",
        "annotations",
        file("annotations"),
    ),
    "photo FIFO": Strange("listed", PHOTO, fifo(PHOTO)),
    "photo of 4 GB": Strange("listed", PHOTO, sparse(PHOTO, 2**32)),
    "photo claims exapixels": Strange("listed", PHOTO, put(PHOTO, sized(2**31 - 1, 2**31 - 1))),
    "photo GIF": Strange("listed", PHOTO, put(PHOTO, photo(kind="GIF"))),
    "photo of several frames": Strange("listed", PHOTO, put(PHOTO, photo(save_all=True, append_images=[frame()]))),
    "photo of 16 bits": Strange("listed", PHOTO, put(PHOTO, picture(np.zeros((HEIGHT, WIDTH), np.uint16)))),
    "photo EPS": Strange("listed", PHOTO, put(PHOTO, "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n")),
    "photo's name of bytes": Strange("listed", PHOTO, renamed(PHOTO, b"train2017/\xff.jpg")),
    "--rho nan": Strange("refused", "--rho: expected", options("--split", "reference", "--rho", "nan")),
    "--val_per_group of 30 digits": Strange(
        "refused", "reference's split needs", options("--split", "reference", "--val_per_group", 10**29)
    ),
    "--size of 30 digits": Strange("refused", "--size: expected", options("--size", 8 * 10**29)),
    "--coco_root a file": Strange("refused", "--coco_root: expected", option("--coco_root", FILE)),
    "--stuff_dir a file": Strange("refused", "--stuff_dir: expected", option("--stuff_dir", FILE)),
}


def arguments(place, harm):
    """The command's arguments for a COCO that is made, then made strange."""
    root = write_coco(place / "coco")
    more = harm(root) or ()
    given = ["--coco_root", root, "--data_dir", place / "out", "--split", "free", "--size", 16]
    return ["prepare", "coco_cd", *given, *more]


DOOR = Door(main, CASES, arguments)
