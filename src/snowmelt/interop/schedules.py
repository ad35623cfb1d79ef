r"""A scheduler of diffusers, as far as it says what a network was trained for: the betas, what it predicts, which variance a step has.

How diffusers then *samples* (spacing, offsets, PNDM's warm-up) is no property of the network, and ours to choose (:mod:`snowmelt.samplers`). So three
of its schedulers are read alike, and settings of sampling alone are passed over. A setting that would change what the network's output means is
refused, and so is one that is unknown here.

==================  =====================================  ==================================
diffusers           says                                   here
==================  =====================================  ==================================
beta_schedule       linear, scaled_linear,                 ``betas:kind=`` linear,
                    squaredcos_cap_v2                      scaled-linear, cosine
prediction_type     epsilon, sample, v_prediction          eps, x0, v
variance_type       fixed_small (and its log)              ``ancestral``
                    fixed_large                            ``ancestral:variance=large``
                    learned_range                          ``ancestral:variance=learned``
==================  =====================================  ==================================

Source: Ho et al. 2020 (arXiv 2006.11239), section 3.2, for the two fixed variances; Nichol and Dhariwal 2021 (arXiv 2102.09672) for the learned one.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from snowmelt.registry import nearest
from snowmelt.restorers import X0, Eps, Parameterization, V
from snowmelt.schedules import Betas

SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
Kind = Literal["linear", "cosine", "scaled-linear"]
_KINDS: dict[str, Kind] = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS: dict[str, type[Parameterization]] = {"epsilon": Eps, "sample": X0, "v_prediction": V}
_VARIANCES = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "learned_range": "learned"}
_TRAINING = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
_DEFAULTS: dict[str, Any] = {**_TRAINING, "prediction_type": "epsilon", "variance_type": "fixed_small"}
# What a setting must be where it is given at all, and what to do if it is not.
_MUST: dict[str, tuple[Any, str]] = {
    "trained_betas": (None, "a table of its own is not read; train with one of the named schedules"),
    "rescale_betas_zero_snr": (False, "rescaled betas are not read; train with them as they are"),
    "thresholding": (False, "thresholding changes every estimate; set it to false if the network was trained without"),
    "predict_epsilon": (True, 'write "prediction_type": "sample" instead'),
}
_CLIPPING = {"clip_sample", "clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"}
_SAMPLING = {*_CLIPPING, "timestep_spacing", "steps_offset", "set_alpha_to_one", "skip_prk_steps", "tensor_format", "timestep_values"}


class Trained(NamedTuple):
    """What a scheduler says of the network it stands beside."""

    scheduler: str
    schedule: Betas
    parameterization: Parameterization
    variance: str  # small, large or learned, as ``ancestral`` calls them
    clips: bool  # whether diffusers would clip every estimate to [-1, 1]

    def sampler(self, pipeline: str | None = None) -> str:
        """The spec of a walk like that of its pipeline: DDPM's, or DDIM's, which DDIMPipeline makes of any scheduler."""
        clip = ",clip=true" if self.clips else ""
        if self.scheduler != "DDPMScheduler" or pipeline == "DDIMPipeline":
            return f"ancestral:steps={min(50, self.schedule.steps)},eta=0,snap=true{clip}"
        return f"ancestral:steps={self.schedule.steps}{'' if self.variance == 'small' else f',variance={self.variance}'}{clip}"


def read(config: Mapping[str, Any]) -> Trained:
    """What a scheduler_config.json says.

    Raises:
        ValueError: another scheduler, or a setting that has no counterpart here.
    """
    name = str(config.get("_class_name"))
    if name not in SCHEDULERS:
        way = "save the pipeline with DDPMScheduler.from_config(pipeline.scheduler.config)"
        raise ValueError(f"the scheduler {shown(name)} is not one of {', '.join(SCHEDULERS)}{nearest(name, SCHEDULERS)}: {way}")
    for key, (due, way) in _MUST.items():
        if config.get(key, due) != due and config[key] is not None:
            raise ValueError(f"{key} = {shown(config[key])} has no counterpart here: {way}")
    known = _DEFAULTS.keys() | _MUST.keys() | _SAMPLING
    for key, value in config.items():
        if not key.startswith("_") and key not in known and value is not None:
            raise ValueError(f"the setting {shown(key)} = {shown(value)} is unknown here{nearest(key, known)}: remove it if it changes nothing")
    said = {key: value if (value := config.get(key)) is not None else due for key, due in _DEFAULTS.items()}
    schedule = Betas(
        steps=said["num_train_timesteps"],
        beta_min=said["beta_start"],
        beta_max=said["beta_end"],
        kind=_one(said, "beta_schedule", _KINDS),
    )
    prediction, variance = _one(said, "prediction_type", _PREDICTIONS), _one(said, "variance_type", _VARIANCES)
    clips = bool(config.get("clip_sample", True)) and name != "PNDMScheduler"
    if clips and (bound := config.get("clip_sample_range")) not in (None, 1):
        raise ValueError(f"clip_sample_range = {shown(bound)} has no counterpart: samples lie in [-1, 1] here; set it to 1, or clip_sample to false")
    return Trained(name, schedule, prediction(), variance, clips)


def write(schedule: Betas, parameterization: Parameterization, *, learned: bool) -> dict[str, Any]:
    """The scheduler_config.json of a DDPMScheduler: it does not clip, and spaces fewer steps as walks here do."""
    kind = next(theirs for theirs, ours in _KINDS.items() if ours == schedule.kind)
    prediction = next(theirs for theirs, ours in _PREDICTIONS.items() if isinstance(parameterization, ours))
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": schedule.steps,
        "beta_start": schedule.beta_min,
        "beta_end": schedule.beta_max,
        "beta_schedule": kind,
        "prediction_type": prediction,
        "variance_type": "learned_range" if learned else "fixed_small",
        "clip_sample": False,
        "thresholding": False,
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": False,
        "trained_betas": None,
    }


def known_prediction(parameterization: Parameterization) -> bool:
    """Whether diffusers has a name for what the network predicts."""
    return type(parameterization) in _PREDICTIONS.values()


def _one(said: Mapping[str, Any], key: str, known: Mapping[str, Any]) -> Any:
    value = said[key]
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{key} = {shown(value)} is not one of {', '.join(known)}{nearest(str(value), known)}")
    return known[value]


def shown(value: Any) -> str:
    """A foreign value as a message shows it."""
    text = repr(value) if not isinstance(value, str) else value
    return " ".join((text if len(text) <= 80 else f"{text[:80]}...").split())
