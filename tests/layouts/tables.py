"""Tables of images and patients as Excel, pandas and hospitals export them."""

import functools

import numpy as np

from layouts.audits import LABELS, NAMES, PREDICTED, Layout, flip_of, matrix
from layouts.images import MASKS, save_all

SITES = np.array(["Köln", "Bern"])[np.arange(12) % 2]
PATIENTS = [name[:3] for name in NAMES]
BY_SITE = {f"group/{site}/fg_flip": flip_of(site == SITES) for site in ("Köln", "Bern")}
BY_SITE |= {f"group/{site}/n_images": 6 for site in ("Köln", "Bern")}
OF_PATIENT = dict(zip(["p00", "p01", "p02"], ["Köln", "Bern", "Köln"], strict=True))
SITE_OF_PATIENT = np.array([OF_PATIENT[patient] for patient in PATIENTS])
BY_PATIENT = {f"group/{site}/fg_flip": flip_of(site == SITE_OF_PATIENT) for site in ("Köln", "Bern")}


HEADER = ("name", "site", "patient")


def text_of(rows, *, separator=",", header=HEADER, end="\n"):
    return end.join(separator.join(row) for row in [header, *rows]) + end


ROWS = [*zip(NAMES, SITES, PATIENTS, strict=True)]


def tables(folder, *, content, groups="site", clusters="patient", labels=LABELS):
    """Writes images and tables, and returns the options; `content` is that of each table, text or bytes."""
    save_all(folder / "p", PREDICTED)
    save_all(folder / "l", labels)
    options = [f"--predictions={folder / 'p'}", f"--labels={folder / 'l'}", *MASKS]
    paths = []
    for number, data in enumerate(content):
        path = folder / f"table{number}.csv"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        paths.append(str(path))
    if paths:
        options += ["--table", *paths]
    if groups:
        options.append(f"--groups={groups}")
    if clusters:
        options.append(f"--clusters={clusters}")
    return options


def layout(name, *content, expected=None, numbers=BY_SITE, says="", count=3, **options):
    """Returns a layout whose tables are `content`, with `count` clusters."""
    write = functools.partial(tables, content=content, **options)
    if isinstance(expected, str):
        return Layout(name, write, expected)
    return Layout(name, write, matrix(), numbers=numbers, says=says, clusters=count)


