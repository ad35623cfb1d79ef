"""The restorer as a graph: what onnxruntime and torch.export compute is what the model computes; what cannot be written is refused by name."""

import builtins
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import snowmelt
from snowmelt import registry
from snowmelt.interop import graph as module
from snowmelt.interop import to_onnx, to_torch_export, tracing
from snowmelt.model import Model, alone
from snowmelt.restorers import Conditions, Restorer

UNET = "unet:widths=(8,16),patch=2,groups=4,blocks=1"
LOCAL = "local-unet:widths=(8,16),blocks=1"
NOISE = "noise:schedule=betas(steps=20,beta_max=0.3)"
CHOICE = "choice:parts=(gaussian-blur,mask)"
FREE = ("batch", 1, "height", "width")
NEEDED = "these tests run graphs by onnxruntime, which is not installed: pip install 'snowmelt[test]'"


def model(degradation: str = NOISE, parameterization: str = "v", backbone: str = UNET, shape: tuple[int, int, int] = (1, 8, 8), **given) -> Model:
    """An untrained model of which no weight is 0, and no statistic trivial."""
    d, fields = registry.build(degradation), {name: given.pop(name) for name in ("input", "range") if name in given}
    generator = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = registry.build(backbone, "backbone")
        r = Restorer(d, net, shape, parameterization=registry.build(parameterization, "parameterization"), **given)
        for value in r.parameters():
            if value.ndim > 1 and not value.any():
                torch.nn.init.normal_(value, std=0.1)
    r.fit([torch.randn(8, *shape, generator=generator) * 0.3 + 0.2])
    return Model(d, r.eval().requires_grad_(False), noise_floor=given.get("noise_floor", 0.0), **fields)


@pytest.fixture
def session():
    """A file run by onnxruntime, called with arrays by name."""
    runtime = pytest.importorskip("onnxruntime", reason=NEEDED)

    def load(path: Path):
        options = runtime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        return runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    return load


def close(found: np.ndarray, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=1e-4 * max(2.0, float(wanted.abs().max())))


CASES = [
    *((degradation, parameterization, backbone, {}) for backbone in (UNET, LOCAL, "zero")
      for degradation, parameterization in (
          (NOISE, "x0"), (NOISE, "residual"), (NOISE, "eps"), (NOISE, "v"), (NOISE, "mu"), (NOISE, "edm"), ("noise:schedule=linear", "flow"))),
    ("gaussian-blur", "residual", UNET, {"input": "8bit"}),
    ("holes", "residual", UNET, {}),
    (CHOICE, "residual", UNET, {}),
    (NOISE, "v", UNET, {"variance": "learned", "conditions": Conditions(classes=3, vector=2, image=1)}),
    (NOISE, "v", LOCAL, {"conditions": Conditions(classes=3, vector=2, image=1)}),
]  # fmt: skip


@pytest.mark.parametrize(("degradation", "parameterization", "backbone", "given"), CASES)
def test_onnxruntime_computes_what_the_model_computes_at_any_size(tmp_path, session, degradation, parameterization, backbone, given) -> None:
    one = model(degradation, parameterization, backbone, **given)
    made = to_onnx(one, tmp_path / "net.onnx")
    assert made.size is None
    assert made.inputs["x_t"] == FREE
    assert made.difference <= 1e-4
    runner = session(tmp_path / "net.onnx")
    assert [i.name for i in runner.get_inputs()] == list(made.inputs)
    assert [o.name for o in runner.get_outputs()] == list(made.outputs)
    ports = tracing.Graph(one).ports
    for batch, size, seed in ((1, (8, 8), 10), (3, (8, 8), 11), (3, (11, 6), 12), (1, (16, 21), 13)):
        inputs = tracing.example(one, ports, batch, size, seed)
        z = {port.entry: value for port, value in zip(ports[2:], inputs[2:], strict=True)}
        wanted = [value for value in one.predict(inputs[0], inputs[1], z) if value is not None]
        found = runner.run(None, {port.name: value.numpy() for port, value in zip(ports, inputs, strict=True)})
        assert len(found) == len(wanted) == (2 if given.get("variance") else 1)
        for mine, theirs in zip(found, wanted, strict=True):
            close(mine, theirs)


FIXED = [
    ("gaussian-blur", UNET, (1, 8, 8), {}),
    ("gaussian-blur:padding=circular", LOCAL, (1, 7, 9), {}),
    ("recursive-blur:steps=5", "zero", (1, 7, 8), {"input": "8bit"}),
    ("mask", UNET, (1, 8, 8), {"noise_floor": 0.05}),
    ("fade-mask", "zero", (1, 8, 8), {}),
    ("grey", UNET, (3, 8, 8), {}),
    (NOISE, UNET, (1, 8, 8), {"variance": "learned"}),
]


