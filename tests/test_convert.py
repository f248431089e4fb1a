"""Weights from elsewhere: names, files, folders, and the convert command."""

import builtins
import importlib
import os
import pathlib
import re
import shutil
import types

import numpy as np
import pytest
from safetensors.numpy import save_file

from flipjax.config import ConfigError, ModelSpec
from flipjax.models import names, smp, weights
from flipjax.models import read as reading
from flipjax.models.__main__ import main
from flipjax.sweep.program import starting_weights

APART = {"q": "query", "k": "key", "v": "value"}


def encoder_of(network, encoder):
    found = network(encoder).state_dict.items()
    return {name.removeprefix("encoder."): array for name, array in found if name.startswith("encoder.")}


def as_transformers(arrays):
    """MiT's arrays under the names of transformers: keys and values apart, stages from 0."""
    rules = (
        (r"^patch_embed(\d)\.norm", r"encoder.patch_embeddings.#\1.layer_norm"),
        (r"^patch_embed(\d)", r"encoder.patch_embeddings.#\1"),
        (r"^norm(\d)", r"encoder.layer_norm.#\1"),
        (r"^block(\d)", r"encoder.block.#\1"),
        (r"\.norm([12])\.", r".layer_norm_\1."),
        (r"\.attn\.(q|k|v)\.", lambda match: f".attention.self.{APART[match[1]]}."),
        (r"\.attn\.sr", ".attention.self.sr"),
        (r"\.attn\.norm", ".attention.self.layer_norm"),
        (r"\.attn\.proj", ".attention.output.dense"),
        (r"\.fc([12])", r".dense\1"),
        (r"#(\d)", lambda match: str(int(match[1]) - 1)),
    )
    apart = {}
    for name, array in arrays.items():
        halves = zip("kv", np.split(array, 2), strict=True) if ".attn.kv." in name else ()
        apart |= {name.replace(".kv.", f".{half}."): part for half, part in halves} or {name: array}
    renamed = {}
    for name, array in apart.items():
        for pattern, template in rules:
            name = re.sub(pattern, template, name)
        renamed[f"segformer.{name}"] = array
    return renamed


def test_names_of_others_are_brought_to_one(network):
    resnet, mit = encoder_of(network, "resnet50"), encoder_of(network, "mit_b2")
    transformers = as_transformers(mit)
    assert "segformer.encoder.block.1.0.attention.self.key.weight" in transformers
    classifier = np.zeros((5, 4), np.float32)
    old = {name: array for name, array in resnet.items() if not name.endswith("num_batches_tracked")}
    cases = [
        ("resnet50", resnet | {"fc.weight": classifier}, resnet),
        ("resnet50", old, resnet),
        ("resnet50", {f"encoder.{name}": array for name, array in resnet.items()}, resnet),
        ("mit_b2", mit | {"head.weight": classifier}, mit),
        ("mit_b2", {f"backbone.{name}": array for name, array in mit.items()} | {"decode_head.a": classifier}, mit),
        ("mit_b2", transformers | {"classifier.weight": classifier}, mit),
    ]
    for encoder, arrays, wanted in cases:
        found, canonical = names.canonical(arrays)
        assert found == encoder
        assert canonical.keys() == {f"encoder.{name}" for name in wanted}
        for name, array in wanted.items():
            np.testing.assert_array_equal(canonical[f"encoder.{name}"], array)
    whole = network("mit_b2").state_dict
    for prefix in ("", "module.", "model.", "module.model.", "_orig_mod."):
        found, canonical = names.canonical({prefix + name: array for name, array in whole.items()})
        assert found == "mit_b2" and canonical.keys() == whole.keys()
    with pytest.raises(smp.WeightsError, match=r"found arrays such as layer\.weight"):
        names.canonical({"layer.weight": classifier})


def test_a_state_dict_is_found_under_the_usual_keys(tmp_path):
    inner = {"a.weight": 1}
    for stored in (inner, {"epoch": 3, "state_dict": inner}, {"model": {"model_state_dict": inner}}):
        assert reading._inner(stored, tmp_path) == inner
    with pytest.raises(smp.WeightsError, match="expected a state_dict; found a list"):
        reading._inner([1], tmp_path)


