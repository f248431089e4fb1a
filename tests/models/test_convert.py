"""Weights of others brought to one form, PyTorch's own files, and files that do not fit or are damaged."""

import functools
import os
import shutil
import sys
import types

import networks
import numpy as np
import pytest
from safetensors.numpy import save, save_file

from flipjax.config import ConfigError, Experiment, ModelSpec
from flipjax.models.__main__ import main
from flipjax.models.weights import files as weight_files
from flipjax.models.weights import pytorch_names
from flipjax.models.weights.files import find_state_dict, read_weights
from flipjax.models.weights.pytorch_names import WeightsError
from flipjax.training.task import starting_weights


@pytest.fixture(scope="module")
def network():
    """PyTorch's state_dict of an encoder's U-Net of two narrow stages."""
    with pytest.MonkeyPatch.context() as patch:
        networks.shrink(patch)
        yield functools.cache(lambda encoder: networks.make(encoder).state_dict)


def encoder_of(network, encoder):
    result = network(encoder).items()
    return {name.removeprefix("encoder."): array for name, array in result if name.startswith("encoder.")}


CLASSIFIER = np.zeros((5, 4), np.float32)


@pytest.mark.parametrize(
    ("encoder", "prefix", "other"),
    [
        ("resnet50", "", {"fc.weight": CLASSIFIER}),
        ("resnet50", "encoder.", {}),
        ("mit_b2", "", {"head.weight": CLASSIFIER}),
        ("mit_b2", "backbone.", {"decode_head.a": CLASSIFIER}),
    ],
    ids=["torchvision", "an encoder", "SegFormer's classifier", "a backbone and its head"],
)
def test_names_of_an_encoder_are_brought_to_one(network, encoder, prefix, other):
    arrays = encoder_of(network, encoder)
    result, canonical = pytorch_names.canonical({f"{prefix}{name}": array for name, array in arrays.items()} | other)
    assert result == encoder
    np.testing.assert_equal(canonical, {f"encoder.{name}": array for name, array in arrays.items()})


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod."])
def test_a_prefix_of_all_names_is_dropped(network, prefix):
    whole = network("mit_b2")
    result, canonical = pytorch_names.canonical({prefix + name: array for name, array in whole.items()})
    assert result == "mit_b2" and canonical.keys() == whole.keys()


NO_MODEL = r"one U-Net or encoder.* found arrays such as "


def test_arrays_of_no_known_network_are_refused():
    with pytest.raises(WeightsError, match=NO_MODEL):
        pytorch_names.canonical({"layer.weight": CLASSIFIER})


def test_two_encoders_in_one_file_are_refused(network):
    arrays = encoder_of(network, "mit_b2")
    with pytest.raises(WeightsError, match=NO_MODEL):
        pytorch_names.canonical({f"{of}.{name}": arrays[name] for of in ("a", "b") for name in arrays})


@pytest.fixture(scope="module")
def folders(network, tmp_path_factory):
    """Converted files of a whole U-Net (from float16) and of an encoder alone."""
    folder = tmp_path_factory.mktemp("weights")
    half = {name: array.astype(np.float16) for name, array in network("resnet50").items()}
    for name, out, arrays in (("half", "whole", half), ("mit", "encoder", encoder_of(network, "mit_b2"))):
        save_file(arrays, folder / f"{name}.safetensors")
        assert main(["convert", "--from", str(folder / f"{name}.safetensors"), "--out", str(folder / out)]) == 0
    return folder


def test_a_converted_file_holds_the_weights_in_the_models_order(network, folders):
    params, statistics = weight_files.load_weights(folders / "whole", encoder="resnet50")
    wanted = network("resnet50")["decoder.blocks.1.conv2.0.weight"].astype(np.float16)
    result = params["decoder"]["blocks"][1]["conv2"][0]["weight"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, wanted.transpose(2, 3, 1, 0).astype(np.float32))
    assert set(statistics["encoder"]["bn1"]) == {"running_mean", "running_var"}
    params, statistics = weight_files.load_weights(folders / "encoder", encoder="mit_b2")
    assert (set(params), statistics) == ({"encoder"}, {})
    wanted = {f"encoder.{name}": array for name, array in encoder_of(network, "mit_b2").items()}
    stored = read_weights(folders / "encoder.safetensors")
    np.testing.assert_equal(stored, wanted)  # PyTorch's names, axes and types.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("whole", {"encoder": "mit_b2"}, "weights of mit_b2; found those of resnet50"),
        ("whole", {"encoder": "resnet50", "num_classes": 4}, r"misshapen: segmentation_head\.0"),
        ("encoder", {"encoder": "mit_b2", "whole": True}, "found an encoder alone"),
    ],
    ids=["another encoder", "another number of classes", "an encoder for a whole U-Net"],
)
def test_a_file_that_does_not_fit_the_model_is_refused(folders, name, options, message):
    with pytest.raises(WeightsError, match=message):
        weight_files.load_weights(folders / name, **options)


