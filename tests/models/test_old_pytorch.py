"""Files of PyTorch's old form, made by hand, and the package's: read without PyTorch, and nothing in them is run."""

import pickle
import struct
import sys

import numpy as np
import pytest

from flipjax.config import ConfigError
from flipjax.models.weights import old_pytorch, pretrained
from flipjax.models.weights.files import read_weights
from flipjax.models.weights.old_pytorch import OldFormError, is_old_form, read_old_form
from flipjax.models.weights.pytorch_names import WeightsError
from flipjax.support.files import digest

MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
ORDERED = b"ccollections\nOrderedDict\n)R"
NUMBERS = np.arange(12, dtype="<f4")


def text(word):
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def whole(number):
    return b"J" + struct.pack("<i", number)


def row(numbers):
    return b"(" + b"".join(map(whole, numbers)) + b"t"


def tensor(key, kind, size, *, offset, shape, stride):
    """The pickle of a tensor as PyTorch writes it: a call with a storage, whose numbers are elsewhere."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + whole(size) + b"NtQ"
    arguments = storage + whole(offset) + row(shape) + row(stride) + b"\x89" + ORDERED
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def state(**tensors):
    return b"\x80\x02" + ORDERED + b"(" + b"".join(text(name) + value for name, value in tensors.items()) + b"u."


def content(stored, *, magic=old_pytorch.MAGIC, machine=MACHINE, storages=None):
    """The whole file."""
    if storages is None:
        storages = {"1": NUMBERS}
    head = b"".join(pickle.dumps(part, 2) for part in (magic, 1001, machine))
    numbers = b"".join(struct.pack("<q", values.size) + values.tobytes() for values in storages.values())
    return head + stored + pickle.dumps(list(storages), 2) + numbers


FLAT = tensor("1", "FloatStorage", 12, offset=0, shape=(3, 4), stride=(4, 1))


@pytest.fixture
def file(tmp_path):
    def write(data, name="a.pth"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("shape", "stride", "offset", "wanted"),
    [
        ((3, 4), (4, 1), 0, NUMBERS.reshape(3, 4)),
        ((4, 3), (1, 4), 0, NUMBERS.reshape(3, 4).T),
        ((2,), (5,), 3, NUMBERS[[3, 8]]),
        ((), (), 11, NUMBERS[11]),
        ((0, 4), (4, 1), 0, np.zeros((0, 4))),
    ],
    ids=["rows", "transposed", "a part", "a number", "empty"],
)
def test_a_tensor_is_the_array_that_it_shows(file, shape, stride, offset, wanted):
    stored = state(a=tensor("1", "FloatStorage", 12, offset=offset, shape=shape, stride=stride))
    result = read_old_form(file(content(stored)))["a"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize(("kind", "dtype"), old_pytorch.TYPES.items())
def test_each_type_of_numbers_is_read(file, kind, dtype):
    stored = state(a=tensor("1", kind, 12, offset=0, shape=(12,), stride=(1,)))
    result = read_old_form(file(content(stored, storages={"1": NUMBERS.astype(dtype)})))["a"]
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, NUMBERS)


def test_tensors_share_a_storage_and_order_is_kept(file):
    second = tensor("2", "LongStorage", 1, offset=0, shape=(), stride=())
    stored = state(b=FLAT, a=second, c=tensor("1", "FloatStorage", 12, offset=4, shape=(2,), stride=(1,)))
    result = read_old_form(file(content(stored, storages={"2": np.array([7]), "1": NUMBERS})))
    assert list(result) == ["b", "a", "c"] and result["a"] == 7
    np.testing.assert_array_equal(result["c"], [4, 5])


def test_weights_of_the_old_form_need_no_pytorch(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    arrays = read_weights(file(content(state(**{"layer.weight": FLAT}))))
    assert list(arrays) == ["layer.weight"]


HARM = {
    "a command": b"cos\nsystem\n" + b"(" + text("touch harm") + b"tR",
    "an expression": b"cbuiltins\neval\n(" + text("open('harm', 'w')") + b"tR",
    "an attribute": b"cbuiltins\ngetattr\n(" + ORDERED + text("__class__") + b"tR",
    "another function of PyTorch": b"ctorch\nload\n(" + text("harm") + b"tR",
    "a dotted name": b"\x80\x04" + text("collections") + text("OrderedDict.fromkeys") + b"\x93)R",
    "a class by its instance": b"(ios\nsystem\n",
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
@pytest.mark.parametrize("place", ["the state", "the first number", "the keys"])
def test_a_pickle_that_names_anything_else_is_refused(file, tmp_path, monkeypatch, harm, place):
    monkeypatch.chdir(tmp_path)
    good = content(state(a=FLAT))
    data = {
        "the state": content(b"\x80\x02" + harm + b"."),
        "the first number": b"\x80\x02" + harm + b"." + good,
        "the keys": content(state(a=FLAT) + b"\x80\x02" + harm + b"."),
    }[place]
    path = file(data)
    with pytest.raises(OldFormError):
        read_old_form(path)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (content(state(a=FLAT))[:-1], "cut short"),
        (content(state(a=FLAT))[:150], "damaged"),
        (content(state(a=FLAT), magic=5), "no file of PyTorch's old form"),
        (content(state(a=FLAT), machine={"little_endian": False}), "no file of PyTorch's old form"),
        (content(pickle.dumps([1, 2], 2)), "no dict of arrays"),
        (content(state(a=tensor("1", "FloatStorage", 12, offset=1, shape=(3, 4), stride=(4, 1)))), "reaches outside"),
        (content(state(a=tensor("1", "FloatStorage", 12, offset=0, shape=(3,), stride=(-4,)))), "steps"),
        (content(state(a=FLAT), storages={}), "reaches outside"),
    ],
    ids=["cut", "cut in a pickle", "another number", "big endian", "a list", "too long", "backwards", "no numbers"],
)
def test_a_damaged_file_is_one_sentence(file, data, message):
    with pytest.raises(OldFormError, match=message):
        read_old_form(file(data))


def test_a_damaged_file_of_weights_names_the_file(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(WeightsError, match=r"a\.pth cannot be read as weights alone: it is damaged: its numbers"):
        read_weights(file(content(state(a=FLAT))[:-1]))


def test_newer_files_are_another_form(file):
    assert not is_old_form(file(b"PK\x03\x04")) and is_old_form(file(content(state(a=FLAT))))


# Of all arrays, as PyTorch 2.13 reads them.
PUBLISHED = "8f7f7ea5ad25b4899ecbe6ee6937fb6fc98b1d2bec9472a9d5840cb75ad08829"


def test_the_packages_arrays_are_those_that_pytorch_reads():
    try:
        path = pretrained.weights_file()
    except ConfigError as error:
        pytest.skip(str(error))
    arrays = read_old_form(path)
    assert len(arrays) == 296 and digest(arrays) == PUBLISHED
