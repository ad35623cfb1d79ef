r"""How degraded is this picture? A small network reads every unknown severity from the pixels, and says how sure it is.

For each of the severities that a degradation calls unknown (:meth:`Degradation.unknowns`) a window of the picture gives the parameters
of a law with an atom at 0, since damage may not be there at all:

.. math:: P(s > 0) = p, \qquad s \mid s > 0 \;\sim\; N(\mu, \sigma^2).

What tells severities apart lies in the finest pixels, so nothing is ever resized: the network sees patches of 2 px through filters that begin
as differences, blind to the level of brightness, and halves twice, so its positions keep to the 8 px grid of JPEG; the means and spreads of its
features over a window decide. A large picture is read in windows of the size the network was trained on, pooled by precision, with

.. math:: \mu = \frac{\sum_i \mu_i / \sigma_i^2}{\sum_i 1 / \sigma_i^2}, \qquad
          \sigma^2 = \frac{1 + (n - 1)\rho}{\sum_i 1 / \sigma_i^2} \, \max(1, \chi^2 / (n - 1)),

where rho is the correlation of the errors of two windows of one picture, measured when the estimator was fitted, and the last factor widens the
answer where windows disagree. Reported are the mean and standard deviation of the whole law, :math:`p\mu` and
:math:`\sqrt{p\sigma^2 + p(1-p)\mu^2}`.

Source: Kendall and Gal 2017 (arXiv 1703.04977) for a network that predicts its own variance; Birge 1932 (Phys. Rev. 40, 207) for the
widening by chi squared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.degradations import Degradation, Mixture
from snowmelt.registry import Range, checked
from snowmelt.types import Batch

SMALLEST_PX = 16
LARGEST_PX = 128  # a window says enough; more of them say more than larger ones
_SIDE = 4  # at most this many windows a side
GRID = 8  # windows begin on the blocks of a JPEG file
_AT_ONCE = 32
PRESENT = 0.5  # damage that is less probable than this is taken to be absent
UNSEEN = ("holes", "grey")  # a hole without a mask, a picture without colour: nobody can tell that they are damage
_LOG_STD = (-5.0, 0.0)  # from .007 to 1: no severity can be told better, or worse
_DISAGREE = 4.0  # windows that differ by twice what they say
# What model.json says of the sizes.
_SIZES = {
    "shape": Annotated[tuple[int, ...], Range(1, 65_536)],
    "unknowns": tuple[str, ...],
    "local": tuple[str, ...],
    "widths": Annotated[tuple[int, ...], Range(1, 4096)],
    "hidden": Annotated[int, Range(1, 4096)],
}
_MOST_UNKNOWNS = 1000
_FINE = 4.0  # differences of neighbours are faint: filters of them begin this much larger


class Reading(NamedTuple):
    """What windows say of k unknowns, calibrated: each (..., k), but `strangeness` (...)."""

    logit: Tensor
    mean: Tensor
    std: Tensor
    strangeness: Tensor


@dataclass(frozen=True)
class Estimate:
    """The severities of b pictures; every mapping has one entry per unknown, each (b,), on the CPU.

    Attributes:
        severity: the expected severity in [0, 1].
        std: its standard deviation.
        present: the probability that this damage is there at all.
        unsure: (b,) bool: the picture looks like none of those the estimator knows, its windows disagree, or a std is
            larger than 99 % of those met in calibration.
    """

    severity: Mapping[str, Tensor]
    std: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    unsure: Tensor

    @property
    def damaged(self) -> Tensor:
        """(b,): the probability that any of the damage that a picture can show is there, the unknowns taken as independent."""
        seen = [chance for name, chance in self.present.items() if name not in UNSEEN]
        return 1 - torch.stack([1 - chance for chance in seen]).prod(0) if seen else torch.ones_like(next(iter(self.present.values())))

    def describe(self, degradation: Degradation) -> list[str]:
        """One line a picture, of what a picture can show, with units where a part knows its own: "noise 0.48 ± 0.05 (sigma 24 ± 3 of 255)"."""
        return [self._line(i, degradation) for i in range(len(self.unsure))]

    def _line(self, i: int, degradation: Degradation) -> str:
        parts = dict(zip(degradation.names, degradation.parts, strict=True)) if isinstance(degradation, Mixture) else {}
        found = []
        for name in sorted(self.severity, key=lambda name: -float(self.present[name][i])):
            t, std, present = (float(kind[name][i]) for kind in (self.severity, self.std, self.present))
            if present < PRESENT or name in UNSEEN:
                continue
            how = "" if present >= 0.9 else "probably "
            units = _units(parts.get(name, degradation), t, std)
            found.append(f"{how}{name} {t:.2f} ± {std:.2f}{f' ({units})' if units else ''}")
        if not found and float(self.damaged[i]) >= PRESENT and (likely := {n: float(c[i]) for n, c in self.present.items() if n not in UNSEEN}):
            found.append(f"some damage, {max(likely, key=likely.__getitem__)} more likely than other")
        text = "; ".join(found) or "no damage found"
        return f"{text}; unsure: this picture is unlike those the estimator knows, or too hard to read" if bool(self.unsure[i]) else text


class Estimator(nn.Module):
    """Reads the severities named `unknowns` from degraded pictures. Fitted by :func:`snowmelt.training.severity.fit`.

    Args:
        shape: (c, h, w) of the windows it is trained on.
        unknowns: the names, as :meth:`Degradation.unknowns` gives them.
        local: those of them that touch only a part of the picture, where one window that sees damage outweighs all that do not.
        widths: channels at 2, 4 and 8 px.
        hidden: width of the head.
    """

    std_scale: Tensor
    logit_scale: Tensor
    prior: Tensor
    shared: Tensor
    std_limit: Tensor
    strange_limit: Tensor
    centre: Tensor
    spread: Tensor
    usual: Tensor
    usual_spread: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        unknowns: Sequence[str],
        *,
        local: Sequence[str] = (),
        widths: tuple[int, int, int] = (32, 64, 96),
        hidden: int = 96,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or not unknowns:
            raise ValueError(f"an estimator reads pictures (c, h, w) with at least one unknown severity; got {tuple(shape)} and {list(unknowns)}")
        self.shape = (shape[0], *(min(side, LARGEST_PX) for side in shape[1:]))
        self.unknowns, self.local, self.widths, self.hidden = tuple(unknowns), tuple(local), widths, hidden
        k, n, (a, b, c) = len(self.unknowns), 2 * sum(widths), widths
        self.layers = nn.ModuleList([nn.Conv2d(4 * shape[0], a, 3, padding=1), *(nn.Conv2d(i, o, 3, 2, 1) for i, o in ((a, b), (b, c)))])
        self.head = nn.Sequential(nn.Linear(n, hidden), nn.SiLU(), nn.Linear(hidden, 3 * k))
        self.register_buffer("std_scale", torch.ones(k))  # calibration of the standard deviations
        self.register_buffer("logit_scale", torch.ones(k))  # and of the odds
        self.register_buffer("prior", torch.zeros(k))  # log odds of presence in training
        self.register_buffer("shared", torch.ones(2, k))  # correlation of two windows' errors: of severity, of presence
        self.register_buffer("std_limit", torch.full((k,), torch.inf))
        self.register_buffer("strange_limit", torch.tensor(torch.inf))
        self.register_buffer("centre", torch.zeros(n))  # of the statistics over training windows, before the first step
        self.register_buffer("spread", torch.ones(n))
        self.register_buffer("usual", torch.zeros(n))  # and after the last one
        self.register_buffer("usual_spread", torch.ones(n))
        with torch.no_grad():
            first = next(self.layers.parameters())
            first.sub_(first.mean((1, 2, 3), keepdim=True)).mul_(_FINE)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def statistics(self, x: Tensor) -> Tensor:
        """Mean and log spread over the positions of each feature: windows (b, c, h, w) -> (b, n)."""
        y = functional.pixel_unshuffle(_padded(x.float()), 2).contiguous(memory_format=torch.channels_last)
        found = []
        for layer in self.layers:
            y = functional.silu(layer(y))
            mean, power = y.mean((-2, -1)), y.square().mean((-2, -1))
            found += [mean, 0.5 * ((power - mean.square()).clamp(min=0) + 1e-6).log()]
        return torch.cat(found, dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Uncalibrated log odds of presence, mean and log standard deviation of windows (b, c, h, w): each (b, k)."""
        return self._law(self.statistics(x))

    def _law(self, statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logit, mean, log_std = self.head((statistics - self.centre) / self.spread).reshape(len(statistics), 3, -1).unbind(1)
        low, high = _LOG_STD
        return logit, torch.sigmoid(mean), low + (high - low) * torch.sigmoid(log_std)

    @torch.no_grad()
    def read(self, windows: Batch) -> Reading:
        """What each of many windows (b, c, h, w) says, calibrated, by itself."""
        rows = []
        for some in torch.split(windows.to(self.centre.device), _AT_ONCE):
            statistics = self.statistics(some)
            logit, mean, log_std = self._law(statistics)
            strange = ((statistics - self.usual) / self.usual_spread).square().mean(1)
            rows.append(Reading(logit * self.logit_scale, mean, log_std.exp() * self.std_scale, strange))
        return Reading(*(torch.cat(column).cpu() for column in zip(*rows, strict=True)))

    def estimate(self, x: Batch) -> Estimate:
        """The severities of degraded pictures x (b, c, h, w) in [-1, 1], of any size; the same for the same pixels, always.

        Raises:
            ValueError: other channels than those it was trained on, or values that are not finite.
        """
        if x.ndim != 4 or x.shape[1] != self.shape[0]:
            raise ValueError(f"this estimator reads pictures (b, c, h, w) with c = {self.shape[0]}; got {tuple(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("x holds values that are not finite (NaN or infinity): repair or leave out those samples")
        windows = self.windows(x)
        found = self.read(windows.flatten(0, 1))
        return self.pooled(Reading(*(value.reshape(*windows.shape[:2], *value.shape[1:]) for value in found)))

    def windows(self, x: Batch) -> Tensor:
        """Windows of the trained size, at most 16, evenly spread over x (b, c, h, w): (b, n, c, h', w')."""
        sides = [min(side, own) for side, own in zip(x.shape[-2:], self.shape[1:], strict=True)]
        tops, lefts = (_starts(side, own) for side, own in zip(x.shape[-2:], sides, strict=True))
        return torch.stack([x[..., i : i + sides[0], j : j + sides[1]] for i in tops for j in lefts], dim=1)

    def pooled(self, found: Reading) -> Estimate:
        """One estimate a picture from the readings (b, n, k) of its windows."""
        n = found.mean.shape[1]
        share_mean, share_logit = ((1 + (n - 1) * rho).cpu() for rho in self.shared)
        weight = found.std**-2
        mean = (weight * found.mean).sum(1) / weight.sum(1)
        seen = torch.sigmoid(found.logit)
        chi = (seen * weight * (found.mean - mean[:, None]).square()).sum(1) / (seen.sum(1) - 1).clamp(min=1)
        local = torch.tensor([name in self.local for name in self.unknowns])
        prior = self.prior.cpu()
        evidence = prior + (found.logit - prior).sum(1) / share_logit
        present = torch.sigmoid(torch.where(local, found.logit.amax(1), evidence))
        variance = share_mean / weight.sum(1) * chi.clamp(min=1)
        std = (present * variance + present * (1 - present) * mean.square()).sqrt()
        disagree = (chi > _DISAGREE) & (present > 0.5) & ~local if n > 1 else torch.zeros_like(present, dtype=torch.bool)
        unsure = ((std > self.std_limit.cpu()) | disagree).any(1) | (found.strangeness.mean(1) > self.strange_limit.cpu())
        severity, deviation, chance = (dict(zip(self.unknowns, value.unbind(1), strict=True)) for value in (present * mean, std, present))
        return Estimate(severity, deviation, chance, unsure)

    def table(self) -> dict[str, Any]:
        """The sizes, as model.json keeps them."""
        listed = {name: list(getattr(self, name)) for name in ("shape", "unknowns", "local", "widths")}
        return {**listed, "hidden": self.hidden}

    def tensors(self) -> dict[str, Tensor]:
        """What is fitted: weights in 16 bits, to which :meth:`rounded` has rounded them, and the calibration in full."""
        weights = dict(self.named_parameters())
        return {name: value.half() if name in weights else value for name, value in self.state_dict().items()}

    def rounded(self) -> Self:
        """This estimator with its weights rounded to what 16 bits hold, so that a saved one is the same."""
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(weight.half())
        return self

    @classmethod
    def described(cls, table: Mapping[str, Any]) -> Self:
        """An estimator of the sizes in a :meth:`table`, which still has to be given its :meth:`tensors`.

        Raises:
            ValueError: they are no sizes.
        """
        said = {name: checked(f"estimator.{name}", kind, table[name]) for name, kind in _SIZES.items()}
        if len(said["widths"]) != 3 or not 1 <= len(said["unknowns"]) <= _MOST_UNKNOWNS:
            raise ValueError(f"estimator: {len(said['widths'])} widths and {len(said['unknowns'])} unknowns; there are 3, and 1 to {_MOST_UNKNOWNS}")
        return cls(said.pop("shape"), said.pop("unknowns"), **said)

    def restored(self, tensors: Mapping[str, Tensor]) -> Self:
        """This estimator with what was fitted put back, ready to use.

        Raises:
            ValueError: it holds NaN.
        """
        strange = [name for name, value in tensors.items() if value.is_complex() or bool(value.isnan().any())]
        if strange:
            raise ValueError(f"{strange[0]} holds NaN")
        self.load_state_dict(dict(tensors))
        return self.eval().requires_grad_(False)


def for_degradation(degradation: Degradation, shape: Sequence[int]) -> Estimator:
    """An estimator of what is unknown of a degradation, with fresh weights from torch's generator.

    Raises:
        ValueError: nothing of it is unknown.
    """
    like = torch.zeros(1, *shape)
    names = list(degradation.unknowns(torch.ones(1), degradation.draw(like, torch.Generator())))
    parts = zip(degradation.names, degradation.parts, strict=True) if isinstance(degradation, Mixture) else ((name, degradation) for name in names)
    return Estimator(shape, names, local=[name for name, part in parts if part.local])


def _starts(side: int, own: int) -> list[int]:
    """Where windows of `own` px begin on an axis of `side` px: evenly spread, on the grid of JPEG blocks."""
    n = min(-(-side // own), _SIDE)
    return [round((side - own) * i / max(n - 1, 1)) // GRID * GRID for i in range(n)]


def _padded(x: Tensor) -> Tensor:
    """Windows large enough, and of even sides: the last row and column are repeated."""
    down, right = (max(SMALLEST_PX - side, side % 2) for side in x.shape[-2:])
    return functional.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def _units(part: Degradation, t: float, std: float) -> str:
    """The severity t ± std in a part's own units; a noise that only adds is counted in levels of an 8-bit file."""
    middle, low, high = (dict(part.in_units(at)) for at in (t, max(t - std, 0.0), min(t + std, 1.0)))
    adds = bool(part.noise) and middle.get("alpha", 1.0) == 1.0
    if adds:
        middle.pop("alpha", None)
    out = []
    for name, value in middle.items():
        half = abs(high[name] - low[name]) / 2
        if half == float("inf"):
            continue  # photons without end: there is hardly any noise to tell
        levels = adds and name == "sigma"
        word, _, unit = ("sigma", "", "of 255") if levels else name.partition("_")
        scale = 127.5 if levels else 1.0
        digits = 0 if scale * value >= 10 else 1 if scale * value >= 1 else 2
        out.append(f"{word} {scale * value:.{digits}f} ± {scale * half:.{digits}f}{f' {unit}' if unit else ''}")
    return ", ".join(out)
