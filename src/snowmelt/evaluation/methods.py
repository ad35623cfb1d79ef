"""The methods that are compared: doing nothing, one call, walks.

A method takes a model, a state at t = 1 and the pictures' numbers, and returns what it makes of them, with the last estimate
of a walk. Its *kind* says what its row may be used for:

============  ====================================================  ====================
degraded      what doing nothing scores                             compared
filter        a restorer without a network                          compared
direct        one call of the restorer                              compared
walk          a sampler at a number of calls                        compared
handed        a walk that is handed what nobody could know          beside
clean, floor  what the measures say of clean pictures               beside
all           Degraded, over all test pictures: an anchor           beside
============  ====================================================  ====================

Rows *beside* the comparison are never marked best and never in the verdict.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from snowmelt import fields, registry
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.randomness import generators
from snowmelt.samplers import Ancestral, Sampler
from snowmelt.types import Batch, State, severity

Method: TypeAlias = Callable[[Model, State, Sequence[int]], tuple[Batch, Batch | None]]
Kind: TypeAlias = Literal["degraded", "filter", "direct", "walk", "handed", "clean", "floor", "all"]
BESIDE: tuple[Kind, ...] = ("handed", "clean", "floor", "all")
HANDED = ", handed the draw"


class Entry(NamedTuple):
    """A method with its row's first cells.

    Attributes:
        title: what the row is called.
        kind: what the row may be used for.
        calls: of the restorer.
        method: what is done.
        own: the model it runs with, where that is not the one being judged.
    """

    title: str
    kind: Kind
    calls: int
    method: Method
    own: Model | None = None


def degraded(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
    """The picture as it is."""
    return state.x, None


@torch.no_grad()
def direct(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
    """One call of the restorer."""
    return model.estimate(state.x, severity(state.t, state.x), state.z), None


def walk(sampler: Sampler, seed: int) -> Method:
    """The end of a walk, x at t = 0, and its last estimate; samplers that draw do so by the pictures' numbers."""

    def method(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
        *_, end = sampler.trajectory(model, state, generators(seed, "evaluation-walk", ids))
        return end.x, end.x0

    return method


def title(sampler: Sampler) -> str:
    """The literature's names: those of the paper for its two algorithms, DDPM and DDIM; the registered name for others. With what sets it apart."""
    name = registry.label(type(sampler))
    if isinstance(sampler, Ancestral):
        name = {0.0: "DDIM", 1.0: "DDPM"}.get(sampler.eta, f"ancestral, eta = {sampler.eta:g}")
    name = {"naive": "Algorithm 1 (naive)", "tacos": "Algorithm 2 (TACoS)"}.get(name, name)
    common = {field.name for field in registry.schema(Sampler)} | {"eta"}
    own = [f for f in registry.schema(sampler) if f.name not in common and getattr(sampler, f.name) != f.default]
    values = {f.name: getattr(sampler, f.name) for f in own}
    variant = "".join(f", {name}" if value is True else f", {name} = {fields.number(value)}" for name, value in values.items())
    return f"{name}{variant}{', order 2' if sampler.order == 2 else ''}"


def calls(sampler: Sampler, degradation: Degradation) -> int:
    """How often a walk from t = 1 calls the restorer: fewer than its `steps` where a table has fewer knots."""
    return sampler.calls(degradation)


def distinct(samplers: Iterable[Sampler], degradation: Degradation) -> list[Sampler]:
    """The samplers without those that would walk exactly as an earlier one does, on a table with few knots."""
    kept: dict[tuple[str, int], Sampler] = {}
    for sampler in samplers:
        kept.setdefault((title(sampler), calls(sampler, degradation)), sampler)
    return list(kept.values())


def compared(row: Mapping[str, Any]) -> bool:
    """Whether a row takes part in the comparison; rows of reports from before there were kinds say so by their title."""
    if "kind" in row:
        return row["kind"] not in BESIDE
    return not str(row["method"]).startswith("Degraded, all")
