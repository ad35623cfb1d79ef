"""Features from an ONNX file: what it may be, what it is called, what is refused."""

import builtins
import hashlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from snowmelt.files import BadFile
from snowmelt.metrics import load_features
from snowmelt.metrics import onnx as module


def write(path, *, shape=("n", 3, 8, 8), kind=TensorProto.FLOAT, metadata=None, last=False, reshape=True, logits=False, tensors=()):
    """A network that gives back its first 6 pixels (as floats), or fails."""
    flat = 8 * 8 * 3
    pick = np.eye(flat, 6, dtype=np.float32)
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT)]
    if reshape:
        nodes += [helper.make_node("Reshape", ["f", "to"], ["flat"]), helper.make_node("MatMul", ["flat", "pick"], ["features"])]
    else:
        nodes += [helper.make_node("Identity", ["f"], ["features"])]
    outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", "k"] if reshape else ["b", "c", "h", "w"])]
    if logits:
        nodes.append(helper.make_node("Neg", ["features"], ["logits"]))
        outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "k"] if reshape else ["b", "c", "h", "w"]))
    held = [numpy_helper.from_array(np.array([-1, flat], np.int64), "to"), numpy_helper.from_array(pick, "pick"), *tensors]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, shape)], outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def test_values_order_and_name(tmp_path):
    path = write(tmp_path / "net.onnx", logits=True)
    x = torch.linspace(-1, 1, 3 * 3 * 64).reshape(3, 3, 8, 8)
    features = load_features(path)
    assert torch.allclose(features(x), x.flatten(1)[:, :6], atol=1e-6)
    assert features.labels(x).tolist() == [0, 0, 0]
    assert features.classes is None
    assert features.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert features.score == f"FD-{features.sha256[:8]}"


def test_other_ranges_bytes_layouts_and_sizes(tmp_path):
    x = torch.full((2, 1, 20, 20), 3.0)  # white, once clamped
    for options, white in (({"metadata": {"snowmelt.range": "0,255"}}, 255.0), ({"kind": TensorProto.UINT8}, 255.0), ({}, 1.0)):
        for shape in (("n", 3, 8, 8), ("n", 8, 8, 3)):
            assert load_features(write(tmp_path / "net.onnx", shape=shape, **options))(x).tolist() == [[white] * 6] * 2
    colour = torch.tensor([1.0, 0.0, -1.0])[None, :, None, None].expand(1, 3, 8, 8)
    rows = load_features(write(tmp_path / "net.onnx", shape=("n", 8, 8, 3)))(colour)
    assert rows[0, :3].tolist() == [1.0, 0.0, -1.0]


def test_a_fixed_batch_is_filled(tmp_path):
    features = load_features(write(tmp_path / "net.onnx", shape=(4, 3, 8, 8)))
    x = torch.linspace(-1, 1, 6 * 3 * 64).reshape(6, 3, 8, 8)
    assert torch.allclose(features(x), x.flatten(1)[:, :6], atol=1e-6)


def test_only_a_known_file_is_called_fid(tmp_path, monkeypatch):
    assert not module.KNOWN, "add a test that computes FID with this file against published numbers"
    features = load_features(write(tmp_path / "net.onnx"))
    monkeypatch.setattr(module, "KNOWN", {features.sha256: "FID"})
    assert features.score == "FID"


def elsewhere(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "*/_ORT_MEM_ADDR_/*"])
def test_data_in_other_files_is_refused(tmp_path, location, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    path = write(tmp_path / "net.onnx", tensors=[elsewhere(location)])
    with pytest.raises(BadFile, match="tensors in other files"):
        load_features(path)
    # The same key with its length written in two bytes instead of one.
    assert module._ELSEWHERE.search(b"\x0a\x88\x00location")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"shape": ("n", 3, 8)}, "one input of pictures"),
        ({"kind": TensorProto.INT64}, "one input of pictures"),
        ({"shape": ("n", 4, 8, 8)}, "1 or 3 channels"),
        ({"shape": ("n", 3, 99999, 8)}, "at most 4096 px"),
        ({"metadata": {"snowmelt.range": "255,0"}}, "is no range"),
        ({"metadata": {"snowmelt.range": "white"}}, "is no range"),
    ],
)
def test_networks_of_something_else_are_refused(tmp_path, options, word):
    with pytest.raises(BadFile, match=word):
        load_features(write(tmp_path / "net.onnx", **options))


def test_what_fails_while_it_runs_says_so_in_one_line(tmp_path):
    x = torch.zeros(2, 3, 9, 8)
    with pytest.raises(BadFile, match=r"fails on pictures of shape \(2, 3, 9, 8\)") as error:
        load_features(write(tmp_path / "net.onnx", shape=("n", 3, "h", "w")))(x)
    assert "\n" not in str(error.value)
    with pytest.raises(BadFile, match="features are rows"):
        load_features(write(tmp_path / "net.onnx", reshape=False))(x)
    with pytest.raises(ValueError, match="no picture"):
        load_features(write(tmp_path / "net.onnx"))(x[:0])


def test_what_is_no_onnx_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    for data in (b"", b"not a network", write(tmp_path / "net.onnx").read_bytes()[:100]):
        path.write_bytes(data)
        with pytest.raises(BadFile, match="no ONNX file") as error:
            load_features(path)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(module, "MAX_BYTES", 50)
    with pytest.raises(BadFile, match="100 bytes.*at most 50"):
        load_features(path)


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **kept):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **kept)

    path = write(tmp_path / "net.onnx")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r'pip install "snowmelt\[onnx\]"'):
        load_features(path)


def test_the_file_written_here_is_sound(tmp_path):
    onnx.checker.check_model(onnx.load(write(tmp_path / "net.onnx")))
