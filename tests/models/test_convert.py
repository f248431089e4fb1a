"""Weights of others brought to one form: names, files that do not fit or are damaged."""

import io
import json
import os
import re
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from flipjax.config import ConfigError, ModelSpec
from flipjax.models import names, smp, weights
from flipjax.models import read as reading
from flipjax.models.__main__ import main
from flipjax.sweep.program import starting_weights
from models.command import convert

APART = {"q": "query", "k": "key", "v": "value"}


def encoder_of(network, encoder):
    result = network(encoder).state_dict.items()
    return {name.removeprefix("encoder."): array for name, array in result if name.startswith("encoder.")}


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
        result, canonical = names.canonical(arrays)
        assert result == encoder
        assert canonical.keys() == {f"encoder.{name}" for name in wanted}
        for name, array in wanted.items():
            np.testing.assert_array_equal(canonical[f"encoder.{name}"], array)
    whole = network("mit_b2").state_dict
    for prefix in ("", "module.", "model.", "module.model.", "_orig_mod."):
        result, canonical = names.canonical({prefix + name: array for name, array in whole.items()})
        assert result == "mit_b2" and canonical.keys() == whole.keys()
    with pytest.raises(smp.WeightsError, match=r"found arrays such as layer\.weight"):
        names.canonical({"layer.weight": classifier})


def test_a_state_dict_is_found_under_the_usual_keys(tmp_path):
    inner = {"a.weight": 1}
    for stored in (inner, {"epoch": 3, "state_dict": inner}, {"model": {"model_state_dict": inner}}):
        assert reading._inner(stored, tmp_path) == inner
    with pytest.raises(smp.WeightsError, match="expected a state_dict; found a list"):
        reading._inner([1], tmp_path)


@pytest.fixture(scope="module")
def folders(network, tmp_path_factory):
    """Converted files of a whole U-Net (from float16 safetensors) and of an encoder alone (from npz)."""
    folder = tmp_path_factory.mktemp("weights")
    half = {name: array.astype(np.float16) for name, array in network("resnet50").state_dict.items()}
    save_file(half, folder / "half.safetensors")
    np.savez(folder / "encoder.npz", **encoder_of(network, "mit_b2"))
    assert main(["convert", "--from", str(folder / "half.safetensors"), "--out", str(folder / "whole")]) == 0
    assert main(["convert", "--from", str(folder / "encoder.npz"), "--out", str(folder / "encoder")]) == 0
    return folder


def test_a_converted_file_holds_the_weights_in_the_models_order(network, folders):
    params, statistics = weights.load(folders / "whole", encoder="resnet50")
    wanted = network("resnet50").state_dict["decoder.blocks.1.conv2.0.weight"].astype(np.float16)
    result = params["decoder"]["blocks"][1]["conv2"][0]["weight"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, wanted.transpose(2, 3, 1, 0).astype(np.float32))
    assert set(statistics["encoder"]["bn1"]) == {"running_mean", "running_var", "num_batches_tracked"}
    params, statistics = weights.load(folders / "encoder", encoder="mit_b2")
    assert (set(params), statistics) == ({"encoder"}, {})
    stored = reading.read(folders / "encoder.safetensors")
    wanted = encoder_of(network, "mit_b2")
    assert stored.keys() == {f"encoder.{name}" for name in wanted}  # PyTorch's names, axes and types.
    assert all(np.array_equal(stored[f"encoder.{name}"], array) for name, array in wanted.items())


def test_files_that_do_not_fit_the_model_are_refused(folders, tmp_path):
    for options, message in (
        ({"encoder": "mit_b2"}, "weights of mit_b2; found those of resnet50"),
        ({"encoder": "resnet50", "num_classes": 4}, "misshapen: segmentation_head.0"),
    ):
        with pytest.raises(smp.WeightsError, match=message):
            weights.load(folders / "whole", **options)
    with pytest.raises(smp.WeightsError, match="found an encoder alone"):
        weights.load(folders / "encoder", encoder="mit_b2", whole=True)
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("none", "other"):
        with pytest.raises(ConfigError, match=rf"config\.model\.weights: .* flipjax\.models convert.*{name}"):
            starting_weights(ModelSpec(name="smp_mit_b2", weights=str(tmp_path / name)))


