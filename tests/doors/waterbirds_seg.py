"""Strange archives for `flipjax data prepare waterbirds_seg`: lists, photos, manifests, places for the data set."""

import functools
import pathlib
import shutil
import tempfile

import numpy as np
from PIL import Image
from waterbirds_seg.tree import arguments as command
from waterbirds_seg.tree import draw_photo, make_tree, save

from doors.files import picture, rotated, write
from doors.folder import sized
from doors.harm import both, edited, fifo, file, folder, linked, nothing, option, options, put, renamed, sparse
from doors.trial import Door, Strange
from flipjax.data.__main__ import main

BIRD = "cub/images/001.Black_footed_Albatross/Black_footed_Albatross_0000_1000.jpg"
MASK = BIRD.replace("images", "segmentations").replace(".jpg", ".png")
SCENE = "places/o/ocean/00000000.jpg"
NAMES = "cub/images.txt"
HEAD = "img_id,img_filename,y,split,place,group_id,place_filename\n"


def twice(text):
    """A list whose second bird has the name of the first."""
    first, second, *others = text.splitlines(keepends=True)
    return "".join([first, f"{second.split()[0]} {first.split()[1]}\n", *others])


def manifest(edit, *, option="--manifest", name="own.csv"):
    """A manifest of two birds of each class, edited into text or bytes."""

    def harm(tree):
        birds = [line.split()[1] for line in (tree / NAMES).read_text().splitlines()]
        scenes = ("/b/bamboo_forest/00000000.jpg", "/o/ocean/00000000.jpg")
        rows = [
            f"{i + 1},{birds[i]},{y},{i // 4 % 3},{i % 2},{2 * y + i % 2},{scenes[i % 2]}\n"
            for i, y in ((i, (1, 1, 0, 0)[i % 4]) for i in range(8))
        ]
        write(tree / name, edit(HEAD + "".join(rows)))
        return option, tree / name

    return harm


def tall(tree):
    """A scene of one column behind a bird of 400 x 400 pixels: enlarged to its width it has gigapixels."""
    rng = np.random.default_rng(0)
    save(tree / BIRD, draw_photo(rng, 400, 400))
    save(tree / MASK, np.full((400, 400), 255, np.uint8))
    save(tree / "places/b/bamboo_forest/00000000.jpg", draw_photo(rng, 1, 30_000))
    return manifest(lambda text: text)(tree)


def small(array=None, **options):
    """A segmentation of the bird's size, or a photo."""
    return picture(np.full((18, 20), 255, np.uint8) if array is None else array, **options)


