"""The restorer R(x_t, t): a backbone inside a parameterization, always returning an estimate of the clean sample.

It is the only module with weights. What it may know besides x_t and t is what the degradation tells of its draw, a
mask for instance: :meth:`Degradation.context` as extra channels, the same at training and at sampling. A restorer trained
without (``told=False``) never sees it and can be used where the draw is unknown. What it may be told beyond the degradation, a class for
instance, are its :mod:`~snowmelt.restorers.conditions`.

With a *learned variance* the network has twice the channels. The second half says, value by value, where between its two bounds the variance of
an ancestral step lies: ``predict`` returns that *spread* beside the estimate (0 the posterior's variance, 1 the transition's, between them
along the logarithm).

Source for the spread: Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 15.
"""

import abc
import copy
import functools
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from snowmelt.degradations import Choice, Degradation
from snowmelt.registry import SpecError, label
from snowmelt.restorers.backbones import Backbone
from snowmelt.restorers.compilation import Compilation
from snowmelt.restorers.conditions import EMBEDDED, PLANES, Conditions, Embedding, picture_channels
from snowmelt.restorers.parameterization import Coefficients, Parameterization, Residual, Wiener, linear_estimate, scale_output
from snowmelt.restorers.statistics import Statistics
from snowmelt.restorers.tiles import Tiles, tiled
from snowmelt.types import EMPTY, Batch, Draw, Severity

_SMALL = 16  # px
_VALUES = torch.device("cpu")  # what has to be computed to know the sizes is, even where the module is made without memory, on "meta"


