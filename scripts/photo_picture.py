"""Draw what the photo model does: docs/images/photo.png (damaged, restored, original, scores beside them) and the README's moving picture.

    python scripts/photo_picture.py

Every scene of snowmelt.recipes.showcase is shown, none was chosen. The moving picture is photo.png's first two columns: each scene is broken, then a
line wipes over it from left to right, and behind the line it is restored.
"""

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw

import snowmelt
from snowmelt import pictures
from snowmelt.data.images import to_uint8
from snowmelt.pictures.tiles import FONT_PX, WHITE, write
from snowmelt.recipes.showcase import SCENES, play, sheet
from snowmelt.types import Batch

IMAGES = Path(__file__).parents[1] / "docs" / "images"
GAP_PX, HEAD_PX = 8, 28
WIPE, FRAME_MS, BROKEN_MS, RESTORED_MS = 24, 50, 1200, 2600


def wiped(broken: Batch, restored: Batch, share: float) -> Batch:
    """The restored picture left of a white line, the broken one right of it; `share` of the width is restored."""
    w = broken.shape[-1]
    at = round(share * w)
    out = torch.cat([restored[..., :at], broken[..., at:]], -1)
    if 0 < at < w:
        out[..., max(at - 1, 0) : at + 1] = 1
    return out


def frame(scenes: list[tuple[Batch, Batch]], share: float) -> Image.Image:
    """All scenes beside one another, each under its name."""
    h, w = scenes[0][0].shape[-2:]
    out = Image.new("RGB", (len(scenes) * (w + GAP_PX) - GAP_PX, h + HEAD_PX), WHITE)
    for i, (scene, (broken, restored)) in enumerate(zip(SCENES, scenes, strict=True)):
        x = i * (w + GAP_PX)
        out.paste(Image.fromarray(to_uint8(wiped(broken, restored, share))[0]), (x, HEAD_PX))
        write(out, [scene.title], FONT_PX, x + w / 2, HEAD_PX - 9)
    if share in (0, 1):
        word = "broken" if share == 0 else "restored"
        draw = ImageDraw.Draw(out)
        draw.rectangle((0, HEAD_PX + h - 24, 84, HEAD_PX + h), fill=WHITE)
        write(out, [word], FONT_PX, 42, HEAD_PX + h - 7)
    return out


def moving(model: snowmelt.Model, path: Path) -> None:
    """Broken, wiped, restored, and back: one animated WebP."""
    scenes = [play(model, scene)[:2] for scene in SCENES]
    shares = [i / WIPE for i in range(WIPE + 1)]
    frames = [frame(scenes, share) for share in shares]
    times = [BROKEN_MS, *[FRAME_MS] * (WIPE - 1), RESTORED_MS]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=72, method=6, kmin=100, kmax=101)


def main(out: Path, name: str) -> None:
    """The sheet and the moving picture, every scene in both."""
    model = snowmelt.load(name)
    picture, scores = sheet(model)
    pictures.save(out / "photo.png", picture)
    moving(model, out / "restored.webp")
    for title, (before, after) in scores.items():
        print(f"{title:24} {before:5.1f} dB -> {after:5.1f} dB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES, sys.argv[2] if len(sys.argv) > 2 else "photo")
