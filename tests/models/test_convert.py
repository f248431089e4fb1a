"""Weights of others brought to one form, PyTorch's own files, and files that do not fit or are damaged."""

import functools
import os
import sys
import types
import zipfile

import networks
import numpy as np
import pytest
from safetensors.numpy import save, save_file

from flipjax.config import ConfigError, Experiment, ModelSpec
from flipjax.models import weights
from flipjax.models.__main__ import main
from flipjax.models.weights import WeightsError, _state_dict, read_weights
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


def test_names_of_others_are_brought_to_one(network):
    resnet, mit = encoder_of(network, "resnet50"), encoder_of(network, "mit_b2")
    classifier = np.zeros((5, 4), np.float32)
    cases = [
        ("resnet50", resnet | {"fc.weight": classifier}, resnet),
        ("resnet50", {f"encoder.{name}": array for name, array in resnet.items()}, resnet),
        ("mit_b2", mit | {"head.weight": classifier}, mit),
        ("mit_b2", {f"backbone.{name}": array for name, array in mit.items()} | {"decode_head.a": classifier}, mit),
    ]
    for encoder, arrays, wanted in cases:
        result, canonical = weights.canonical(arrays)
        assert result == encoder
        np.testing.assert_equal(canonical, {f"encoder.{name}": array for name, array in wanted.items()})
    whole = network("mit_b2")
    for prefix in ("", "module.", "model.", "module.model.", "_orig_mod."):
        result, canonical = weights.canonical({prefix + name: array for name, array in whole.items()})
        assert result == "mit_b2" and canonical.keys() == whole.keys()
    for arrays in ({"layer.weight": classifier}, {f"{of}.{name}": mit[name] for of in ("a", "b") for name in mit}):
        with pytest.raises(WeightsError, match=r"one U-Net or encoder.* found arrays such as "):
            weights.canonical(arrays)


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
    params, statistics = weights.load_weights(folders / "whole", encoder="resnet50")
    wanted = network("resnet50")["decoder.blocks.1.conv2.0.weight"].astype(np.float16)
    result = params["decoder"]["blocks"][1]["conv2"][0]["weight"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, wanted.transpose(2, 3, 1, 0).astype(np.float32))
    assert set(statistics["encoder"]["bn1"]) == {"running_mean", "running_var"}
    params, statistics = weights.load_weights(folders / "encoder", encoder="mit_b2")
    assert (set(params), statistics) == ({"encoder"}, {})
    wanted = {f"encoder.{name}": array for name, array in encoder_of(network, "mit_b2").items()}
    stored = read_weights(folders / "encoder.safetensors")[0]
    np.testing.assert_equal(stored, wanted)  # PyTorch's names, axes and types.


def test_files_that_do_not_fit_the_model_are_refused(folders, tmp_path):
    with pytest.raises(WeightsError, match="weights of mit_b2; found those of resnet50"):
        weights.load_weights(folders / "whole", encoder="mit_b2")
    with pytest.raises(WeightsError, match=r"misshapen: segmentation_head\.0"):
        weights.load_weights(folders / "whole", encoder="resnet50", num_classes=4)
    with pytest.raises(WeightsError, match="found an encoder alone"):
        weights.load_weights(folders / "encoder", encoder="mit_b2", whole=True)
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    content = (folders / "encoder.safetensors").read_bytes()
    (tmp_path / "hurt.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for name in ("none", "other", "hurt"):
        with pytest.raises(ConfigError, match=rf"config\.model\.weights: .*{name}"):
            starting_weights(Experiment(model=ModelSpec(name="smp_mit_b2", weights=str(tmp_path / name))))


def convert(capsys, *arguments):
    code = main([*map(str, arguments)])
    return code, *capsys.readouterr()


def test_files_that_cannot_be_used_give_one_line_and_2(network, folders, tmp_path, capsys):
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
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "fifo.safetensors")
    to = ("--out", tmp_path / "to")
    for name in (*files, "fifo.safetensors", "none.safetensors"):
        code, out, err = convert(capsys, "--from", tmp_path / name, *to)
        assert (code, out, err.count("\n")) == (2, "", 1) and name in err and "\x1b" not in err
        assert not (tmp_path / "to.safetensors").exists()
    (tmp_path / "loop.safetensors").symlink_to("nowhere")
    source = ("--from", folders / "mit.safetensors")
    for options, named in (
        (("--out", tmp_path / "text.txt" / "to"), "--out"),
        (("--out", folders / "encoder"), "--out"),
        (("--out", tmp_path / "loop"), "--out"),
        ((*to, "--encoder", "resnet50"), "resnet50"),
        ((*to, "--num_classes", 0), "--num_classes"),
    ):
        code, _, err = convert(capsys, *source, *options)
        assert code == 2 and named in err, err


VERSIONS = {None: "torch", "2.5.1+cu121": "needs PyTorch 2.6", "2.6.0": "as weights alone: EOFError"}


@pytest.mark.parametrize(("torch", "message"), VERSIONS.items())
def test_without_a_safe_pytorch_nothing_is_read(tmp_path, monkeypatch, torch, message):
    def load(path, *, map_location, weights_only):
        assert map_location == "cpu" and weights_only
        raise EOFError

    (tmp_path / "a.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", torch and types.SimpleNamespace(__version__=torch, load=load))
    with pytest.raises(WeightsError if torch else ModuleNotFoundError, match=message):
        read_weights(tmp_path / "a.pt")


def test_a_file_that_unpacks_to_many_times_its_size_is_not_unpacked(tmp_path, monkeypatch):
    def load(path, *, map_location, weights_only):
        raise AssertionError("it was unpacked")

    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**6)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(__version__="2.6.0", load=load))
    with pytest.raises(WeightsError, match=r"bomb\.pt: expected at most .* bytes unpacked; found 1,000,000"):
        read_weights(tmp_path / "bomb.pt")


def test_a_state_dict_is_found_under_the_usual_keys():
    inner = {"a.weight": 1}
    for stored in (inner, {"epoch": 3, "state_dict": inner}, {"model": {"model_state_dict": inner}}):
        assert _state_dict(stored) == inner


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
        encoder, result = weights.canonical(read_weights(tmp_path / name)[0])
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
