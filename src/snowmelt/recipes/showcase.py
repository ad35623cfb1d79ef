"""What the shipped photo model does to photographs it never saw: the pictures of the README, the demo and the model card.

The photographs come with scikit-image and were not trained on. Their damage is made by snowmelt's own degradations and
rounded to 8 bits, as a file would; seeds are fixed, and every scene is shown, whatever came of it.
"""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from snowmelt import pictures, registry
from snowmelt.data import bundled
from snowmelt.data.images import from_uint8, quantise
from snowmelt.metrics import Distortion
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.restoration import restore
from snowmelt.types import Batch, Draw

SIZE_PX = 192


@dataclass(frozen=True)
class Scene:
    """One photograph and what happens to it.

    Attributes:
        title: for people.
        photo: a file of scikit-image.
        damage: a degradation as a spec, at t = 1.
        at: top and left of the cut, in px of the halved photograph.
        tells: whether the model is given the mask, as a user would give it.
    """

    title: str
    photo: str
    damage: str
    at: tuple[int, int] = (0, 0)
    tells: bool = False


SCENES = (
    Scene("Noise", "astronaut.png", "noise:schedule=ve(sigma_max=0.2)", (0, 40)),
    Scene("JPEG, quality 12", "coffee.png", "jpeg:quality=12", (0, 60)),
    Scene("Half the resolution", "astronaut.png", "pixelate:levels=1", (0, 40)),
    Scene("Blur, noise, JPEG", "rocket.jpg", "gaussian-blur:sigma_px=1.2+noise:schedule=ve(sigma_max=0.06)+jpeg:quality=50", (20, 30)),
    Scene("Scratches, mask given", "coffee.png", "holes:strokes=12,width_px=5", (0, 60), tells=True),
)


def play(model: Model, scene: Scene, seed: int = 0) -> tuple[Batch, Batch, Batch]:
    """The scene's damaged, restored and clean picture, each (1, 3, h, w)."""
    clean = _cut(scene)
    damage = registry.build(scene.damage)
    drawn = damage.draw(clean, generator(seed, f"showcase-{scene.title}"))
    damaged = quantise(damage(clean, clean.new_ones(1), drawn))
    return damaged, quantise(restore(model, damaged, severity=1.0, sampler=None, z=_told(model, drawn) if scene.tells else {})), clean


def sheet(model: Model, scenes: tuple[Scene, ...] = SCENES) -> tuple[Image.Image, dict[str, tuple[float, float]]]:
    """All scenes as rows, Degraded | Direct (one call) | Clean, and each one's PSNR in dB before and after."""
    played = [play(model, scene) for scene in scenes]
    columns = {name: torch.cat(column) for name, column in zip(("Degraded", "Direct", "Clean"), zip(*played, strict=True), strict=True)}
    scores = {s.title: (_psnr(damaged, clean), _psnr(restored, clean)) for s, (damaged, restored, clean) in zip(scenes, played, strict=True)}
    rows = [f"{title}: {before:.1f} → {after:.1f} dB" for title, (before, after) in scores.items()]
    return pictures.grid(columns, rows=rows), scores


def _cut(scene: Scene) -> Batch:
    top, left = scene.at
    return from_uint8(bundled.photo(scene.photo)[None, top : top + SIZE_PX, left : left + SIZE_PX])


def _told(model: Model, drawn: Draw) -> Draw:
    """The mask under the name it has in the model's draw."""
    return {name: drawn["mask"] for name in model.degradation.given if name.rpartition(".")[2] == "mask"}


def _psnr(x: Tensor, clean: Tensor) -> float:
    scores = Distortion()
    scores.update(x, clean)
    return scores.psnr[0]
