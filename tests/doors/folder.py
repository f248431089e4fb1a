"""Strange folders for `flipjax data check`, of both layouts: files, names, links, tables, options."""

import io

import numpy as np
from folder.tree import composite, photos, solid, square
from PIL import Image

from doors.files import picture, rotated, text_chunk
from doors.harm import edited, fifo, file, folder, linked, nothing, options, put, renamed, sparse
from doors.trial import Door, Strange
from flipjax.data.__main__ import main

CAT = "cutouts/cat/00"


def jpeg(**options):
    """A photo of the composite folder's size."""
    return picture(solid((9, 9, 9)), kind="JPEG", **options)


def deep(bits=16):
    """A photo of 16 bits a channel, as TIFF."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(stream, "TIFF")
    return stream.getvalue()


def sized(width, height):
    """A PNG that claims another size."""
    whole = bytearray(picture(square()))
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(whole)


def table(edit):
    """A photo folder's metadata.csv is edited into text or bytes."""
    return edited("metadata.csv", edit)


def row(name):
    """A row more in metadata.csv."""
    return table(lambda text: f"{text}{name},cat,indoor,\n")


COMPOSITE = {
    "plain": Strange("done", "Bad files: none", nothing),
    "upper-case suffix": Strange("done", "Bad files: none", renamed(f"{CAT}.jpg", b"cutouts/cat/00.JPG")),
    "CMYK": Strange("done", "Bad files: none", put(f"{CAT}.jpg", jpeg(mode="CMYK"))),
    "BMP called jpg": Strange("done", "Bad files: none", put(f"{CAT}.jpg", picture(solid((9, 9, 9)), kind="BMP"))),
    "one bit": Strange("done", "Bad files: none", put(f"{CAT}.png", picture(square(), mode="1"))),
    "interlaced tail": Strange("done", "Bad files: none", put(f"{CAT}.png", picture(square()) + b"tail")),
    "metadata with BOM": Strange(
        "done", "Bad files: none", put("metadata.csv", f"\ufefffilename,split\n{CAT}.jpg,train\n")
    ),
    "16 bits": Strange("listed", f"{CAT}.jpg: more than 8 bits", put(f"{CAT}.jpg", deep())),
    "JPEG 2000": Strange(
        "listed", f"{CAT}.jpg: unreadable", put(f"{CAT}.jpg", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99))
    ),
    "PDF": Strange("listed", f"{CAT}.jpg: unreadable", put(f"{CAT}.jpg", b"%PDF-1.4\n%%EOF")),
    "SVG": Strange("listed", f"{CAT}.png: unreadable", put(f"{CAT}.png", "<svg xmlns='http://www.w3.org/2000/svg'/>")),
    "header alone": Strange("listed", f"{CAT}.png: ", put(f"{CAT}.png", picture(square())[:33])),
    "no IEND": Strange("listed", f"{CAT}.png: ", put(f"{CAT}.png", picture(square())[:-12])),
    "no pixels": Strange("listed", f"{CAT}.png: ", put(f"{CAT}.png", sized(0, 0))),
    "claims exapixels": Strange("listed", f"{CAT}.png: ", put(f"{CAT}.png", sized(2**31 - 1, 2**31 - 1))),
    "claims more rows": Strange("listed", f"{CAT}.png: ", put(f"{CAT}.png", sized(20, 4000))),
    "text of megabytes": Strange("listed", f"{CAT}.png: ", put(f"{CAT}.png", picture(square(), pnginfo=text_chunk()))),
    "turned mask": Strange("done", "Bad files: none", put(f"{CAT}.png", picture(square(), exif=rotated()))),
    "4 GB": Strange("listed", f"{CAT}.jpg: 4,294,967,296 bytes", sparse(f"{CAT}.jpg", 2**32)),
    "device": Strange("listed", f"{CAT}.jpg: a link out", linked(f"{CAT}.jpg", "/dev/zero")),
    "link to itself": Strange("listed", f"{CAT}.jpg: ", linked(f"{CAT}.jpg", "00.jpg")),
    "dangling link": Strange("listed", f"{CAT}.jpg: unreadable", linked(f"{CAT}.jpg", "nowhere.jpg")),
    "class out of the folder": Strange("listed", "cutouts/cat", linked("cutouts/cat", "/usr")),
    "scenes out of the folder": Strange("listed", "scenes", linked("scenes/land", "/etc")),
    "metadata is a folder": Strange("listed", "metadata.csv: no regular file", folder("metadata.csv")),
    "metadata is a FIFO": Strange("listed", "metadata.csv: no regular file", fifo("metadata.csv")),
    "metadata of 4 GB": Strange("listed", "metadata.csv: 4,294,967,296 bytes", sparse("metadata.csv", 2**32)),
    "file name of bytes": Strange("listed", r"cutouts/cat/\udcff.jpg", renamed(f"{CAT}.jpg", b"cutouts/cat/\xff.jpg")),
    "file name of two lines": Strange(
        "listed", r"cutouts/cat/a\nb.jpg", renamed(f"{CAT}.jpg", b"cutouts/cat/a\nb.jpg")
    ),
    "class of bytes": Strange("listed", r"classes: the name '\udcff'", renamed("cutouts/cat", b"cutouts/\xff")),
    "class of two lines": Strange("listed", r"classes: the name 'a\nb'", renamed("cutouts/cat", b"cutouts/a\nb")),
    "class with a comma": Strange("done", "class 0 a,b", renamed("cutouts/cat", b"cutouts/a,b")),
    "class of blanks": Strange("listed", "classes", renamed("cutouts/cat", b"cutouts/ ")),
    "scene of bytes": Strange("listed", r"scene_kinds: the name '\udcff'", renamed("scenes/land", b"scenes/\xff")),
    "three classes": Strange("listed", "classes: expected exactly two", put("cutouts/cow/0.jpg", jpeg())),
    "cutouts is a file": Strange("listed", "cutouts", file("cutouts")),
    "--size 0": Strange("refused", "--size: expected", options("--size", 0)),
    "--size of 30 digits": Strange("refused", "--size: expected", options("--size", 8 * 10**29)),
    "--seed negative": Strange("refused", "--seed: expected", options("--seed", -1)),
    "--seed of 30 digits": Strange("refused", "--seed: expected", options("--seed", 10**29)),
    "--max_pixels 0": Strange("refused", "--max_pixels: expected", options("--max_pixels", 0)),
    "--n_val of 30 digits": Strange("refused", "--n_val: expected", options("--n_val", 4 * 10**29)),
    "--class_names the same": Strange("listed", "classes: expected exactly two", options("--class_names", "cat,cat")),
}
PHOTOS = {
    "plain": Strange("done", "Bad files: none", nothing),
    "CRLF": Strange("done", "Bad files: none", table(lambda text: text.replace("\n", "\r\n"))),
    "16-bit labels": Strange(
        "done", "Bad files: none", put("masks/cat_0_0.png", picture(square(value=1).astype(np.uint16)))
    ),
    "UTF-16": Strange("listed", "metadata.csv: not encoded", table(lambda text: text.encode("utf-16"))),
    "semicolons": Strange("listed", "metadata.csv: no column", table(lambda text: text.replace(",", ";"))),
    "empty table": Strange("listed", "metadata.csv: no column", table(lambda text: "")),
    "header alone": Strange("listed", "classes: ", table(lambda text: text.splitlines()[0])),
    "column twice": Strange("listed", "metadata.csv: no CSV", table(lambda text: text.replace("split", "class", 1))),
    "zero byte": Strange("listed", "metadata.csv", row("a\0.jpg")),
    "200,000 letters": Strange("listed", "metadata.csv: no CSV", row("x" * 200_000)),
    "5,000 letters": Strange("listed", "metadata.csv line 20", row("x" * 5_000 + ".jpg")),
    "two lines": Strange("listed", "metadata.csv line 21", row('"a\nb.jpg"')),
    "escape": Strange("listed", "metadata.csv line 20", row("a\x1b[2J.jpg")),
    "backslash": Strange("listed", r"metadata.csv line 20: '..\\x.jpg'", row("..\\x.jpg")),
    "folder as file": Strange("listed", "metadata.csv line 20: '.'", row(".")),
    "other spelling": Strange("listed", "metadata.csv line 20", row("./cat_0_0.jpg")),
    "doubled slash": Strange("listed", "metadata.csv line 20", row(".//cat_0_0.jpg")),
    "half a quote": Strange("listed", "metadata.csv", row('"cat_0_0.jpg')),
    "split in capitals": Strange(
        "listed", "line 2: split: expected", table(lambda text: text.replace("indoor,\n", "indoor,TRAIN\n", 1))
    ),
    "mask of floats": Strange(
        "listed",
        "masks/cat_0_0.png: a mask of floating-point",
        put("masks/cat_0_0.png", picture(square().astype(np.float32), kind="TIFF")),
    ),
    "mask FIFO": Strange("listed", "masks/cat_0_0.png", fifo("masks/cat_0_0.png")),
    "masks out of the folder": Strange("listed", "masks", linked("masks", "/usr/share")),
    "table out of the folder": Strange("listed", "metadata.csv", linked("metadata.csv", "/etc/passwd")),
}


def composite_arguments(place, harm):
    """The command's arguments for a composite folder that is made, then made strange."""
    root = composite(place / "data")
    return ["check", root, "--size", 16, *(harm(root) or ())]


def photo_arguments(place, harm):
    """The same for a photo folder."""
    root = place / "data"
    photos(root)
    edited("metadata.csv", lambda text: text.replace("\r", ""))(root)
    return ["check", root, "--size", 16, *(harm(root) or ())]


COMPOSITE_DOOR = Door(main, COMPOSITE, composite_arguments)
PHOTO_DOOR = Door(main, PHOTOS, photo_arguments)
