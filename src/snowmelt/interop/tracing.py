r"""A model's restorer as one function of tensors, which exporters can follow: what :meth:`Model.predict` does, and nothing else.

.. math:: (x_t, t, z_1, z_2, \dots) \mapsto \hat x_0

with one named argument for each entry of the draw that the restorer reads. The rounding of an 8-bit model is in it; a noise floor is not, for it is
added where x_t is made; tiles are off. Where R uses no coefficients of a size, batch, height and width stay free. Statistics of a spectrum, and
pictures that are made of a number (the mask around a centre), are of one size: there height and width are fixed.

ONNX has no complex numbers, and its exporter lacks some of torch's shorthands. :class:`Plain` says while a graph is followed what they mean. A real
FFT is two products with matrices there, its real and imaginary parts one further axis in front, where real gains multiply both:

.. math:: Y = F_h X R_w, \qquad F_h = C_h - i S_h, \quad R_w = C_w - i S_w .
"""

import copy
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snowmelt.degradations import Choice, Compose, Degradation, Mixture
from snowmelt.model import Model
from snowmelt.restorers import Restorer
from snowmelt.restorers.statistics import Statistics
from snowmelt.restorers.tiles import WHOLE
from snowmelt.types import Batch, Draw

_DUST = 0.01


@dataclass(frozen=True)
class Port:
    """An input of a graph.

    Attributes:
        name: what the file calls it.
        entry: the entry of the draw that it is; "" for x_t and t.
        axes: the length of each axis, or its name where it is free.
        dtype: of its values.
    """

    name: str
    entry: str
    axes: tuple[int | str, ...]
    dtype: torch.dtype


