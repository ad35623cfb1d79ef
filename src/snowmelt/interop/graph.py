r"""Write the restorer of a model as one graph: an ONNX file for any runtime, or a .pt2 file of ``torch.export``.

=============  ====================================================================================================================
inputs         ``x_t`` (b, c, h, w) float32 and ``t`` (b,) float32; then one for each entry of the draw that R reads, under its name:
               ``centre``, ``mask``, ``which``; ``label`` (b,) int64, -1 for unknown; ``vector`` and ``image``, NaN for unknown
outputs        ``x0_hat`` (b, c, h, w), and ``spread`` of the same shape where the variance of a step was learned
metadata       ``snowmelt.degradation``, ``.range``, ``.shape``, ``.size``, ``.estimates``, ``.noise_floor``, ``.input``, ``.weights`` ...
=============  ====================================================================================================================

The graph is what ``Model.predict`` computes, in float32, rounding of the input included (:mod:`snowmelt.interop.tracing`). The sampler is not in it.

What was written is read again and compared with the model before it gets its name: the largest difference, over severities, batches and sizes, may be
1e-4 of the range of the data, or of the largest value where the estimate goes beyond it.

ONNX goes through torch's TorchScript exporter, which every torch since 2.6 has and which needs the package onnx alone; torch calls it deprecated, for
its successor wants a further package. Opset 17.
"""

import contextlib
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt._version import __version__
from snowmelt.disk import replacing
from snowmelt.interop.tracing import Graph, whole
from snowmelt.model import Model
from snowmelt.restorers import Restorer

OPSET = 17
WORST = 1e-4
SIDE = "snowmelt.json"  # the metadata inside a .pt2 file
_MOST_PX, _MOST = 1 << 14, 1 << 16
_BATCHES = (1, 3, 2)

