"""Configuration files whose functions reach a value in every way that the identity of a configuration follows."""

HEAD = """
import collections, dataclasses, enum, functools, pathlib, re, threading, types
import jax, jax.numpy as jnp, numpy as np, optax, pandas as pd, scipy.sparse
from flax import nnx
from flipjax.config import default_config

VALUE = int(pathlib.Path(__file__).with_name("value.txt").read_text())
"""
LOSS_TAIL = """

def get_config():
    config = default_config()
    config.train.loss = loss
    return config
"""
NETWORK_TAIL = """

def get_config():
    config = default_config()
    config.model.build = Net
    return config
"""
LOSS = """
def loss(logits, labels, groups):
    return logits.sum((1, 2, 3)) * ({})
"""
NETWORK = """
class Net(nnx.Module):
    width = 4
    def __init__(self, *, num_classes, rngs):
        self.head = nnx.Conv(3, num_classes, (1, 1), rngs=rngs)
    @DECORATOR
    def __call__(self, x):
        return self.head(x) * GAIN
"""


def of_data(data):
    """A loss that reads TABLE, which is `data` and may name W, zeros but for a number in the middle."""
    return "W = np.zeros(2000)\nW[1000] = VALUE\nTABLE = " + data + LOSS.format("TABLE")


def of_network(decorator, tail=""):
    return "GAIN = VALUE\n" + NETWORK.replace("DECORATOR", decorator) + tail


