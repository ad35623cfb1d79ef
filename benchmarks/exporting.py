"""An exported restorer beside torch's: one call of R by onnxruntime, by what torch.export wrote, and by torch in float32 and bf16, in turn.

Each way takes the same inputs on one thread and gives the same output, bf16 apart: the difference that the export measured stands in the row.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import timing
import torch
from torch import Tensor

import snowmelt
from snowmelt.interop import to_onnx, to_torch_export
from snowmelt.model import Model
from snowmelt.registry import build
from snowmelt.restorers import Restorer

TITLE = "Exported graphs"
ABOUT = (
    "One call of the restorer on one thread: how many times as fast as torch in float32 are onnxruntime, the module that torch.export.load makes, "
    "and torch in bf16. The difference is the largest from torch in float32, in units of the range."
)
_LEAN = "unet"
_SMALL = "unet:widths=(8,16),patch=2,groups=4,blocks=1"


def measure(*, runs: int, quick: bool) -> list[dict[str, object]]:
    """The default net at 32 px and the photo model at 256 px; quick: a small net, and no photo model."""
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            return call("a small U-Net, 16 px, batch 2", fresh(_SMALL, 16), (2, 3, 16, 16), Path(folder), runs=1, least_s=0.005)
        rows = call("the default U-Net, 32 px, batch 64", fresh(_LEAN, 32), (64, 3, 32, 32), Path(folder), runs=runs)
        return rows + call("the photo model, 256 px, batch 1", snowmelt.load("photo"), (1, 3, 256, 256), Path(folder), runs=runs)


def fresh(backbone: str, px: int) -> Model:
    """A model of blurred colour pictures, untrained, of which no weight is 0."""
    degradation = build("gaussian-blur")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Restorer(degradation, build(backbone, "backbone"), (3, px, px), parameterization=build("residual", "parameterization"))
        for value in net.parameters():
            if value.ndim > 1 and not value.any():
                torch.nn.init.normal_(value, std=0.02)
    return Model(degradation, net.eval().requires_grad_(False))


@torch.inference_mode()
def call(what: str, model: Model, shape: tuple[int, ...], folder: Path, *, runs: int, least_s: float = 0.05) -> list[dict[str, object]]:
    """A row for each way to call the restorer of `model` on a batch of `shape`."""
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    x, t = torch.empty(shape).uniform_(-1, 1, generator=generator), torch.rand(shape[0], generator=generator)
    files = {"onnxruntime": folder / "net.onnx", "torch.export": folder / "net.pt2"}
    with torch.inference_mode(False):
        made = {
            "onnxruntime": to_onnx(model, files["onnxruntime"], overwrite=True),
            "torch.export": to_torch_export(model, files["torch.export"], overwrite=True),
        }
        module = torch.export.load(files["torch.export"]).module()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(files["onnxruntime"].read_bytes(), options, providers=["CPUExecutionProvider"])
    # The photo model may be told a mask; one of ones says what torch is told without.
    given = {"x_t": x, "t": t, **({"mask": torch.ones_like(x[:, :1])} if "mask" in made["onnxruntime"].inputs else {})}
    arrays = {name: value.numpy() for name, value in given.items()}
    ways: dict[str, Callable[[], object]] = {
        "torch, float32": lambda: by_torch(model, x, t, "fp32"),
        "onnxruntime": lambda: session.run(["x0_hat"], arrays),
        "torch.export": lambda: module(**given),
        "torch, bf16": lambda: by_torch(model, x, t, "bf16"),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = timing.interleaved(ways, runs=runs, least_s=least_s)
    finally:
        torch.set_num_threads(threads)
    return [
        {
            "what": f"{what}: {name}",
            "ratio": ratio.median,
            "low": ratio.low,
            "high": ratio.high,
            **({"difference": made[name].difference} if name in made else {}),
        }
        for name, ratio in ratios.items()
    ]


def by_torch(model: Model, x: Tensor, t: Tensor, precision: str) -> Tensor:
    """The estimate in float32 or bf16."""
    model.restorer.precision = precision  # type: ignore[union-attr]
    try:
        return model.estimate(x, t)
    finally:
        model.restorer.precision = "fp32"  # type: ignore[union-attr]
