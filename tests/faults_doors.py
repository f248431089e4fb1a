"""Strange inputs at the doors: `python tests/faults_doors.py` hands each to its command and counts what became of it.

Every case says what it must be: `same`, as the plain input; `refused`, with exit code 2 and a line that says why; or
`done`, with exit code 0. Doors: configuration files (a dry run), audit; and those of `doors`, which hold a
command to more: `data check`, `data prepare`. A name stands for all doors that begin with it.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np
from doors import coco_cd, folder, trial, waterbirds_seg
from doors.files import archive, changed, header, npy, picture, rotated, text_chunk, write
from doors.trial import call
from PIL import Image

from flipjax.audit.__main__ import main as audit
from flipjax.sweep.__main__ import main as sweep

generator = np.random.default_rng(0)
LOGITS = generator.normal(size=(3, 8, 8, 3)).astype(np.float32)
LABELS = generator.integers(0, 3, (3, 8, 8)).astype(np.uint8)
GROUPS = "name,group\n0,0\n1,1\n2,3\n"
DEFAULT = "from flipjax.config import default_config\nconfig = default_config()\nget_config = lambda: config\n"


def shaped(shape):
    """An npy file whose header claims a shape."""
    return header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}", LOGITS[0].tobytes())


def labels(array=LABELS[0], **options):
    """A picture file of labels."""
    return picture(array, **options)


LOGIT_FILES = {
    "Fortran order": ("same", npy(np.asfortranarray(LOGITS[0]))),
    "big endian": ("same", npy(LOGITS[0].astype(">f4"))),
    "float64": ("same", npy(LOGITS[0].astype(np.float64))),
    "long double": ("same", npy(LOGITS[0].astype(np.longdouble))),
    "float16": ("done", npy(LOGITS[0].astype(np.float16))),
    "beyond float32": ("refused", npy(LOGITS[0] * np.float64(1e300))),
    "NaN": ("refused", npy(changed(LOGITS[0], np.nan))),
    "infinite": ("refused", npy(changed(LOGITS[0], np.inf))),
    "integers": ("refused", npy((9 * LOGITS[0]).astype(int))),
    "complex": ("refused", npy(LOGITS[0].astype(complex))),
    "fields": ("refused", npy(np.zeros((8, 8, 3), [("a", "f4")]))),
    "pickle": ("refused", header("{'descr': '|O', 'fortran_order': False, 'shape': (8, 8, 3), }", b"cos\nsystem\n")),
    "another size": ("refused", npy(LOGITS[0, :4])),
    "no pixels": ("refused", npy(LOGITS[0, :0])),
    "exabytes": ("refused", shaped((10**9, 10**9, 3))),
    "beyond 64 bits": ("refused", shaped((2**32, 2**32, 3))),
    "negative shape": ("refused", shaped((-8, -8, 3))),
    "truth as shape": ("refused", shaped((True, True, 3))),
    "code as header": ("refused", header("__import__('os').abort()")),
    "brackets": ("refused", header("(" * 118)),
    "cut short": ("refused", npy(LOGITS[0])[:-5]),
    "an npz": ("refused", archive(**{"logits.npy": npy(LOGITS[0])})),
}
MASKS = {
    "16 bits": ("same", labels(LABELS[0].astype(np.uint16))),
    "palette": ("same", labels(mode="P")),
    "palette and transparency": ("same", labels(mode="P", transparency=1)),
    "grey and transparency": ("same", labels(transparency=1)),
    "class of 16 bits": ("refused", labels(changed(LABELS[0].astype(np.uint16), 300))),
    "class beyond": ("refused", labels(changed(LABELS[0], 200))),
    "RGB": ("refused", labels(mode="RGB")),
    "grey and alpha": ("refused", labels(mode="LA")),
    "animation": ("refused", labels(save_all=True, append_images=[Image.fromarray(LABELS[1])])),
    "text of megabytes": ("refused", labels(pnginfo=text_chunk())),
    "turned by EXIF": ("refused", labels(exif=rotated())),
    **{f"a {kind}": ("refused", labels(kind=kind)) for kind in ("GIF", "TIFF", "WEBP", "JPEG", "BMP")},
}
TABLES = {
    "BOM": ("done", "\ufeff" + GROUPS),
    "CRLF": ("done", GROUPS.replace("\n", "\r\n")),
    "empty": ("refused", ""),
    "header alone": ("refused", "name,group\n"),
    "column twice": ("refused", "name,group,group\n0,0,1\n1,1,1\n2,3,1\n"),
    "row twice": ("refused", GROUPS + "0,1\n"),
    "field too many": ("refused", GROUPS.replace("0,0", "0,0,1")),
    "NaN": ("refused", GROUPS.replace("0,0", "0,nan")),
    "5,000 digits": ("refused", GROUPS.replace("0,0", "0," + "9" * 5000)),
    "underscore": ("refused", GROUPS.replace("1,1", "1,0_1")),
    "zero byte": ("refused", GROUPS.replace("0,0", "0,0\0")),
    "quote": ("refused", GROUPS.replace("0,0", '0,"0')),
    "200,000 letters": ("refused", GROUPS + "x" * 200_000),
    "UTF-16": ("refused", GROUPS.encode("utf-16")),
}
CONFIGS = {
    "plain": ("done", DEFAULT),
    "BOM": ("done", "\ufeff" + DEFAULT),
    **{
        name: ("refused", text)
        for name, text in {
            "interrupt": "raise KeyboardInterrupt",
            "exit": "raise SystemExit(0)",
            "mute error": "class E(Exception):\n    __str__ = None\nraise E",
            "recursion": "def f(): f()\nf()",
            "own base": "class E(BaseException): pass\nraise E('a\\nb')",
            "generator": "def get_config():\n    yield",
            "argument": "def get_config(x): pass",
            "cycle": DEFAULT + "config.model = config\n",
            "empty": "from ml_collections import ConfigDict\nget_config = ConfigDict",
            "placeholder": DEFAULT
            + "from ml_collections import config_dict as c\nconfig.train.epochs = c.required_placeholder(int)\n",
            "no section": DEFAULT + "with config.unlocked(): del config.train\n",
            "NaN": DEFAULT + "config.axes.rho = (float('nan'),)\n",
            "truth": DEFAULT + "config.train.epochs = True\n",
            "400 digits": DEFAULT + "config.axes.seed = (10**400,)\n",
            "UTF-16": DEFAULT.encode("utf-16"),
        }.items()
    },
}


def audit_case(place, logits=None, mask=None, table=None):
    """Arguments of an audit of three images, of which one file is strange."""
    for index in range(3):
        write(place / f"logits/{index}.npy", npy(LOGITS[index]))
        write(place / f"labels/{index}.png", labels(LABELS[index]))
    for name, content in (("logits/0.npy", logits), ("labels/0.png", mask), ("groups.csv", table)):
        if content is not None:
            write(place / name, content)
    groups = [] if table is None else ["--groups", place / "groups.csv"]
    return ["--logits", place / "logits", "--labels", place / "labels", "--out", place / "out", *groups]


def config_case(place, content):
    """Arguments of a dry run."""
    write(place / "strange.py", content)
    return ["--config", place / "strange.py", "--dry_run"]


DOORS = {
    "config": (sweep, CONFIGS, config_case),
    "audit: predictions": (audit, LOGIT_FILES, lambda place, content: audit_case(place, logits=content)),
    "audit: masks": (audit, MASKS, lambda place, content: audit_case(place, mask=content)),
    "audit: groups": (audit, TABLES, lambda place, content: audit_case(place, table=content)),
    "check: composite": folder.COMPOSITE_DOOR,
    "check: photo": folder.PHOTO_DOOR,
    "prepare waterbirds_seg": waterbirds_seg.DOOR,
    "prepare coco_cd": coco_cd.DOOR,
}


def outcome(command, arguments, expected, place):
    """What became of a case: its expected outcome, or another."""
    try:
        code, text = call(command, arguments)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if code == 2 and "Traceback" not in text and text.rstrip().splitlines()[-1].startswith("flipjax "):
        return "refused"
    if code != 0:
        return f"exit {code}: {text[-200:]}"
    if expected != "same":
        return "done"
    call(audit, audit_case(place / "plain"))
    tables = [(folder / "out/summary.csv").read_bytes() for folder in (place, place / "plain")]
    return "same" if tables[0] == tables[1] else "other numbers"


def trials(door, *, names=None):
    """Runs the cases of a door; returns how many ended as they must, and what became of the others by name."""
    if isinstance(DOORS[door], trial.Door):
        return trial.trials(DOORS[door], names=names)
    command, cases, make = DOORS[door]
    right = 0
    wrong = {}
    for name, (expected, content) in cases.items():
        if names is None or name in names:
            with tempfile.TemporaryDirectory() as folder:
                place = pathlib.Path(folder)
                result = outcome(command, make(place, content), expected, place)
            right += result == expected
            if result != expected:
                wrong[name] = f"{expected} expected, {result}"
    return right, wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doors", nargs="*", default=list(DOORS), help=", ".join(DOORS))
    failed = False
    asked = tuple(parser.parse_args().doors)
    for door in filter(lambda door: door.startswith(asked), DOORS):
        right, wrong = trials(door)
        failed |= bool(wrong)
        print(f"{door:24} {right:3} of {right + len(wrong)}")
        for name, result in wrong.items():
            print(f"  {name}: {result}")
    sys.exit(failed)
