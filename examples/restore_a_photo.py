"""Break photographs in three ways and restore them with the model that comes with snowmelt; nothing is trained, nothing downloaded.

    python examples/restore_a_photo.py

The model is blind: nobody tells it what the damage is, or how strong. Writes restore_a_photo.png, and a page to move through one degradation by hand.
"""

from pathlib import Path

import torch

import snowmelt
from snowmelt import pictures
from snowmelt.data import bundled
from snowmelt.data.images import from_uint8, quantise
from snowmelt.pictures import page, scrubber
from snowmelt.randomness import generator

DAMAGE = {
    "JPEG": "jpeg:quality=12",
    "half the resolution": "pixelate:levels=1",
    "blur and noise": "gaussian-blur:sigma_px=1.2+noise:schedule=ve(sigma_max=0.06)",
}


def psnr(x: torch.Tensor, clean: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in [-1, 1]."""
    return float(10 * torch.log10(4 / ((x - clean) ** 2).mean()))


def main(out: Path = Path()) -> None:
    """Write the pictures to `out` and print what was won."""
    model = snowmelt.load("photo")
    clean = from_uint8(bundled.photo("coffee.png")[None, :160, 60:220])  # (1, 3, 160, 160): the model has never seen this photograph
    damaged, restored = [], []
    for name, spec in DAMAGE.items():
        D = snowmelt.build(spec)
        x = quantise(D(clean, torch.ones(1), D.draw(clean, generator(0, name))))  # whole grey levels, as in a file
        damaged.append(x)
        restored.append(snowmelt.restore(model, x))
        print(f"{name:20} {psnr(x, clean):5.2f} dB -> {psnr(restored[-1], clean):5.2f} dB")
    columns = {"Degraded": torch.cat(damaged), "Direct": torch.cat(restored), "Clean": clean.expand(len(damaged), -1, -1, -1)}
    pictures.save(out / "restore_a_photo.png", pictures.grid(columns, rows=list(DAMAGE)))

    D, steps = snowmelt.build("gaussian-blur:sigma_px=6"), [i / 12 for i in range(13)]
    frames = [D(clean, torch.tensor([t]), D.draw(clean)) for t in steps]
    moving = scrubber(frames, [f"t = {t:.2f}" for t in steps], caption="A blur, from nothing to all of it.", start=0)
    (out / "blur.html").write_text(page.page("Degrading a photograph", [moving]), encoding="utf-8")


if __name__ == "__main__":
    main()
