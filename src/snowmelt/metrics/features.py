"""Features of pictures: what a network sees in them, so that sets of pictures can be compared without their pixels.

The scores that papers call FID and KID are distances in the features of one particular network, Inception of 2015, whose weights are a download of
unclear licence, and which was trained on photographs of 1,000 things: it knows little of digits. Here features come from a small classifier of the
very data (``mnist-v1``, ``fashion-v1`` are in the package; ``snowmelt train-features`` makes others) or from an ONNX file of the user's. A distance
bears the name of its features, ``FD-mnist-v1``, since numbers from two networks never compare.

A stored classifier is a directory: ``features.json`` says everything in words and numbers, a safetensors file holds the weights as float16, with its
SHA-256 in features.json, which is written last. The version ``-v1`` belongs to those in the package; any other, whatever its description claims,
is named by its weights, ``mnist-3f9a01c2``, so that two networks never share a name.
"""

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt._version import __version__
from snowmelt.files import (
    BadFile,
    described_by,
    named_file,
    read_info,
    read_tensors,
    require_inside,
    require_shapes,
    sha256,
    write_json,
    write_tensors,
)
from snowmelt.metrics.classifier import Classifier
from snowmelt.types import Batch

FORMAT = 1
INFO = "features.json"
SHIPPED = Path(__file__).parents[1] / "shipped" / "features"
MAX_BYTES = 1_000_000
MAX_CLASSES = 1000
_MAX_SIDE = 512
_MAX_WIDTH = 4096
_MAX_NAME = 80
_CHUNK = 250
_LUMA = (0.299, 0.587, 0.114)


class Features(abc.ABC):
    """Pictures to rows of numbers. Deterministic, without gradients, float32 on the CPU; no row depends on its batch beyond rounding.

    Attributes:
        name: what the features are called in scores: "mnist-v1".
        classes: the names of the classes it can tell, or None.
        dims: k, the length of a row; None where only a first picture tells.
    """

    name: str
    classes: tuple[str, ...] | None = None
    dims: int | None = None

    @property
    def score(self) -> str:
        """What the Fréchet distance in these features is called: "FD-mnist-v1"; "FID" for nothing but Inception."""
        return f"FD-{self.name}"

    @abc.abstractmethod
    def __call__(self, x: Batch) -> Tensor:
        """Features (b, k) of pictures (b, c, h, w) in [-1, 1], c = 1 or 3.

        Values are clamped to [-1, 1], colours turned to grey (Rec. 601) or grey repeated, and pictures resized (bilinear, with
        antialiasing where they shrink) as the network needs.

        Raises:
            ValueError: these are no pictures, or hold NaN.
        """

    def labels(self, x: Batch) -> Tensor | None:
        """The most probable class of each picture, (b,) int64, numbers in `classes`; None where the network knows none."""
        return None


class ClassifierFeatures(Features):
    """Features of a small classifier, see :mod:`snowmelt.metrics.classifier`.

    Args:
        net: without normalisation, see :meth:`Classifier.folded`.
        name: "mnist-v1".
        classes: one name per class.
        shape: (c, h, w) of the pictures it was trained on, to which all others are brought.
        notes: what else is known: accuracy, recipe, data, licence.
    """

    def __init__(
        self, net: Classifier, name: str, classes: Sequence[str], shape: tuple[int, int, int], notes: Mapping[str, Any] | None = None
    ) -> None:
        self.net = net.eval().requires_grad_(False)
        self.name, self.classes, self.shape, self.dims = name, tuple(classes), shape, net.dims
        self.notes = dict(notes or {})

    @torch.no_grad()
    def __call__(self, x: Batch) -> Tensor:
        """See :meth:`Features.__call__`."""
        return self._pieces(x, self.net.features, self.net.dims)

    @torch.no_grad()
    def labels(self, x: Batch) -> Tensor:
        """See :meth:`Features.labels`."""
        return self._pieces(x, self.net, len(self.classes or ())).argmax(1)

    def _pieces(self, x: Batch, function: Any, width: int) -> Tensor:
        check(x)
        none = torch.empty(0, width)
        return torch.cat([none, *(function(form(part, self.shape)) for part in torch.split(x, _CHUNK) if len(part))])


def load_features(source: str | Path) -> Features:
    """Features by name ("mnist-v1"), from a directory that ``snowmelt train-features`` wrote, or from an ONNX file.

    Raises:
        FileNotFoundError: there is no such thing; the message says what there is.
        BadFile: a file is damaged, too large, or of a later format.
        ValueError: an ONNX file, but onnxruntime is not installed.
    """
    path = located(source)
    if path.is_file() and path.suffix.lower() == ".onnx":
        from snowmelt.metrics.onnx import OnnxFeatures

        return OnnxFeatures(path)
    if not (path / INFO).is_file():
        known = "".join(f"{name}, " for name in shipped_features())
        raise FileNotFoundError(f"{source} holds no features: give {known}a directory that 'snowmelt train-features' wrote, or a file model.onnx")
    require_inside(path, path / INFO)
    info = read_info(path / INFO, FORMAT)
    with described_by(path / INFO):
        return _rebuild(info, path)