def convert(capsys, *arguments):
    code = main(["convert", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def folders(network, tmp_path_factory):
    """Folders of a whole U-Net (from float16 safetensors) and of an encoder alone (from npz)."""
    folder = tmp_path_factory.mktemp("weights")
    half = {name: array.astype(np.float16) for name, array in network("resnet50").state_dict.items()}
    save_file(half, folder / "whole.safetensors")
    np.savez(folder / "encoder.npz", **encoder_of(network, "mit_b2"))
    assert main(["convert", "--from", str(folder / "whole.safetensors"), "--to", str(folder / "whole")]) == 0
    assert main(["convert", "--from", str(folder / "encoder.npz"), "--to", str(folder / "encoder")]) == 0
    return folder


def test_a_converted_folder_holds_the_weights_in_the_models_order(network, folders):
    params, statistics = weights.load(folders / "whole", encoder="resnet50")
    wanted = network("resnet50").state_dict["decoder.blocks.1.conv2.0.weight"].astype(np.float16)
    found = params["decoder"]["blocks"][1]["conv2"][0]["weight"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted.transpose(2, 3, 1, 0).astype(np.float32))
    assert set(statistics["encoder"]["bn1"]) == {"running_mean", "running_var", "num_batches_tracked"}
    params, statistics = weights.load(folders / "encoder", encoder="mit_b2")
    assert (set(params), statistics) == ({"encoder"}, {})


def test_folders_that_do_not_fit_are_refused(folders, tmp_path):
    for options, message in (
        ({"encoder": "mit_b2"}, "weights of mit_b2; found those of resnet50"),
        ({"encoder": "resnet50", "num_classes": 4}, "misshapen: segmentation_head.0"),
    ):
        with pytest.raises(smp.WeightsError, match=message):
            weights.load(folders / "whole", **options)
    with pytest.raises(smp.WeightsError, match="found an encoder alone"):
        weights.load(folders / "encoder", encoder="mit_b2", whole=True)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match=r"config\.model\.weights: expected a folder that python"):
            starting_weights(ModelSpec(name="smp_mit_b2", weights=str(folder)))


def test_files_that_cannot_be_used_give_one_line_and_2(network, folders, tmp_path, capsys):
    good = encoder_of(network, "resnet50")
    few = {name: good[name] for name in good if "layer1" in name} | {"bn1.gain": np.zeros(64), "bn1.bias": np.zeros(65)}
    np.savez(tmp_path / "misfit.npz", **few)
    np.savez(tmp_path / "objects.npz", a=np.array([None]))
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    np.savez_compressed(tmp_path / "altered.npz", a=np.arange(1000.0))
    packed = bytearray((tmp_path / "altered.npz").read_bytes())
    packed[200:600] = bytes(400)
    (tmp_path / "altered.npz").write_bytes(packed)
    np.savez(tmp_path / "strange.npz", a=np.zeros(3))
    whole = (folders / "encoder.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.safetensors").write_bytes((folders / "whole.safetensors").read_bytes()[:5000])
    (tmp_path / "text.txt").write_text("no weights")
    cases = (
        (
            "misfit.npz",
            " missing: encoder.bn1.num_batches_tracked, encoder.bn1.running_mean, encoder.bn1.running_var, ...;",
        ),
        ("misfit.npz", "1 unused: encoder.bn1.gain; 1 misshapen: encoder.bn1.bias (65,) instead of (64,); --verbose"),
        ("objects.npz", "no whole npz file"),
        ("one.npz", "no whole npz file of arrays: it holds one array"),
        ("altered.npz", "no whole npz file"),
        ("strange.npz", "found arrays such as a"),
        ("cut.npz", "no whole npz file"),
        ("cut.safetensors", "no whole safetensors file"),
        ("text.txt", "expected a file that ends in .pt, .pth, .ckpt, .safetensors, .npz"),
        ("none.npz", "expected a file of weights; found none"),
    )
    for name, message in cases:
        code, out, err = convert(capsys, "--from", tmp_path / name, "--to", tmp_path / "to")
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert message in err
        assert not (tmp_path / "to").exists()
    code, _, err = convert(capsys, "--from", tmp_path / "misfit.npz", "--to", tmp_path / "to", "--verbose")
    assert (code, err.count("\n")) == (2, 1)
    wanted = smp.expected_shapes("resnet50", num_classes=3)
    absent = [name for name in wanted if name.startswith("encoder.") and name.removeprefix("encoder.") not in few]
    assert f" missing: {', '.join(absent)}; unused: encoder.bn1.gain; misshapen: " in err
    beneath = ("--from", folders / "encoder.npz", "--to", tmp_path / "text.txt" / "to")
    assert "--to: expected a folder that can be written; found" in convert(capsys, *beneath)[2]
    existing = ("--from", folders / "encoder.npz", "--to", folders / "encoder")
    assert "expected a folder that does not exist yet" in convert(capsys, *existing)[2]
    other = ("--from", folders / "encoder.npz", "--to", tmp_path / "to", "--encoder", "resnet50")
    assert "weights of resnet50; found those of mit_b2" in convert(capsys, *other)[2]


def test_a_damaged_folder_is_named(folders, tmp_path):
    def copy(name):
        return pathlib.Path(shutil.copytree(folders / "encoder", tmp_path / name, copy_function=os.link))

    def cut(path, size):
        content = path.read_bytes()[:size]
        path.unlink()  # The others share its bytes.
        path.write_bytes(content)

    largest = max((folders / "encoder/arrays").rglob("*"), key=lambda path: path.stat().st_size)
    cut(copy("values") / largest.relative_to(folders / "encoder"), 1000)
    cut(copy("about") / "about/metadata", 20)
    (copy("gone") / "about/metadata").unlink()
    about = copy("renamed") / "about/metadata"
    size = about.stat().st_size
    about.unlink()
    about.write_text('{"shapes": {}}'.ljust(size))
    for name in ("values", "about", "gone", "renamed"):
        with pytest.raises(ConfigError, match=f"{name} is damaged, convert the weights again") as caught:
            starting_weights(ModelSpec(name="smp_mit_b2", weights=str(tmp_path / name)))
        assert "\n" not in str(caught.value)


def test_pytorch_is_asked_for_only_where_it_is_needed(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.pt").write_bytes(b"")

    def absent(name):
        raise builtins.ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    code, _, err = convert(capsys, "--from", tmp_path / "a.pt", "--to", tmp_path / "to")
    assert code == 2 and "pip install torch" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("version", "message"),
    [("2.5.1+cu121", "needs PyTorch 2.6 or newer"), ("2.6.0", "no whole PyTorch file: EOFError")],
)
def test_an_unsafe_pytorch_is_refused_and_a_cut_file_named(tmp_path, capsys, monkeypatch, version, message):
    def load(*arguments, **options):
        raise EOFError  # Of a file in the old format; it says no more.

    (tmp_path / "a.pt").write_bytes(b"")
    monkeypatch.setattr(importlib, "import_module", lambda _: types.SimpleNamespace(__version__=version, load=load))
    code, _, err = convert(capsys, "--from", tmp_path / "a.pt", "--to", tmp_path / "to")
    assert code == 2 and message in err and err.count("\n") == 1


def test_pytorchs_files_are_read(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(4)
    shapes = {"encoder.layer1.0.conv1.weight": (4, 3, 1, 1), "decoder.blocks.0.conv1.0.weight": (2, 4, 3, 3)}
    # Multiples of 1/8, which bfloat16 holds.
    arrays = {name: rng.integers(-16, 17, shape).astype(np.float32) / 8 for name, shape in shapes.items()}
    arrays["encoder.bn1.num_batches_tracked"] = np.array(7)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    halves = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}
    torch.save(tensors, tmp_path / "plain.pt")
    torch.save(wrapped, tmp_path / "wrapped.ckpt")
    torch.save(halves, tmp_path / "halves.pth", _use_new_zipfile_serialization=False)
    for name in ("plain.pt", "wrapped.ckpt", "halves.pth"):
        encoder, found = names.canonical(reading.read(tmp_path / name))
        assert encoder == "resnet50" and found.keys() == arrays.keys()
        for key, array in arrays.items():
            assert found[key].dtype == array.dtype
            np.testing.assert_array_equal(found[key], array)
        content = (tmp_path / name).read_bytes()
        for size in (0, 30, len(content) // 2, len(content) - 20):
            (tmp_path / name).write_bytes(content[:size])
            code, _, err = convert(capsys, "--from", tmp_path / name, "--to", tmp_path / "to")
            assert code == 2 and err.count("\n") == 1, (name, size, err)


def test_a_pickle_is_never_run(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"a": Harm()}, tmp_path / "harm.pt")
    code, _, err = convert(capsys, "--from", tmp_path / "harm.pt", "--to", tmp_path / "to")
    assert code == 2 and "never unpickled" in err and not (tmp_path / "harm").exists()
