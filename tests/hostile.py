"""Files that mean harm, opened in a process of their own: if one ends it, or takes its memory, the test that has started it can tell.

``python tests/hostile.py bombs FOLDER`` opens every file in a folder and prints one JSON line for each. ``python tests/hostile.py mutated FIRST STOP
FOLDER`` makes and opens the mutated files of those numbers, each named in FOLDER/number before it is opened. The last line says how much memory
it took.
"""

import gc
import importlib.util
import json
import math
import resource
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from snowmelt.data import images
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data

MOST_PIXELS = 1_000_000  # of a mutated file
_LONG_S, _TRIES = 1.0, 3  # what takes longer is opened again: this machine may have been elsewhere
_ALLOWED_BYTES = 1 << 30  # of addresses, beyond those that are taken before the first file


def zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zoo", Path(__file__).with_name("zoo.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module


def peak_mb(*, afresh: bool = False) -> float:
    """The most memory this process has held, at any time; or, where the system can forget that, since the last time that was asked afresh."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    if afresh:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def warm(made: ModuleType, folder: Path) -> None:
    """Open a sound file of every kind: what is imported, and kept for ever, is there before anything is measured."""
    for kind in made.kinds():
        try:
            images.read(kind.name, content=kind.content)
        except images.UnreadableImage:
            assert kind.colour is None, kind.name
    import numpy as np

    for path in (folder / "warm.npy", folder / "warm.npz"):
        if path.suffix == ".npy":
            np.save(path, np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8))
        else:
            np.savez_compressed(path, x0=np.load(folder / "warm.npy"))
        open_data(DataOptions(str(path)), "train")
    (folder / "warm.npy").unlink()
    (folder / "warm.npz").unlink()


def bound_addresses() -> None:
    """Let the system refuse memory that a header asks for, where it can."""
    if sys.platform == "linux":
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _ALLOWED_BYTES, taken + _ALLOWED_BYTES))


def opened(path: Path) -> str:
    """What becomes of a file: "read", or the reason that refuses it."""
    try:
        if path.suffix in (".npy", ".npz", ".gz") or "idx" in path.name:
            open_data(DataOptions(str(path)), "train")
        else:
            images.read(path, still=True)
    except ValueError as error:  # an UnreadableImage is one
        said = str(error)
    else:
        return "read"
    assert str(path) in said, said
    return said.removeprefix(f"{path}: ")


def bombs(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        ms = math.inf
        for _ in range(_TRIES):
            start = time.perf_counter()
            said = opened(path)
            ms = min(ms, 1000 * (time.perf_counter() - start))
            if ms < 1000 * _LONG_S:
                break
        print(json.dumps({"file": path.name, "bytes": path.stat().st_size, "ms": ms, "said": said}), flush=True)


def mutated(made: ModuleType, first: int, stop: int, folder: Path) -> None:
    of, read, slowest = made.sound(), 0, (0.0, -1)
    with (folder / "number").open("w", encoding="utf-8") as number:
        for seed in range(first, stop):
            number.seek(0)
            number.write(f"{seed:12d}")
            number.flush()
            took = math.inf
            for _ in range(_TRIES):
                start = time.perf_counter()
                try:
                    found = whole(made.mutated(of, seed), folder, seed)
                except Exception as error:
                    error.add_note(f"mutated file {seed}")
                    raise
                took = min(took, time.perf_counter() - start)
                if took < _LONG_S:
                    break
            read, slowest = read + found, max(slowest, (took, seed))
    print(json.dumps({"read": read, "refused": stop - first - read, "slowest_s": slowest[0], "slowest": slowest[1]}), flush=True)


def whole(made: tuple[str, bytes], folder: Path, seed: int) -> bool:
    """Whether a file can be read; what is read has to be a picture. Every other one is read from the disk, where decoders take other ways."""
    name, content = made
    given: dict[str, Any] = {"max_pixels": MOST_PIXELS}
    path = Path(name)
    if seed % 2:
        path = folder / name
        path.write_bytes(content)
    else:
        given["content"] = content
    try:
        picture = images.read(path, **given)
        c, h, w = images.probe(path, **given)
    except images.UnreadableImage as error:
        found = error
    else:
        found = None
    finally:
        if seed % 2:
            path.unlink()
    if found is not None:
        assert found.path == path
        assert found.reason
        return False
    x, alpha = picture.x, picture.alpha
    assert x.dtype == torch.float32
    assert x.shape[0] == c
    assert sorted(x.shape[1:]) == sorted((h, w))
    assert 1 <= h * w <= MOST_PIXELS
    assert bool(torch.isfinite(x).all())
    assert float(x.abs().max()) <= 1
    assert picture.bits in (8, 16)
    assert alpha is None or (alpha.shape == (1, *x.shape[1:]) and 0 <= float(alpha.min()) <= float(alpha.max()) <= 1)
    return True


def main() -> None:
    warnings.simplefilter("error")
    made, what, folder = zoo(), sys.argv[1], Path(sys.argv[-1])
    scratch = folder.parent
    warm(made, scratch)
    bound_addresses()
    before = peak_mb(afresh=True)
    if what == "bombs":
        bombs(folder)
    else:
        mutated(made, int(sys.argv[2]), int(sys.argv[3]), folder)
    print(json.dumps({"grown_mb": peak_mb() - before}))


if __name__ == "__main__":
    main()
