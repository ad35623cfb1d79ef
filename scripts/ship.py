"""Put a trained run into the package as a shipped model: half precision, hashed, small enough for a wheel.

What goes in is the moving average of the weights (and the severity estimator, if there is one) as float16, and
model.json with the recipe, the commit and the machine it was trained on. ``snowmelt.load(NAME)`` finds it by its name.

A run that began from another may be shipped as a mean of both, ``--share`` of its own weights and the rest of those it began from: what was learned
last is kept for the most part, and less of what was known before is forgotten (Wortsman et al. 2022, arXiv 2109.01903).

Beside it lies its card, README.md: scripts/NAME_card.md with what model.json and the benchmark's results say filled in.

    python scripts/ship.py runs/photo photo --share 0.6 --results benchmarks/results/photos.json
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from snowmelt.files import read_json, read_tensors, sha256, write_sealed, write_tensors, write_text
from snowmelt.model import SHIPPED, load
from snowmelt.training import history

LARGEST_BYTES = 8_000_000


def ship(run: Path, out: Path, share: float = 1.0) -> int:
    """Write the shipped form of `run` to the directory `out`; its size in bytes.

    Args:
        run: a run directory.
        out: replaced.
        share: the part of its weights that are its own, in (0, 1]; the rest are those of the run it began from.

    Raises:
        ValueError: a weight does not fit float16, or the files would be larger than 8 MB.
    """
    info: dict[str, Any] = read_json(run / "model.json")
    load(run)  # refuses what is damaged
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    files = {}
    for group, entry in info["files"].items():
        if group == "weights" and "ema" in info["files"]:
            continue
        name = "weights" if group == "ema" else group
        if name == "weights":
            files[name] = _half(weights(run, share), out / f"{name}.safetensors")
        else:  # an estimator's weights are float16 already, its calibration is not
            files[name] = dict(entry)
            shutil.copyfile(run / entry["file"], out / entry["file"])
    recipe = info["notes"]["recipe"]
    recipe["data"]["path"] = Path(recipe["data"]["path"]).name  # where things lie on somebody's disk is nothing to publish
    if "init" in recipe["model"]:
        recipe["model"]["init"] = Path(recipe["model"]["init"]).name
    if share < 1:
        info["notes"]["share"] = share
    write_sealed(out / "model.json", {**info, "files": files})
    size = sum(path.stat().st_size for path in out.iterdir())
    if size > LARGEST_BYTES:
        shutil.rmtree(out)
        raise ValueError(f"{run} takes {size / 1e6:.1f} MB in half precision, more than {LARGEST_BYTES / 1e6:g} MB: train a smaller backbone")
    load(out)
    return size


def weights(run: Path, share: float) -> dict[str, torch.Tensor]:
    """The averaged weights of a run, or their mean with those of the run it began from."""
    files = read_json(run / "model.json")["files"]
    own = read_tensors(run / files["ema" if "ema" in files else "weights"]["file"])
    if share == 1:
        return own
    if not 0 < share < 1 or len(stages(run)) == 1:
        raise ValueError(f"share = {share:g} needs a number in (0, 1), and the run that {run} began from, where its recipe says")
    before = weights(stages(run)[1], 1.0)
    return {name: torch.lerp(before[name], tensor, share) for name, tensor in own.items()}


def _half(tensors: dict[str, torch.Tensor], target: Path) -> dict[str, str]:
    """Write tensors in float16 as `target`, named after its hash."""
    halves = {}
    for name, tensor in tensors.items():
        halves[name] = tensor.half() if tensor.is_floating_point() else tensor
        if not torch.isfinite(halves[name]).all():
            raise ValueError(f"{name} reaches {float(tensor.abs().max()):.3g}, beyond float16")
    write_tensors(target, halves)
    digest = sha256(target)
    final = target.with_name(f"{target.stem}-{digest[:12]}.safetensors")
    target.replace(final)
    return {"file": final.name, "sha256": digest}


def card(folder: Path, template: Path, results: Path | None, run: Path) -> None:
    """Write README.md beside a shipped model; without results its scores are "pending"."""
    info = read_json(folder / "model.json")
    recipe, made = info["notes"]["recipe"], info["notes"]["trained_with"]
    last = [max(history.read(stage), key=lambda line: line["step"]) for stage in stages(run)]
    crops, minutes = (sum(line[what] for line in last) for what in ("images", "wall_s"))
    tensors = [t for entry in info["files"].values() for t in read_tensors(folder / entry["file"]).values()]
    facts = {
        "network": f"`{info['restorer']['backbone']}`" if isinstance(info["restorer"]["backbone"], str) else f"`{recipe['model']['backbone']}`",
        "values": f"{sum(t.numel() for t in tensors) / 1e6:.2f} million, float16",
        "trained on": f"{crops:,} crops of {recipe['data']['size']} px, all stages",
        **({"begun from": f"{init['model']}, weights `{init['weights'][:12]}`"} if (init := info["notes"].get("init")) else {}),
        **({"weights": f"{share:.0%} its own, the rest those it began from"} if (share := info["notes"].get("share")) else {}),
        "training time": f"{minutes / 60:.0f} minutes, all stages",
        "version": f"`{next(iter(info['files'].values()))['sha256'][:12]}` (SHA-256 of the weights)",
        **{name: str(value) for name, value in made.items()},
    }
    tables = "Pending: the benchmark has not been run for these weights."
    if results is not None:
        script = Path(__file__).parents[1] / "benchmarks" / "photos" / "table.py"
        tables = subprocess.run([sys.executable, script, results], check=True, capture_output=True, text=True).stdout
    text = template.read_text(encoding="utf-8")
    text = text.replace("{facts}", "\n".join(f"| {name} | {value} |" for name, value in facts.items())).replace("{tables}", tables.strip())
    write_text(folder / "README.md", text)


def stages(run: Path) -> list[Path]:
    """The run, and the runs it began from."""
    init = read_json(run / "model.json")["notes"]["recipe"]["model"].get("init")
    return [run, *(stages(Path(init)) if init and (Path(init) / "model.json").is_file() else [])]


def main() -> int:
    """Read the command line, ship, say how large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--share", type=float, default=1.0, help="the part of the weights that are its own; the rest are of the run it began from")
    parser.add_argument("--results", type=Path, metavar="JSON", help="what benchmarks/photos/run.py wrote, for the card")
    arguments = parser.parse_args()
    folder = SHIPPED / arguments.name
    try:
        size = ship(arguments.run, folder, arguments.share)
        card(folder, Path(__file__).with_name(f"{arguments.name}_card.md"), arguments.results, arguments.run)
    except (OSError, ValueError) as error:
        print(f"ship: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
