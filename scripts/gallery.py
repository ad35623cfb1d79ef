"""Draw every registered degradation at five severities, and write the gallery page: docs/see.md and docs/images/degradations.

    python scripts/gallery.py          # or a folder: the pictures go there, and the page stays as it is

A degradation is shown at its defaults unless SHOWN says otherwise, so a new one appears by itself. Pictures are a bundled photograph (chelsea, CC0);
recordings a few notes and scans a yard, both made here, since no recording and no scan comes with the package.
"""

import inspect
import math
import sys
from pathlib import Path

import torch
from PIL import Image

import snowmelt
from snowmelt import pictures
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.degradations import Degradation
from snowmelt.randomness import generator
from snowmelt.registry import label, lookup, names, schema
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.testing.samples import scans, signal_of
from snowmelt.types import Batch, severity

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "images" / "degradations"
SEVERITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOWN = {  # those that need parts, or that show more of themselves with other fields than the defaults
    "choice": "choice:parts=(gaussian-blur,mask)",
    "compose": "gaussian-blur:sigma_px=2+noise:schedule=linear",
    "decolour": "decolour:routine=constant,total=true",
    "fade-mask": "fade-mask:steps=100",
    "fog": "fog:visibility_m=30",
    "mixture": "mixture:parts=(gaussian-blur(sigma_px=2),noise(schedule=ve(sigma_max=0.3)),jpeg),chances=(1)",
    "recursive-blur": "recursive-blur:routine=special-6,steps=50",
    "resample": "resample:steps=5",
}
BESIDE = {"fade-mask-generation": "fade-mask:kernel_std=0.05,steps=750,reverse=true,towards=colour"}  # for docs/degradations.md alone
GIVEN = {"morph": "--endpoint other.png"}
HEADINGS = {
    "picture": ("Pictures", "photo.png", "One photograph, from clean (left) to what is left of it at t = 1."),
    "sound": ("Sound", "voice.wav", "Eight notes as spectrograms, low frequencies below, and under them the waveform. [All about sound](sound.md)."),
    "scan": ("LiDAR scans", "scan.bin", "One turn of a LiDAR in a walled yard: near is bright, black no return. [All about scans](lidar.md)."),
}
DRAWN = (1, "gallery")
CHOICES = 2  # rows of a degradation that is another one for each sample


def shown() -> dict[str, str]:
    """The spec of every registered degradation as it is shown, by name.

    Raises:
        ValueError: one cannot be built from its name alone, and SHOWN has no spec for it.
    """
    out = {}
    for name in names("degradation"):
        needed = [field.name for field in schema(name) if field.required]
        if needed and name not in SHOWN:
            raise ValueError(f'{name} needs {", ".join(needed)}: add a spec such as "{name}:{needed[0]}=..." to SHOWN in scripts/gallery.py')
        out[name] = SHOWN.get(name, name)
    return out


def samples(signal: type[Signal]) -> tuple[Batch, Batch, Signal]:
    """A sample to degrade, another one to end in, and what they are."""
    if signal is Sound:
        return _notes(1.0), _notes(0.7), Sound()
    if signal is Scan:
        sensor = Scan(rings=64, azimuths=512)
        yards = scans(2, (3, sensor.rings, sensor.azimuths)).float()
        return yards[:1], yards[1:], sensor
    bundled = [open_data(DataOptions(path="bundled:photos", size=128), split).batch([0])["x0"] for split in ("validation", "train")]
    return bundled[0], bundled[1], PICTURE


def drawn(spec: str) -> Image.Image:
    """One degradation at all severities, its draw held."""
    D: Degradation = snowmelt.build(spec)
    x, other, signal = samples(signal_of(D))
    if spec.startswith("choice"):
        x, other = (one.expand(CHOICES, *one.shape[1:]) for one in (x, other))
    z = {**D.draw(x, generator(*DRAWN)), **D.given_by({"endpoint": other})}
    frames = [D(x, severity(t, x), z) for t in SEVERITIES]
    return pictures.strip(frames, [f"t = {t:g}" for t in SEVERITIES], signal=signal)


def gallery() -> str:
    """The page's body: one heading for each signal, one picture for each degradation."""
    by_signal: dict[str, list[str]] = {name: [] for name in HEADINGS}
    for name, spec in shown().items():
        kind = label(signal_of(snowmelt.build(spec)))
        words = " ".join(inspect.cleandoc(lookup(name).__doc__ or "").partition("\n\n")[0].split()).replace("``", "`")
        quoted = f"'{spec}'" if "(" in spec else spec
        command = " ".join(["snowmelt degrade", HEADINGS[kind][1], "--degradation", quoted, *filter(None, [GIVEN.get(name)])])
        by_signal[kind].append(
            f"### {name}\n\n{words}\n\n![{name} at t = 0, 1/4, 1/2, 3/4 and 1](images/degradations/{name}.webp)\n\n```\n{command}\n```\n"
        )
    parts = [f"## {HEADINGS[kind][0]}\n\n{HEADINGS[kind][2]}\n\n" + "\n".join(entries) for kind, entries in by_signal.items() if entries]
    return "\n".join(parts).strip()


def main(out: Path = PICTURES) -> None:
    """One strip a degradation, named after it; into the documentation's own folder, also the page between its markers."""
    out.mkdir(parents=True, exist_ok=True)
    for name, spec in {**shown(), **BESIDE}.items():
        drawn(spec).save(out / f"{name}.webp", quality=80, method=6)
    if out.resolve() != PICTURES:
        return
    page = ROOT / "docs" / "see.md"
    page.write_text(pictures.between_markers(page.read_text(encoding="utf-8"), "gallery", gallery()), encoding="utf-8")


def _notes(scale: float) -> Batch:
    """Eight plucked notes of six harmonics, two seconds at 8 kHz: (1, 1, 16000), at the level of all recordings."""
    rate, long = 8000, 2000
    at = torch.arange(long) / rate
    notes = []
    for step in (0, 4, 7, 12, 11, 7, 4, 2):
        pitch = scale * 220 * 2 ** (step / 12)
        tone = sum(torch.sin(2 * math.pi * k * pitch * at) / k**1.2 for k in range(1, 7))
        notes.append(tone * torch.exp(-9 * at))
    x = torch.cat(notes)[None, None]
    return Sound().level * x / x.square().mean().sqrt()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