@pytest.mark.parametrize(("degradation", "backbone", "shape", "given"), FIXED)
def test_wiener_coefficients_are_of_one_size(tmp_path, session, degradation, backbone, shape, given) -> None:
    one = model(degradation, "wiener", backbone, shape, **given)
    for size in (None, (12, 10)):
        made = to_onnx(one, tmp_path / "net.onnx", size=size, overwrite=True)
        assert made.size == (size or shape[1:])
        assert made.inputs["x_t"] == ("batch", shape[0], *made.size)
        runner, ports = session(tmp_path / "net.onnx"), tracing.Graph(one, made.size).ports
        for batch in (1, 3):
            inputs = tracing.example(one, ports, batch, made.size, 20 + batch)
            z = {port.entry: value for port, value in zip(ports[2:], inputs[2:], strict=True)}
            found = runner.run(["x0_hat"], {port.name: value.numpy() for port, value in zip(ports, inputs, strict=True)})
            close(found[0], one.estimate(inputs[0], inputs[1], z))
    assert "Wiener" in to_onnx(one, tmp_path / "again.onnx").why


def test_one_part_of_a_choice_has_it_in_its_graph(tmp_path, session) -> None:
    whole = model(CHOICE, "residual")
    assert list(to_onnx(whole, tmp_path / "both.onnx").inputs) == ["x_t", "t", "which"]
    x, t = torch.rand(3, 1, 9, 8) * 2 - 1, torch.tensor([0.0, 0.5, 1.0])
    answers = []
    for part in ("gaussian-blur", "mask"):
        one = alone(whole, part)
        made = to_onnx(one, tmp_path / f"{part}.onnx")
        assert list(made.inputs) == ["x_t", "t"]
        answers += session(tmp_path / f"{part}.onnx").run(None, {"x_t": x.numpy(), "t": t.numpy()})
        close(answers[-1], one.estimate(x, t))
        assert one.restorer.held, "the model is as it was"
    assert np.abs(answers[0] - answers[1]).max() > 1e-2


def test_a_plane_that_is_made_of_a_number_fixes_the_size_and_names_have_no_dots(tmp_path, session) -> None:
    made = to_onnx(model("gaussian-blur+mask", "residual"), tmp_path / "net.onnx")
    assert made.inputs["centre"] == ("batch", 2)
    assert made.size == (8, 8)
    assert "1.centre" in made.why
    twice = to_onnx(model("holes+holes:strokes=2", "residual"), tmp_path / "twice.onnx")
    assert list(twice.inputs) == ["x_t", "t", "mask_0", "mask_1"]
    assert twice.size is None


def test_the_shipped_photo_model_takes_any_size(tmp_path, session) -> None:
    photo = snowmelt.load("photo")
    made = to_onnx(photo, tmp_path / "photo.onnx")
    assert made.size is None
    assert made.inputs["mask"] == FREE
    x, t, mask = torch.rand(2, 3, 37, 50) * 2 - 1, torch.tensor([0.3, 1.0]), torch.ones(2, 1, 37, 50)
    runner = session(tmp_path / "photo.onnx")
    (found,) = runner.run(None, {"x_t": x.numpy(), "t": t.numpy(), "mask": mask.numpy()})
    close(found, photo.estimate(x, t))  # a mask of ones is none
    mask[:, :, 10:20] = 0
    (masked,) = runner.run(None, {"x_t": x.numpy(), "t": t.numpy(), "mask": mask.numpy()})
    close(masked, photo.estimate(x, t, {"7.mask": mask}))
    assert np.abs(found - masked).max() > 1e-2


def test_the_file_says_what_it_is(tmp_path, session) -> None:
    one = model("gaussian-blur", "wiener", shape=(1, 8, 10), input="8bit", noise_floor=0.1)
    to_onnx(one, tmp_path / "net.onnx", weights="ab" * 32)
    said = session(tmp_path / "net.onnx").get_modelmeta().custom_metadata_map
    assert said["snowmelt.degradation"] == "gaussian-blur"
    assert said["snowmelt.shape"] == "1,8,10"
    assert said["snowmelt.size"] == "8,10"
    assert said["snowmelt.range"] == "-1,1"
    assert (said["snowmelt.estimates"], said["snowmelt.noise_floor"], said["snowmelt.input"]) == ("mean", "0.1", "8bit")
    assert said["snowmelt.weights"] == "ab" * 32
    assert said["snowmelt.version"] == snowmelt.__version__
    assert list(json.loads(said["snowmelt.inputs"])) == ["x_t", "t"]
    to_onnx(one, tmp_path / "again.onnx")
    assert len(session(tmp_path / "again.onnx").get_modelmeta().custom_metadata_map["snowmelt.weights"]) == 64