class Graph(nn.Module):
    """Model.predict as a module of tensors in, tensors out; called as graph(x_t, t, *entries), or by the names of its `ports`.

    Args:
        model: its restorer is a :class:`~snowmelt.restorers.Restorer`.
        size: (h, w) for which it is made; None leaves them free where they can be, else takes the training samples'.

    Attributes:
        ports: its inputs, in order.
        size: (h, w) if it is of one size, else None.
        why: why it is of one size; "" if it is not.
    """

    ports: tuple[Port, ...]

    def __init__(self, model: Model, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        assert isinstance(model.restorer, Restorer)  # noqa: S101 - looked at by whoever makes one
        restorer = whole(model.restorer)
        self.held: Draw = dict(restorer.held)
        restorer.held = {}
        self.why = "--size was given" if size else _fixed_by(restorer)
        self.size = size or ((int(restorer.shape[-2]), int(restorer.shape[-1])) if self.why else None)
        if restorer.statistics is not None and self.size is not None:
            restorer.statistics = _at(restorer.statistics, (restorer.shape[0], *self.size))
        self.restorer = restorer
        self.model = replace(model, restorer=restorer, estimator=None, prior=None)
        self.ports = _ports(model, self.size)
        self.plain = False  # True while an exporter without complex numbers follows

    def called(self, x_t: Batch, t: Tensor, *entries: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """x0_hat (b, c, h, w), and the spread of the same shape where it was learned."""
        z = {port.entry: value for port, value in zip(self.ports[2:], entries, strict=True)}
        rows = x_t.shape[0]
        z |= {name: value.expand(rows, *value.shape) for name, value in self.held.items()}
        x0_hat, spread = self.model.predict(x_t, t, z)
        return x0_hat if spread is None else (x0_hat, spread)

    def by_name(self) -> nn.Module:
        """This graph with a forward whose arguments are named as its ports are, which exporters read."""
        names = [port.name for port in self.ports]
        signature = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ["self", *names]])

        def forward(self: Graph, *args: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            given = signature.bind(self, *args, **named).arguments
            inputs = [given[name] for name in names]
            if not self.plain:
                return self.called(*inputs)
            with Plain(fixed=self.size is not None):
                return self.called(*inputs)

        forward.__signature__ = signature  # type: ignore[attr-defined]
        out = copy.copy(self)
        out.__class__ = type("Graph", (Graph,), {"forward": forward})
        return out

    @property
    def multiple(self) -> int:
        """What the network pads both sides to, in px."""
        return int(getattr(self.restorer.net, "multiple", 1))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it returns."""
        return ("x0_hat", "spread") if self.restorer.variance == "learned" else ("x0_hat",)

    def example(self, batch: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs: uniform samples degraded by the model at severities from 0 to 1, and what is told of that draw."""
        return example(self.model, self.ports, batch, size, seed)


def whole(restorer: Restorer) -> Restorer:
    """A copy of a restorer that computes in float32 on the CPU, whole pictures at a time, eagerly."""
    out = copy.deepcopy(restorer).cpu().float().eval().requires_grad_(False)
    out.precision, out.tiles = "fp32", WHOLE  # a graph has no loop over tiles
    if hasattr(out, "compiled"):
        out.compiled = False
    return out


def example(model: Model, ports: Sequence[Port], batch: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
    """Random inputs of a graph: see :meth:`Graph.example`."""
    assert isinstance(model.restorer, Restorer)  # noqa: S101 - as above
    conditions, generator = model.restorer.conditions, torch.Generator().manual_seed(seed)
    x0 = torch.rand(batch, model.restorer.shape[0], *size, generator=generator) * 2 - 1
    t = torch.linspace(0, 1, max(batch, 2))[-batch:] if seed % 2 else torch.rand(batch, generator=generator)
    z: dict[str, Tensor] = dict(model.draw(x0, generator))
    if conditions.classes:
        z["label"] = torch.randint(-1, conditions.classes, (batch,), generator=generator)
    if conditions.vector:
        z["vector"] = torch.randn(batch, conditions.vector, generator=generator)
    if conditions.image:
        z["image"] = torch.rand(batch, conditions.image, *size, generator=generator) * 2 - 1
    told = (z[port.entry].to(port.dtype) for port in ports[2:])
    # A blur that leaves nothing but a constant would have normalisation make a picture of the last digits; no file is that clean.
    return (model.degrade(x0, t, z) + _DUST * torch.randn(x0.shape, generator=generator), t, *told)


def _ports(model: Model, size: tuple[int, int] | None) -> tuple[Port, ...]:
    """x_t, t, and one for each entry of the draw that R reads and nobody holds."""
    restorer = model.restorer
    assert isinstance(restorer, Restorer)  # noqa: S101 - as above
    h, w = size or ("height", "width")
    entries = [name for name in (*_read(restorer), *restorer.conditions.names) if name not in restorer.held]
    last = [entry.rpartition(".")[2] for entry in entries]
    seen = {"label": torch.zeros(2, dtype=torch.int64), "vector": torch.zeros(2, restorer.conditions.vector)}
    seen["image"] = torch.zeros(2, restorer.conditions.image, *restorer.shape[1:])
    like = torch.zeros(2, *restorer.shape)
    drawn = {**seen, **model.draw(like, torch.Generator().manual_seed(0))}
    out = [Port("x_t", "", ("batch", restorer.shape[0], h, w), torch.float32), Port("t", "", ("batch",), torch.float32)]
    for entry, short in zip(entries, last, strict=True):
        value = drawn[entry]
        axes = ("batch", value.shape[1], h, w) if _pictures(value, like) else ("batch", *value.shape[1:])
        dtype = torch.float32 if value.is_floating_point() else torch.int64
        out.append(Port(short if last.count(short) == 1 else f"{short}_{entry.rpartition('.')[0].replace('.', '_')}", entry, axes, dtype))
    return tuple(out)


def _read(restorer: Restorer) -> tuple[str, ...]:
    """The entries of the draw of its degradation that R reads, those too that a mixture tells only where they are known."""

    def of(part: Degradation) -> tuple[str, ...]:
        if isinstance(part, Compose | Mixture):
            return tuple(f"{i}.{name}" for i, inner in enumerate(part.parts) for name in of(inner))
        return part.tells

    return of(restorer.degradation) if restorer.told else ()


def _pictures(value: Tensor, like: Tensor) -> bool:
    return value.ndim == 4 and value.shape[2:] == like.shape[2:]


def _fixed_by(restorer: Restorer) -> str:
    """Why height and width cannot be free; "" where they can."""
    if restorer.statistics is not None:
        return "its Wiener coefficients are of one size"
    if isinstance(restorer.degradation, Choice):  # one-hot planes, the same at every pixel
        return ""
    like = torch.zeros(2, *restorer.shape)
    drawn = restorer.degradation.draw(like, torch.Generator().manual_seed(0))
    numbers = [name for name in _read(restorer) if not _pictures(drawn[name], like)]
    return f"the planes made of {', '.join(numbers)} are of one size" if numbers else ""


def _at(statistics: Statistics, shape: tuple[int, int, int]) -> Statistics:
    """Statistics as they are for samples of another shape."""
    out = Statistics(shape, statistics.basis)
    mean, variance = statistics.at(shape)
    out.mean.copy_(mean)
    out.variance.copy_(variance)
    return out


class Plain(TorchFunctionMode):
    """What a graph without complex numbers makes of some of torch's functions; with `fixed`, sizes beside the batch are numbers, not values."""

    def __init__(self, *, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """`func`, or what stands for it."""
        kwargs = kwargs or {}
        attribute = getattr(getattr(func, "__self__", None), "__name__", "") if getattr(func, "__name__", "") == "__get__" else ""
        if attribute == "shape" and self.fixed:
            shape = func(*args)
            return (shape[0], *map(int, shape[1:])) if len(shape) else shape
        if attribute == "mT":
            return args[0].transpose(-2, -1)
        return _MEANING.get(func, func)(*args, **kwargs)


def _real_fft(x: Tensor, s: None = None, dim: tuple[int, int] = (-2, -1), norm: str | None = None) -> Tensor:
    """The orthonormal 2-D real FFT of (b, c, h, w) as (2, b, c, h, w // 2 + 1)."""
    _only(s is None and dim == (-2, -1) and norm == "ortho", "rfft2")
    h, w = int(x.shape[-2]), int(x.shape[-1])
    (c, d), (cw, dw) = _turn(h), (m[:, : w // 2 + 1] for m in _turn(w))
    rows = (c @ x, d @ x)
    return torch.stack([rows[0] @ cw - rows[1] @ dw, -(rows[0] @ dw) - rows[1] @ cw])


def _inverse_real_fft(y: Tensor, s: tuple[int, int] = (0, 0), dim: tuple[int, int] = (-2, -1), norm: str | None = None) -> Tensor:
    """The samples (b, c, h, w) of such a transform: every frequency but 0 and the highest stands for two."""
    _only(s[1] > 0 and dim == (-2, -1) and norm == "ortho", "irfft2")
    width, half = int(s[1]), int(s[1]) // 2 + 1
    twice = torch.full((half, 1), 2.0)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    (c, d), (cw, dw) = _turn(int(y.shape[-2])), (m[:half] * twice for m in _turn(width))
    real, imaginary = c @ y[0] - d @ y[1], d @ y[0] + c @ y[1]
    return real @ cw - imaginary @ dw


@functools.lru_cache(maxsize=16)
def _turn(n: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the orthonormal DFT of n samples, (n, n) each."""
    k = np.arange(n)
    angle = 2 * math.pi * (np.outer(k, k) % n) / n
    return tuple(torch.from_numpy((f(angle) / math.sqrt(n)).astype(np.float32)) for f in (np.cos, np.sin))  # type: ignore[return-value]


def _frequencies(n: int, d: float = 1.0, *, dtype: torch.dtype = torch.float32, **kept: Any) -> Tensor:
    return torch.from_numpy(np.fft.fftfreq(n, d)).to(dtype)


def _only(fits: bool, name: str) -> None:
    if not fits:
        raise ValueError(f"a graph of real numbers knows {name} of whole pictures, orthonormal, only")


_MEANING: dict[Any, Callable[..., Any]] = {
    torch.expm1: lambda x: torch.exp(x) - 1,
    torch.Tensor.expm1: lambda x: torch.exp(x) - 1,
    torch.fft.rfft2: _real_fft,
    torch.fft.irfft2: _inverse_real_fft,
    torch.fft.fftfreq: _frequencies,
}
