"""``snowmelt degrade``: see what a degradation does to a picture, from t = 0 to t = 1."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from snowmelt.cli.machine import Plugins, plug_in
from snowmelt.cli.overrides import listed

if TYPE_CHECKING:
    from torch import Tensor


def _commas(severities: tuple[float, ...]) -> str:
    return ",".join(f"{t:g}" for t in severities)


Severities = Annotated[tuple[float, ...], listed(item=float, help="Severities in [0, 1], separated by commas.", show_default=_commas)]


def degrade(
    *images: Path,
    degradation: str,
    severities: Severities = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    out: Path | None = None,
    size: int | None = None,
    endpoint: Path | None = None,
    seed: int = 0,
    plugin: Plugins = (),
) -> None:
    """Draw the strip of a picture, degraded from clean to prior.

    Args:
        images: pictures of one size, a row each.
        degradation: what to do to them, as a spec: noise, or gaussian-blur:sigma_px=8.
        severities: in [0, 1].
        out: the PNG to write; by default named after the picture, in this folder.
        size: cut a square of so many px from the middle first.
        endpoint: the picture that a morph ends in.
        seed: of what is random.
        plugin: parts of your own.
    """
    if not images:
        raise ValueError("degrade needs a picture: snowmelt degrade IMAGE --degradation SPEC")
    for t in severities:
        if not 0 <= t <= 1:
            raise ValueError(f"severity {t:g} lies outside [0, 1]: 0 is the clean picture, 1 the strongest degradation")
    if not severities:
        raise ValueError("--severities is empty: give numbers in [0, 1], such as 0,.5,1")
    plug_in(plugin)
    import torch

    from snowmelt import pictures, registry
    from snowmelt.data.images import read, to_channels
    from snowmelt.degradations import Degradation
    from snowmelt.randomness import generators
    from snowmelt.types import severity

    D: Degradation = registry.build(degradation)
    rows = [_square(read(image).over(), size) for image in images]
    channels = max(row.shape[0] for row in rows)
    rows = [to_channels(row, channels) for row in rows]
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"the pictures have sizes {sorted({(r.shape[2], r.shape[1]) for r in rows})}: add --size, or give one at a time")
    x = torch.stack(rows)
    given = D.given_by(_ending(endpoint, x))
    z = {**D.draw(x, generators(seed, "degrade", range(len(x)))), **given}
    if lacking := sorted(set(D.needs) - given.keys()):
        raise ValueError(f"{degradation} turns pictures into another one, its {', '.join(lacking)}: add --endpoint PICTURE")
    strip = pictures.strip([D(x, severity(t, x), z) for t in severities], [f"t = {t:g}" for t in severities])
    path = out or Path(f"{images[0].stem}-{registry.label(type(D))}.png")
    pictures.save(path, strip)
    print(f"wrote {path}")


def _ending(endpoint: Path | None, x: "Tensor") -> dict[str, "Tensor"]:
    """The picture that a morph ends in, made as large as those of x."""
    if endpoint is None:
        return {}
    from snowmelt.data.images import read, resize, to_channels

    y = resize(to_channels(read(endpoint).over(), x.shape[1]), (x.shape[2], x.shape[3]))
    return {"endpoint": y.expand_as(x)}


def _square(x: "Tensor", size: int | None) -> "Tensor":
    """The middle of a picture (c, h, w), enlarged first where it is too small."""
    from snowmelt.data.dataset import fitted

    if size is None:
        return x
    if not 4 <= size <= 8192:
        raise ValueError(f"--size {size} lies outside [4, 8192] px")
    x = fitted(x, size, "crop")
    top, left = (x.shape[1] - size) // 2, (x.shape[2] - size) // 2
    return x[:, top : top + size, left : left + size]
