"""Read a directory that diffusers wrote as a model. The directory is somebody else's: it is looked at, never run.

Four of its files are read, under names that are fixed here: ``model_index.json``, ``scheduler/scheduler_config.json``, ``unet/config.json`` and
``unet/diffusion_pytorch_model.safetensors``; old directories have the last three at their root. Nothing is imported from it or unpickled, nothing is
downloaded, and no link is followed out of it. The weights are held against the network that the configuration describes before that network is given
any memory.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor

from snowmelt.degradations import GaussianNoise
from snowmelt.files import BadFile, read_json, read_shapes, read_tensors, require_inside, shapes_of
from snowmelt.interop import schedules
from snowmelt.interop.schedules import shown
from snowmelt.interop.unet2d import DiffusersUNet2D
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.registry import SpecError, nearest, schema
from snowmelt.restorers import Restorer

T = TypeVar("T")
INDEX, CONFIG, WEIGHTS, SCHEDULER = "model_index.json", "config.json", "diffusion_pytorch_model.safetensors", "scheduler_config.json"
PIPELINES = ("DDPMPipeline", "DDIMPipeline")
_PARTS = {"unet": ("UNet2DModel",), "scheduler": schedules.SCHEDULERS}
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
_MOST_PX, _MOST_CHANNELS, _MOST_CONFIG_BYTES = 65_536, 1024, 1_000_000
_MOST_VALUES = 50_000_000  # of one sample: 0.2 GB
# Settings of a network that the backbone has no field for, and what they must be.
_FIXED = {"time_embedding_type": "positional", "num_class_embeds": None, "class_embed_type": None}
_OF_THE_FILE = frozenset({"sample_size", "in_channels", "out_channels", "num_train_timesteps"})
# What diffusers takes where a configuration is silent and the backbone would take something else.
_DEFAULTS: dict[str, Any] = {
    "block_out_channels": (224, 448, 672, 896),
    "down_block_types": ("DownBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "UpBlock2D"),
}
# How attention named its matrices before diffusers 0.16.
_OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def from_diffusers(path: str | Path) -> Model:
    """The model in a directory of diffusers: a DDPMPipeline or DDIMPipeline of a UNet2DModel, or its folders unet/ and scheduler/ alone.

    Its estimates are those of the pipeline's network. ``model.notes["diffusers"]["sampler"]`` names a walk like
    that of its pipeline.

    Args:
        path: the directory, as ``save_pretrained`` wrote it or as it was downloaded; nothing is downloaded here.

    Returns:
        A model of ``noise:schedule=betas(...)`` with a normal prior, on the CPU, ready to use.

    Raises:
        FileNotFoundError: there is no such directory, or a file is missing.
        BadFile: a file is damaged, is a pickle or a link that leads elsewhere, or the weights do not fit the configuration.
        ValueError: the pipeline, its scheduler or a setting has no counterpart here.
        SpecError: diffusers is not installed, or a size lies out of range.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no directory: nothing is downloaded here, so give the folder that save_pretrained wrote")
    _refuse_pickles(root)
    pipeline = _pipeline(root)
    trained = _named(root, _place(root, "scheduler", SCHEDULER), schedules.read)
    config = _place(root, "unet", CONFIG)
    backbone, shape, learned = _named(root, config, lambda said: _network(said, trained))
    weights = _weights(_inside(root, config.with_name(WEIGHTS)), backbone, shape, learned)
    variance: Literal["fixed", "learned"] = "learned" if learned else "fixed"
    degradation = GaussianNoise(trained.schedule)
    try:
        restorer = Restorer(degradation, backbone, shape, parameterization=trained.parameterization, variance=variance)
    except SpecError as error:
        raise SpecError(f"{root}: {error}") from None
    restorer.load_state_dict({f"net.{name}": value for name, value in weights.items()})
    notes = {"pipeline": pipeline, "scheduler": trained.scheduler, "sampler": trained.sampler(pipeline), "clips": trained.clips}
    return Model(degradation, restorer.eval().requires_grad_(False), Normal(shape), notes={"diffusers": notes})


def _refuse_pickles(root: Path) -> None:
    for place in (root, root / "unet", root / "scheduler"):
        for found in sorted(place.iterdir()) if place.is_dir() else ():
            if found.suffix.lower() in _PICKLES:
                raise BadFile(
                    f"{found} looks like a pickle, which runs code when it is loaded: it is never read here; save the pipeline "
                    "with safe_serialization=True, and delete it"
                )


def _pipeline(root: Path) -> str | None:
    """The pipeline's name, after its parts are found to be those of a DDPM; None where there is no index."""
    path = root / INDEX
    if not path.is_file() and not path.is_symlink():
        if not (root / "unet").is_dir():
            raise FileNotFoundError(f"{root} holds no {INDEX} and no unet/: give the directory that save_pretrained wrote")
        return None
    index = _config(root, path)
    name = index.get("_class_name")
    if name not in PIPELINES:
        raise ValueError(f"{path}: the pipeline {shown(name)} is not one of {', '.join(PIPELINES)}, of which models are read")
    for part, value in index.items():
        if part.startswith("_") or value is None:
            continue
        allowed = _PARTS.get(part, ())
        if not (isinstance(value, list) and len(value) == 2 and value[0] == "diffusers" and value[1] in allowed):
            due = f"diffusers' {' or '.join(allowed)}" if allowed else "none of that name"
            raise ValueError(f"{path}: the part {shown(part)} is {shown(value)}; what is read has {due}, and no code of a directory is ever run")
    return str(name)


