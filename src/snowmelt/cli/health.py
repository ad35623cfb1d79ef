"""What ``snowmelt doctor`` looks at: packages, the machine, plug-ins, and the models that come with snowmelt.

Packages are asked for by name and not imported, but for torch: only it knows what the machine can do. A finding is *broken* where snowmelt
itself does not work without it, and *missing* where only what nobody may have asked for does not.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from snowmelt import processes
from snowmelt._version import __version__

# As pyproject.toml has them; a test compares.
NEEDED = (
    "torch>=2.6",
    "numpy",
    "safetensors",
    "Pillow>=12.3",
    "tifffile",
    "imagecodecs",
    "cyclopts>=5.4,<6",
    "rich",
    "torchmetrics",
    "scikit-learn",
    "scikit-image",
    "jaxtyping",
    "tomli-w",
    "filelock",
    "soundfile",
)
EXTRAS: dict[str, tuple[str, ...]] = {
    "studio": ("gradio>=6.16,<7", "fastapi", "uvicorn", "fastapi-offline"),
    "video": ("av",),
    "track": ("tensorboard", "trackio"),
    "onnx": ("onnxruntime", "onnx"),
    "diffusers": ("diffusers>=0.38,<1",),
    "ray": ("ray[data]>=2.60,<2.64", "pyarrow>=14.0.1"),
}
FOR = {
    "studio": "snowmelt studio",
    "video": "walks as MP4",
    "track": "TensorBoard and trackio",
    "onnx": "snowmelt export, features of your own",
    "diffusers": "pipelines of diffusers",
    "ray": "restore --engine ray",
}
_NAMED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(.*)")
_COMPILERS = ("g++", "clang++", "c++", "cl")
_GB = 1e9
_LITTLE_GB = 1.0
_TORCH = "pip install --force-reinstall torch"
_ANEW = "pip install --force-reinstall snowmelt"
_SHIPPED = Path(__file__).parents[1] / "shipped"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: installed, extra, fast, plug-in or model.
        name: of the thing.
        says: what was found, in words.
        state: good; missing, where something optional is; broken, where snowmelt does not work without it.
        mend: what mends it; empty where nothing has to be.
    """

    group: Literal["installed", "extra", "fast", "plug-in", "model"]
    name: str
    says: str
    state: Literal["good", "missing", "broken"] = "good"
    mend: str = ""


def found() -> Iterator[Finding]:
    """All that was found, group after group."""
    yield from installed()
    yield from extras()
    machine = list(fast())
    yield from machine
    if any(one.state == "broken" for one in machine):  # no part loads without torch, which is no fault of the part
        yield Finding("plug-in", "parts", "not looked at: they need torch", "missing", _TORCH)
    else:
        yield from plugged_in()
    yield from models()


