"""A model for photographs beside every restorer of scikit-image, on damage that neither was shown.

Each classical method is tuned on validation photographs: *blind*, one set of parameters for all strengths of a kind of damage and the
noise estimated from the picture; *non-blind*, tuned for the one damage and told its noise and kernel. The model is blind,
and is not even told the kind. All methods first restore a few pictures of every set; the three best of each form, by PSNR, then
restore ``--most`` of them. What is measured stays in the file, so that a second run with ``--model`` adds its rows alone. The table is
``python benchmarks/photos/table.py FILE``.
"""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import classical
import numpy as np
import torch
from damages import DAMAGES, Damage, Known, apply, even
from record import Record, mark, same
from scores import SETTINGS, score
from torch import Tensor

import snowmelt
from snowmelt.data import DataOptions, images, open_data
from snowmelt.recipes.report import environment

CROP_PX = 128
LEADERS = 3  # on five pictures the best may be the luckiest: so many of each form go on
_TOLD = {"jpeg-file-10": "jpeg-10", "jpeg-file-20": "jpeg-20", "jpeg-file-40": "jpeg-40"}  # tuned on our own jpeg, measured on files
Restore: TypeAlias = Callable[[Tensor, Known], Tensor]
Chosen: TypeAlias = dict[tuple[str, str, str], dict[str, Any]]  # by (family, "blind", method) and (damage, "non-blind", method)