def write_archive(path, method, *, encrypted=False):
    """An npz of one array, packed by `method`, or marked as encrypted."""
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", stream.getvalue())
    if encrypted:
        content = bytearray(path.read_bytes())
        content[6] |= 1
        content[content.rindex(b"PK\1\2") + 8] |= 1
        path.write_bytes(content)


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
    np.savez(tmp_path / "complex.npz", **{"layer1.0.conv1.weight": np.zeros(3, complex)})
    write_archive(tmp_path / "packed.npz", zipfile.ZIP_LZMA)
    write_archive(tmp_path / "locked.npz", zipfile.ZIP_STORED, encrypted=True)
    large = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000)}\n"
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(large)) + large)
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "eight.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    os.mkfifo(tmp_path / "fifo.npz")
    cases = (
        (
            "misfit.npz",
            " missing: encoder.bn1.num_batches_tracked, encoder.bn1.running_mean, encoder.bn1.running_var, ...;",
        ),
        ("misfit.npz", "1 unused: encoder.bn1.gain; 1 misshapen: encoder.bn1.bias (65,) instead of (64,); --verbose"),
        ("objects.npz", "no whole npz file"),
        ("one.npz", "no whole npz file"),
        ("altered.npz", "no whole npz file"),
        ("strange.npz", "found arrays such as a"),
        ("cut.npz", "no whole npz file"),
        ("cut.safetensors", "no whole safetensors file"),
        ("text.txt", "expected a file that ends in .pt, .pth, .ckpt, .safetensors, .npz"),
        ("none.npz", "expected a file of weights; found none"),
        ("complex.npz", "expected real numbers; found others: layer1.0.conv1.weight (complex128)"),
        ("packed.npz", "an archive packed by lzma"),
        ("locked.npz", "an encrypted archive"),
        ("eight.safetensors", "found others: a (F8_E4M3)"),
        ("large.npz", "no whole npz"),
        ("fifo.npz", "found no regular file"),
    )
    for name, message in cases:
        code, out, err = convert(capsys, "--from", tmp_path / name, "--out", tmp_path / "to")
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert message in err
        assert not (tmp_path / "to").exists()
    code, _, err = convert(capsys, "--from", tmp_path / "misfit.npz", "--out", tmp_path / "to", "--verbose")
    assert (code, err.count("\n")) == (2, 1)
    wanted = smp.expected_shapes("resnet50", num_classes=3)
    absent = [name for name in wanted if name.startswith("encoder.") and name.removeprefix("encoder.") not in few]
    assert f" missing: {', '.join(absent)}; unused: encoder.bn1.gain; misshapen: " in err
    limited = ("--from", folders / "encoder.npz", "--out", tmp_path / "to", "--max_bytes", 1 << 20)
    assert "more than 1,048,576 (--max_bytes sets the limit)" in convert(capsys, *limited)[2]
    beneath = ("--from", folders / "encoder.npz", "--out", tmp_path / "text.txt" / "to")
    assert "--out: expected a file that can be written; found" in convert(capsys, *beneath)[2]
    existing = ("--from", folders / "encoder.npz", "--out", folders / "encoder")
    assert "--out: expected a file that does not exist yet" in convert(capsys, *existing)[2]
    other = ("--from", folders / "encoder.npz", "--out", tmp_path / "to", "--encoder", "resnet50")
    assert "weights of resnet50; found those of mit_b2" in convert(capsys, *other)[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A converted file of two arrays, and the arrays."""
    arrays = {"encoder.a.weight": np.arange(96, dtype=np.float32).reshape(8, 12), "encoder.a.bias": np.zeros(8)}
    path = tmp_path_factory.mktemp("small") / "weights.safetensors"
    weights.save(path, arrays)
    return path, arrays


def damage(content, kind, place, value):
    """A bit, 16 bytes, the second half, or all of a file's content is lost."""
    place %= len(content)
    if kind == "bit":
        return content[:place] + bytes([content[place] ^ 1 << value % 8]) + content[place + 1 :]
    if kind == "bytes":
        return content[:place] + bytes(value + k & 255 for k in range(16)) + content[place + 16 :]
    return content[: len(content) // 2] if kind == "half" else b""


@given(st.sampled_from(["bit", "bytes", "half", "empty"]), st.integers(0, 1 << 20), st.integers(0, 255))
@settings(max_examples=int(os.environ.get("FLIPJAX_FUZZ", 60)), deadline=None, derandomize=True, database=None)
def test_a_damaged_file_is_named_or_gives_the_same_arrays(small, kind, place, value):
    path, arrays = small
    other = path.with_name("damaged.safetensors")
    other.write_bytes(damage(path.read_bytes(), kind, place, value))
    try:
        stored = weights.read_converted(other)
    except smp.WeightsError as error:
        assert "damaged.safetensors" in str(error) and "\n" not in str(error)
    else:
        assert stored.keys() == arrays.keys()
        assert all(np.array_equal(stored[name], array) for name, array in arrays.items())


def test_a_sweep_refuses_damaged_weights(small, tmp_path):
    content = small[0].read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content[:-1] + b"\1")
    with pytest.raises(ConfigError, match=r"config\.model\.weights: .*a\.safetensors is damaged, convert"):
        starting_weights(ModelSpec(name="smp_mit_b2", weights=str(tmp_path / "a")))
