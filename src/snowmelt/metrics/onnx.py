"""Features from an ONNX file of the user's: Inception for those who have it, or any network that turns pictures into rows.

An ONNX file is data, not code: it is never unpickled, it is read from memory after its size was looked at, and it may not name other files (external
data), through which a hostile file could reach into the disk. What onnxruntime says against it becomes one line. What the graph takes of memory and
time while it runs is not bounded: a small file can ask for very much.

=====================  ==============================================================================================================
the first input        pictures (b, c, h, w) or (b, h, w, c), c = 1 or 3, float32 or uint8; sizes the file leaves open are the picture's
values                 uint8: 0 to 255. float32: [-1, 1], or what the file's metadata ``snowmelt.range`` says, such as ``0,255``
the features           the output called ``features``, else the first: (b, k) or (b, k, 1, 1)
the classes            the output called ``logits``, if there is one: (b, classes); without names, so only generated pictures are counted by it
=====================  ==============================================================================================================

A distance in these features is called "FD-" and the first eight digits of the file's SHA-256. It is called FID only for a file in :data:`KNOWN`,
a table of hashes of files that compute Inception's 2,048 features exactly as the papers did. No such ONNX file is published with a hash that could be
checked, so the table is empty for now: FID and LPIPS stay "not computed" rather than be something else under their name.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.files import BadFile, sha256
from snowmelt.metrics.features import Features, check, form
from snowmelt.types import Batch

# SHA-256 of a file: what the Fréchet distance in its features may be called.
KNOWN: Mapping[str, str] = {}
MAX_BYTES = 500_000_000
_BATCH = 50
_LARGEST = 4096
# A tensor kept elsewhere says so by the key "location": its length, 8, as a varint of any form, then the word.
_ELSEWHERE = re.compile(rb"(?:\x08|\x88\x80*\x00)location")


class OnnxFeatures(Features):
    """Features by onnxruntime, on the CPU.

    Args:
        path: the ONNX file.

    Attributes:
        sha256: of the file.

    Raises:
        BadFile: it is no ONNX file, is larger than 500 MB, keeps data in other files, or takes something else than pictures.
        ValueError: onnxruntime is not installed.
    """

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadFile(f"{path} has {size} bytes; a network for features has at most {MAX_BYTES}")
        self.path, self.sha256 = path, sha256(path)
        self.name = self.sha256[:8]
        self._session = _session(path)
        self._takes = _takes(self._session, path)
        outputs = [one.name for one in self._session.get_outputs()]
        self._features = "features" if "features" in outputs else outputs[0]
        self._logits = "logits" if "logits" in outputs else None

    @property
    def score(self) -> str:
        """See :attr:`Features.score`."""
        return KNOWN.get(self.sha256, f"FD-{self.name}")

    def __call__(self, x: Batch) -> Tensor:
        """See :meth:`Features.__call__`; BadFile where the network fails on these pictures, or gives no rows."""
        return self._run(x, self._features)

    def labels(self, x: Batch) -> Tensor | None:
        """See :meth:`Features.labels`."""
        return None if self._logits is None else self._run(x, self._logits).argmax(1)

    def _run(self, x: Batch, output: str) -> Tensor:
        check(x)
        if not len(x):
            raise ValueError(f"{self.path}: no picture was given: how long a row of features is, only a picture tells")
        batch = self._takes["batch"]
        return torch.cat([self._piece(part, output) for part in torch.split(x, batch or _BATCH)])

    def _piece(self, x: Batch, output: str) -> Tensor:
        pixels, n = self._takes["pixels"](x), len(x)
        if self._takes["batch"] and n < self._takes["batch"]:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self._takes["batch"] - n, axis=0)])
        try:
            (found,) = self._session.run([output], {self._takes["name"]: pixels})
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no class in common but this
            raise BadFile(f"{self.path} fails on pictures of shape {tuple(x.shape)}: {_one_line(error)}") from None
        rows = np.asarray(found)
        if rows.dtype.kind != "f" or rows.ndim < 2 or len(rows) != len(pixels) or math.prod(rows.shape[2:]) != 1:
            raise BadFile(f"{self.path}: the output {output} is {rows.dtype} {rows.shape}; features are rows of floats, (b, k)")
        if not np.isfinite(rows).all():
            raise BadFile(f"{self.path}: the output {output} holds NaN or infinity")
        return torch.from_numpy(rows.reshape(len(rows), -1)[:n].astype(np.float32))


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f'{path} needs onnxruntime, which is not installed: pip install "snowmelt[onnx]"') from None
    data = path.read_bytes()
    if _ELSEWHERE.search(data):
        raise BadFile(f"{path} keeps tensors in other files, which are not read: save it as one file (onnx.save with save_as_external_data=False)")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4  # errors come as exceptions
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - see above
        raise BadFile(f"{path} is no ONNX file that onnxruntime can load: {_one_line(error)}") from None


def _takes(session: Any, path: Path) -> dict[str, Any]:
    """How the network wants its pictures: the input's name, its fixed batch (or 0), and a function from pictures to an array."""
    inputs = session.get_inputs()
    sizes = [size if isinstance(size, int) and size > 0 else None for size in (inputs[0].shape if inputs else [])]
    kind = inputs[0].type if inputs else "nothing"
    if len(inputs) != 1 or len(sizes) != 4 or kind not in ("tensor(float)", "tensor(uint8)"):
        found = f"{len(inputs)} inputs, the first {kind} {inputs[0].shape if inputs else ''}"
        raise BadFile(f"{path} takes {found}; features need one input of pictures, float32 or uint8, (b, c, h, w) or (b, h, w, c)")
    last = sizes[1] not in (1, 3) and sizes[3] in (1, 3)
    shape = (sizes[3], sizes[1], sizes[2]) if last else (sizes[1], sizes[2], sizes[3])
    if shape[0] not in (1, 3, None) or max(size or 0 for size in sizes) > _LARGEST:
        raise BadFile(f"{path} takes pictures of shape {inputs[0].shape}; features are of 1 or 3 channels and at most {_LARGEST} px")
    low, high = _range(session, path)
    to_array = _to_array(shape, last, None if kind == "tensor(uint8)" else (low, high))
    return {"name": inputs[0].name, "batch": sizes[0] or 0, "pixels": to_array}


def _to_array(
    shape: tuple[int | None, int | None, int | None], last: bool, span: tuple[float, float] | None
) -> Callable[[Batch], NDArray[Any]]:
    """A function from pictures to the network's array: floats in `span`, or bytes where there is none."""

    def to_array(x: Batch) -> NDArray[Any]:
        unit = (form(x, shape) + 1) / 2
        values = (unit * 255).round().to(torch.uint8) if span is None else unit * (span[1] - span[0]) + span[0]
        return np.ascontiguousarray((values.permute(0, 2, 3, 1) if last else values).numpy())

    return to_array


def _range(session: Any, path: Path) -> tuple[float, float]:
    said = session.get_modelmeta().custom_metadata_map.get("snowmelt.range", "-1,1")
    try:
        low, high = (float(part) for part in said.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadFile(f'{path}: its metadata snowmelt.range = "{said[:40]}" is no range: write two numbers, black first, such as 0,255')
    return low, high


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