class Informed(nn.Module, abc.ABC):
    """A restorer that is handed the draw as well: called as restorer(x_t, t, z). Guidance wraps one in another.

    To write one, subclass it and write :meth:`predict`; a plain function of (x_t, t) needs none of this.

    Example:
        >>> class Brighter(Informed):
        ...     def predict(self, x_t, t, z=EMPTY):
        ...         return x_t + z["vector"][:, :, None, None], None
        >>> float(Brighter()(torch.zeros(1, 1, 2, 2), torch.ones(1), {"vector": torch.ones(1, 1)}).mean())
        1.0
    """

    conditions: Conditions | None = None  # what it reads of them in the draw; None where it does not say

    @abc.abstractmethod
    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """The estimate of the clean sample (b, *d) and, where it was learned, the spread (b, *d) of an ancestral step, about [0, 1]."""

    def forward(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """The estimate of the clean sample: (b, *d)."""
        return self.predict(x_t, t, z)[0]


class Restorer(Informed):
    """x0_hat = m + c_skip (x_t - A m) + c_out F(c_in (x_t - A m), t), for a degradation and samples of a shape.

    Args:
        degradation: what is undone.
        backbone: builds F.
        shape: (c, h, w) of the training samples, or (c, n); other h, w and n are accepted afterwards.
        parameterization: None chooses wiener where the operator is diagonal in a basis, else residual.
        told: whether R is told what `degradation.context` knows of the draw.
        noise_floor: standard deviation of the noise that the model adds to every x_t.
        conditions: what R is told beyond that: classes, a vector, a picture.
        variance: "learned" if the network also says how much an ancestral step should draw.
    """

    conditions: Conditions

    def __init__(
        self,
        degradation: Degradation,
        backbone: Backbone,
        shape: tuple[int, ...],
        *,
        parameterization: Parameterization | None = None,
        told: bool = True,
        noise_floor: float = 0.0,
        conditions: Conditions = Conditions(),  # noqa: B008 - frozen, so one shared default is safe
        variance: Literal["fixed", "learned"] = "fixed",
    ) -> None:
        super().__init__()
        if variance not in ("fixed", "learned"):
            raise ValueError(f"variance = {variance!r}: choose fixed or learned")
        backbone.check(tuple(shape))
        self.conditions, self.variance = conditions, variance
        self.degradation, self.backbone, self.shape, self.noise_floor = degradation, backbone, tuple(shape), noise_floor
        self.parameterization = parameterization or (preferred(degradation, told=told) if len(shape) == 3 else Residual())
        with _VALUES:
            self.parameterization.check(degradation)
            context = _context(degradation, self.shape) if told else None
        self.precision: Literal["fp32", "bf16", "fp16"] = "fp32"
        self.compiled = False  # True: the network by its compiled twin, where there is a compiler; no part of what is saved
        self._compilation = Compilation()
        self.tiles: Tiles | None = None  # None: pictures of more than about 1 megapixel only; see `tiled`
        self.context: tuple[str, ...] = degradation.tells if told else ()
        self.told = told
        self.held: Draw = {}  # entries of the draw that every sample shares; see `bound`
        basis = self.parameterization.basis(degradation)
        if basis is not None and degradation.tells and not told:
            raise SpecError(f"wiener reads {', '.join(degradation.tells)} of the draw, which this restorer is not told: use residual")
        if basis is not None and len(shape) != 3:
            raise SpecError(f"wiener knows means and spectra of pictures (c, h, w), and these samples are {self.shape}: use residual")
        self.statistics = None if basis is None else Statistics(self.shape, basis)
        embedded = conditions.classes > 0 or conditions.vector > 0
        width = (EMBEDDED if backbone.embeds else PLANES) if embedded else 0
        self.embedding = Embedding(conditions, width) if embedded else None
        pictures = conditions.image + 1 if conditions.image else 0
        planes = 0 if backbone.embeds else width
        sizes = (shape[0] + (0 if context is None else context.shape[1]) + pictures + planes, shape[0] * (2 if variance == "learned" else 1))
        net = backbone.build(*sizes, features=width) if backbone.embeds and width else backbone.build(*sizes)  # type: ignore[call-arg]
        # Channels-last everywhere: the layout convolutions in bf16 want, and one layout gives one result, saved or not. Weights of other ranks stay.
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def fit(self, batches: Iterable[Batch]) -> "Restorer":
        """Take the data's mean and variance from clean batches, if the parameterization uses them; once, before training."""
        if self.statistics is not None:
            self.statistics.fit(batches)
        return self

    def bound(self, held: Draw) -> "Restorer":
        """This restorer, weights shared, with entries of the draw held: a kind of damage, a label. Values have no batch axis."""
        out = copy.copy(self)
        out.held = {**self.held, **held}
        out.context = tuple(name for name in self.context if name not in held)
        return out

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        """The estimate of the clean sample (b, *d), float32, and the spread of an ancestral step, of the same shape, if it was learned.

        Args:
            x_t: degraded samples (b, c, h, w) or (b, c, n).
            t: their severities (b,) in [0, 1].
            z: the draw, of which the entries in `context` and the conditions are read.

        Raises:
            ValueError: an entry in `context` is missing, or the channels are not those of the training samples.
        """
        if self.variance == "learned":
            return self._both(x_t, t, z)
        return self(x_t, t, z), None  # as any module is called: hooks run, and a subclass may change forward

    def forward(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """The estimate of :meth:`predict`."""
        return self._both(x_t, t, z)[0]

    def _both(self, x_t: Batch, t: Severity, z: Draw) -> tuple[Batch, Batch | None]:
        self._check(x_t, z)
        z = {**z, **{name: value.to(x_t.device).expand(len(x_t), *value.shape) for name, value in self.held.items()}}
        x_t, t = x_t.float(), t.float()
        with torch.autocast(x_t.device.type, enabled=False):
            c = self.coefficients(x_t, t, z)
            linear, inner = linear_estimate(c, x_t)
            context = self.degradation.context(tuple(x_t.shape[1:]), t, z) if self.told else None
            inner, features = self._told(inner if context is None else torch.cat([inner, context], dim=1), x_t, z)
        half = torch.float16 if self.precision == "fp16" else torch.bfloat16
        with torch.autocast(x_t.device.type, dtype=half, enabled=self.precision != "fp32"):
            # Only the network works by tiles: the linear part, where the whole picture goes with itself, stays whole.
            learning = self.training and torch.is_grad_enabled()
            net, told = self._network(learning=learning), (t,) if features is None else (t, features)
            f = net(inner, *told) if learning or inner.ndim != 4 else tiled(self.net, inner, t, self.tiles, features, net)
        del inner  # as large as the picture, as are the next two
        with torch.autocast(x_t.device.type, enabled=False):
            f = f.float()
            spread = (f[:, self.shape[0] :] + 1) / 2 if self.variance == "learned" else None
            return linear.add_(scale_output(c, f[:, : self.shape[0]])), spread

    def _network(self, *, learning: bool) -> Callable[..., Tensor]:
        """The network, or its compiled twin; a gradient to the input, for guidance, is taken through the network itself."""
        net: nn.Module = self.net
        if not self.compiled or (torch.is_grad_enabled() and not learning):
            return net
        return functools.partial(self._compilation.call, net, training=learning)

    def coefficients(self, like: Batch, t: Severity, z: Draw = EMPTY) -> Coefficients:
        """c_skip, c_out and c_in for a batch shaped as `like` at severities t (b,)."""
        return self.parameterization.coefficients(self.degradation, self.statistics, like, t, z, self.noise_floor)

    def _told(self, inner: Tensor, x_t: Batch, z: Draw) -> tuple[Tensor, Tensor | None]:
        """The network's input with the conditions that enter as channels, and those that enter as features."""
        if not self.conditions:
            return inner, None
        known = {**self.conditions.unknown(x_t), **{name: z[name] for name in self.conditions.names if name in z}}
        if self.conditions.image:
            inner = torch.cat([inner, picture_channels(known["image"].to(inner))], dim=1)
        if self.embedding is None:
            return inner, None
        features = self.embedding(known)
        if self.backbone.embeds:
            return inner, features
        planes = features.reshape(*features.shape, *(1,) * (inner.ndim - 2))
        return torch.cat([inner, planes.expand(-1, -1, *inner.shape[2:])], dim=1), None

    def _check(self, x_t: Tensor, z: Draw) -> None:
        missing = [name for name in self.context if name not in z]
        if missing and isinstance(self.degradation, Choice):
            names = self.degradation.names
            raise ValueError(f"this model undoes {', '.join(names)}: name the one to undo, RUN/{names[0]} (in Python snowmelt.model.alone)")
        if missing:
            raise ValueError(
                f"this restorer was trained knowing {', '.join(missing)} of {label(type(self.degradation))}, which is missing here: "
                "give it in the draw z, or train one that is not told (model.told = false)"
            )
        if x_t.ndim != 1 + len(self.shape) or x_t.shape[1] != self.shape[0]:
            axes = "(c, h, w)" if len(self.shape) == 3 else "(c, n)"
            raise ValueError(f"this restorer was trained on samples {axes} with c = {self.shape[0]}; got a batch of shape {tuple(x_t.shape)}")


def _context(degradation: Degradation, shape: tuple[int, ...]) -> Tensor | None:
    """An example of the context, for the number of its channels: of a small picture, and with no draw where none is told."""
    like = torch.zeros(1, shape[0], *(min(side, _SMALL) for side in shape[1:]))
    z = degradation.draw(like, torch.Generator()) if degradation.tells else EMPTY
    return degradation.context(tuple(like.shape[1:]), like.new_ones(1), z)


def preferred(degradation: Degradation, *, told: bool = True) -> Parameterization:
    """Wiener where the operator is diagonal in a basis and, for masks, known; else residual."""
    if degradation.basis is None or (degradation.tells and not told):
        return Residual()
    return Wiener()