def installed() -> Iterator[Finding]:
    """Snowmelt, Python, torch and its build, and the packages that are needed."""
    yield Finding("installed", "snowmelt", __version__)
    yield Finding("installed", "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    lacking = [text for text in NEEDED if not _fits(text)]
    there = ", ".join(f"{_named(text)[0]} {_version(_named(text)[0])}" for text in NEEDED if text not in lacking and not text.startswith("torch>"))
    yield Finding("installed", "torch", _build(), "broken" if NEEDED[0] in lacking else "good", "pip install torch" if NEEDED[0] in lacking else "")
    if others := [text for text in lacking if text != NEEDED[0]]:
        wanted = ", ".join(f"{text} (there is {_version(_named(text)[0]) or 'none'})" for text in others)
        yield Finding("installed", "packages", f"missing or too old: {wanted}", "broken", _pip(others))
    else:
        yield Finding("installed", "packages", there)


def extras() -> Iterator[Finding]:
    """What can be installed beside."""
    for name, wanted in EXTRAS.items():
        lacking = [text for text in wanted if not _fits(text)]
        if lacking:
            says = f"{', '.join(lacking)} not there: {FOR[name]}"
            yield Finding("extra", name, says, "missing", f'pip install "snowmelt[{name}]"')
        else:
            yield Finding("extra", name, ", ".join(f"{_named(text)[0]} {_version(_named(text)[0])}" for text in wanted))


def fast() -> Iterator[Finding]:
    """Devices, their precision, cores, compiler, memory and disk."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of its own does not load
        yield Finding("fast", "device", f"torch cannot be imported: {error}", "broken", _TORCH)
        return
    from snowmelt.restoration.memory import available
    from snowmelt.training.exactness import precision

    names = ["cuda"] if torch.cuda.is_available() else ["mps"] if torch.backends.mps.is_available() else ["cpu"]
    if names == ["cuda"]:
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    for name in names:
        device = torch.device(name)
        what = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability() if name == "cpu" else "Apple"
        number = precision("auto", device)
        speed = {"bf16": "computes in bf16", "fp16": "no bf16, trains in fp16", "fp32": "no fast bf16, computes in fp32"}[number]
        yield Finding("fast", name, f"{what}, {available(device) / _GB:.1f} GB free, {speed}")
    cores = processes.cores()
    idle = torch.get_num_threads() < cores
    yield Finding("fast", "cores", f"{cores}, torch takes {torch.get_num_threads()} threads" + (": --threads gives it more" if idle else ""))
    yield _compiler(cuda=names[0].startswith("cuda"))
    free = shutil.disk_usage(Path.cwd()).free / _GB
    yield Finding("fast", "disk", f"{free:,.1f} GB free in this folder" + (", which is little" if free < _LITTLE_GB else ""))


def plugged_in() -> Iterator[Finding]:
    """The modules of snowmelt's parts, and those of other packages that add to them."""
    others = 0
    for entry in sorted(metadata.entry_points(group="snowmelt"), key=lambda one: one.name):
        own = entry.value.split(".")[0] == "snowmelt"
        others += not own
        try:
            entry.load()
        except Exception as error:  # noqa: BLE001 - somebody else's package may fail in any way
            says = f"{entry.value} fails to load: {type(error).__name__}: {error}"
            yield Finding("plug-in", entry.name, says, "broken" if own else "missing", _ANEW if own else f"pip install --upgrade {_package(entry)}")
        else:
            if not own:
                yield Finding("plug-in", entry.name, f"{entry.value}, of {_package(entry)}")
    if not others:
        yield Finding("plug-in", "none", "no other package adds parts")


def models() -> Iterator[Finding]:
    """The models and features that come with snowmelt, and whether they are what was packed."""
    for path in sorted([*_SHIPPED.glob("*/model.json"), *_SHIPPED.glob("features/*/features.json")]):
        try:
            wrong = [name for name, sha in _listed(path) if _sha256(path.parent / name) != sha]
        except (OSError, ValueError) as error:
            wrong = [f"{path.name} ({error})"]
        says = f"not what was packed: {', '.join(wrong)}" if wrong else "there, and whole"
        yield Finding("model", path.parent.name, says, "broken" if wrong else "good", _ANEW if wrong else "")


def _compiler(*, cuda: bool) -> Finding:
    """What ``--compile`` needs: a C++ compiler and Python's headers, on a GPU also Triton."""
    asked = os.environ.get("CXX", "")
    compiler = shutil.which(asked) if asked else next(filter(None, map(shutil.which, _COMPILERS)), None)
    if cuda and util.find_spec("triton") is None:
        return Finding("fast", "compiler", "no Triton: --compile goes on uncompiled", "missing", "pip install triton")
    if compiler is None:
        way = {"win32": "install the Visual Studio build tools", "darwin": "xcode-select --install"}.get(sys.platform, "apt install g++")
        return Finding("fast", "compiler", f"no C++ compiler{f' {asked}' if asked else ''}: --compile goes on uncompiled", "missing", way)
    headers = (Path(sysconfig.get_path("include")) / "Python.h").is_file()
    says = f"{Path(compiler).name}, for --compile" + ("" if headers else ", but Python's headers are missing")
    return Finding("fast", "compiler", says, "good" if headers else "missing", "" if headers else "apt install python3-dev")


def _build() -> str:
    """Torch's version, and what it was built for."""
    version = _version("torch")
    if version is None:
        return "not there"
    kind = version.partition("+")[2]
    return f"{version}, {'built for the CPU' if kind == 'cpu' else f'built for {kind}' if kind else 'the default build'}"


def _named(requirement: str) -> tuple[str, str]:
    """A package and the versions that will do: ("cyclopts", ">=5.4,<6")."""
    match = _NAMED.fullmatch(requirement)
    assert match is not None  # noqa: S101 - NEEDED and EXTRAS are ours
    return match[1], match[2]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(requirement: str) -> bool:
    """Whether a package is there, in a version that will do."""
    name, limits = _named(requirement)
    there = _version(name)
    return there is not None and all(_within(there, limit) for limit in limits.split(",") if limit)


def _within(version: str, limit: str) -> bool:
    """Whether a release lies on the right side of ">=5.4" or "<6"."""
    least = limit.startswith(">=")
    ours, bound = _numbers(version), _numbers(limit.lstrip("<>="))
    return ours >= bound if least else ours < bound


def _numbers(version: str) -> tuple[int, ...]:
    """Of 2.13.0+cpu: (2, 13), so that 6.0 is 6."""
    numbers = [int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.name


def _pip(requirements: list[str]) -> str:
    return "pip install " + " ".join(f'"{text}"' for text in requirements)


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """The files that a description names beside itself, with what their SHA-256 has to be."""

    def within(value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            if isinstance(value.get("file"), str) and isinstance(value.get("sha256"), str):
                yield value["file"], value["sha256"]
            for inner in value.values():
                yield from within(inner)

    return within(json.loads(path.read_text(encoding="utf-8")))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:  # not by snowmelt.files, which imports torch
        return hashlib.file_digest(file, "sha256").hexdigest()
