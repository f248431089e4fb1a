"""Reads JSON files, after a look at what their values would take in memory."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from flipjax.support.files import check_regular

SMALL = 2**16
"""Bytes of JSON that is parsed whatever it holds."""
FREE = 2**21
"""Bytes of memory that any JSON may take."""
TIMES = 9
"""Most bytes of memory that a byte of larger JSON may take, as text and as values; one more is left to the reader."""
OBJECT, LIST, TEXT, NUMBER = 192, 88, 50, 28
"""Bytes that Python takes for an object, a list, a text, and a number that is not small and whole."""
ENTRY = 9
"""Bytes of an entry of a list, in which a comma stands between two."""
KEY = 24
"""Bytes, beside ENTRY, of an entry of an object whose key has occurred before: equal keys are one text."""
NEW_KEY = 200
"""Bytes of an entry whose key is new, and of its text: in an object that grows, and among the keys that occurred."""
WIDE = 4
"""Most bytes of a character that is not ASCII, and then of all characters of its text."""
WIDE_TEXT = 25
"""Bytes that such a text takes beside those of another."""
STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(\s*+:)?', re.DOTALL)
"""A text, and the colon after one that is a key."""


def _shape_of(byte: int) -> int:
    """Returns 0 for what a number is made of, minus for itself, a space for what may precede a number, x otherwise."""
    character = chr(byte)
    if character in "0123456789.+eE":
        return ord("0")
    if character == "-":
        return ord("-")
    if character in "[,: \t\r\n":
        return ord(" ")
    return ord("x")


SHAPE = bytes(_shape_of(byte) for byte in range(256))
"""Translates JSON so that its numbers can be counted by their length."""
NUMBERS = (b" 000", b" 00-", b" -")
"""Beginnings, in this shape, of numbers that take NUMBER bytes: Python holds each one from -5 to 256 only once."""


def read_json(path: str | Path) -> Any:
    """Returns the value of a JSON file in UTF-8.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or would take much more memory than the file.
        OSError: the file cannot be read.
    """
    check_regular(Path(path))
    # The bytes are gone before the values are made.
    return _parse(_decode(Path(path).read_bytes()))


def parse_json(content: bytes) -> Any:
    """Returns the value of JSON in UTF-8; raises ValueError as `read_json`.

    Example:
        >>> parse_json(b'{"a": [1]}')
        {'a': [1]}
        >>> parse_json(b"[" * 60_000)
        Traceback (most recent call last):
        ...
        ValueError: expected JSON, found one that is nested too deeply
    """
    return _parse(_decode(content))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("expected JSON, found one that is nested too deeply") from None


def _decode(content: bytes) -> str:
    """Returns the text of JSON; raises ValueError if it would take much more memory."""
    text = content.decode(json.detect_encoding(content))
    if len(content) > SMALL:
        most = max(FREE, TIMES * len(content))
        taken = sys.getsizeof(text) + _memory_of_lists(content)
        taken += _memory_of_texts(content, most=most - taken)
        if taken > most:
            raise ValueError(
                f"expected JSON that takes at most {most:,} bytes of memory, found one of {taken:,} or more"
            )
    return text


def _memory_of_lists(content: bytes) -> int:
    """Returns the bytes that the objects, lists and numbers of JSON take, without texts and keys."""
    shape = content.translate(SHAPE)
    numbers = sum(shape.count(beginning) for beginning in NUMBERS)
    entries = content.count(b",")
    return OBJECT * content.count(b"{") + LIST * content.count(b"[") + ENTRY * entries + NUMBER * numbers


def _memory_of_texts(content: bytes, *, most: int) -> int:
    """Returns the bytes that the texts and keys of JSON take, or what is counted when they are more than `most`."""
    taken = 0
    keys: set[bytes] = set()
    for string in STRING.finditer(content):
        if taken > most:
            break
        text, colon = string.groups()
        if colon and text in keys:
            taken += KEY
            continue
        if colon:
            keys.add(text)
            taken += NEW_KEY
        elif len(text) > 1:
            # Python holds each text of at most one letter only once.
            taken += TEXT
        if text.isascii() and b"\\u" not in text:
            taken += len(text)
        else:
            taken += WIDE_TEXT + WIDE * len(text)
    return taken