def save_features(features: ClassifierFeatures, path: str | Path, *, release: int | None = None) -> None:
    """Write a classifier to the directory `path`; a reader sees the old one or the new one, never a mixture.

    Args:
        features: its name without a version; load_features adds that.
        path: the directory.
        release: the version of one that comes with the package; read only there.

    Raises:
        ValueError: its weights take more than 1 MB.
        OSError: the disk is full or the directory cannot be written.
    """
    path, net = Path(path), features.net
    tensors = {name: value.half() for name, value in net.state_dict().items()}
    size = sum(2 * value.numel() for value in tensors.values())
    if size > MAX_BYTES - 10_000:
        raise ValueError(f"features {features.name}: {size} bytes of weights are more than {MAX_BYTES}: give fewer classes")
    temporary = path / "weights.safetensors"
    write_tensors(temporary, tensors)
    digest = sha256(temporary)
    file = f"weights-{digest[:12]}.safetensors"
    temporary.replace(path / file)
    info = {
        "format": FORMAT,
        "snowmelt": __version__,
        "name": features.name,
        "release": release,
        "shape": list(features.shape),
        "widths": list(net.widths),
        "dims": net.dims,
        "classes": list(features.classes or ()),
        "weights": {"file": file, "sha256": digest},
        "notes": features.notes,
    }
    write_json(path / INFO, info)
    for old in path.glob("weights-????????????.safetensors"):
        if old.name != file:
            old.unlink(missing_ok=True)


def shipped_features() -> list[str]:
    """The names of the features that come with snowmelt."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{INFO}"))


def located(source: str | Path) -> Path:
    """The directory or file meant by the name of shipped features, else by a path; write ``./mnist-v1`` for a directory of such a name."""
    return SHIPPED / str(source) if str(source) in shipped_features() else Path(source).expanduser()


def check(x: Batch) -> None:
    """Refuse what is no batch of pictures with a ValueError."""
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point() or min(x.shape[1:]) < 1:
        raise ValueError(f"features are of pictures (b, c, h, w) of floats in [-1, 1], c = 1 or 3; this is {x.dtype} {tuple(x.shape)}")
    if bool(x.isnan().any()):
        raise ValueError(f"NaN in {int(x.isnan().flatten(1).any(1).sum())} of {len(x)} pictures: they have no features")


def form(x: Batch, shape: tuple[int | None, int | None, int | None]) -> Batch:
    """`x` clamped, in the form (c, h, w) that a network takes, float32 on the CPU; None leaves an axis as it is."""
    x = x.detach().to("cpu", torch.float32).clamp(-1, 1)
    c, h, w = (have if wanted is None else wanted for have, wanted in zip(x.shape[1:], shape, strict=True))
    if c == 1 and x.shape[1] == 3:
        x = (x * x.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    if x.shape[2:] != (h, w):
        shrinks = h < x.shape[2] or w < x.shape[3]
        x = functional.interpolate(x, size=(h, w), mode="bilinear", align_corners=False, antialias=shrinks)
    return x.expand(-1, c, -1, -1).contiguous()


def _rebuild(info: Mapping[str, Any], path: Path) -> ClassifierFeatures:
    _check_words(info, path)
    shape, widths = tuple(info["shape"]), tuple(info["widths"])
    numbers = (*shape, *widths, info["dims"])
    whole = all(isinstance(n, int) and 1 <= n <= _MAX_WIDTH for n in numbers)
    if not whole or len(shape) != 3 or shape[0] not in (1, 3) or not 1 <= len(widths) <= 8:
        raise BadFile(f"{path / INFO}: shape {shape}, widths {widths} and dims {info['dims']} are no classifier of pictures")
    if max(shape[1:]) > _MAX_SIDE or not 2 <= len(info["classes"]) <= MAX_CLASSES:
        found = f"{len(info['classes'])} classes at {shape}"
        raise BadFile(f"{path / INFO}: {found}; there are 2 to {MAX_CLASSES} classes of at most {_MAX_SIDE} px")
    file = named_file(path, info["weights"]["file"], INFO)
    if file.stat().st_size > MAX_BYTES or sha256(file) != info["weights"]["sha256"]:
        raise BadFile(f"{file} is damaged: its SHA-256 is not the one in {INFO}, or it is larger than {MAX_BYTES} bytes")
    with torch.device("meta"):  # what a hostile description asks for takes no memory before the file is seen to hold it
        net = Classifier(shape[0], len(info["classes"]), widths, info["dims"])
    require_shapes(file, {name: tuple(value.shape) for name, value in net.state_dict().items()})
    tensors = read_tensors(file)
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise BadFile(f"the weights in {path} hold NaN or infinity: they are no network")
    net.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    # Anyone can write a release into a file; only what lies in the package may bear one.
    release = info["release"] if path.resolve().parent == SHIPPED.resolve() else None
    name = f"{info['name']}-{info['weights']['sha256'][:8]}" if release is None else f"{info['name']}-v{release}"
    return ClassifierFeatures(net, name, info["classes"], shape, info["notes"])


def _check_words(info: Mapping[str, Any], path: Path) -> None:
    """Refuse a description whose name, release, classes or notes are not what :func:`save_features` writes."""
    name, release, classes, notes = (info[entry] for entry in ("name", "release", "classes", "notes"))
    # One line of print: a name goes into tables, file names and the names of scores.
    named = isinstance(name, str) and name.isprintable() and 1 <= len(name) <= _MAX_NAME and "/" not in name
    wanted = {
        "name": (name, named, f"text of 1 to {_MAX_NAME} printable characters without /"),
        "release": (release, release is None or (type(release) is int and release >= 1), "null or a whole number of at least 1"),
        "classes": (classes, isinstance(classes, list) and all(isinstance(one, str) for one in classes), "a list of names"),
        "notes": (notes, isinstance(notes, dict), "an object"),
    }
    for entry, (value, good, meant) in wanted.items():
        if not good:
            way_out = "write it anew with 'snowmelt train-features'"
            raise BadFile(f"{path / INFO}: {entry} = {ascii(value)[:60]} is not {meant}; mend the entry, or {way_out}")
