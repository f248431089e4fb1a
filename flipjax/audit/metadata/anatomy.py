"""The anatomy of an audit's classes, mirror pairs and chains: found in their names, or read from a file."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from flipjax.audit.formats.problems import AuditError
from flipjax.metrics import Anatomy
from flipjax.metrics.anatomy.relations import settle_anatomy
from flipjax.metrics.inputs.classes import Background, background_classes
from flipjax.support.files import read_json

NONE = "none"
"""In place of a file: classes have neither mirror images nor chains."""
FORM = 'a JSON file with {"mirror": [[NAME, NAME], ...], "chains": [[NAME, NAME, ...], ...]}, or none'
"""What --anatomy takes."""


def read_anatomy(source: str | Path | None, class_names: Sequence[str], background: Background) -> tuple[Anatomy, str]:
    """Returns the anatomy of an audit's classes, and a sentence on it: empty where there is none.

    Args:
        source: the path of a JSON file, `none`, or None to find it in the class names.
        class_names: of all C classes.
        background: their background.

    Raises:
        AuditError: the file cannot be read, or names classes that do not exist, twice, or that are background.
    """
    if source is not None and str(source) == NONE:
        return settle_anatomy(None, class_names, background), ""
    if source is not None:
        anatomy = _read_file(Path(source), class_names, background)
        return anatomy, f"Anatomy, from {source}: {describe_anatomy(anatomy, class_names)}."
    return find_anatomy(class_names, background)


def find_anatomy(class_names: Sequence[str], background: Background) -> tuple[Anatomy, str]:
    """Returns the anatomy that the names of all C classes tell, and a sentence on it: empty where there is none."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        anatomy = settle_anatomy("names", class_names, background)
    if not anatomy:
        return anatomy, ""
    gaps = "".join(f" {warning.message}" for warning in said)
    described = describe_anatomy(anatomy, class_names)
    return anatomy, f"Anatomy, found in the class names: {described} (--anatomy none turns it off).{gaps}"


def _read_file(path: Path, class_names: Sequence[str], background: Background) -> Anatomy:
    """Reads the anatomy of a JSON file."""
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        raise AuditError(f"--anatomy: expected {FORM}, found {path} ({error})") from error
    if not isinstance(stored, dict) or not stored or set(stored) - {"mirror", "chains"}:
        raise AuditError(f"--anatomy: expected {FORM}, found other content in {path}")
    try:
        anatomy = Anatomy.of_names(class_names, mirror=stored.get("mirror", ()), chains=stored.get("chains", ()))
    except (TypeError, ValueError) as error:
        raise AuditError(f"--anatomy: {path}: {str(error).rstrip('.')}") from error
    in_anatomy = {c for row in (*anatomy.mirror, *anatomy.chains) for c in row}
    for c in background_classes(background):
        if c in in_anatomy:
            raise AuditError(f"--anatomy: {path}: expected foreground classes, found {class_names[c]!r}")
    return anatomy


def describe_anatomy(anatomy: Anatomy, class_names: Sequence[str]) -> str:
    """Returns the pairs and chains in words.

    Example:
        >>> names = ["background", "kidney_left", "kidney_right", "L1", "L2", "L3"]
        >>> describe_anatomy(Anatomy.from_names(names), names)
        'mirror pair kidney_left and kidney_right; chain L1 to L3'
    """
    parts = [f"mirror pair {class_names[a]} and {class_names[b]}" for a, b in anatomy.mirror]
    if len(parts) > 2:
        parts = [f"{len(anatomy.mirror)} mirror pairs, such as {parts[0].removeprefix('mirror pair ')}"]
    for chain in anatomy.chains:
        first = chain[0]
        last = chain[-1]
        # `Anatomy` refuses a chain with a gap at either end.
        assert first is not None and last is not None
        parts.append(f"chain {class_names[first]} to {class_names[last]}")
    return "; ".join(parts) or "neither pairs nor chains"