def pictures(folder: Path) -> list[Tensor]:
    """The photographs of a folder (3, h, w), by file name; a picture's place is its number."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in images.SUFFIXES)
    if not paths:
        raise SystemExit(f"{folder} holds no picture: give folders of pictures to --sets")
    return [images.to_channels(images.read(path).x, 3) for path in paths]


def tuning_crops(folder: Path, limit: int) -> list[Tensor]:
    """Central crops of validation photographs, of the split that the photo recipe keeps from training; whatever their size, it is by content."""
    options = DataOptions(path=str(folder), size=CROP_PX, channels=3, fit="crop", validation=0.1, test=0.0, limit=limit)
    data = open_data(options, "validation")
    return list(data.batch(range(len(data)))["x0"])


def pixels(x: Tensor, scale: int) -> classical.Pixels:
    """What a classical method is given: (h, w, 3) in [0, 1]; for super-resolution the small picture itself."""
    return np.ascontiguousarray(((x + 1) / 2).clamp(0, 1)[:, ::scale, ::scale].permute(1, 2, 0).numpy())


def told(damage: Damage, form: classical.Form, y: classical.Pixels, known: Known) -> Known:
    """What a method of that form knows; where there is no noise of one strength, everyone estimates it."""
    estimate = classical.blind(y)
    if form == "blind":
        return estimate
    return known if damage.sigma or damage.peak or damage.scale > 1 else dataclasses.replace(known, sigma=estimate.sigma)


def tune(record: Record, method: classical.Method, form: classical.Form, damages: Sequence[Damage], crops: Sequence[Tensor]) -> dict[str, Any]:
    """The parameters with the best mean PSNR over crops and damages; kept in the record."""
    name = damages[0].family if form == "blind" else damages[0].key
    damaged = [(d, even(x, d.scale), *apply(d, even(x, d.scale), i)) for d in damages for i, x in enumerate(crops)]
    inputs = [round(float(v), 4) for v in np.mean([mark(x, clean) for _, clean, x, _ in damaged], axis=0)]
    grid = str(method.values(form, damages[0]))
    key, start = f"{name} | {form} | {method.name}", time.perf_counter()
    old = record.tuning.get(key)
    if old and old["grid"] == grid and same(old["inputs"], inputs):
        return dict(old["parameters"])
    tasks = [(pixels(clean, 1), y := pixels(x, d.scale), told(d, form, y, known)) for d, clean, x, known in damaged]

    def psnr(choice: classical.Parameters) -> float:
        return float(np.mean([-10 * np.log10(max(np.square(method(y, known, choice) - x).mean(), 1e-10)) for x, y, known in tasks]))

    chosen, best = method.choose(form, damages[0], psnr) if method.grid else ({}, psnr({}))
    seconds = round(time.perf_counter() - start, 2)
    record.tuning[key] = {"parameters": chosen, "psnr": round(best, 3), "crops": len(crops), "grid": grid, "seconds": seconds, "inputs": inputs}
    record.save()
    print(f"tuned {key}: {chosen}, {best:.2f} dB, {seconds:.1f} s", flush=True)
    return chosen


def fill(record: Record, cell: dict[str, Any], damage: Damage, clean: dict[int, Tensor], restore: Restore) -> None:
    """Restore and score the pictures that the cell lacks."""
    missing = [number for number in clean if number not in cell["pictures"]]
    for number in missing:
        truth = even(clean[number], damage.scale)
        x, known = apply(damage, truth, number)
        start = time.perf_counter()
        restored = restore(x, known)
        seconds = time.perf_counter() - start
        record.add(cell, number, score(restored, truth, luma=damage.scale > 1), seconds)
    if missing:
        record.save()
        psnr = np.mean(cell["scores"]["psnr"])
        print(f"{cell['set']}, {cell['damage']}, {cell['form']} {cell['method']}: {psnr:.2f} dB of {len(cell['pictures'])}", flush=True)


def by_method(method: classical.Method, form: classical.Form, damage: Damage, parameters: dict[str, Any]) -> Restore:
    """A classical method as a function of tensors."""

    def restore(x: Tensor, known: Known) -> Tensor:
        y = pixels(x, damage.scale)
        out = method(y, told(damage, form, y, known), parameters)
        return torch.from_numpy(out).permute(2, 0, 1) * 2 - 1

    return restore


def by_model(model: snowmelt.Model, device: str) -> Restore:
    """The model as a function of tensors: one call on the whole picture, told nothing."""

    def restore(x: Tensor, known: Known) -> Tensor:
        return snowmelt.restore(model, x[None].to(device), severity=1.0, sampler=None)[0].cpu().float()

    return restore


def classics(record: Record, name: str, clean: list[Tensor], parameters: Chosen, screened: int, most: int) -> None:
    """All methods on some pictures of a set, evenly spaced; the `LEADERS` of each form on more of them, or all."""
    step = -(-len(clean) // most)
    every = {number: clean[number] for number in range(0, len(clean), step)}
    few = {number: every[number] for number in range(0, len(clean), step * -(-len(every) // screened))}
    for damage in DAMAGES:
        for form in ("blind", "non-blind"):
            cells = []
            for method in classical.methods(damage, form):
                if damage.key in _TOLD and not _leads(record, name, _TOLD[damage.key], form, method.name, set(few)):
                    continue
                chosen = parameters[_tuned_as(damage, form), form, method.name]
                cell = record.cell(name, damage.key, damage.spec, form, method.name, chosen)
                restore = by_method(method, form, damage, chosen)
                fill(record, cell, damage, few, restore)
                cells.append((_mean(cell, set(few)), cell, restore))
            for _, cell, restore in sorted(cells, key=lambda entry: entry[0], reverse=True)[:LEADERS]:
                fill(record, cell, damage, every, restore)


def _tuned_as(damage: Damage, form: str) -> str:
    return damage.family if form == "blind" else _TOLD.get(damage.key, damage.key)


def _mean(cell: dict[str, Any], numbers: set[int]) -> float:
    return float(np.mean([v for n, v in zip(cell["pictures"], cell["scores"]["psnr"], strict=True) if n in numbers]))


def _leads(record: Record, name: str, damage: str, form: str, method: str, numbers: set[int]) -> bool:
    """Whether a method is the best of its form on another damage."""
    rivals = [c for c in record.cells.values() if (c["set"], c["damage"], c["form"]) == (name, damage, form)]
    return bool(rivals) and max(rivals, key=lambda c: _mean(c, numbers))["method"] == method


def parameters_of_all(record: Record, crops: Sequence[Tensor]) -> Chosen:
    """The parameters of all methods, for each family blind and for each damage non-blind."""
    found: Chosen = {}
    with_spec = [d for d in DAMAGES if d.spec]
    for damage in with_spec:
        for form in ("blind", "non-blind"):
            family = [d for d in with_spec if d.family == damage.family] if form == "blind" else [damage]
            for method in classical.methods(damage, form):
                key = (_tuned_as(damage, form), form, method.name)
                if key not in found:
                    found[key] = tune(record, method, form, family, crops)
    return found


def check_inputs(record: Record, name: str, clean: list[Tensor]) -> None:
    """The degraded rows, and the mark of every damaged picture before anything is measured on it."""
    for damage in DAMAGES:
        for number, x in enumerate(clean):
            truth = even(x, damage.scale)
            record.same_input(name, damage.key, number, mark(apply(damage, truth, number)[0], truth))
        cell = record.cell(name, damage.key, damage.spec, "-", "Degraded", {})
        fill(record, cell, damage, dict(enumerate(clean)), lambda x, known: x)


def weights_of(model: snowmelt.Model) -> str:
    """A short hash of a model's weights: other weights are another row."""
    digest = hashlib.blake2b(digest_size=6)
    for key, tensor in model.restorer.state_dict().items():
        digest.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def facts(role: str, record: Record, **more: Any) -> None:
    """Note when, where and with which versions a part of the results was made."""
    versions = {}
    for package in ("scikit-image", "scipy", "numpy", "PyWavelets", "Pillow", "torchmetrics"):
        versions[package] = importlib.metadata.version(package)
    record.facts |= {"scores": SETTINGS, role: {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}", **environment(), **versions, **more}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Tune, restore and score whatever the results file still lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=Path, nargs="+", required=True, help="folders of test pictures, such as set5 cbsd68")
    parser.add_argument("--tune", type=Path, help="the folder of photographs that the photo recipe trains on; only its validation split is read")
    parser.add_argument("--model", help="a model's name or directory; without it, the classical rows alone")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file, such as benchmarks/results/photos.json; what is in it is kept")
    parser.add_argument("--device", default="cpu", help="where the model runs")
    parser.add_argument("--crops", type=int, default=6, help="at most so many photographs for tuning")
    parser.add_argument("--screened", type=int, default=5, help="at most so many pictures of a set for every classical method")
    parser.add_argument("--most", type=int, default=24, help="at most so many pictures of a set for the best classical methods")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if not options.tune and not options.model:
        parser.error("give --tune for the classical rows, --model for the model's, or both")
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", module="skimage|pywt")
    record, start = Record(options.out), time.perf_counter()
    sets = {folder.name: pictures(folder) for folder in options.sets}
    for name, clean in sets.items():
        check_inputs(record, name, clean)
    record.facts["pictures"] = record.facts.get("pictures", {}) | {name: len(clean) for name, clean in sets.items()}
    if options.tune:
        crops = tuning_crops(options.tune, options.crops)
        facts("classical", record, crops=len(crops), crop_px=CROP_PX, screened=options.screened, most=options.most)
        parameters = parameters_of_all(record, crops)
        print(f"tuning took {time.perf_counter() - start:.0f} s")
        for name, clean in sets.items():
            classics(record, name, clean, parameters, options.screened, options.most)
    if options.model:
        model = snowmelt.load(options.model).to(options.device)
        facts("model", record, name=Path(options.model).name, runs_on=options.device, weights=weights_of(model))
        restore = by_model(model, options.device)
        for name, clean in sets.items():
            for damage in DAMAGES:
                cell = record.cell(name, damage.key, damage.spec, "blind", "snowmelt", {"weights": weights_of(model)})
                fill(record, cell, damage, dict(enumerate(clean)), restore)
    record.save()
    print(f"{options.out}: {len(record.cells)} cells, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