DATA = {
    "an array": "W",
    "a list of arrays": "[np.arange(3), W]",
    "lists in lists": "[[[W]]]",
    "a tuple": "(W,)",
    "a dict": "{'w': W}",
    "a named tuple": "collections.namedtuple('T', 'w')(W)",
    "a namespace": "types.SimpleNamespace(w=W)",
    "an array of JAX": "jnp.asarray(W)",
    "bfloat16": "jnp.asarray(W, jnp.bfloat16)",
    "PRNG keys": "[jax.random.key(int(W[1000]))]",
    "an object array": "np.array(['a', None, W[1000]], object)",
    "a structured array": "np.array([(W[1000],)], [('a', 'f4')])",
    "a number of NumPy": "np.float32(W[1000])",
    "a type of numbers": "np.dtype(f'V{int(W[1000]) + 1}')",
    "a long list": "W.tolist()",
    "a long text": "'a' * 5000 + str(W[1000]) + 'a' * 5000",
    "a set": "{'a', 'bb', 'ccc', str(W[1000])}",
    "a set of tuples": "{('a', 'bb'), ('ccc', W[1000])}",
    "a dict of sets": "{'x': {'a', 'bb', str(W[1000])}}",
    "a frozen set in a set": "{frozenset(['a', 'bb', W[1000]]), frozenset()}",
    "a sparse matrix": "scipy.sparse.csr_matrix(np.eye(3) * W[1000])",
    "an ordered dict": "collections.OrderedDict(w=W[1000])",
    "dates": "np.array([int(W[1000])], 'M8[D]')",
    "a range": "range(int(W[1000]))",
    "a path": "pathlib.Path(str(W[1000]))",
    "a pattern": "re.compile(str(W[1000]))",
}
SOURCES = {
    **{name: of_data(data) for name, data in DATA.items()},
    "a list that holds itself": "TABLE = [VALUE]\nTABLE.append(TABLE)\n" + LOSS.format("TABLE[0]"),
    "a number": LOSS.format("VALUE"),
    "a default": LOSS.format("w").replace("groups)", "groups, w=VALUE)"),
    "a keyword's default": LOSS.format("w").replace("groups)", "groups, *, w=VALUE)"),
    "a global": "G = VALUE\n" + LOSS.format("G"),
    "a global of an inner function": "G = VALUE\n" + LOSS.format("(lambda x: x * G)(1.0)"),
    "a helper's global": "G = VALUE\ndef f(x):\n    return x * G\n" + LOSS.format("f(1.0)"),
    "a closure": "def make(w):\n    def loss(logits, labels, groups):\n        return w * logits.sum((1, 2, 3))\n"
    "    return loss\nloss = make(VALUE)\n",
    "one of two lambdas on a line": "LOSSES = [lambda x, y, g: x.sum((1, 2, 3)), lambda x, y, g: -x.sum((1, 2, 3))]\n"
    "loss = LOSSES[VALUE]\nloss.__name__ = 'loss'\n",
    "a partial": "def f(logits, labels, groups, w):\n    return w * logits.sum((1, 2, 3))\n"
    "loss = functools.partial(f, w=[np.full(2000, VALUE)])\n",
    "a partial of a jitted function": "G = VALUE\n@jax.jit\ndef f(logits, labels, groups, w):\n"
    "    return G * w * logits.sum((1, 2, 3))\nloss = functools.partial(f, w=1.0)\n",
    "a decorator's argument": "def scaled(f):\n    def wrap(g):\n        @functools.wraps(g)\n        def inner(*a):\n"
    "            return f * g(*a)\n        return inner\n    return wrap\n@scaled(VALUE)" + LOSS.format("1"),
    "a decorator's body": "def scaled(g):\n    @functools.wraps(g)\n    def inner(*a):\n        return VALUE * g(*a)\n"
    "    return inner\n@scaled" + LOSS.format("1"),
    "jax.jit": "G = VALUE\n@jax.jit\ndef f(x):\n    return x * G\n" + LOSS.format("f(1.0)"),
    "lru_cache": "G = VALUE\n@functools.lru_cache\ndef f(x):\n    return x * G\n" + LOSS.format("f(1.0)"),
    "a dict of functions": "def f0(x):\n    return x\ndef f1(x):\n    return -x\nF = {'f': (f0, f1)[VALUE]}\n"
    + LOSS.format("F['f'](1.0)"),
    "a set of functions": "G = VALUE\ndef f(x):\n    return x * G\nF = {f}\n" + LOSS.format("[g(1.0) for g in F][0]"),
    "a function of a set of functions": "G = VALUE\nF = set()\ndef f(x):\n    return x * G * len(F)\nF.add(f)\n"
    + LOSS.format("f(1.0)"),
    "functions that call each other": "G = VALUE\ndef f(x):\n    return g(x - 1) if x > 0 else G\n"
    "def g(x):\n    return f(x - 1)\n" + LOSS.format("f(3)"),
    "a bound object": "class L:\n    def __init__(self, w):\n        self.w = w\n    def __repr__(self):\n"
    "        return 'L'\n    def loss(self, logits, labels, groups):\n        return self.w * logits.sum((1, 2, 3))\n"
    "loss = L(VALUE).loss\n",
    "a class attribute set later": "class C:\n    pass\nC.w = VALUE\n" + LOSS.format("C.w"),
    "a class attribute from a global": "G = VALUE\nclass C:\n    w = G\n" + LOSS.format("C.w"),
    "a dataclass's default": "@dataclasses.dataclass(frozen=True)\nclass C:\n    w: float = VALUE\n"
    + LOSS.format("C().w"),
    "a dataclass's array": "@dataclasses.dataclass\nclass C:\n    w: object\nT = C(np.full(3000, VALUE))\n"
    + LOSS.format("T.w[0]"),
    "a dataclass's method": "G = VALUE\n@dataclasses.dataclass\nclass C:\n    w: float = 0.0\n    def f(self):\n"
    "        return G\n" + LOSS.format("C().f()"),
    "an enumeration": "class E(enum.Enum):\n    A = VALUE\nT = E.A\n" + LOSS.format("T.value"),
    "a flag of an enumeration": "class E(enum.Flag):\n    A = 1\n    B = 2 + 2 * VALUE\nT = E.A | E.B\n"
    + LOSS.format("T.value"),
    "an enumeration's method": "G = VALUE\nclass E(enum.Enum):\n    A = 1\n    def f(self):\n        return G\n"
    + LOSS.format("E.A.f()"),
    "an attribute of a member": "class E(enum.Enum):\n    A = 1\n    def __init__(self, value):\n"
    "        self.w = VALUE\n" + LOSS.format("E.A.w"),
    "a function's attribute": LOSS.format("loss.w") + "loss.w = VALUE\n",
    "a file of helpers": "import own_helpers\n" + LOSS.format("own_helpers.f(VALUE)"),
    "a name of a library": "from math import pi, e\nG = (pi, e)[VALUE]\n" + LOSS.format("G"),
    "a function of a library": "F = (np.exp, np.log)[VALUE]\n" + LOSS.format("F(1.0)"),
    "a jitted function of a library": "F = (jnp.exp, jnp.log)[VALUE]\n" + LOSS.format("F(1.0)"),
    "a network's global": of_network("functools.partial(lambda f: f)"),
    "a network's global under nnx.jit": of_network("nnx.jit"),
    "a network's global under nnx.remat": of_network("nnx.remat"),
    "a network's attribute set later": of_network("nnx.jit", "Net.width = VALUE\n").replace("GAIN = VALUE", "GAIN = 1"),
    "a network's property": of_network("property").replace("__call__", "gain"),
    "a network's base": "class B(nnx.Module):\n    gain = VALUE\n"
    + NETWORK.replace("nnx.Module", "B").replace("    @DECORATOR\n", ""),
}


def write(folder, name, value):
    """Writes a configuration file, whose text is the same whatever its VALUE."""
    source = SOURCES[name]
    tail = NETWORK_TAIL if "class Net" in source else LOSS_TAIL
    path = folder / "own.py"
    path.write_text(HEAD + source + tail)
    path.with_name("value.txt").write_text(str(value))
    return path