PLAIN = text_of(ROWS)
OTHERS = text_of([*ROWS, ("p09_0", "Bern", "p09"), ("p09_1", "Bern", "p09")])
EMPTY = text_of([(name, "" if number == 0 else site, patient) for number, (name, site, patient) in enumerate(ROWS)])
OF_PATIENTS = text_of(OF_PATIENT.items(), header=("patient", "site"))
MORE_PATIENTS = text_of([*OF_PATIENT.items(), ("p77", "Bern")], header=("patient", "site"))
IDS = ("007", "7", "1E2", "100", "12345678901234567", "12345678901234568")
SIX = text_of([(name, IDS[number // 2]) for number, name in enumerate(NAMES)], header=("name", "patient"))
NUMBERED = text_of([(str(int(patient[1:])), site) for patient, site in OF_PATIENT.items()], header=("patient", "site"))
SCANNERS = ("scanner_2", "SCANNER_2")
CASES = text_of([(name, SCANNERS[number % 2], patient) for number, (name, _, patient) in enumerate(ROWS)])
RESTARTING = text_of([(name, site, str(number // 2 % 3)) for number, (name, site, _) in enumerate(ROWS)])
WITH_CLASS = text_of(
    [(name, ("cat", "dog")[number % 2], ("land", "sea")[number // 3 % 2]) for number, name in enumerate(NAMES)],
    header=("name", "class", "scene"),
)
WITHOUT_DOG = np.where((np.arange(12) == 1)[:, None, None] & (LABELS == 2), 1, LABELS).astype(np.uint8)
"""Labels of which the second image, a dog by its row, has none."""

NUMBERED_ROWS = text_of([(str(i), *row) for i, row in enumerate(ROWS)], header=("", *HEADER))
PADDED = text_of([(*row, "", "") for row in [*ROWS, ("", "", "")]], header=(*HEADER, "", ""))
BLANKS = text_of([tuple(f" {cell} " for cell in row) for row in ROWS], header=(" name", "site ", "patient"))
QUOTED = text_of([tuple(f'"{cell}"' for cell in row) for row in ROWS])
WITH_ENDINGS = text_of([(f"{row[0]}.png", *row[1:]) for row in ROWS], header=("NAME", "site", "patient"))
OF_WINDOWS = text_of([(f"C:\\data\\{row[0]}.png", *row[1:]) for row in ROWS])
WITH_PATIENT = text_of([(row[0], row[2]) for row in ROWS], header=("name", "patient"))
AMBIGUOUS = text_of([(name, "b;c") for name in NAMES], header=("name", "a;site"))

LAYOUTS = [
    layout("a CSV with commas", PLAIN),
    layout("semicolons", text_of(ROWS, separator=";")),
    layout("tabs", text_of(ROWS, separator="\t")),
    layout("Excel in German: semicolons, Latin-1, CRLF", text_of(ROWS, separator=";", end="\r\n").encode("latin-1")),
    layout("Excel: UTF-8 with a mark", text_of(ROWS, end="\r\n").encode("utf-8-sig")),
    layout("Excel: Unicode text, UTF-16 with tabs", text_of(ROWS, separator="\t", end="\r\n").encode("utf-16")),
    layout("Excel: a first line sep=;", "sep=;\r\n" + text_of(ROWS, separator=";", end="\r\n")),
    layout("Excel: empty columns and rows at the end", PADDED),
    layout("pandas: the numbers of rows first", NUMBERED_ROWS),
    layout("blanks around cells", BLANKS),
    layout("quoted cells", QUOTED),
    layout("the column Name", text_of(ROWS, header=("Name", "site", "patient"))),
    layout("the column NAME, with file endings", WITH_ENDINGS),
    layout("paths of Windows", OF_WINDOWS),
    layout("another order", text_of(ROWS[::-1])),
    layout("rows of other images", OTHERS, says="2 rows of other images"),
    layout("a missing row", text_of(ROWS[1:]), expected="found none for p00_0"),
    layout("an image twice", text_of([*ROWS, ROWS[0]]), expected="more than once, p00_0"),
    layout(
        "an empty cell",
        EMPTY,
        numbers={"group/no group/n_images": 1, "group/Köln/n_images": 5},
        says="have an empty cell in site",
    ),
    layout("an Excel workbook", b"PK\x03\x04" + bytes(60), expected="a workbook"),
    layout("a row a patient", OF_PATIENTS, numbers=BY_PATIENT),
    layout("rows of other patients", MORE_PATIENTS, numbers=BY_PATIENT, says="1 rows of other patients"),
    layout("patients by an expression", OF_PATIENTS, numbers=BY_PATIENT, clusters="^([^_]+)"),
    layout("patients that are numbers", NUMBERED, expected="are numbers"),
    layout("numbered patients by an expression", NUMBERED, numbers=BY_PATIENT, clusters="^p0(.)"),
    layout("a row an image beside a row a patient", WITH_PATIENT, OF_PATIENTS, numbers=BY_PATIENT),
    layout(
        "patients without --clusters", OF_PATIENTS, clusters="", expected="one row for each patient beside --clusters"
    ),
    layout("ids that look like numbers", SIX, groups="", numbers={}, count=6),
    layout(
        "groups that differ in case alone",
        CASES,
        numbers={"group/SCANNER_2/n_images": 6},
        says="differ in case alone: SCANNER_2, scanner_2",
    ),
    layout("patients numbered anew at each site", RESTARTING, says="3 of 3 clusters lie in several groups"),
    Layout(
        "a class that the image does not hold",
        functools.partial(tables, content=[WITH_CLASS], groups="class,scene", clusters="", labels=WITHOUT_DOG),
        matrix(labels=WITHOUT_DOG),
        says="no pixel of the class that their row names: p00_1 (dog)",
    ),
    layout("two separators that both fit", AMBIGUOUS, expected="expected one separator"),
    layout(
        "groups by an expression on names",
        groups="^p00|^p0[12]",
        clusters="",
        numbers={"group/p00/n_images": 4},
        count=0,
    ),
]
