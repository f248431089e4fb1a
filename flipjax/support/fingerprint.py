"""A digest of a function and of all that it can reach, equal in every process.

Two functions have one digest if their sources and what these use are equal: default arguments, closures, the names that
they read from their file and from other files of the user, attributes, decorators, classes and the state of objects,
arrays by their bytes. Code of the standard library, of installed packages and of flipjax is taken by name; what it was
given, such as the function in a `jax.jit` or the argument of a decorator, is followed.
"""

import contextlib
import copyreg
import dataclasses
import enum
import functools
import hashlib
import struct
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flipjax.support.code_reading import DERIVED, is_derived, is_library_code, names_in, slots_of, text_of

OPAQUE = ("eval", "exec", "globals", "locals")
"""Built-in functions that read names which no reader of the code can tell."""
SHORT = 80
"""Most characters of a value that is shown beside the sources."""


class UnhashableError(TypeError):
    """A function reaches something without content that a digest could tell.

    Attributes:
        name: how the function reaches it.
        found: what it is.
    """

    def __init__(self, name: str, found: str):
        """Builds the message from both."""
        self.name = name
        self.found = found
        super().__init__(f"{name}: expected content that can be hashed; found {found}")


def fingerprint(function: object, name: str) -> str:
    """Returns the SHA-256, in hex, of a function or class and of all that it can reach.

    Args:
        function: also an object that can be called, or a `functools.partial`.
        name: of the function, for errors.

    Raises:
        UnhashableError: something has no content that could be hashed, such as a lock or a generator.

    Example:
        >>> double, again, triple = (functools.partial(np.multiply, factor) for factor in (2.0, 2.0, 3.0))
        >>> fingerprint(double, "double") == fingerprint(again, "again")
        True
        >>> fingerprint(double, "double") == fingerprint(triple, "triple")
        False
    """
    return _walked(function, name).hexdigest()


def sources(function: object, name: str) -> str:
    """Returns the sources of a function or class and of what it uses, and short values that it reads; for readers.

    Raises:
        UnhashableError: as `fingerprint`.
    """
    return "\n".join(dict.fromkeys(_walked(function, name).lines))


def _walked(function: object, name: str) -> "Walk":
    walk = Walk()
    try:
        walk.add(function, name)
    except RecursionError:
        raise UnhashableError(name, "data nested more deeply than Python's limit of recursion") from None
    return walk