Run = Callable[[Sequence[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        inputs: names and axes, a number where one is fixed.
        outputs: names.
        size: (h, w) if these are fixed.
        why: what fixes them.
        multiple: where they are free, they have to be multiples of this, in px.
        difference: the largest from torch's output, in units of the range.
        comparisons: how many batches were compared.
    """

    inputs: dict[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]
    size: tuple[int, int] | None
    why: str
    multiple: int
    difference: float
    comparisons: int


def to_onnx(
    model: Model, path: str | Path, *, size: tuple[int, int] | None = None, weights: str | None = None, overwrite: bool = False
) -> Exported:
    """Write the restorer of `model` as an ONNX file and compare it, run by onnxruntime, with the model.

    Args:
        model: its restorer is a :class:`~snowmelt.restorers.Restorer`.
        path: the file; it appears whole and compared, or not at all.
        size: (h, w) to make it for; None leaves them free where no coefficients are of one size, else takes the training samples'.
        weights: the SHA-256 of the weights, for the metadata; None takes that of the tensors as they are.
        overwrite: replace a file that is there.

    Raises:
        ValueError: the extra onnx is missing, `path` exists, the restorer is no network of snowmelt, or its graph cannot be written.
        ValueError: the file does not compute what the model does.
        OSError: the disk is full, or the place cannot be written.
    """
    for name in ("onnx", "onnxruntime"):
        _needed(name)
    graph = _graph(model, size, path, overwrite=overwrite)
    with replacing(path) as temporary:
        with _said(path, "ONNX"):
            temporary.write_bytes(_onnx_bytes(graph, metadata(graph, model, weights)))
        return _compared(graph, model, _onnx_run(temporary, graph), path, multiple=1)


def to_torch_export(
    model: Model, path: str | Path, *, size: tuple[int, int] | None = None, weights: str | None = None, overwrite: bool = False
) -> Exported:
    """Write the restorer of `model` by ``torch.export.save`` and compare what ``torch.export.load`` makes of it with the model.

    The arguments, and what is raised, are those of :func:`to_onnx`; no extra is needed. The metadata is the file's extra ``snowmelt.json``. Where the
    size is free, sides are multiples of what the network pads to, at least two of them: whoever calls it pads.
    """
    graph = _graph(model, size, path, overwrite=overwrite)
    with replacing(path) as temporary:
        with _said(path, "torch.export"):
            program = _program(graph)
            with temporary.open("wb") as file:
                torch.export.save(program, file, extra_files={SIDE: json.dumps(metadata(graph, model, weights, multiple=graph.multiple))})
        module = torch.export.load(io.BytesIO(temporary.read_bytes())).module()
        names = [port.name for port in graph.ports]

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            out = module(**dict(zip(names, inputs, strict=True)))
            return [out] if isinstance(out, Tensor) else list(out)

        return _compared(graph, model, run, path, multiple=graph.multiple)


def metadata(graph: Graph, model: Model, weights: str | None = None, *, multiple: int = 1) -> dict[str, str]:
    """What a file says of itself: text under names that begin with "snowmelt."; sides that are free are multiples of `multiple`."""
    restorer, low_high = graph.restorer, model.range
    said = {
        "version": __version__,
        "degradation": registry.spec(model.degradation),
        "shape": ",".join(map(str, restorer.shape)),
        "size": ",".join(map(str, graph.size)) if graph.size else "any",
        "multiple": str(multiple),
        "range": f"{low_high[0]:g},{low_high[1]:g}",
        "estimates": model.estimates,
        "noise_floor": f"{model.noise_floor:g}",
        "input": model.input,
        "backbone": registry.spec(restorer.backbone),
        "parameterization": registry.spec(restorer.parameterization),
        "inputs": json.dumps({port.name: {"draw": port.entry, "axes": port.axes} for port in graph.ports}),
        "weights": weights or _digest(restorer),
    }
    return {f"snowmelt.{name}": text for name, text in said.items()}


def _graph(model: Model, size: tuple[int, int] | None, path: str | Path, *, overwrite: bool) -> Graph:
    """The graph of a model that can be written to a place that is free."""
    if not isinstance(model.restorer, Restorer):
        raise ValueError("this model cannot be written as a graph: its restorer is a plain function or a wrapper; give the model that was trained")
    if size is not None and not all(1 <= side <= _MOST_PX for side in size):
        raise ValueError(f"export: size = {size[0]} x {size[1]} px lies outside [1, {_MOST_PX}] px")
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a directory: give the name of a file")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists: choose another name, or overwrite it (--overwrite)")
    return Graph(model, size)


@torch.no_grad()
def _onnx_bytes(graph: Graph, said: dict[str, str]) -> bytes:
    """The graph as an ONNX file."""
    import onnx

    graph.plain = True
    named, size = graph.by_name(), graph.size or _uneven(graph)
    inputs = graph.example(2, size)
    graph.called(*inputs)  # tables that are kept are made now, and enter as constants
    free = {port.name: {i: axis for i, axis in enumerate(port.axes) if isinstance(axis, str)} for port in graph.ports}
    free |= dict.fromkeys(graph.outputs, free["x_t"])
    buffer = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # what a trace may miss is what the comparison is for
        torch.onnx.export(
            named,
            inputs,
            buffer,  # type: ignore[arg-type]  # it takes files, too
            input_names=[port.name for port in graph.ports],
            output_names=list(graph.outputs),
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(proto, said)
    proto.producer_name, proto.producer_version = "snowmelt", __version__
    onnx.checker.check_model(proto)
    data: bytes = proto.SerializeToString()
    return data


@torch.no_grad()
def _program(graph: Graph) -> "torch.export.ExportedProgram":
    """The graph as torch.export has it: batch free, height and width where they can be."""
    step = graph.multiple
    dims = {"batch": torch.export.Dim("batch", min=1, max=_MOST)}
    if graph.size is None:
        # What a network pads depends on the size, which torch.export does not follow: where nothing is padded it does.
        dims |= {name: step * torch.export.Dim(f"{name}_by_{step}", min=2, max=_MOST_PX // step) for name in ("height", "width")}
    shapes = {port.name: {i: dims[axis] for i, axis in enumerate(port.axes) if isinstance(axis, str)} for port in graph.ports}
    graph.restorer.net.to(memory_format=torch.contiguous_format)  # save knows no other as a whole tensor
    inputs = graph.example(2, graph.size or (3 * step, 5 * step))
    graph.called(*inputs)  # tables that are kept are made now, of tensors that are not traced
    named = {port.name: value.clone() for port, value in zip(graph.ports, inputs, strict=True)}
    return torch.export.export(graph.by_name(), (), named, dynamic_shapes=shapes, strict=False)


def _uneven(graph: Graph) -> tuple[int, int]:
    """A size at which the network has to pad both sides, unlike each other and unlike all other lengths."""
    multiple = graph.multiple
    h = next(n for n in range(graph.restorer.shape[-2] + 3, 1 << 20) if multiple == 1 or n % multiple)
    return h, next(n for n in range(h + 2, 1 << 20) if multiple == 1 or n % multiple)


def _onnx_run(path: Path, graph: Graph) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = torch.get_num_threads(), 1, 4
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in graph.ports]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        given: dict[str, Any] = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(list(graph.outputs), given)]

    return run


@torch.no_grad()
def _compared(graph: Graph, model: Model, run: Run, path: str | Path, *, multiple: int) -> Exported:
    """What was written, if `run` gives what the model gives.

    Raises:
        ValueError: it does not.
    """
    assert isinstance(model.restorer, Restorer)  # noqa: S101 - _graph has looked
    reference, width = replace(model, restorer=whole(model.restorer)), model.range[1] - model.range[0]
    h, w = (max(-(-side // multiple), 2) for side in graph.restorer.shape[-2:])  # in multiples
    sizes = [graph.size] if graph.size else [(multiple * a, multiple * b) for a, b in ((h, w), (h + 5, w + 2), (h, 2 * w + 1))]
    worst, count = 0.0, 0
    for size in sizes:
        for batch in _BATCHES:
            inputs = graph.example(batch, size, seed=2 * count + batch % 2)
            z = {port.entry: value for port, value in zip(graph.ports[2:], inputs[2:], strict=True)}
            wanted = [one for one in reference.predict(inputs[0], inputs[1], z) if one is not None]
            try:
                found = run(inputs)
            except Exception as error:  # noqa: BLE001 - a runtime's errors have no class in common
                raise ValueError(f"{path} was not written: what was made of it fails on {batch} of {size} px: {_line(error)}") from None
            for one, other in zip(wanted, found, strict=True):
                scale = max(width, float(one.abs().max()))
                apart = float((one - other).abs().max()) / scale if one.shape == other.shape else float("inf")
                worst = max(worst, apart) if apart == apart else float("inf")
            count += 1
    if not worst <= WORST:
        way = "" if graph.size else "; give --size, in case it is the size"
        raise ValueError(f"{path} was not written: it would differ from the model by {worst:.1e} of the range, more than {WORST:.0e}{way}")
    return Exported({port.name: port.axes for port in graph.ports}, graph.outputs, graph.size, graph.why, multiple, worst, count)


@contextlib.contextmanager
def _said(path: str | Path, form: str) -> Iterator[None]:
    """What an exporter cannot follow, in one line."""
    try:
        yield
    except (OSError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - exporters raise whatever they meet
        other = "torch-export" if form == "ONNX" else "onnx"
        raise ValueError(f"{path} was not written: {form} cannot say what this model computes ({_line(error)}); try --format {other}") from error


def _needed(name: str) -> None:
    try:
        __import__(name)
    except ImportError:
        raise ValueError(f'ONNX needs {name}, which is not installed: pip install "snowmelt[onnx]", or take --format torch-export') from None


def _digest(restorer: Restorer) -> str:
    from safetensors.torch import save

    return hashlib.sha256(save({name: value.detach().contiguous().cpu() for name, value in restorer.state_dict().items()})).hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