PROGRAMS = [
    ("gaussian-blur", "residual", UNET, {"input": "8bit"}, None),
    (NOISE, "v", LOCAL, {"conditions": Conditions(classes=3), "variance": "learned"}, None),
    ("recursive-blur:steps=5", "wiener", "zero", {}, (8, 8)),
    ("mask", "wiener", "zero", {}, (8, 8)),
]


@pytest.mark.parametrize(("degradation", "parameterization", "backbone", "given", "size"), PROGRAMS)
def test_torch_export_gives_what_the_model_gives(tmp_path, degradation, parameterization, backbone, given, size) -> None:
    one = model(degradation, parameterization, backbone, **given)
    made = to_torch_export(one, tmp_path / "net.pt2")
    assert made.size == size
    assert made.multiple == tracing.Graph(one).multiple
    extra = {"snowmelt.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    assert json.loads(extra["snowmelt.json"])["snowmelt.degradation"] == registry.spec(one.degradation)
    ports = tracing.Graph(one).ports
    assert [port.name for port in ports] == list(made.inputs)
    for batch, pixels in ((1, size or (8, 12)), (3, size or (20, 8))):
        inputs = tracing.example(one, ports, batch, pixels, 30 + batch)
        z = {port.entry: value for port, value in zip(ports[2:], inputs[2:], strict=True)}
        out = program(**{port.name: value for port, value in zip(ports, inputs, strict=True)})
        found = out if isinstance(out, tuple) else (out,)
        wanted = [value for value in one.predict(inputs[0], inputs[1], z) if value is not None]
        for mine, theirs in zip(found, wanted, strict=True):
            close(mine.numpy(), theirs)


@pytest.mark.parametrize("write", [to_onnx, to_torch_export])
def test_what_has_no_graph_is_refused_by_name_and_leaves_nothing(tmp_path, write) -> None:
    plain = Model(registry.build("gaussian-blur"), lambda x, t: x)
    with pytest.raises(ValueError, match="plain function or a wrapper"):
        write(plain, tmp_path / "net")
    with pytest.raises(ValueError, match="outside"):
        write(model(), tmp_path / "net", size=(0, 8))
    with pytest.raises(ValueError, match="is a directory"):
        write(model(), tmp_path)
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match="--overwrite"):
        write(model(), tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch) -> None:
    (tmp_path / "net.onnx").write_text("old")
    real = module._onnx_bytes

    def broken(graph, said):
        graph.restorer.net.out.bias += 1e-3
        return real(graph, said)

    monkeypatch.setattr(module, "_onnx_bytes", broken)
    with pytest.raises(ValueError, match="would differ from the model by"):
        to_onnx(model("gaussian-blur", "residual"), tmp_path / "net.onnx", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "old"


@pytest.mark.parametrize("side", [96, 160])
def test_cosine_transforms_that_go_by_an_fft_elsewhere_are_products_in_the_graph(tmp_path, session, side) -> None:
    """Beyond some sizes the library takes complex numbers, which ONNX does not have."""
    m = model("gaussian-blur:sigma_px=2", "wiener", shape=(1, side, side))
    assert to_onnx(m, tmp_path / "net.onnx").difference < 1e-4
    x, t = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 1.0])
    (found,) = session(tmp_path / "net.onnx").run(None, {"x_t": x.numpy(), "t": t.numpy()})
    close(found, m.estimate(x, t))


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_without_its_packages_the_extra_is_named(tmp_path, monkeypatch, name) -> None:
    real = builtins.__import__

    def missing(wanted, *rest, **kept):
        if wanted == name:
            raise ImportError(wanted)
        return real(wanted, *rest, **kept)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=rf'needs {name}, which is not installed: pip install "snowmelt\[onnx\]"'):
        to_onnx(model(), tmp_path / "net.onnx")


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 2), (5, 4)])
def test_real_transforms_are_the_complex_ones(size) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    wanted = torch.fft.rfft2(x, norm="ortho")
    with tracing.Plain(fixed=True):
        found = torch.fft.rfft2(x, norm="ortho")
        again = torch.fft.irfft2(found, s=size, norm="ortho")
        assert torch.equal(torch.fft.fftfreq(size[0], dtype=torch.float64), tracing._frequencies(size[0], dtype=torch.float64))
    torch.testing.assert_close(torch.complex(*found), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(again, x, rtol=0, atol=1e-5)


def test_the_model_is_left_as_it_was(tmp_path) -> None:
    one = model("gaussian-blur", "wiener")
    before = {name: value.clone() for name, value in one.restorer.state_dict().items()}
    settings = dataclasses.replace(one)
    to_onnx(one, tmp_path / "net.onnx", size=(12, 10))
    assert one == settings
    assert one.restorer.tiles is None
    assert one.restorer.statistics.shape == (1, 8, 8)
    for name, value in one.restorer.state_dict().items():
        assert torch.equal(value, before[name]), name
