"""Names images by the paths of their files, and checks names: that two folders have the same, and that none repeats."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePath

from flipjax.audit.formats.problems import AuditError
from flipjax.support.terminal import listed

HIDDEN = (".", "Thumbs.db", "desktop.ini")
"""Beginnings of the names of files and folders that systems leave."""
DOUBLE_SUFFIXES = (".nii.gz",)
"""Suffixes of `formats.FORMATS` with two dots."""


def suffix_of(path: PurePath) -> str:
    """Returns the lower-case suffix of a file; one of DOUBLE_SUFFIXES counts as one."""
    for suffix in DOUBLE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    return path.suffix.lower()


def stem_of(path: PurePath) -> str:
    """Returns a path without its suffix, with slashes on every system.

    Example:
        >>> stem_of(PurePath("patient_000/scan.nii.gz"))
        'patient_000/scan'
    """
    text = path.as_posix()
    return text[: len(text) - len(suffix_of(path))]


def check_names(source: object, names: Iterable[str]) -> tuple[str, ...]:
    """Returns the image names of a file, folder or argument; raises AuditError for duplicates."""
    names = tuple(names)
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise AuditError(f"{source}: expected a name an image, found some more than once, {listed(repeated)}")
    return names


def check_texts(argument: str, texts: Iterable[object], *, blank: bool = False) -> None:
    """Checks texts that become cells of tables and lines of pages.

    Args:
        argument: its name, for messages.
        texts: names of images or classes.
        blank: whether a text may be empty.

    Raises:
        TypeError: one is no text.
        ValueError: one has a line break or is not UTF-8, or is empty.
    """
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{argument}: expected texts, found {text!r}.")
        if not _is_line(text) or not (blank or text.strip()):
            raise ValueError(f"{argument}: expected texts of one line in UTF-8, found {text!a}.")


def read_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """Returns the expression of `--names`: one group, which is an image's name in the path of a file without suffix.

    Raises:
        AuditError: it is invalid, or has another number of groups.
    """
    if pattern is None:
        return None
    expected = "--names: expected a regular expression of one group, the image's name in a file's path without suffix"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise AuditError(f"{expected}; found {pattern!r} ({error})") from error
    if compiled.groups != 1:
        raise AuditError(f"{expected}; found {pattern!r} of {compiled.groups}")
    return compiled


def is_hidden(path: PurePath) -> bool:
    """Returns whether systems leave a file or folder: its name begins with a dot, or it is one of Windows' own."""
    return path.name.startswith(HIDDEN)


def files_below(folder: Path) -> tuple[Path, ...]:
    """Returns the files of a folder and its subfolders, as relative paths in order.

    Links to folders, hidden folders and those without visible files are among them, so that none is overlooked; links
    and hidden folders are not entered.
    """
    below: list[Path] = []
    for root, subfolders, files in os.walk(folder):
        here = Path(root).relative_to(folder)
        below += [here / name for name in files]
        visible = [name for name in subfolders if not is_hidden(Path(name))]
        for name in subfolders:
            if name not in visible or (Path(root) / name).is_symlink():
                below.append(here / name)
        if here != Path() and not visible and all(is_hidden(Path(name)) for name in files):
            below.append(here)
        # `os.walk` enters the folders that this list still holds, and no links.
        subfolders[:] = visible
    return tuple(sorted(below))


def name_files(folder: Path, files: Sequence[Path], pattern: re.Pattern[str] | None) -> dict[str, Path]:
    """Returns files by the name of their image: the path without suffix, or the group of a pattern in it.

    Args:
        folder: for messages.
        files: relative paths.
        pattern: files that it does not match are left out.

    Raises:
        AuditError: a name is not UTF-8, matches two files, or the pattern matches none.
    """
    wrong = [file.as_posix() for file in files if not _is_line(_decoded(stem_of(file)))]
    if wrong:
        raise AuditError(f"{folder}: expected file names of one line in UTF-8, found {listed(map(ascii, wrong))}")
    by_name = defaultdict[str, list[Path]](list)
    for file in files:
        stem = _decoded(stem_of(file))
        if pattern is None:
            by_name[stem].append(file)
            continue
        match = pattern.search(stem)
        if match is not None:
            by_name[match[1] or ""].append(file)
    if files and not by_name and pattern is not None:
        raise AuditError(f"--names: {pattern.pattern!r} is in no file of {folder}, such as {stem_of(files[0])}")
    for name, several in by_name.items():
        if len(several) > 1:
            shown = listed(file.as_posix() for file in several)
            raise AuditError(f"{folder}: expected a file for each name, found several for {name!r}: {shown}")
    return {name: several[0] for name, several in by_name.items()}


def _decoded(text: str) -> str:
    """Returns a part of a path as UTF-8 spells it, whatever encoding this system assumes; unchanged if it is not UTF-8.

    Letters with accents are composed, since some systems store letter and accent apart.
    """
    try:
        return unicodedata.normalize("NFC", os.fsencode(text).decode())
    except UnicodeError:
        return text


def _is_line(text: str) -> bool:
    """Returns whether a text is one line that UTF-8 can spell."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in text and "\r" not in text


def check_matched(paths: str, predictions: Collection[str], labels: Collection[str]) -> None:
    """Raises AuditError, which names both paths, unless predictions and labels have the same names."""
    lacking = {
        "predictions without labels": sorted({*predictions} - {*labels}),
        "labels without a prediction": sorted({*labels} - {*predictions}),
    }
    if not any(lacking.values()):
        return
    parts = [f"{problem}, {listed(names)}" for problem, names in lacking.items() if names]
    advice = ""
    if not {*predictions} & {*labels}:
        advice = "; where files are called otherwise, --names REGEX takes the part of a name that both sides have"
    raise AuditError(f"expected the same names in {paths}; found {'; '.join(parts)}{advice}")
