"""Mirror pairs and chains in names of classes: sides, vertebrae, ribs. Strings only."""

import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

Key = tuple[str, ...]
"""The words and numbers of a name, in lower case."""
P = TypeVar("P")
Vertebra = tuple[str, int]
"""A letter of the spine and a number, such as ("t", 12)."""

SIDES = {"left": "right", "right": "left"}
"""Words of sides, and the word of the other side."""
SHORT_SIDES = {"l": "r", "r": "l", "lt": "rt", "rt": "lt", "lh": "rh", "rh": "lh"}
"""Short words of sides, which count in names without a word of `SIDES`."""
GENERIC = frozenset(
    (
        "category",
        "class",
        "cls",
        "fdi",
        "grade",
        "group",
        "id",
        "index",
        "instance",
        "label",
        "object",
        "phase",
        "region",
        "score",
        "stage",
        "teeth",
        "time",
        "tooth",
        "type",
    )
)
"""Words that number things of no order in the body; teeth do not follow one another by number (`Anatomy.of_names`)."""
NUMBER = "#"
"""Stands for the number in the key of a chain."""
SPINE = (("c", 7), ("t", 13), ("l", 6), ("s", 5))
"""Letters of the spine from the head down, and the most vertebrae of each."""
SPINE_LETTERS = {"c": "c", "t": "t", "th": "t", "d": "t", "l": "l", "s": "s"}
"""Spellings of these letters: thoracic vertebrae are also Th1 or D1."""
RARE_VERTEBRAE = (("t", 13), ("l", 6))
"""Vertebrae that few people have: their absence is no gap."""
FEWEST_OF_A_LETTER = 3
"""Fewest classes of a chain whose names are a letter and a number: T1 and T2 alone are also images of magnetic
resonance."""


def read_key(name: str) -> Key:
    """Returns the words and numbers of a name, in lower case.

    Example:
        >>> read_key("LeftKidney-2"), read_key("vertebrae_Th12")
        (('left', 'kidney', '2'), ('vertebrae', 'th', '12'))
    """
    # A capital letter after a small one begins a word, and so does the last of several capitals before a small one.
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return tuple(word.lower() for word in re.findall(r"[^\W\d_]+|\d+", spaced))


