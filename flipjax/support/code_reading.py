"""Questions about code: whose it is, what its text is, and which attributes of a class follow from others."""

import ast
import enum
import functools
import inspect
import linecache
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = (
    str(Path(sysconfig.get_path("stdlib")).resolve()),
    str(Path(sysconfig.get_path("platstdlib")).resolve()),
    str(Path(__file__).resolve().parents[1]),
)
"""Folders whose code is taken by name, besides those that packages are installed into."""
PACKAGES = ("site-packages", "dist-packages")
"""Names of the folders that packages are installed into."""
DERIVED = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__classcell__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__name__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__signature__",
    "__static_attributes__",
    "__type_params__",
    "__weakref__",
    "_abc_impl",
}
"""Attributes of functions and classes that Python derives from their source, or copies from a wrapped function."""


@functools.cache
def is_library_code(module: str, file: str = "") -> bool:
    """Whether code is of the standard library, an installed package or flipjax, by its file or that of its module."""
    # `flipjax.configurations` gives this name to a configuration file that it runs: content, also where the file
    # lies in flipjax's folder, as the shipped ones do.
    if module.startswith("config "):
        return False
    if not file or is_generated(file):
        file = getattr(sys.modules.get(module), "__file__", None) or ""
    if not file:
        # Built-in modules have no file, and neither has the one of a notebook.
        return module != "__main__" and module in sys.modules
    path = Path(file).resolve()
    if set(PACKAGES) & set(path.parts):
        return True
    return any(path.is_relative_to(folder) for folder in LIBRARIES)


def is_generated(file: str) -> bool:
    """Whether the name of a code's file stands for text that a library wrote, such as a dataclass's methods."""
    return (file.startswith("<") and not file.startswith("<ipython")) or file.startswith("namedtuple_")


def is_derived(owner: type, attribute: str, content: object) -> bool:
    """Whether an attribute of a class follows from others, or is Python's own."""
    if attribute in DERIVED or attribute == "__dataclass_fields__":
        return True
    if isinstance(content, types.MemberDescriptorType | types.GetSetDescriptorType):
        return True
    if issubclass(owner, enum.Enum):
        # The walk adds members by themselves; of the rest only what the user wrote as code does not follow from them.
        is_code = isinstance(content, types.FunctionType | property | staticmethod | classmethod)
        return not is_code
    is_record = hasattr(owner, "__dataclass_fields__") or hasattr(owner, "_fields")
    if is_record and isinstance(content, types.FunctionType):
        return is_generated(content.__code__.co_filename)
    return is_record and type(content).__name__ == "_tuplegetter"


def slots_of(owner: type) -> list[str]:
    """Returns the attributes that a class declares as slots, by the names that they have outside it."""
    declared = vars(owner).get("__slots__", ())
    names = [declared] if isinstance(declared, str) else list(declared)
    slots = []
    for name in names:
        is_private = name.startswith("__") and not name.endswith("__")
        slots.append(f"_{owner.__name__.lstrip('_')}{name}" if is_private else name)
    return [slot for slot in slots if slot not in ("__dict__", "__weakref__")]


def names_in(code: types.CodeType) -> Iterator[str]:
    """Yields the names in a function and in its inner functions; Python's own lists leave those out."""
    yield from code.co_names
    for inner in filter(inspect.iscode, code.co_consts):
        yield from names_in(inner)


def text_of(code: types.CodeType) -> str:
    """Returns the source of a function; without a source its instructions, which depend on Python's version."""
    try:
        if code.co_name == "<lambda>":
            return _lambda_text(code)
        return inspect.getsource(code).rstrip()
    except (OSError, TypeError, SyntaxError):
        constants = [_constant_text(constant) for constant in code.co_consts]
        return f"{code.co_name} {code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"


def _constant_text(constant: object) -> str:
    if inspect.iscode(constant):
        return text_of(constant)
    if isinstance(constant, frozenset):
        return str(sorted(map(repr, constant)))
    return repr(constant)


def _lambda_text(code: types.CodeType) -> str:
    """Returns the source of a lambda, of which a line may hold several.

    Raises:
        OSError: it is not found.
    """
    starts = []
    ends = []
    for line, end_line, column, end_column in code.co_positions():
        # Instructions without a place in the source have no width.
        if column is not None and (line, column) != (end_line, end_column):
            starts.append((line, column))
            ends.append((end_line, end_column))
    text = "".join(linecache.getlines(code.co_filename))
    for node in _lambdas_in(text):
        body = node.body
        begins = bool(starts) and (body.lineno, body.col_offset) == min(starts)
        if begins and (body.end_lineno, body.end_col_offset) == max(ends):
            return ast.get_source_segment(text, node) or ""
    raise OSError("the lambda is not in its file")


@functools.lru_cache(maxsize=16)
def _lambdas_in(text: str) -> list[ast.Lambda]:
    """Returns the lambdas in a source text."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Lambda)]
