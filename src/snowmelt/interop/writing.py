"""Write a Gaussian model as the directory of a DDPMPipeline, which plain diffusers loads and samples as walks here do.

What fits is a model of ``noise`` with the schedule ``betas`` and the backbone ``diffusers-unet2d``, that predicts eps, x0 or v. Everything else is
refused by name: diffusers would load it, and draw something else. The directory is made beside its place and moved there when it is whole.
"""

from pathlib import Path
from typing import Any

from snowmelt import registry
from snowmelt.degradations import GaussianNoise
from snowmelt.disk import replacing_folder
from snowmelt.files import write_json, write_tensors
from snowmelt.interop import schedules
from snowmelt.interop.reading import CONFIG, INDEX, SCHEDULER, WEIGHTS
from snowmelt.interop.unet2d import DiffusersUNet2D
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.restorers import Restorer
from snowmelt.schedules import Betas
from snowmelt.training.prior import noise_at_end

_WRITTEN = frozenset({INDEX, f"unet/{CONFIG}", f"unet/{WEIGHTS}", f"scheduler/{SCHEDULER}"})


def to_diffusers(model: Model, path: str | Path, *, overwrite: bool = False) -> None:
    """Write `model` as a directory that ``diffusers.DDPMPipeline.from_pretrained`` loads.

    Args:
        model: of noise with the schedule betas, the backbone diffusers-unet2d, and parameterization eps, x0 or v.
        path: the directory; it appears whole, or not at all.
        overwrite: replace a directory that was written so before.

    Raises:
        ValueError: the model has something that such a directory cannot say, or `path` holds something else.
        OSError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    restorer, backbone, schedule = _fitting(model)
    _claim(path, overwrite=overwrite)
    from diffusers import __version__  # there, or the restorer would not be

    learned, (c, h, w) = restorer.variance == "learned", restorer.shape
    version = {"_diffusers_version": __version__}
    network: dict[str, Any] = {"_class_name": "UNet2DModel", **version, "sample_size": h if h == w else [h, w]}
    weights = {name.removeprefix("net.unet."): value for name, value in restorer.state_dict().items()}
    with replacing_folder(path) as made:
        write_tensors(made / "unet" / WEIGHTS, weights)
        write_json(made / "unet" / CONFIG, {**network, **backbone.config(c, c * (2 if learned else 1))})
        write_json(made / "scheduler" / SCHEDULER, {**schedules.write(schedule, restorer.parameterization, learned=learned), **version})
        parts = {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
        write_json(made / INDEX, {"_class_name": "DDPMPipeline", **version, **parts})


def _fitting(model: Model) -> tuple[Restorer, DiffusersUNet2D, Betas]:
    """The parts of a model that a DDPMPipeline can be made of.

    Raises:
        ValueError: it has others; the first of them is named, with what would do.
    """
    restorer, degradation = model.restorer, model.degradation
    if not isinstance(restorer, Restorer):
        raise _refused("its restorer is a plain callable or a wrapper", "give the model that was trained")
    backbone = restorer.backbone
    if not isinstance(degradation, GaussianNoise):
        raise _refused(f"its degradation is {registry.spec(degradation)}", "a DDPM undoes noise:schedule=betas")
    if not isinstance(degradation.schedule, Betas):
        raise _refused(f"its schedule is {registry.spec(degradation.schedule)}", "a DDPM has a table of betas: train with noise:schedule=betas")
    if not isinstance(backbone, DiffusersUNet2D):
        raise _refused(f"its backbone is {registry.spec(backbone)}", "train with --model.backbone diffusers-unet2d")
    if not schedules.known_prediction(restorer.parameterization):
        raise _refused(f"its parameterization is {registry.spec(restorer.parameterization)}", "train with eps, x0 or v")
    if model.gap:
        raise _refused(f"it is tuned for few calls, {model.estimates}", "a DDPM walks with means: give the model that it was tuned from")
    if restorer.conditions:
        raise _refused(f"it is told {', '.join(restorer.conditions.names)}", "a DDPMPipeline has no conditions: train without")
    if model.noise_floor or model.input != "float":
        what = f"noise_floor = {model.noise_floor:g}" if model.noise_floor else f"input = {model.input}"
        raise _refused(f"it has {what}", "a DDPM sees x_t as it is: train with model.noise_floor = 0 and model.input = float")
    if model.range != (-1.0, 1.0):
        raise _refused(f"its range is {model.range}", "a DDPMPipeline shows [-1, 1]")
    prior = Normal() if model.prior is None and noise_at_end(degradation) == 1 else model.prior
    if not isinstance(prior, Normal) or prior.scale != 1:
        name = "none" if prior is None else registry.spec(prior)
        raise _refused(f"its prior is {name}", "a DDPM begins in N(0, I): train with betas that leave nothing else")
    if backbone.steps != degradation.schedule.steps:
        raise _refused(f"its backbone counts {backbone.steps} steps and its schedule {degradation.schedule.steps}", "both have to be one T")
    if any(side % backbone.multiple for side in restorer.shape[1:]):
        sides = " x ".join(map(str, restorer.shape[1:]))
        raise _refused(f"its samples of {sides} px are padded to multiples of {backbone.multiple}", "diffusers does not pad: take fewer levels")
    return restorer, backbone, degradation.schedule


def _refused(what: str, way: str) -> ValueError:
    return ValueError(f"this model cannot be written for diffusers: {what}; {way}")


def _claim(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where something lies; with `overwrite`, only what no export wrote."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ValueError(f"{path} is no directory: choose another")
    there = [str(found.relative_to(path).as_posix()) for found in path.rglob("*") if not found.is_dir()] if path.exists() else []
    if there and not overwrite:
        raise ValueError(f"{path} is not empty: choose another directory, or overwrite it (--overwrite)")
    strange = sorted(set(there) - _WRITTEN)
    if strange:
        raise ValueError(f"{path} holds {strange[0]}, which no export wrote: it is not overwritten; choose another directory")
