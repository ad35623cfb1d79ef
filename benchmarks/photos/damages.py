"""The damages of the comparison, each a spec of snowmelt, rounded to 8 bits and seeded by the picture's number.

A restorer gets the damaged picture as a file would hold it. Who restores *non-blind* is told more: the standard
deviation of the noise, the kernel of the blur, the photons of the brightest value. The kernel is what the operator
itself makes of a single bright pixel, with the same draw, so nobody has to write it a second time.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import snowmelt
from snowmelt.data import images
from snowmelt.degradations import Compose, LinearDegradation
from snowmelt.degradations.compose import share_of
from snowmelt.randomness import generator
from snowmelt.types import severity

SEED = 0
_KERNEL_PX = 33  # odd, and wide enough for a smear of 9 px with its ringing


@dataclass(frozen=True)
class Damage:
    """One kind of damage at one strength.

    Attributes:
        key: its name in the results.
        title: its name for people.
        family: damages whose blind restorers share their parameters.
        spec: the degradation; empty for none.
        sigma: standard deviation of the noise in levels of 255, where it is the same everywhere; else 0.
        peak: photons of the brightest value, where light is counted; else 0.
        quality: that of a real JPEG file written by Pillow, in place of `spec`; else 0.
        roles: the kinds of classical restorer that make sense.
    """

    key: str
    title: str
    family: str
    spec: str
    sigma: float = 0.0
    peak: float = 0.0
    quality: int = 0
    roles: tuple[str, ...] = ("denoise",)

    @property
    def scale(self) -> int:
        """How many pixels a side become one: 2 for super-resolution."""
        return 2 if "enlarge" in self.roles else 1


@dataclass(frozen=True)
class Known:
    """What a restorer is told: noise as a standard deviation of values in [0, 1], a kernel (k, k) of sum 1, photons."""

    sigma: float = 0.0
    kernel: NDArray[np.float32] | None = None
    peak: float = 0.0


def _noise(sigma: float) -> str:
    """White noise of `sigma` levels of 255, which is sigma / 127.5 in [-1, 1]."""
    return f"noise:schedule=ve(sigma_max={sigma / 127.5:.6g})"


_DEBLUR = ("denoise", "deblur")
DAMAGES = (
    *(Damage(f"noise-{s}", f"noise, sigma {s}", "noise", _noise(s), sigma=s) for s in (15, 25, 50)),
    Damage("x2", "x2 super-resolution", "x2", "pixelate:levels=1", roles=("enlarge",)),
    *(Damage(f"jpeg-{q}", f"JPEG {q}", "jpeg", f"jpeg:quality={q}") for q in (10, 20, 40)),
    *(Damage(f"jpeg-file-{q}", f"JPEG {q}, a real file", "jpeg", "", quality=q) for q in (10, 20, 40)),
    Damage("blur", "Gaussian blur 1.5 px, noise 5", "blur", f"gaussian-blur:sigma_px=1.5+{_noise(5)}", sigma=5, roles=_DEBLUR),
    Damage("poisson", "photon noise, peak 30", "poisson", "poisson-noise:peak=30", peak=30, roles=("denoise", "shot")),
    Damage("motion", "motion blur 9 px, noise 5", "motion", f"motion-blur:length_px=9+{_noise(5)}", sigma=5, roles=_DEBLUR),
    Damage("mixed", "blur 1 px, noise 10, JPEG 40", "mixed", f"gaussian-blur:sigma_px=1+{_noise(10)}+jpeg:quality=40", sigma=10, roles=_DEBLUR),
    Damage("clean", "none", "noise", ""),
)


def even(x: Tensor, scale: int) -> Tensor:
    """A picture (c, h, w) without the last row or column that `scale` does not divide."""
    h, w = x.shape[-2:]
    return x[..., : h - h % scale, : w - w % scale]


def apply(damage: Damage, clean: Tensor, number: int) -> tuple[Tensor, Known]:
    """The damaged picture (c, h, w) in [-1, 1] on the grid of 8 bits, and what a non-blind restorer is told.

    Args:
        damage: what is done.
        clean: (c, h, w) in [-1, 1], its sides divisible by the damage's scale.
        number: of the picture in its set: the seed of the draw.
    """
    if damage.quality:
        return _file(clean, damage.quality), Known()
    if not damage.spec:
        return images.quantise(clean), Known()
    x, degradation = clean[None], snowmelt.build(damage.spec)
    z = degradation.draw(x, [generator(SEED, f"photos/{damage.key}", number)])
    damaged = images.quantise(degradation(x, severity(1.0, x), z))[0]
    kernel = None
    if "deblur" in damage.roles:
        blur, share = (degradation.parts[0], share_of(z, 0)) if isinstance(degradation, Compose) else (degradation, z)
        kernel = _kernel(blur, share)
    return damaged, Known(damage.sigma / 255, kernel, damage.peak)


def _kernel(blur: LinearDegradation, z: snowmelt.Draw) -> NDArray[np.float32]:
    point = torch.zeros(1, 1, _KERNEL_PX, _KERNEL_PX)
    point[..., _KERNEL_PX // 2, _KERNEL_PX // 2] = 1
    spread = blur(point, severity(1.0, point), z)[0, 0].numpy()
    return (spread / spread.sum()).astype(np.float32)


def _file(clean: Tensor, quality: int) -> Tensor:
    """Written and read as a JPEG file with 4:2:0 colour."""
    buffer = io.BytesIO()
    Image.fromarray(images.to_uint8(clean)).save(buffer, format="JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        return images.from_uint8(np.asarray(image))
