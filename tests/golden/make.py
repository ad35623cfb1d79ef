"""How the golden files were made: ``PYTHONPATH=src python tests/golden/make.py tests/golden/NAME`` writes a tiny run and what must come out of it.

A golden run is made once, with the code of its time, and committed; tests/training/test_golden.py loads it for ever. It is never made anew: where a
format changes, a run of the new format is added. ``format-1`` was made with revision 80927e6, the last before checkpoints had hashes and model.json
a seal. So this script uses only what both know; it must not be made to follow the code.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import torch

import snowmelt
from snowmelt.files import read_tensors
from snowmelt.recipes import run
from snowmelt.recipes.recipe import from_table

RECIPE = {
    "about": "golden file",
    "degradation": "gaussian-blur:sigma_px=2",
    "data": {"path": "bundled:digits", "size": 8},
    "model": {"backbone": "local-unet:widths=(4,4),blocks=1", "parameterization": "residual"},
    "training": {"images": 96, "batch": 16, "validation_images": 8, "validate_every": 48, "precision": "fp32", "lr": 1e-2},
}


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Three pictures (3, 1, 8, 8) in [-1, 1] and their severities, of no generator whose numbers could change."""
    x = torch.arange(3 * 64, dtype=torch.float64)
    return torch.cos(x * 0.7).reshape(3, 1, 8, 8).float(), torch.tensor([0.25, 0.5, 1.0])


def outputs(folder: Path, weights: str) -> list[float]:
    """What the model saved in a directory makes of them."""
    x, t = inputs()
    with torch.no_grad():
        return [float(f"{value:.9g}") for value in snowmelt.load(folder, weights=weights).estimate(x, t).flatten().tolist()]


def state(tensors: dict[str, torch.Tensor]) -> str:
    """One hash over the tensors of a checkpoint, but for the time, and their names."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if name != "wall_s":
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    return found.hexdigest()


def main(out: Path) -> None:
    torch.set_num_threads(1)
    run.train(from_table(RECIPE), out)
    shutil.rmtree(out / "samples", ignore_errors=True)
    files = sorted(out.glob("checkpoint*.safetensors"))
    expected = {
        "snowmelt": snowmelt.__version__,
        "step": int(read_tensors(files[-1])["step"]),
        "state": state(read_tensors(files[-1])),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())},
        "ema": outputs(out, "ema"),
        "raw": outputs(out, "raw"),
    }
    (out / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