CASES = {
    "plain": Strange("done", "birds 24, scenes 32", nothing),
    "CRLF": Strange("done", "birds 24", edited(NAMES, lambda text: text.replace("\n", "\r\n"))),
    "CMYK": Strange("done", "birds 24", put(BIRD, small(mode="CMYK", kind="JPEG"))),
    "turned by EXIF": Strange("done", "birds 24", put(BIRD, small(kind="JPEG", exif=rotated()))),
    "list with BOM": Strange("refused", "images.txt", edited(NAMES, lambda text: "\ufeff" + text)),
    "list of UTF-16": Strange("refused", "images.txt", edited(NAMES, lambda text: text.encode("utf-16"))),
    "list of bytes": Strange("refused", "images.txt", edited(NAMES, lambda text: text.encode() + b"25 \xff\n")),
    "list with zero bytes": Strange(
        "listed", "files are missing", edited(NAMES, lambda text: text.replace(".jpg", "\0.jpg", 1))
    ),
    "list of 5,000 digits": Strange("refused", "images.txt", edited(NAMES, lambda text: text + f"{'9' * 5000} a\n")),
    "list with an id twice": Strange("refused", "images.txt", edited(NAMES, lambda text: text + text.splitlines()[0])),
    "list with a name twice": Strange("refused", "images.txt", edited(NAMES, twice)),
    "name that leads out": Strange(
        "refused", "images.txt", edited(NAMES, lambda text: text.replace("1 001", "1 ../001", 1))
    ),
    "name of 5,000 letters": Strange(
        "listed",
        "x.jpg",
        edited(NAMES, lambda text: text.replace("1 001", f"1 {'x' * 5000}", 1).replace("_1000.jpg", "x.jpg", 1)),
    ),
    "list of 4 GB": Strange("refused", "images.txt", sparse(NAMES, 2**32)),
    "list is a FIFO": Strange("refused", "images.txt", fifo(NAMES)),
    "list is a folder": Strange("refused", "images.txt", folder(NAMES)),
    "list is a device": Strange("refused", "images.txt", linked(NAMES, "/dev/zero")),
    "list is a link to itself": Strange("refused", "images.txt", linked(NAMES, "images.txt")),
    "photo FIFO": Strange("listed", BIRD, fifo(BIRD)),
    "photo of 4 GB": Strange("listed", BIRD, sparse(BIRD, 2**32)),
    "photo device": Strange("listed", BIRD, linked(BIRD, "/dev/zero")),
    "photo EPS": Strange("listed", BIRD, put(BIRD, "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n")),
    "photo GIF": Strange("listed", BIRD, put(BIRD, small(kind="GIF"))),
    "mask of several frames": Strange(
        "listed", MASK, put(MASK, small(save_all=True, append_images=[Image.fromarray(np.zeros((18, 20), np.uint8))]))
    ),
    "mask claims exapixels": Strange("listed", MASK, put(MASK, sized(2**31 - 1, 2**31 - 1))),
    "mask of floats": Strange("listed", MASK, put(MASK, small(np.ones((18, 20), np.float32), kind="TIFF"))),
    "scene FIFO": Strange("listed", SCENE, fifo(SCENE)),
    "scene empty": Strange("listed", SCENE, put(SCENE, b"")),
    "scene name of bytes": Strange("refused", r"\udcff.jpg", renamed(SCENE, b"places/o/ocean/\xff.jpg")),
    "scene name of two lines": Strange("refused", r"a\nb.jpg", renamed(SCENE, b"places/o/ocean/a\nb.jpg")),
    "scene folder is a file": Strange("done", "scenes 24", file("places/o/ocean")),
    "tall scene": Strange("listed", "places/b/bamboo_forest/00000000.jpg", tall),
    "manifest": Strange("done", "train 4", manifest(lambda text: text)),
    "manifest with BOM": Strange("done", "train 4", manifest(lambda text: "\ufeff" + text)),
    "manifest of an odd name": Strange("done", "train 4", manifest(lambda text: text, name="ä b\n.csv")),
    "manifest of UTF-16": Strange("refused", "own.csv", manifest(lambda text: text.encode("utf-16"))),
    "manifest column twice": Strange("refused", "own.csv", manifest(lambda text: text.replace("place,", "y,", 1))),
    "manifest, fields too many": Strange("refused", "own.csv", manifest(lambda text: text[:-1] + ",1\n")),
    "manifest of 5,000 digits": Strange(
        "refused", "own.csv", manifest(lambda text: text.replace("\n1,", f"\n{'9' * 5000},", 1))
    ),
    "manifest, header alone": Strange("refused", "own.csv", manifest(lambda text: HEAD)),
    "manifest empty": Strange("refused", "own.csv", manifest(lambda text: "")),
    "manifest with zero bytes": Strange(
        "listed", "missing", manifest(lambda text: text.replace(".jpg,1", "\0.jpg,1", 1))
    ),
    "manifest that leads out": Strange(
        "refused", "own.csv", manifest(lambda text: text.replace("/o/ocean", "/../ocean"))
    ),
    "manifest is a FIFO": Strange(
        "refused", "manifest: expected", both(fifo("own.csv"), option("--manifest", "own.csv"))
    ),
    "manifest of 4 GB": Strange("refused", "own.csv", both(sparse("own.csv", 2**32), option("--manifest", "own.csv"))),
    "split_by of one bird": Strange(
        "done", "birds 1", manifest(lambda text: "".join(text.splitlines(True)[:2]), option="--split_by")
    ),
    "split_by a folder": Strange("refused", "manifest: expected", option("--split_by", "")),
    "data_dir below a file": Strange("listed", "images.txt", option("--data_dir", f"{NAMES}/below")),
    "data_dir a device": Strange("listed", "/dev/null", options("--data_dir", "/dev/null")),
    "data_dir a link to itself": Strange("listed", "loop", both(linked("loop", "loop"), option("--data_dir", "loop"))),
    "data_dir of 5,000 letters": Strange("listed", "name too long", options("--data_dir", "x" * 5000)),
    "--size 5": Strange("refused", "--size: expected", options("--size", 5)),
    "--size of 30 digits": Strange("refused", "--size: expected", options("--size", 8 * 10**29)),
    "--scenes negative": Strange("refused", "scenes: expected", options("--scenes", -1)),
    "--scenes of 30 digits": Strange("done", "scenes 32", options("--scenes", 10**29)),
    "--cub_dir a file": Strange("refused", "cub_dir: expected", option("--cub_dir", NAMES)),
    "--cub_dir of 5,000 letters": Strange("refused", "cub_dir", options("--cub_dir", "x" * 5000)),
}


@functools.cache
def whole():
    """A tree that is copied for every case."""
    place = tempfile.TemporaryDirectory()
    make_tree(pathlib.Path(place.name))
    return place


def arguments(place, harm):
    """The command's arguments for a copy of the tree, made strange."""
    tree = place / "tree"
    shutil.copytree(whole().name, tree)
    more = harm(tree) or ()
    given = command(tree, "--data_dir", place / "out", "--size", 16)
    return [*given, *more]


DOOR = Door(main, CASES, arguments)
