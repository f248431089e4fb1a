"""Reads JSON files, after a look at what their values would take in memory."""

import json
from pathlib import Path
from typing import Any

from flipjax.support.files import check_regular

SMALL = 2**20
"""Bytes of JSON that is parsed whatever it holds."""
TIMES = 8
"""Most bytes that the objects, lists and texts of a byte of larger JSON may take."""
OBJECT, LIST, QUOTE = 192, 72, 29
"""Bytes that Python takes for an object, a list, and each of the two quotes of a text, with their places in a list."""


def read_json(path: str | Path) -> Any:
    """Returns the value of a JSON file in UTF-8.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or would take much more memory than the file.
        OSError: the file cannot be read.
    """
    check_regular(Path(path))
    return parse_json(Path(path).read_bytes())


def parse_json(content: bytes) -> Any:
    """Returns the value of JSON in UTF-8; raises ValueError as `read_json`.

    Example:
        >>> parse_json(b'{"a": [1]}')
        {'a': [1]}
        >>> parse_json(b"[" * 10**5)
        Traceback (most recent call last):
        ...
        ValueError: expected JSON, found one that is nested too deeply
    """
    if len(content) > SMALL:
        most = TIMES * len(content)
        taken = OBJECT * content.count(b"{") + LIST * content.count(b"[") + QUOTE * content.count(b'"')
        if taken > most:
            raise ValueError(f"expected JSON whose values take at most {most:,} bytes, found about {taken:,}")
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("expected JSON, found one that is nested too deeply") from None