class Walk:
    """A walk over all that a function can reach, in an order that depends on nothing else.

    Attributes:
        lines: sources and short values on the way.
    """

    def __init__(self, enclosing: tuple[int, ...] = ()):
        """Begins with nothing; `enclosing` are the ids of the sets whose items are being sorted."""
        self.lines: list[str] = []
        self._total = hashlib.sha256()
        self._enclosing = enclosing
        # The position of each object in the walk. Objects are kept, for another could take the id of one that is gone.
        self._seen: dict[int, tuple[int, object]] = {}
        # Within the closures and wrappers of a library, what cannot be hashed is its own, such as a cache.
        self._in_library = False

    def hexdigest(self) -> str:
        """Returns the digest of all that was added."""
        return self._total.hexdigest()

    def add(self, value: object, name: str) -> None:
        """Adds a value that is reached as `name`."""
        if value is None or value is ... or isinstance(value, bool | int | float | complex | str | bytes):
            self._add_plain(value, name)
        elif isinstance(value, tuple):
            self._add_tuple(value, name)
        elif isinstance(value, set | frozenset):
            self._add_set(value, name)
        elif id(value) in self._seen:
            self._token("again", str(self._seen[id(value)][0]))
        else:
            self._seen[id(value)] = (len(self._seen), value)
            self._add_object(value, name)

    def _token(self, label: str, content: str | bytes = b"") -> None:
        """Adds what a content is and the content; their lengths keep neighbours apart."""
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        self._total.update(struct.pack("<QQ", len(label), len(content)))
        self._total.update(label.encode())
        self._total.update(content)

    def _add_named(self, value: object, name: str) -> None:
        """Adds a value that a function of the user reads by name, and shows it if it is short."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            text = repr(value)
            if len(text) <= SHORT:
                self.lines.append(f"{name} = {text}")
        self.add(value, name)

    def _add_plain(self, value: object, name: str) -> None:
        value_type = type(value)
        if isinstance(value, enum.Enum):
            self._add_member(value, name)
        elif isinstance(value, np.generic):
            self._add_array(np.asarray(value), name)
        elif isinstance(value, str | bytes) and value_type in (str, bytes):
            self._token(value_type.__name__, value)
        elif value_type in (int, float, complex, bool) or value is None or value is ...:
            self._token(value_type.__name__, repr(value))
        else:
            # An object of a subclass, which may have attributes of its own.
            base: Any = next(base for base in (str, bytes, int, float, complex) if isinstance(value, base))
            self._token("subclass")
            self.add(base(value), name)
            self.add(value_type, name)
            self._add_state(value, name)

    def _add_member(self, value: enum.Enum, name: str) -> None:
        self._token("member", str(value.name))
        self.add(type(value), name)

    def _add_tuple(self, value: tuple[object, ...], name: str) -> None:
        self._token("tuple", str(len(value)))
        if type(value) is not tuple:
            self.add(type(value), name)
        for index, item in enumerate(value):
            self.add(item, f"{name}[{index}]")

    def _add_set(self, value: set[object] | frozenset[object], name: str) -> None:
        """Adds the digests of the items, sorted: the order of a set differs between processes."""
        if id(value) in self._enclosing:
            self._token("enclosing set", str(self._enclosing.index(id(value))))
            return
        digests = []
        for item in value:
            walk = Walk((*self._enclosing, id(value)))
            walk._in_library = self._in_library
            walk.add(item, f"an item of {name}")
            digests.append(walk.hexdigest())
        self._token(_qualified(type(value)), " ".join(sorted(digests)))

    def _add_items(self, items: Mapping[object, object], name: str) -> None:
        self._token("items", str(len(items)))
        for key, value in items.items():
            self.add(key, f"a key of {name}")
            self.add(value, f"{name}.{key}" if isinstance(key, str) else f"{name}[{key!r:.40}]")

    def _add_object(self, value: object, name: str) -> None:
        """Adds an object that was not met before, by its kind."""
        if isinstance(value, np.ndarray):
            self._add_array(value, name)
        elif isinstance(value, np.generic):
            self._add_array(np.asarray(value), name)
        elif isinstance(value, enum.Enum):
            self._add_member(value, name)
        elif isinstance(value, type):
            self._add_class(value, name)
        elif isinstance(value, types.ModuleType):
            self._token("module", value.__name__)
        elif isinstance(value, types.FunctionType):
            self._add_function(value, name)
        elif isinstance(value, types.MethodType):
            self._token("method")
            self.add(value.__func__, name)
            self.add(value.__self__, f"{name}.__self__")
        elif isinstance(value, types.BuiltinFunctionType):
            self._add_builtin(value, name)
        elif isinstance(value, functools.partial):
            self._token("partial")
            self.add(value.func, name)
            for index, argument in enumerate(value.args):
                self._add_named(argument, f"{name}.partial.{index}")
            for keyword, argument in value.keywords.items():
                self._token("keyword", keyword)
                self._add_named(argument, f"{name}.partial.{keyword}")
        elif isinstance(value, staticmethod | classmethod):
            self._token(type(value).__name__)
            self.add(value.__func__, name)
        elif isinstance(value, property):
            self._token("property")
            for accessor in (value.fget, value.fset, value.fdel):
                self.add(accessor, name)
        elif isinstance(value, functools.cached_property):
            self._token("cached property")
            self.add(value.func, name)
        elif isinstance(value, list | deque):
            self._add_sequence(value, name)
        elif isinstance(value, types.MappingProxyType):
            self._token("mapping")
            self._add_items(value, name)
        elif isinstance(value, dict):
            self._token("dict")
            self.add(type(value), name)
            self._add_items(value, name)
            self._add_state(value, name)
        elif _is_of("jax", "Array", value):
            self._add_jax_array(value, name)
        elif _is_of("torch", "Tensor", value):
            self._add_torch_tensor(value, name)
        elif callable(value) and hasattr(value, "__wrapped__"):
            self._add_wrapper(value, name)
        else:
            self._add_instance(value, name)

    def _add_array(self, array: np.ndarray, name: str) -> None:
        """Adds the type, the shape and the bytes of an array; of one of objects each of these."""
        self._token("array", f"{array.dtype} {array.shape}")
        if isinstance(array, np.ma.MaskedArray):
            self._token("masked")
            self.add(np.ma.getmaskarray(array), f"{name}.mask")
            array = array.data
        elif type(array) is not np.ndarray:
            self.add(type(array), name)
        if array.dtype.hasobject:
            for item in array.reshape(-1).tolist():
                self.add(item, f"an item of {name}")
            return
        plain = np.ascontiguousarray(array.view(np.ndarray)).reshape(-1)
        self._total.update(plain.view(np.uint8).data)

    def _add_jax_array(self, array: Any, name: str) -> None:
        jax = sys.modules["jax"]
        try:
            if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
                self._token("PRNG keys", str(jax.random.key_impl(array)))
                array = jax.random.key_data(array)
            on_host = np.asarray(array)
        except (TypeError, RuntimeError):
            # A tracer, or an array whose memory is freed.
            self._refuse_or_name(array, name)
            return
        self._token("jax")
        self._add_array(on_host, name)

    def _add_torch_tensor(self, tensor: Any, name: str) -> None:
        self._token("torch", f"{tensor.dtype} {tuple(tensor.shape)} {tensor.requires_grad}")
        in_order = tensor.detach().cpu().contiguous().reshape(-1)
        self._total.update(in_order.view(sys.modules["torch"].uint8).numpy().data)

    def _add_sequence(self, value: list[object] | deque[object], name: str) -> None:
        self._token("sequence", str(len(value)))
        self.add(type(value), name)
        for index, item in enumerate(value):
            self.add(item, f"{name}[{index}]")
        self._add_state(value, name)

    def _add_builtin(self, value: types.BuiltinFunctionType, name: str) -> None:
        self._token("built-in", f"{value.__module__} {value.__qualname__}")
        bound = getattr(value, "__self__", None)
        if bound is not None and not isinstance(bound, types.ModuleType):
            self.add(bound, f"{name}.__self__")

    def _add_wrapper(self, value: Any, name: str) -> None:
        """Adds an object that wraps a function, such as that of `jax.jit`, `functools.lru_cache` or `nnx.jit`."""
        self._token("wrapper", _qualified(type(value)))
        self.add(value.__wrapped__, name)
        with self._belonging_to_library(is_library_code(type(value).__module__)):
            self._add_state(value, name)

    def _add_function(self, function: types.FunctionType, name: str) -> None:
        code = function.__code__
        module = function.__globals__.get("__name__", "")
        is_library = is_library_code(module, code.co_filename)
        with self._belonging_to_library(is_library):
            if is_library:
                self._token("library function", f"{module} {code.co_qualname}")
            else:
                text = text_of(code)
                self.lines.append(text)
                self._token("function", text)
                self._add_globals(function, name)
            self._add_bound(function, name)
            self._add_state(function, name)

    def _add_bound(self, function: types.FunctionType, name: str) -> None:
        """Adds the default arguments and the closure of a function."""
        code = function.__code__
        defaults = function.__defaults__ or ()
        first = code.co_argcount - len(defaults)
        for parameter, default in zip(code.co_varnames[first : code.co_argcount], defaults, strict=True):
            self._token("default", parameter)
            self._add_named(default, f"{name}.{parameter}")
        for keyword, default in (function.__kwdefaults__ or {}).items():
            self._token("default", keyword)
            self._add_named(default, f"{name}.{keyword}")
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:
                self._token("empty cell", variable)
                continue
            self._token("cell", variable)
            self._add_named(content, f"{name}.{variable}")

    def _add_globals(self, function: types.FunctionType, name: str) -> None:
        """Adds what a function reads by name from its file, and from modules of the user."""
        names = set(names_in(function.__code__))
        for variable in sorted(names):
            if variable in function.__globals__:
                value = function.__globals__[variable]
                self._token("name", variable)
                self._add_named(value, f"{name}.{variable}")
                if isinstance(value, types.ModuleType) and not is_library_code(value.__name__):
                    self._add_attributes_of(value, names, f"{name}.{variable}")
            elif variable in OPAQUE:
                raise UnhashableError(name, f"{variable}(), which hides the names that it reads")

    def _add_attributes_of(self, module: types.ModuleType, names: set[str], name: str) -> None:
        """Adds the attributes of a user's module among the names in a function's code."""
        for attribute in sorted(names & vars(module).keys()):
            self._token("name", attribute)
            self._add_named(vars(module)[attribute], f"{name}.{attribute}")

    def _add_class(self, value: type, name: str) -> None:
        self._token("class", _qualified(value))
        if is_library_code(value.__module__):
            return
        for base in value.__bases__:
            self.add(base, f"{name}.{base.__name__}")
        if issubclass(value, enum.Enum):
            for member in value.__members__.values():
                self._token("member", str(member.name))
                self.add(member.value, f"{name}.{member.name}")
        fields = vars(value).get("__dataclass_fields__", {})
        for field in fields.values():
            self._token("field", f"{field.name} {field.init} {field.compare} {field.kw_only}")
            for default in (field.default, field.default_factory):
                if default is not dataclasses.MISSING:
                    self.add(default, f"{name}.{field.name}")
        for attribute, content in vars(value).items():
            if not is_derived(value, attribute, content):
                self._token("attribute", attribute)
                self._add_named(content, f"{name}.{attribute}")

    def _add_instance(self, value: object, name: str) -> None:
        """Adds the class and the state of an object; one of a library by what pickle would store."""
        if isinstance(value, Iterator):
            self._refuse_or_name(value, name)
            return
        if is_library_code(type(value).__module__):
            self._add_reduced(value, name)
            return
        # An object of a user's class is the user's, also where a library's wrapper or closure holds it.
        with self._belonging_to_library(False):
            self._token("instance")
            self.add(type(value), name)
            self._add_state(value, name)

    def _add_state(self, value: object, name: str) -> None:
        """Adds the attributes of an object, without those that it has computed and kept."""
        value_type = type(value)
        state = {}
        for base in value_type.__mro__:
            for slot in slots_of(base):
                if hasattr(value, slot):
                    state[slot] = getattr(value, slot)
        state.update(getattr(value, "__dict__", {}))
        for attribute, content in state.items():
            is_computed = isinstance(getattr(value_type, attribute, None), functools.cached_property)
            if is_computed or attribute in DERIVED:
                continue
            self._token("attribute", attribute)
            self.add(content, f"{name}.{attribute}")

    def _add_reduced(self, value: object, name: str) -> None:
        """Adds an object of a library by what pickle would store of it."""
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception:
            self._refuse_or_name(value, name)
            return
        self._token("reduced", _qualified(type(value)))
        if isinstance(reduced, str):
            self._token("global", reduced)
            return
        for part in reduced:
            # The items of a list and of a mapping come as iterators.
            self.add(list(part) if isinstance(part, Iterator) else part, name)

    def _refuse_or_name(self, value: object, name: str) -> None:
        """Raises UnhashableError; of a library's own object, such as a cache, adds the name of its type instead."""
        if not self._in_library:
            raise UnhashableError(name, f"an object of {_qualified(type(value))}")
        self._token("object", _qualified(type(value)))

    @contextlib.contextmanager
    def _belonging_to_library(self, is_library: bool) -> Iterator[None]:
        """Sets, for what is added within, whether it belongs to a library."""
        before = self._in_library
        self._in_library = is_library
        try:
            yield
        finally:
            self._in_library = before


def _qualified(named_type: type) -> str:
    return f"{named_type.__module__}.{named_type.__qualname__}"


def _is_of(package: str, type_name: str, value: object) -> bool:
    """Whether a value has a type of a package, which is not imported for that."""
    module = sys.modules.get(package)
    return module is not None and isinstance(value, getattr(module, type_name, ()))