def _network(said: Mapping[str, Any], trained: schedules.Trained) -> tuple[DiffusersUNet2D, tuple[int, int, int], bool]:
    """The backbone that a config.json describes, the shape (c, h, w) of its samples, and whether it says a variance.

    Raises:
        ValueError: another network, a setting with no counterpart, or sizes out of range.
    """
    if said.get("_class_name") != "UNet2DModel":
        raise ValueError(f"the network {shown(said.get('_class_name'))} is not UNet2DModel, the one that is read")
    for key, due in _FIXED.items():
        if said.get(key, due) != due and said[key] is not None:
            way = "of class labels no model is made here" if "class" in key else "the severities of such a network are not those of a DDPM"
            raise ValueError(f"{key} = {shown(said[key])} has no counterpart: {way}")
    sizes = {key: value for key, value in said.items() if not key.startswith("_") and key not in _FIXED and key not in _OF_THE_FILE}
    fields = {field.name for field in schema(DiffusersUNet2D)} - {"steps"}
    for key in sorted(sizes.keys() - fields):
        if sizes[key] is not None:
            raise ValueError(f"the setting {shown(key)} = {shown(sizes[key])} is unknown here{nearest(key, fields)}: remove it if it changes nothing")
    own = {**_DEFAULTS, **{key: value for key, value in sizes.items() if key in fields}}
    backbone = DiffusersUNet2D(steps=trained.schedule.steps, **own)
    channels, out = _count(said, "in_channels", 3, _MOST_CHANNELS), _count(said, "out_channels", 3, 2 * _MOST_CHANNELS)
    learned = trained.variance == "learned"
    if out != channels * (2 if learned else 1):
        what = "learned_range, twice the input's" if learned else "a fixed variance, the input's"
        raise ValueError(f"out_channels = {out} for in_channels = {channels}: its scheduler has {what}; one of the two files is wrong")
    h, w = _sides(said.get("sample_size"))
    if channels * h * w > _MOST_VALUES:
        many = f"{channels * h * w:,} values a sample, over {_MOST_VALUES:,}"
        raise ValueError(f"sample_size = {shown(said['sample_size'])} with in_channels = {channels} makes {many}: write the training pictures' size")
    return backbone, (channels, h, w), learned


def _sides(size: Any) -> tuple[int, int]:
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= _MOST_PX for n in sides):
        raise ValueError(f"sample_size = {shown(size)} is no side, and no height and width, in px: write the size of the training pictures there")
    return sides[0], sides[1]


def _count(said: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = said.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{key} = {shown(value)} lies outside [1, {most}]")
    return value


def _weights(path: Path, backbone: DiffusersUNet2D, shape: tuple[int, ...], learned: bool) -> dict[str, Tensor]:
    """The tensors of a file by the names they have in the backbone's network, all of them and no other, float32.

    Raises:
        BadFile: they are not that network's.
    """
    due = shapes_of(lambda: backbone.build(shape[0], shape[0] * (2 if learned else 1)))  # without memory: a configuration can ask for any
    assert due is not None  # noqa: S101 - diffusers makes its networks so, too
    said = read_shapes(path)
    found = {f"unet.{_current(name)}": value for name, value in said.items()}
    for name in sorted(due.keys() ^ found.keys()):
        what = "lacks" if name in due else "holds"
        raise BadFile(f"{path} {what} {name.removeprefix('unet.')}, which the network of {CONFIG} {'has' if name in due else 'does not have'}")
    if len(found) != len(said):
        raise BadFile(f"{path} has a tensor under two names, an old one of attention and today's")
    for name, size in found.items():
        if size != due[name]:
            raise BadFile(f"{path}: {name.removeprefix('unet.')} has shape {shown(size)}, but {CONFIG} makes it {due[name]}")
    tensors = {f"unet.{_current(name)}": value for name, value in read_tensors(path).items()}
    for name, value in tensors.items():
        if not value.is_floating_point() or not math.isfinite(float(value.double().sum())):
            raise BadFile(f"{path}: {name.removeprefix('unet.')} ({value.dtype}) holds values that are no finite floating-point numbers")
    return {name: value.float() for name, value in tensors.items()}


def _current(name: str) -> str:
    """The name a weight has today."""
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return name


def _place(root: Path, part: str, name: str) -> Path:
    """Where a file of a part lies: in the part's folder, or in directories of old at the root."""
    folder = root / part
    return _inside(root, (folder if folder.is_dir() else root) / name)


def _inside(root: Path, path: Path) -> Path:
    """A file that is there, and lies in the directory when all links are followed.

    Raises:
        FileNotFoundError: it is not there.
        BadFile: it leads out of the directory, or is no plain file.
    """
    require_inside(root, path)
    if not path.exists():
        split = next(path.parent.glob(f"{path.name}.index*"), next(path.parent.glob("*.index.json"), None)) if path.name == WEIGHTS else None
        way = f"; {split.name} says that they are split: save them with a larger max_shard_size" if split else ""
        raise FileNotFoundError(f"{path} is missing{way}")
    if not path.is_file():
        raise BadFile(f"{path} is no file")
    return path


def _named(root: Path, path: Path, read: Callable[[dict[str, Any]], T]) -> T:
    """What `read` makes of the JSON file at `path`; its complaints begin with that path."""
    try:
        return read(_config(root, path))
    except BadFile:
        raise
    except ValueError as error:
        error.args = (f"{path}: {error}",)
        raise


def _config(root: Path, path: Path) -> dict[str, Any]:
    size = _inside(root, path).stat().st_size
    if size > _MOST_CONFIG_BYTES:
        raise BadFile(f"{path} has {size} bytes; a configuration has at most {_MOST_CONFIG_BYTES}")
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadFile(f"{path} holds no settings by name but {shown(value)}")
    return value



