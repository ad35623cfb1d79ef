"""What a GPU makes of it, in pieces that each end within nine minutes; `gpu.sh` runs those that are not done yet.

    python benchmarks/gpu.py PIECE --out FOLDER [--smoke]    one piece; writes FOLDER/PIECE.json, or does nothing where that lies there
    python benchmarks/gpu.py gather --out FOLDER             the pieces measured on CUDA, into benchmarks/results/gpu.json and docs/speed.md

Pieces: train-32 (batch 512), train-128, train-256, sample-32, sample-128, sample-256, operators. With `--smoke` everything is tiny and runs on the
CPU as well. It needs torch and numpy beside this checkout (PYTHONPATH=src), neither cyclopts nor diffusers.
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import graphs
import nets
import tables
import torch
from contest import Row, spread
from timing import over, seconds
from torch import nn

import snowmelt
from snowmelt.files import write_text
from snowmelt.model import Model
from snowmelt.recipes.report import environment
from snowmelt.restorers import Restorer
from snowmelt.restorers.backbones import UNet
from snowmelt.samplers import TACoS

TITLE = "On a GPU"
ABOUT = (
    "Each piece in one process. *Share of the peak*: operations a second of forward and backward over those of the fastest plain bf16 "
    "convolution of the same process, timed in turn. *Bandwidth*: bytes of input "
    "and output over the time, as a share of what a copy of the same tensor reaches. The ratio of a row that names two ways is how many "
    "times as fast the second is."
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCHES = {32: 512, 128: 64, 256: 16}
NETS = {"lean": (64, 96, 128), "wide": (192, 288, 384)}
PEAKS = ((128, 64), (256, 64), (512, 32), (1024, 32))
CALLS = 12
RUNS = 5


def trained(px: int, *, smoke: bool) -> list[Row]:
    """A training step: as it comes, and compiled; pictures a second and share of the peak."""
    batch, widths = (2, {"lean": nets.SMALL}) if smoke else (BATCHES[px], NETS)
    x, t = (one.to(DEVICE) for one in nets.batch(batch, 16 if smoke else px))
    best = nets.peaks(batch=1 if smoke else 128, device=DEVICE, shapes=nets.PEAK_SHAPES[:1] if smoke else PEAKS)
    plain, out = {name: synchronised(go) for name, (go, _) in best.items()}, []
    for name, sizes in widths.items():
        ways, work = {}, 0
        for compiled in (False, True):
            net = network(sizes)
            step = nets.step(_compiled(net) if compiled and not smoke else net, x, t, bf16=True, fused=True)
            work = work or nets.flops(step)
            ways["compiled" if compiled else "as it comes"] = synchronised(step)
        times = seconds({**ways, **plain}, runs=1 if smoke else RUNS, least_s=0.0 if smoke else 0.5)
        peak = [max(best[name][1] / times[name][i] for name in best) for i in range(1 if smoke else RUNS)]
        for way in ways:
            found = times[way]
            share = over([work / s for s in found], peak)
            speed = {"pictures/s": batch / min(found), "TFLOP/s": work / min(found) / 1e12}
            out.append({"what": f"{name}: training step, {way}, share of the peak", "px": px, "batch": batch, **speed, **spread(share)})
        faster = over(times["as it comes"], times["compiled"])
        out.append({"what": f"{name}: training step, as it comes and compiled", "px": px, "batch": batch, **spread(faster)})
    return out


def sampled(px: int, *, smoke: bool) -> list[Row]:
    """A walk: its network alone, as it comes, compiled, and by a CUDA graph of one call and one move, with equal results."""
    batch, side, calls = (2, 16, 2) if smoke else (BATCHES[px], px, CALLS)
    out: list[Row] = []
    for name, sizes in ({"lean": nets.SMALL} if smoke else NETS).items():
        model, sampler = model_of(sizes, side), TACoS(steps=calls)
        compiled = model_of(sizes, side)
        if not smoke:
            compiled.restorer.net = _compiled(compiled.restorer.net)
        x = nets.batch(batch, side)[0].to(DEVICE)
        t = torch.ones(batch, device=DEVICE)
        start = model.corrupt(x, 1.0)
        levels = sampler.walk(model.degradation)
        ways: dict[str, Callable[[], Any]] = {
            "network alone": lambda m=model, x=x, t=t: [m.estimate(x, t) for _ in range(calls)],
            "as it comes": lambda m=model, s=start, w=sampler: w.sample(m, s),
            "compiled": lambda m=compiled, s=start, w=sampler: w.sample(m, s),
        }
        why = ""
        try:
            replay = graphs.captured(model, sampler, start)
        except RuntimeError as error:  # what cannot be captured: a copy to the host in a move, for instance
            why = str(error).splitlines()[0]
        else:
            ways["CUDA graph"] = functools.partial(replay, start.x, levels)
        ways = {way: torch.no_grad()(synchronised(go)) for way, go in ways.items()}
        times = seconds(ways, runs=1 if smoke else RUNS, least_s=0.0 if smoke else 0.5)
        for way, found in times.items():
            what = f"{name}: {calls} calls, as it comes" + (f" and {way}" if way != "as it comes" else "")
            out.append({"what": what, "px": px, "batch": batch, "pictures/s": batch / min(found), **spread(over(times["as it comes"], found))})
        if why:
            out.append({"what": f"{name}: {calls} calls, CUDA graph", "px": px, "batch": batch, "skipped": f"not captured: {why}"})
        else:
            apart = float((ways["CUDA graph"]() - ways["as it comes"]()).abs().max())
            out.append({"what": f"{name}: largest difference of the CUDA graph", "px": px, "batch": batch, "largest difference": apart})
    return out


def operators(*, smoke: bool) -> list[Row]:
    """The bandwidth of every operator, its severities one a sample, against that of a copy of the same batch."""
    from degrading import OPERATORS, severities

    out: list[Row] = []
    for px in (16,) if smoke else (32, 128, 256):
        x = nets.batch(2 if smoke else 4 * BATCHES[px], px)[0].to(DEVICE)
        y, ways = torch.empty_like(x), {}
        ways["copy"] = lambda y=y, x=x: y.copy_(x)
        for spec in OPERATORS[:3] if smoke else OPERATORS:
            degradation = snowmelt.build(spec)
            z = {name: value.to(DEVICE) for name, value in degradation.draw(x.cpu(), torch.Generator().manual_seed(0)).items()}
            t = degradation.snapped(severities(x.cpu()), z).to(DEVICE)
            ways[spec] = lambda d=degradation, x=x, t=t, z=z: d(x, t, z)
        times = seconds({name: synchronised(way) for name, way in ways.items()}, runs=1 if smoke else RUNS, least_s=0.0 if smoke else 0.05)
        moved = 2 * x.numel() * x.element_size()
        for spec, found in times.items():
            out.append({"what": spec, "px": px, "batch": len(x), "GB/s": moved / min(found) / 1e9, **spread(over(times["copy"], found))})
    return out


PIECES: dict[str, Callable[..., list[Row]]] = {
    **{f"train-{px}": functools.partial(trained, px) for px in BATCHES},
    **{f"sample-{px}": functools.partial(sampled, px) for px in BATCHES},
    "operators": operators,
}


def network(widths: tuple[int, ...]) -> nn.Module:
    """Ours, on the device."""
    return UNet(widths=widths).build(nets.CHANNELS, nets.CHANNELS).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]


def model_of(widths: tuple[int, ...], px: int) -> Model:
    """Untrained, of the default blur; the same weights each time."""
    torch.manual_seed(0)
    blur = snowmelt.build("gaussian-blur")
    restorer = Restorer(blur, UNet(widths=widths), (nets.CHANNELS, px, px), noise_floor=0.01)
    restorer.fit([torch.rand(8, nets.CHANNELS, px, px) * 2 - 1]).eval().requires_grad_(False).to(DEVICE)
    restorer.precision = "bf16"
    return Model(blur, restorer, noise_floor=0.01)


def synchronised(way: Callable[[], Any]) -> Callable[[], Any]:
    """`way`, which is done when the GPU is."""

    def go() -> Any:
        out = way()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return out

    return go


def _compiled(net: nn.Module) -> nn.Module:
    return torch.compile(net)  # type: ignore[return-value]


def written(piece: str, out: Path, *, smoke: bool) -> Path:
    """Measure a piece unless its file is there, and write that file whole."""
    file = out / f"{piece}.json"
    if file.is_file():
        print(f"{piece}: done before, in {file}")
        return file
    rows = PIECES[piece](smoke=smoke)
    for row in rows:
        print("  " + ", ".join(f"{key} {tables.written(value)}" for key, value in row.items()), flush=True)
    kept = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}", "environment": environment(), "cuda": DEVICE == "cuda" and not smoke, "rows": rows}
    write_text(file, json.dumps(kept, indent=2))
    return file


def gathered(out: Path) -> dict[str, Any] | None:
    """What the pieces found as one section; None where none of them was measured on CUDA."""
    found = [json.loads(file.read_text(encoding="utf-8")) for piece in PIECES if (file := out / f"{piece}.json").is_file()]
    real = [one for one in found if one["cuda"]]
    if not real:
        return None
    rows = [row for one in real for row in one["rows"]]
    return {"title": TITLE, "about": ABOUT, "at": real[0]["at"], "environment": real[0]["environment"], "runs": RUNS, "rows": rows}


def main() -> int:
    """One piece, or all that is there gathered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", choices=(*PIECES, "gather"))
    parser.add_argument("--out", type=Path, required=True, help="where the pieces' files lie")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run?")
    options = parser.parse_args()
    if options.piece == "gather":
        import run

        if (found := gathered(options.out)) is None:
            print(f"{options.out} holds no piece that was measured on CUDA: nothing is kept", file=sys.stderr)
            return 1
        write_text(run.GPU, json.dumps({"sections": {"gpu": found}}, indent=2) + "\n")
        run.write_page()
        return 0
    if DEVICE == "cpu" and not options.smoke:
        print("there is no CUDA here: --smoke tries the pieces on the CPU", file=sys.stderr)
        return 1
    written(options.piece, options.out, smoke=options.smoke)
    return 0


if __name__ == "__main__":
    sys.exit(main())
