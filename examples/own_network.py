"""A network of your own: any module net(x, t) that keeps height and width will do. Trained for some seconds by ``python examples/own_network.py``.

Writes own_network.png, and the run to own_network/; 'snowmelt report own_network --plugin examples/own_network.py' makes a page of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import nn

import snowmelt
from snowmelt import pictures
from snowmelt.data import open_data
from snowmelt.recipes.recipe import from_table
from snowmelt.recipes.run import train


class Net(nn.Module):
    """Three convolutions; t enters as a plane of its own."""

    def __init__(self, inside: int, outside: int, width: int) -> None:
        super().__init__()
        first, second, third = (nn.Conv2d(a, b, 5, padding=2) for a, b in ((inside + 1, width), (width, width), (width, outside)))
        self.layers = nn.Sequential(first, nn.GELU(), second, nn.GELU(), third)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([x, t[:, None, None, None].expand(-1, 1, *x.shape[2:]).to(x)], 1))


@snowmelt.register("three-convolutions")
@dataclass(frozen=True)
class ThreeConvolutions(snowmelt.Backbone):
    """What a recipe names: the sizes of the network, which it can build."""

    width: Annotated[int, snowmelt.Range(1, 512), "channels"] = 32

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        return Net(in_channels, out_channels, self.width)


def main(out: Path = Path("own_network")) -> None:
    """Train it, and compare with doing nothing."""
    training = {"images": 6400, "validate_every": 3200, "validation_images": 32, "lr": 2e-3}
    sizes, data = {"backbone": "three-convolutions:width=24", "noise_floor": 0.02}, {"path": "bundled:digits", "size": 16}
    recipe = from_table({"degradation": "gaussian-blur:sigma_px=2", "data": data, "model": sizes, "training": training})
    model = train(recipe, out, fresh=True)
    clean = open_data(recipe.data, "validation").batch(range(64))["x0"]
    degraded = model.corrupt(clean, 1.0, torch.Generator().manual_seed(0)).x
    columns = {"Degraded": degraded, "Direct": snowmelt.restore(model, degraded, severity=1.0, sampler=None), "Clean": clean}
    for name, x in columns.items():
        print(f"{name}: RMSE {float((x - clean).square().mean().sqrt()):.3f}")
    pictures.save(out.with_suffix(".png"), pictures.grid({name: x[:6] for name, x in columns.items()}))


if __name__ == "__main__":
    main()