@pytest.mark.parametrize("name", ["none", "other", "hurt"])
def test_a_configuration_of_weights_that_are_none_is_refused(folders, tmp_path, name):
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    content = (folders / "encoder.safetensors").read_bytes()
    (tmp_path / "hurt.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=rf"config\.model\.weights: .*{name}"):
        starting_weights(Experiment(model=ModelSpec(name="smp_mit_b2", weights=str(tmp_path / name))))


def convert(capsys, *arguments):
    code = main([*map(str, arguments)])
    return code, *capsys.readouterr()


UNUSABLE = ["misfit", "other", "complex", "beyond", "nan", "cut", "offsets", "fifo", "none"]


@pytest.fixture(scope="module")
def unusable(network, folders, tmp_path_factory):
    """A folder of files that hold no weights of a known network, or none at all."""
    folder = tmp_path_factory.mktemp("unusable")
    good = encoder_of(network, "resnet50")
    misfit = {name: good[name] for name in good if "layer1" in name}
    misfit |= {"bn1.gain": np.zeros(64), "bn1.bias": np.zeros(65)}
    whole = (folders / "mit.safetensors").read_bytes()
    beyond = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,1099511627776]}}'  # More values than there are bytes.
    files = {
        "misfit.safetensors": save(misfit),
        "other.safetensors": save({"a\x1b[2J": np.zeros(3)}),
        "complex.safetensors": save({"layer1.0.conv1.weight": np.zeros(3, np.complex64)}),
        "beyond.safetensors": save(good | {"conv1.weight": np.full((8, 3, 7, 7), 1e300)}),
        "nan.safetensors": save(good | {"conv1.weight": np.full((8, 3, 7, 7), np.nan, np.float32)}),
        "cut.safetensors": whole[:5000],
        "offsets.safetensors": len(beyond).to_bytes(8, "little") + beyond + bytes(16),
        "text.txt": b"no weights",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "fifo.safetensors")
    return folder


@pytest.mark.parametrize("name", [*(f"{name}.safetensors" for name in UNUSABLE), "text.txt"])
def test_a_file_that_cannot_be_used_gives_one_line_and_2(unusable, tmp_path, capsys, name):
    code, out, err = convert(capsys, "--from", unusable / name, "--out", tmp_path / "to")
    assert (code, out, err.count("\n")) == (2, "", 1) and name in err and "\x1b" not in err
    assert not (tmp_path / "to.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--out", "text.txt/to"), "--out"),
        (("--out", "taken"), "--out"),
        (("--out", "loop"), "--out"),
        (("--out", "to", "--encoder", "resnet50"), "resnet50"),
        (("--out", "to", "--num_classes", 0), "--num_classes"),
    ],
    ids=["below a file", "a file that is there", "a link to nothing", "another encoder", "no class"],
)
def test_options_that_cannot_be_used_give_2_and_their_name(folders, tmp_path, monkeypatch, capsys, options, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no weights")
    shutil.copy(folders / "encoder.safetensors", tmp_path / "taken.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("nowhere")
    code, _, err = convert(capsys, "--from", folders / "mit.safetensors", *options)
    assert code == 2 and named in err, err


VERSIONS = {None: "torch", "2.5.1+cu121": "needs PyTorch 2.6", "2.6.0": "as weights alone: EOFError"}


@pytest.mark.parametrize(("torch", "message"), VERSIONS.items(), ids=["none", "too old", "a file that it refuses"])
def test_without_a_safe_pytorch_nothing_is_read(tmp_path, monkeypatch, torch, message):
    def load(path, *, map_location, weights_only):
        assert map_location == "cpu" and weights_only
        raise EOFError

    (tmp_path / "a.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", torch and types.SimpleNamespace(__version__=torch, load=load))
    with pytest.raises(WeightsError if torch else ModuleNotFoundError, match=message):
        read_weights(tmp_path / "a.pt")


INNER = {"a.weight": 1}


@pytest.mark.parametrize(
    "stored",
    [INNER, {"epoch": 3, "state_dict": INNER}, {"model": {"model_state_dict": INNER}}],
    ids=["alone", "beside an epoch", "in a model"],
)
def test_a_state_dict_is_found_under_the_usual_keys(stored):
    assert find_state_dict(stored) == INNER


def test_pytorchs_files_are_read(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(4)
    shapes = {"encoder.layer1.0.conv1.weight": (4, 3, 1, 1), "decoder.blocks.0.conv1.0.weight": (2, 4, 3, 3)}
    # Multiples of 1/8, which bfloat16 holds.
    arrays = {name: rng.integers(-16, 17, shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    arrays["encoder.bn1.num_batches_tracked"] = np.array(7)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    halves = {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": t for name, t in tensors.items()}}
    trained = {name: torch.nn.Parameter(t) if t.is_floating_point() else t for name, t in tensors.items()}
    torch.save(trained, tmp_path / "plain.pt")
    torch.save(wrapped, tmp_path / "wrapped.ckpt")
    torch.save(halves, tmp_path / "halves.pth", _use_new_zipfile_serialization=False)
    for name in ("plain.pt", "wrapped.ckpt", "halves.pth"):
        encoder, result = pytorch_names.canonical(read_weights(tmp_path / name))
        assert encoder == "resnet50" and result.keys() == arrays.keys()
        for key, array in arrays.items():
            assert result[key].dtype == array.dtype
            np.testing.assert_array_equal(result[key], array)
    torch.save([tensors], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_weights(tmp_path / "list.pt")


def test_a_pickle_is_never_run(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"a": Harm()}, tmp_path / "harm.pt")
    with pytest.raises(WeightsError, match="cannot be read as weights alone"):
        read_weights(tmp_path / "harm.pt")
    assert not (tmp_path / "harm").exists()
