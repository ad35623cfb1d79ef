"""Memory: samples at t = 1 kept as they are, each with the draw that made it.

No law is assumed, so this prior fits every degradation, whatever it draws: masks, layers of snow, the pictures another picture is
morphed to. The price: a walk can begin only where a training picture ended. What it makes is as new as the restorer makes it, and
where x_1 still shows the picture that is a restored training picture, not a new one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self

import torch

from snowmelt.priors.base import Learned, as_state
from snowmelt.randomness import uniform
from snowmelt.registry import Range, register
from snowmelt.types import Batch, Generators, State


@register("from-data")
@dataclass(frozen=True)
class FromData(Learned):
    """One of the first `samples` degraded training samples it was fitted to, with its draw; any of them alike, again and again."""

    samples: Annotated[int, Range(1, 100_000), "how many are kept, inside the model: 4 bytes a value"] = 256

    def fit(self, batches: Iterable[Batch | State]) -> Self:
        """Keeps the first samples, reading no more batches than it needs."""
        kept: dict[str, list[torch.Tensor]] = {}
        count = 0
        for item in batches:
            state = as_state(item)
            rows = {"x": state.x, **{f"z.{name}": value for name, value in state.z.items()}}
            for name, value in rows.items():
                kept.setdefault(name, []).append(value[: self.samples - count].detach().cpu())
            count += len(state.x)
            if count >= self.samples:
                break
        return self.with_tensors({name: torch.cat(values) for name, values in kept.items()})

    def require_learned(self, shape: tuple[int, ...]) -> None:
        """Refuse samples of another shape, and draws that are not one a sample."""
        super().require_learned(shape)
        count = len(self.learned.get("x", ()))
        if self.learned and not (count and all(value.ndim and len(value) == count for value in self.learned.values())):
            raise ValueError("the prior from-data holds no samples, or not one draw for each")

    def sizes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Of the samples."""
        return {"x": (len(self.learned.get("x", ())), *shape)}

    def start(self, n: int, generator: Generators = None) -> State:
        """N of them, with replacement."""
        kept = self._known("x")
        chosen = (uniform(torch.empty(n, dtype=torch.float64), generator, (1,))[:, 0] * len(kept)).long()
        z = {name.removeprefix("z."): value[chosen] for name, value in self.learned.items() if name.startswith("z.")}
        return State(kept[chosen], 1.0, z)
