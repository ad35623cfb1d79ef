"""An exported restorer beside torch's: one call of R by onnxruntime, by what torch.export wrote, and by torch in float32 and bf16, in turn.

Each way takes the same inputs on one thread and gives the same output, bf16 apart: the difference that the export measured stands in the row.
"""

import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import timing
import torch
from torch import Tensor

import snowmelt
from snowmelt.interop import to_onnx, to_torch_export
from snowmelt.interop.graph import Exported
from snowmelt.model import Model
from snowmelt.registry import build
from snowmelt.restorers import Restorer
from snowmelt.types import Draw

TITLE = "Exported graphs"
ABOUT = (
    "One call of the restorer on one thread: how many times as fast as torch in float32 are onnxruntime, the module that torch.export.load makes, "
    "and torch in bf16. The difference is the largest from torch in float32, in units of the range. The photo model is not followed by torch.export "
    "here, which takes minutes for it."
)
_LEAN = "unet"
_SMALL = "unet:widths=(8,16),patch=2,groups=4,blocks=1"
ONNX, PROGRAM = "onnxruntime", "torch.export"


class Case(NamedTuple):
    """A model, made when its turn comes, the batch it is called on, and what it is exported to."""

    what: str
    model: Callable[[], Model]
    shape: tuple[int, int, int, int]
    forms: tuple[str, ...] = (ONNX, PROGRAM)


CASES = (
    Case("the default U-Net, 32 px, batch 64", lambda: fresh(_LEAN, 32), (64, 3, 32, 32)),
    Case("the photo model, 256 px, batch 1", lambda: snowmelt.load("photo"), (1, 3, 256, 256), (ONNX,)),
)
QUICK = (
    Case("a small U-Net, 16 px, batch 2", lambda: fresh(_SMALL, 16), (2, 3, 16, 16)),
    Case("a small U-Net that is told a mask, 16 px, batch 2", lambda: fresh(_SMALL, 16, "holes"), (2, 3, 16, 16)),
)


def measure(*, runs: int, quick: bool) -> Iterator[dict[str, object]]:
    """The default net at 32 px and the photo model at 256 px; quick: small nets, one of them with an input beside x_t and t.

    What fails has a row that says so, and the rows of the others stay; a quick run is for finding out and fails.
    """
    for case in QUICK if quick else CASES:
        try:
            with tempfile.TemporaryDirectory() as folder:
                yield from call(case, Path(folder), runs=runs, least_s=0.005 if quick else 0.05)
        except ImportError as error:
            yield {"what": case.what, "skipped": f"{error.name} is not installed"}
        except Exception as error:
            if quick:
                raise
            traceback.print_exc()
            yield {"what": case.what, "skipped": f"failed: {type(error).__name__}"}


def fresh(backbone: str, px: int, spec: str = "gaussian-blur") -> Model:
    """A model of degraded colour pictures, untrained, of which no weight is 0."""
    degradation = build(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Restorer(degradation, build(backbone, "backbone"), (3, px, px), parameterization=build("residual", "parameterization"))
        for value in net.parameters():
            if value.ndim > 1 and not value.any():
                torch.nn.init.normal_(value, std=0.02)
    return Model(degradation, net.eval().requires_grad_(False))


@torch.inference_mode()
def call(case: Case, folder: Path, *, runs: int, least_s: float) -> list[dict[str, object]]:
    """A row for each way to call the restorer of a case."""
    import onnx  # noqa: F401 - to_onnx needs it
    import onnxruntime

    model, generator = case.model(), torch.Generator().manual_seed(0)
    x, t = torch.empty(case.shape).uniform_(-1, 1, generator=generator), torch.rand(case.shape[0], generator=generator)
    files = {ONNX: folder / "net.onnx", PROGRAM: folder / "net.pt2"}
    with torch.inference_mode(False):
        made = {form: (to_onnx if form == ONNX else to_torch_export)(model, files[form], overwrite=True) for form in case.forms}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(files[ONNX].read_bytes(), options, providers=["CPUExecutionProvider"])
    # The photo model may be told a mask; one of ones says what torch is told without.
    z = model.draw(x, generator) if model.restorer.context else {}  # type: ignore[union-attr]
    given = {"x_t": x, "t": t, **({"mask": z.get("mask", torch.ones_like(x[:, :1]))} if "mask" in made[ONNX].inputs else {})}
    arrays = {name: value.numpy() for name, value in given.items()}
    ways: dict[str, Callable[[], object]] = {
        "torch, float32": lambda: by_torch(model, x, t, z, "fp32"),
        ONNX: lambda: session.run(["x0_hat"], arrays),
    }
    if PROGRAM in made:
        with torch.inference_mode(False):
            module = torch.export.load(files[PROGRAM]).module()
        ways[PROGRAM] = lambda: module(**given)
    ways["torch, bf16"] = lambda: by_torch(model, x, t, z, "bf16")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = timing.interleaved(ways, runs=runs, least_s=least_s)
    finally:
        torch.set_num_threads(threads)
    return [_row(f"{case.what}: {name}", ratio, made.get(name)) for name, ratio in ratios.items()]


def _row(what: str, ratio: timing.Ratio, made: Exported | None) -> dict[str, object]:
    return {"what": what, "ratio": ratio.median, "low": ratio.low, "high": ratio.high, **({"difference": made.difference} if made else {})}


def by_torch(model: Model, x: Tensor, t: Tensor, z: Draw, precision: str) -> Tensor:
    """The estimate in float32 or bf16."""
    model.restorer.precision = precision  # type: ignore[union-attr]
    try:
        return model.estimate(x, t, z)
    finally:
        model.restorer.precision = "fp32"  # type: ignore[union-attr]
