"""The identity of a configuration: two functions that compute different things have different digests, equal functions
one, in every process; what has no content is refused in a sentence."""

import functools
import importlib
import json
import re
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import compiling, python

import flipjax
from flipjax.config import ConfigError, default_config
from flipjax.configurations import configure, read_config
from flipjax.identity import digest_of, first_difference, settings_of, sources_of
from flipjax.support import fingerprint

HEAD = """
import collections, dataclasses, enum, functools, pathlib, re, threading, types
import jax, jax.numpy as jnp, numpy as np, optax, pandas as pd, scipy.sparse
from flax import nnx
from flipjax.config import default_config

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
    "a masked array": "np.ma.masked_array([1.0, 2.0], [0, W[1000] == 1])",
    "a number of NumPy": "np.float32(W[1000])",
    "a long list": "W.tolist()",
    "a long text": "'a' * 5000 + str(W[1000]) + 'a' * 5000",
    "a set": "{'a', 'bb', 'ccc', str(W[1000])}",
    "a set of tuples": "{('a', 'bb'), ('ccc', W[1000])}",
    "a dict of sets": "{'x': {'a', 'bb', str(W[1000])}}",
    "a frozen set in a set": "{frozenset(['a', 'bb', W[1000]]), frozenset()}",
    "a data frame": "pd.DataFrame({'n': ['a', 'bb'], 'w': [1.0, W[1000]]})",
    "a series of text": "pd.Series(['a', str(W[1000])])",
    "a sparse matrix": "scipy.sparse.csr_matrix(np.eye(3) * W[1000])",
    "a pattern": "re.compile(str(W[1000]))",
    "a path": "pathlib.Path(str(W[1000]))",
    "an ordered dict": "collections.OrderedDict(w=W[1000])",
    "a deque": "collections.deque([W[1000]])",
    "dates": "np.array([int(W[1000])], 'M8[D]')",
    "a range": "range(int(W[1000]))",
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
    "custom_jvp": "G = VALUE\n@jax.custom_jvp\ndef f(x):\n    return x\nf.defjvps(lambda t, a, x: t * G)\n"
    + LOSS.format("f(1.0)"),
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
    "an object with slots": "class L:\n    __slots__ = ('__w',)\n    def __init__(self, w):\n        self.__w = w\n"
    "T = L(VALUE)\n" + LOSS.format("T._L__w"),
    "an object of a class of numbers": "class L(float):\n    pass\nT = L(1)\nT.w = VALUE\n" + LOSS.format("T.w"),
    "a class attribute set later": "class C:\n    pass\nC.w = VALUE\n" + LOSS.format("C.w"),
    "a class attribute from a global": "G = VALUE\nclass C:\n    w = G\n" + LOSS.format("C.w"),
    "a dataclass's default": "@dataclasses.dataclass(frozen=True)\nclass C:\n    w: float = VALUE\n"
    + LOSS.format("C().w"),
    "a dataclass's array": "@dataclasses.dataclass\nclass C:\n    w: object\nT = C(np.full(3000, VALUE))\n"
    + LOSS.format("T.w[0]"),
    "a dataclass's method": "G = VALUE\n@dataclasses.dataclass\nclass C:\n    w: float = 0.0\n    def f(self):\n"
    "        return G\n" + LOSS.format("C().f()"),
    "an enumeration": "class E(enum.Enum):\n    A = VALUE\nT = E.A\n" + LOSS.format("T.value"),
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
    """Writes a configuration file in which VALUE is a value."""
    source = SOURCES[name]
    tail = NETWORK_TAIL if "class Net" in source else LOSS_TAIL
    path = folder / "own.py"
    path.write_text(HEAD + source.replace("VALUE", str(value)) + tail)
    return path


@pytest.fixture(autouse=True, scope="module")
def helpers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("helpers")
    (folder / "own_helpers.py").write_text("W = 3\n\ndef f(x):\n    return W * x\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("own_helpers", None)


@pytest.mark.parametrize("name", SOURCES)
def test_what_computes_something_else_is_another_run_and_what_does_not_is_the_same(tmp_path, name):
    first, other, again = (digest_of(read_config(write(tmp_path, name, value))) for value in (0, 1, 0))
    assert first == again != other


IN_A_PROCESS = """
import pathlib, sys
import test_identity
from flipjax.configurations import read_config
from flipjax.identity import digest_of

for name in test_identity.SOURCES:
    print(digest_of(read_config(test_identity.write(pathlib.Path(sys.argv[1]), name, 1))))
