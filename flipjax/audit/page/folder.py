"""Claims the folder of an audit, and ends the audit in it: tries the limits and writes all files.

`claimed` holds the folder while an audit runs; `finish_audit` writes its tables, its counts and its page. Each file is
written under a temporary name and renamed.
"""

import contextlib
import dataclasses
import importlib.util
import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.counting.maps import ImagePictures
from flipjax.audit.formats.problems import AuditError
from flipjax.audit.page.tables import make_document
from flipjax.audit.statistics.limits import Limit, failures, limits_in_words, with_numbers, write_junit
from flipjax.audit.statistics.objects import write_segments
from flipjax.audit.statistics.results import Audit
from flipjax.audit.statistics.stored import STORED, images_of
from flipjax.metrics import segment_confusion
from flipjax.metrics.summary.columns import flip_rows
from flipjax.page.document import Document, terminal_text, write_summary
from flipjax.support.files import foreign_names, is_written_by, make_folder, write_json
from flipjax.support.frames import DIGITS, records_of, write_csv
from flipjax.support.npz import write_arrays

PROGRAM = "flipjax.audit"
"""What summary.json says of its origin."""
FILES = {
    STORED,
    "figures",
    "flip_matrix.csv",
    "flips_by_group.csv",
    "images.csv",
    "index.html",
    "segments.csv",
    "segments.parquet",
    "summary.json",
    "summary.md",
}
"""All files and folders that an audit may write."""
DRAWN_WITH = {"jinja2": "jinja2", "matplotlib": "matplotlib", "PIL": "pillow"}
"""Package of each module that the page needs besides JAX and NumPy."""


@dataclasses.dataclass(frozen=True)
class Audited:
    """An audit whose files are written."""

    audit: Audit
    """Its results."""
    text: str
    """Its tables as text for a terminal."""
    failed: list[str]
    """A line for each limit that a number is beyond."""


def check_folder(folder: Path, allowed: Collection[str]) -> None:
    """Raises AuditError if an output folder holds files that this command does not write."""
    if foreign_names(folder, ours=allowed.__contains__):
        raise AuditError(f"--out: expected a new folder, or one that this command wrote; found other files in {folder}")


def claim_folder(folder: Path) -> None:
    """Creates the output folder, and checks that it is writable and holds at most an earlier audit.

    Raises:
        AuditError: the folder is not writable, or holds other files.
    """
    try:
        make_folder(folder)
        ours = is_written_by(folder / "summary.json", PROGRAM)
    except OSError as error:
        raise AuditError(f"--out: expected a folder that can be written, found {folder} ({error})") from error
    check_folder(folder, FILES if ours else ())


def mark_failed(folder: Path, error: str, *, name: str = "summary.json", program: str = PROGRAM) -> None:
    """Replaces the summary of an earlier call in the folder, so that its limits do not pass for those of a failed one.

    Args:
        folder: the output folder; if it holds no summary of the program, nothing is written.
        error: what ended the call.
        name: of the summary.
        program: that wrote it.
    """
    path = folder / name
    try:
        ours = is_written_by(path, program)
    except OSError:
        return
    if ours:
        failed = {"program": program, "passed": False, "error": error}
        write_json(path, failed, ensure_ascii=False)


def describe_error(error: BaseException) -> str:
    """Returns what ended a call, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Claims the output folder.

    The summary of an earlier audit says that this one is not finished, then what its error was; a new folder that is
    still empty after an error is removed.
    """
    new = not folder.exists()
    claim_folder(folder)
    mark_failed(folder, "not finished")
    try:
        yield
    except BaseException as error:
        mark_failed(folder, describe_error(error))
        with contextlib.suppress(OSError):
            if new:
                folder.rmdir()
        raise


def draws_pages(*, quiet: bool = False) -> bool:
    """Returns whether the packages of a page are installed; names missing ones on stderr."""
    lacking = [package for module, package in DRAWN_WITH.items() if importlib.util.find_spec(module) is None]
    if lacking and not quiet:
        print(f"no page: it needs {', '.join(lacking)}; python -m pip install {' '.join(lacking)}", file=sys.stderr)
    return not lacking


def finish_audit(
    folder: Path,
    audit: Audit,
    pictures: Mapping[int, ImagePictures],
    *,
    limits: Sequence[Limit],
    facts: Sequence[str],
    options: Mapping[str, object],
    junit: Path | None,
    suite: str,
) -> Audited:
    """Tries the limits on an audit, and writes its files: all tables and, if its packages are installed, the page.

    Args:
        folder: claimed by `claimed`.
        audit: the results.
        pictures: of the worst images, by the image's position.
        limits: the limits, checked by `limits.check_limits`.
        facts: sentences on what was audited; empty ones are left out.
        options: of the audit, for summary.json.
        junit: a file for the limits as JUnit test cases, if it is wanted.
        suite: the name of the test suite in it.
    """
    tried = with_numbers(limits, audit.summary, audit.intervals)
    said = [fact for fact in facts if fact]
    document = make_document(audit, facts=said, options=options, limits=limits_in_words(tried))
    write_tables(folder, audit, document, limits=tried)
    if draws_pages():
        from flipjax.audit.page import drawing  # Imported here, because tables need no drawing packages.

        items = drawing.draw_items(audit, pictures)
        segments = drawing.draw_segments(audit, pictures)
        drawing.write_audit_page(folder, audit, document, items, segments)
    if junit:
        write_junit(junit, suite, tried)
    return Audited(audit, terminal_text(document), failures(tried))


def write_tables(folder: Path, audit: Audit, document: Document, *, limits: Sequence[Limit] = ()) -> None:
    """Writes all files except the page.

    summary.json comes first. It marks the folder as an audit, so that an interrupted audit can be repeated in it.
    """
    # JSON has no NaN.
    stored = json.loads(json.dumps(_stored(audit, document, limits)), parse_constant=_null)
    write_json(folder / "summary.json", stored, ensure_ascii=False)
    write_csv(folder / "images.csv", audit.images)
    rows = flip_rows(audit.pixel_confusion, audit.weighted_confusion, audit.class_names, background=audit.background)
    write_csv(folder / "flip_matrix.csv", rows)
    write_csv(folder / "flips_by_group.csv", audit.by_group)
    write_segments(folder, audit.measured)
    write_arrays(folder / STORED, images_of(audit))
    write_summary(folder, document)


def _null(constant: str) -> None:
    """Reads NaN and infinities as null."""


def _stored(audit: Audit, document: Document, limits: Sequence[Limit]) -> dict[str, object]:
    """Returns the content of summary.json."""
    stored: dict[str, object] = {"program": PROGRAM, "options": dict(document.config or {})}
    if limits:
        stored["passed"] = all(limit.passed for limit in limits)
        stored["gates"] = [limit.as_json() for limit in limits]
    stored["findings"] = document.lines
    stored["class_names"] = audit.class_names
    stored["summary"] = audit.summary
    stored["flips_by_group"] = records_of(audit.by_group)
    stored["intervals"] = {key: np.stack(ends, axis=-1).tolist() for key, ends in audit.intervals.items()}
    if audit.anatomy is not None:
        stored["renamed"] = records_of(audit.anatomy.fault_table)
    stored["flip_matrix"] = audit.pixel_confusion.tolist()
    stored["weight"] = audit.measured.weight_noun
    true = audit.objects.tables.true
    stored["segment_matrix"] = segment_confusion(true, num_classes=len(audit.class_names)).tolist()
    stored["segments"] = audit.objects.flips.round(DIGITS).to_dict("index")
    stored["budget"] = audit.objects.budget.round(DIGITS).to_dict("index")
    return stored