def name_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Returns the pairs of classes whose names differ only in their side.

    Example:
        >>> name_pairs(["background", "lung_l", "heart", "lung_r"])
        ((1, 3),)
    """
    keys = [read_key(name) for name in names]
    # Of names that are spelled alike none has an opposite side.
    class_of_key = {key: c for c, key in enumerate(keys) if keys.count(key) == 1}
    pairs: set[tuple[int, int]] = set()
    for key, c in class_of_key.items():
        opposite = class_of_key.get(_mirrored(key), c)
        if c != opposite:
            pairs.add((min(c, opposite), max(c, opposite)))
    return tuple(sorted(pairs))


def _mirrored(key: Key) -> Key:
    """Returns the key of the other side, or the key itself if it has no side."""
    sides = SHORT_SIDES
    if SIDES.keys() & {*key}:
        sides = SIDES
    return tuple(sides.get(word, word) for word in key)


def name_chains(names: Sequence[str]) -> tuple[tuple[int | None, ...], ...]:
    """Returns the chains of classes whose names differ only in their number, and the chain of vertebrae.

    Example:
        >>> name_chains(["background", "L2", "T12", "L1", "rib_2", "rib_1"])
        ((2, 3, 1), (5, 4))
    """
    numbered = _numbered(names)
    chains = []
    for stems in _spines(numbered):
        class_of_vertebra: dict[Vertebra, int] = {}
        for stem, letter in stems.items():
            for number, c in numbered[stem].items():
                class_of_vertebra[letter, number] = c
        places = [place for place in _vertebrae() if place in class_of_vertebra or place not in RARE_VERTEBRAE]
        chain = _fill(places, class_of_vertebra)
        if chain:
            chains.append(chain)
            numbered = {stem: classes for stem, classes in numbered.items() if stem not in stems}
    # What is no part of a spine.
    for stem, classes in numbered.items():
        is_letter_and_number = len(stem) == 2 and stem[0] in SPINE_LETTERS
        if len(classes) >= FEWEST_OF_A_LETTER or not is_letter_and_number:
            chains.append(_fill(range(min(classes), max(classes) + 1), classes))
    in_order = sorted(filter(None, chains), key=_first_class)
    for chain in in_order:
        _warn_of_gaps(chain, names)
    return tuple(in_order)


def _first_class(chain: Sequence[int | None]) -> int:
    """Returns the lowest class of a chain."""
    return min(c for c in chain if c is not None)


def _numbered(names: Sequence[str]) -> dict[Key, dict[int, int]]:
    """Returns the classes of names with exactly one number, by number, by their stem: the key with `NUMBER` in it.

    A stem with the same number twice is left out.
    """
    stems: dict[Key, dict[int, int]] = defaultdict(dict)
    twice = set()
    for c, name in enumerate(names):
        key = read_key(name)
        numbers = [word for word in key if word.isdecimal()]
        if len(numbers) != 1 or _numbered_word(key, numbers[0]) in GENERIC:
            continue
        stem = tuple(NUMBER if word.isdecimal() else word for word in key)
        if int(numbers[0]) in stems[stem]:
            twice.add(stem)
        stems[stem][int(numbers[0])] = c
    return {stem: classes for stem, classes in stems.items() if stem not in twice}


def _numbered_word(key: Key, number: str) -> str:
    """Returns the word before the number of a name, else the word after it; '' for a name that is only a number."""
    index = key.index(number)
    if index > 0:
        return key[index - 1]
    if len(key) > 1:
        return key[1]
    return ""


def is_of(names: Sequence[str], word: str) -> bool:
    """Returns whether all names have a word.

    Example:
        >>> is_of(["rib_left_1", "LeftRib 2"], "rib"), is_of(["L1", "rib_1"], "rib")
        (True, False)
    """
    return all(word in read_key(name) for name in names)


def are_vertebrae(names: Sequence[str]) -> bool:
    """Returns whether all names end with a letter of the spine and a number.

    Example:
        >>> are_vertebrae(["vertebrae_T12", "vertebrae_L1"]), are_vertebrae(["rib_1", "rib_2"])
        (True, False)
    """
    keys = [read_key(name) for name in names]
    return all(len(key) > 1 and key[-2] in SPINE_LETTERS and key[-1].isdecimal() for key in keys)


def _spines(numbered: Mapping[Key, Mapping[int, int]]) -> list[dict[Key, str]]:
    """Returns the stems of each spine of two letters or more, with the letter of each."""
    last_of_letter = dict(SPINE)
    spines: dict[Key, dict[Key, str]] = defaultdict(dict)
    for stem, classes in numbered.items():
        if stem[-1] == NUMBER and len(stem) > 1 and stem[-2] in SPINE_LETTERS:
            letter = SPINE_LETTERS[stem[-2]]
            if min(classes) >= 1 and max(classes) <= last_of_letter[letter]:
                spines[stem[:-2]][stem] = letter
    return [stems for stems in spines.values() if len({*stems.values()}) == len(stems) > 1]


def _vertebrae() -> list[Vertebra]:
    """Returns all vertebrae, from the head down."""
    vertebrae = []
    for letter, last in SPINE:
        vertebrae += [(letter, number) for number in range(1, last + 1)]
    return vertebrae


def _fill(places: Sequence[P], classes: Mapping[P, int]) -> tuple[int | None, ...]:
    """Returns the classes of the places from the first to the last that has one, None for a place without a class.

    Empty if fewer than two places have a class, or if more of them have none.
    """
    held = [index for index, place in enumerate(places) if place in classes]
    if len(held) < 2:
        return ()
    chain = tuple(classes.get(place) for place in places[held[0] : held[-1] + 1])
    if chain.count(None) > len(held):
        return ()
    return chain


def _warn_of_gaps(chain: tuple[int | None, ...], names: Sequence[str]) -> None:
    """Warns of places without a class, once for a chain."""
    if None not in chain:
        return
    gap = chain.index(None)
    before = chain[gap - 1]
    after = next(c for c in chain[gap:] if c is not None)
    count = chain.count(None)
    places = f"{count} places"
    if count == 1:
        places = "a place"
    text = f"class_names: expected a chain without gaps, found {places} without a class, after {names[before or 0]!r}"
    warnings.warn(f"{text} and before {names[after]!r}; shifts count them.", stacklevel=4)