"""


def test_a_digest_is_equal_in_every_process(tmp_path, helpers):
    here = [digest_of(read_config(write(tmp_path, name, 1))) for name in SOURCES]
    code = IN_A_PROCESS.replace("sys.argv[1]", repr(str(tmp_path)))
    path = ":".join([*sys.path, str(helpers)])
    for seed in ("1", "2"):
        assert python(code, PYTHONHASHSEED=seed, PYTHONPATH=path).stdout.split() == here, seed


def test_an_edited_file_of_helpers_is_another_run(tmp_path, helpers):
    path = write(tmp_path, "a file of helpers", 1)
    before = digest_of(read_config(path))
    source = (helpers / "own_helpers.py").read_text()
    (helpers / "own_helpers.py").write_text(source.replace("W = 3", "W = 4.5"))
    importlib.invalidate_caches()
    importlib.reload(sys.modules["own_helpers"])
    assert digest_of(read_config(path)) != before


REFUSED = {
    "a lock": ("K = threading.Lock()\n" + LOSS.format("K is None"), "loss.K, an object of _thread.lock"),
    "a lock in a list": ("K = [threading.Lock()]\n" + LOSS.format("K is None"), r"loss.K\[0\], an object of _thread"),
    "a generator": ("K = (x for x in [1])\n" + LOSS.format("K is None"), "loss.K, an object of builtins.generator"),
    "a counter": ("import itertools\nK = itertools.count()\n" + LOSS.format("next(K)"), "loss.K, an object of itert"),
    "an open file": ("K = open(__file__)\nK.close()\n" + LOSS.format("K is None"), "loss.K, an object of _io.TextIO"),
    "globals()": ("G = 1.0\n" + LOSS.format("globals()['G']"), r"loss, globals\(\), which hides the names"),
    "a tracer": (
        "K = []\njax.jit(lambda x: K.append(x))(1.0)\n" + LOSS.format("K"),
        r"loss.K\[0\], an object of jax.*Tracer",
    ),
    "depth": ("K = []\nfor _ in range(3000):\n    K = [K]\n" + LOSS.format("K"), "loss, data nested more deeply"),
}


@pytest.mark.parametrize(("source", "found"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_content_is_refused_in_a_sentence_before_training(tmp_path, source, found):
    path = tmp_path / "own.py"
    path.write_text(HEAD + source + LOSS_TAIL)
    expected = "config.train.loss: expected a function that reaches only what can be hashed, .*; found "
    with pytest.raises(ConfigError, match=f"^{expected}{found}") as refused:
        digest_of(read_config(path))
    assert "\n" not in str(refused.value)


def scaled(table):
    def loss(logits, labels, groups):
        return table.mean() * logits.mean((1, 2, 3))

    return loss


def test_the_text_of_functions_is_kept_for_readers():
    config = default_config()
    config.train.loss = functools.partial(scaled(np.ones(2)), groups=3)
    texts = sources_of(config)
    assert texts.keys() == {"loss"}
    assert "return table.mean()" in texts["loss"] and "loss.partial.groups = 3" in texts["loss"]


def test_a_configuration_read_back_is_the_same_run_and_a_difference_is_named():
    first, other = (configure("smoke", {"train.loss": scaled(np.full(3, value))}) for value in (1.0, 2.0))
    stored = json.loads(json.dumps(settings_of(first)))
    assert digest_of(stored) == digest_of(first) and first_difference(stored, settings_of(first)) is None
    difference = first_difference(stored, settings_of(other))
    assert re.fullmatch(r"config\.train\.loss: 'loss \w{12}' there, 'loss \w{12}' now", difference)


def test_an_array_is_hashed_in_place():
    table = np.zeros(2**21, np.float32)
    tracemalloc.start()
    try:
        in_place = fingerprint.fingerprint(scaled(table), "loss")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < table.nbytes / 8
    # The order in memory is none of its values.
    assert fingerprint.fingerprint(scaled(np.zeros((2, 2**20), np.float32).T), "loss") != in_place
    one, other = np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T.copy().T
    assert fingerprint.fingerprint(scaled(one), "loss") == fingerprint.fingerprint(scaled(other), "loss")


EDITED = """
import numpy as np, optax
from flipjax import configure

TABLE = {"weights": np.ones(2000)}
TABLE["weights"][1000] = VALUE
KINDS = {"alpha", "beta", "gamma"}

def mine(logits, labels, groups):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean((1, 2))
    return TABLE["weights"][1000] * len(KINDS) * losses

def get_config():
    sizes = {"pool.size": 16, "pool.objects": 12, "pool.scenes": 6, "model.width": 4, "model.depth": 1}
    sizes.update({"split.n_train": 16, "split.n_val": 8, "split.n_test": 8, "train.epochs": 1, "train.batch_size": 8})
    sizes.update({"axes.rho": (0.5,), "axes.seed": (0,), "axes.method": ("mine",), "train.loss": mine})
    sizes.update({"intervene.scenes": "none", "intervene.scores": "none"})
    return configure("smoke", sizes)
"""


def test_an_edited_loss_trains_anew_and_the_same_one_does_not(tmp_path, without_page):
    path = tmp_path / "own.py"
    path.write_text(EDITED.replace("VALUE", "1.0"))
    with compiling(quick=True):
        first = flipjax.run(path, workdir=tmp_path / "run").history["train_loss"].tolist()
        assert flipjax.run(path, workdir=tmp_path / "run").history["train_loss"].tolist() == first
        path.write_text(EDITED.replace("VALUE", "9.0"))
        with pytest.raises(ConfigError, match=r"config\.train\.loss: 'mine \w+' there, 'mine \w+' now\); pass another"):
            flipjax.run(path, workdir=tmp_path / "run")
        edited = flipjax.run(path, workdir=tmp_path / "run", fresh=True).history["train_loss"].tolist()
    assert edited == pytest.approx([9 * loss for loss in first], rel=0.5) and edited != first
