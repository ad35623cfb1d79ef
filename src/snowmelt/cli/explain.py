"""``snowmelt explain``: what a sampler does, as the one rule with its gain, in words, and with the paper it is from."""

import inspect
import textwrap
from dataclasses import asdict
from itertools import pairwise
from json import dumps
from typing import TYPE_CHECKING, Any

from snowmelt.cli.machine import Plugins, Switch, plug_in

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.degradations import Degradation
    from snowmelt.samplers import Sampler

_FORMULA = "x_s = mu_s(x0) + K (x_t - mu_t(x0)) + tau eps"
_SYMBOLS = (
    "x0 is the restorer's estimate of the clean sample, mu_t(x0) what the degradation makes of it without its noise, A_t its gain, "
    "sigma_t the size of its noise; eps is new noise, s < t."
)
_WIDTH = 100
_SIDE = 16
_NOTHING = 1e-12


def explain(sampler: str, degradation: str | None = None, /, *, json: Switch = False, plugin: Plugins = ()) -> None:
    """Explain a sampler: its rule with the gain K and the noise tau, the paper, what it fits, what it costs.

    Args:
        sampler: a name, or a spec such as ancestral:eta=0.5,steps=20.
        degradation: a spec; then K and tau are also given as numbers, measured on moves of the walk over it.
        json: print it as JSON.
        plugin: parts of your own.
    """
    plug_in(plugin)
    from snowmelt import registry

    walk: Sampler = registry.build(sampler, "sampler")
    part: Degradation | None = None if degradation is None else registry.build(degradation)
    rows = [] if part is None else _numbers(walk, part)
    if json:
        print(_json(walk, part, rows))
        return
    print(f"{registry.spec(walk)}\n")
    for line in _described(walk):
        print(line)
    if part is not None:
        _print(walk, part, rows)


def _described(walk: "Sampler") -> list[str]:
    """The rule, line by line; the docstring where there is none."""
    rule = walk.rule
    if rule is None:
        return [inspect.cleandoc(type(walk).__doc__ or ""), "", "It does not say what its gain is: give its class a property 'rule'."]
    said = {
        "K": rule.gain,
        "tau": rule.noise,
        "fits": rule.fits,
        "calls a step": f"{rule.calls}; steps = {walk.steps} counts them all",
        "order 2": rule.second,
    }
    said |= {"paper" if i == 0 else f"{'':5}": source for i, source in enumerate(rule.source)}
    lines = [*textwrap.wrap(rule.words, _WIDTH), "", f"    {_FORMULA}", ""]
    for name, text in said.items():
        lines += textwrap.wrap(text, _WIDTH, initial_indent=f"  {name:<13} ", subsequent_indent=" " * 16)
    return [*lines, "", *textwrap.wrap(_SYMBOLS, _WIDTH)]


def _numbers(walk: "Sampler", part: "Degradation") -> list[dict[str, Any]]:
    """K and tau of a few moves of the walk: the first, the last, and some between."""
    from snowmelt.samplers import measured

    walk.require(part)
    pairs = list(dict.fromkeys(pair for pair in pairwise(walk.walk(part)) if pair[1] <= pair[0]))
    chosen = sorted({round(i * (len(pairs) - 1) / 4) for i in range(5)})
    shape = (3 if part.basis == "channel" else 1, _SIDE, _SIDE)
    rows = []
    for t, s in (pairs[i] for i in chosen):
        found = measured(walk, part, t, s, shape)
        gain, noise = (_columns(part, numbers) for numbers in found)
        rows.append({"t": t, "s": s, "sigma_t": _sigma(part, t), "sigma_s": _sigma(part, s), "K": gain, "tau": noise})
    return rows


def _sigma(part: "Degradation", t: float) -> float:
    import torch

    return float(part.sigma(torch.tensor([t], dtype=torch.float64)))


def _columns(part: "Degradation", numbers: "Tensor") -> dict[str, float]:
    """Numbers of a basis, reduced to those that tell most: one, some frequencies, two channels, or the extremes."""
    match part.basis:
        case "any":
            return {"all": float(numbers.mean())}
        case "dct":
            return {f"{k / (2 * _SIDE):.2g}": float(numbers[0, k, k]) for k in (0, _SIDE // 4, _SIDE // 2, _SIDE - 1)}
        case "fft":
            return {f"{k / _SIDE:.2g}": float(numbers[0, k, k]) for k in (0, _SIDE // 8, _SIDE // 4, _SIDE // 2)}
        case "channel":
            return {"grey": float(numbers[0].mean()), "colour": float(numbers[1].mean())}
        case _:
            return {"least": float(numbers.min()), "most": float(numbers.max())}


def _print(walk: "Sampler", part: "Degradation", rows: list[dict[str, Any]]) -> None:
    from snowmelt import registry

    heading = {"dct": "by frequency along rows and columns, in cycles per pixel", "pixel": "the least and the most of all pixels"}
    how = heading.get(str(part.basis), heading["dct"] if part.basis == "fft" else "")
    print(f"\nOn {registry.spec(part)}, {walk.calls(part)} calls; K and tau as measured{f', {how}' if how else ''}:\n")
    titles = ["t", "s", "sigma_t", "sigma_s", *(kind if name == "all" else f"{kind} {name}" for kind in ("K", "tau") for name in rows[0][kind])]
    values = [[row["t"], row["s"], row["sigma_t"], row["sigma_s"], *row["K"].values(), *row["tau"].values()] for row in rows]
    for line in (titles, *([f"{value:.4g}" if abs(value) > _NOTHING else "0" for value in row] for row in values)):
        print("  " + " ".join(f"{cell:>9}" for cell in line))  # no table of rich, which would cut numbers to fit a narrow window


def _json(walk: "Sampler", part: "Degradation | None", rows: list[dict[str, Any]]) -> str:
    from snowmelt import registry

    rule = walk.rule
    found: dict[str, Any] = {"sampler": registry.spec(walk), "formula": _FORMULA, "rule": None if rule is None else asdict(rule)}
    if part is not None:
        found |= {"degradation": registry.spec(part), "calls": walk.calls(part), "moves": rows}
    return dumps(found, indent=2)
