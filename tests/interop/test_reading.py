"""Directories that diffusers wrote, as models: the same estimates, the same samples."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import snowmelt
from snowmelt.interop import from_diffusers
from snowmelt.restorers import X0, Eps, V

T, N = 12, 3
PREDICTIONS = {"epsilon": Eps, "sample": X0, "v_prediction": V}


def ours(model: snowmelt.Model, sampler: str, seed: int = 7) -> torch.Tensor:
    return snowmelt.generate(model, N, sampler=sampler, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_ancestral_walks_are_those_of_the_pipeline(written, close, pipeline, theirs, prediction_type: str, beta_schedule: str) -> None:
    path = written(prediction_type=prediction_type, beta_schedule=beta_schedule)
    model = from_diffusers(path)
    assert type(model.restorer.parameterization) is PREDICTIONS[prediction_type]
    assert model.notes["diffusers"]["sampler"] == f"ancestral:steps={T}"
    close(ours(model, f"ancestral:steps={T}"), theirs(pipeline(path), T))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prediction_type", "beta_schedule", "bound"),
    [("v_prediction", "linear", 5e-5), ("epsilon", "linear", 5e-5), ("epsilon", "squaredcos_cap_v2", 5e-4)],
)
def test_a_whole_chain_of_a_real_table(written, pipeline, theirs, prediction_type: str, beta_schedule: str, bound: float) -> None:
    """Epsilon with the cosine table is Improved DDPM, which ends at alpha = 5e-5: what is left there is the rounding of diffusers' own table."""
    table = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": True}
    path = written(prediction_type=prediction_type, beta_schedule=beta_schedule, **table)
    model, pipe = from_diffusers(path), pipeline(path)
    assert model.notes["diffusers"]["sampler"] == "ancestral:steps=1000,clip=true"
    x = ours(model, "ancestral:steps=1000,clip=true")
    torch.testing.assert_close(x, theirs(pipe, 1000), rtol=0, atol=bound)
    bar = model.degradation.schedule.alpha_bar()[1:]
    pipe.scheduler.alphas_cumprod, pipe.scheduler.alphas = bar, torch.cat([bar[:1], bar[1:] / bar[:-1]])
    pipe.scheduler.betas = 1 - pipe.scheduler.alphas
    torch.testing.assert_close(x, theirs(pipe, 1000).float(), rtol=0, atol=5e-5)


def test_what_the_pipeline_itself_returns(written, close, pipeline) -> None:
    path = written(prediction_type="sample")
    shown = pipeline(path)(batch_size=N, num_inference_steps=T, output_type="pt", generator=torch.Generator().manual_seed(7)).images
    x = ours(from_diffusers(path), f"ancestral:steps={T}")
    close((x / 2 + 0.5).clamp(0, 1), shown)
    assert x.abs().mean() < 1  # or the clipping would hide all


@pytest.mark.parametrize(
    ("variance_type", "spec"), [("fixed_small_log", ""), ("fixed_large", ",variance=large"), ("learned_range", ",variance=learned")]
)
def test_the_variance_of_a_step(written, close, pipeline, theirs, variance_type: str, spec: str) -> None:
    path = written({"out_channels": 2} if spec.endswith("learned") else {}, variance_type=variance_type)
    model = from_diffusers(path)
    assert model.notes["diffusers"]["sampler"] == f"ancestral:steps={T}{spec}"
    close(ours(model, f"ancestral:steps={T}{spec}"), theirs(pipeline(path), T))
    if spec:
        assert (ours(model, f"ancestral:steps={T}") - ours(model, f"ancestral:steps={T}{spec}")).abs().max() > 1e-2


@pytest.mark.parametrize("steps", [12, 4])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_ddim_with_trailing_steps(written, close, pipeline, theirs, prediction_type: str, steps: int) -> None:
    path = written(pipeline="DDIMPipeline", scheduler="DDIMScheduler", prediction_type=prediction_type, timestep_spacing="trailing")
    model = from_diffusers(path)
    assert "eta=0" in model.notes["diffusers"]["sampler"]
    close(ours(model, f"ancestral:steps={steps},eta=0"), theirs(pipeline(path, "DDIMPipeline"), steps, eta=0.0))


def test_a_pndm_scheduler_says_the_same_of_its_network(written, close) -> None:
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.25, 1.0])
    first = from_diffusers(written()).estimate(x, t)
    close(from_diffusers(written(scheduler="PNDMScheduler")).estimate(x, t), first)


@pytest.mark.parametrize(
    "sizes",
    [
        {"freq_shift": 1, "flip_sin_to_cos": False, "downsample_padding": 0, "attention_head_dim": None, "act_fn": "swish"},
        {"down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D")},
        {"resnet_time_scale_shift": "scale_shift", "downsample_type": "resnet", "upsample_type": "resnet", "attn_norm_num_groups": 2},
        {"mid_block_type": None, "center_input_sample": True, "time_embedding_dim": 24},
        {"add_attention": False, "mid_block_scale_factor": 1.4, "norm_eps": 1e-3, "dropout": 0.5},
        {"in_channels": 3, "out_channels": 3, "sample_size": (8, 16)},
    ],
)
def test_every_size_a_network_may_have(written, close, pipeline, sizes: dict[str, Any]) -> None:
    path = written(sizes)
    model = from_diffusers(path)
    net = pipeline(path).unet.eval()
    c, h, w = model.prior.shape
    x = torch.randn(T, c, h, w, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net(x, torch.arange(T)).sample
    close(model.restorer.net(x, torch.arange(1, T + 1) / T), expected)


def test_settings_that_a_config_leaves_out_are_those_of_diffusers(written) -> None:
    path = written()
    table = json.loads((path / "unet/config.json").read_text())
    for name in ("block_out_channels", "down_block_types", "up_block_types"):
        del table[name]
    (path / "unet/config.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"norm_num_groups|lacks|shape"):  # 224 channels, not ours
        from_diffusers(path)
    from snowmelt.interop import reading, schedules

    trained = schedules.read(json.loads((path / "scheduler/scheduler_config.json").read_text()))
    backbone, _, _ = reading._network(table, trained)
    assert backbone.block_out_channels == (224, 448, 672, 896)
    assert backbone.down_block_types == ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")


def test_directories_of_old(written, close) -> None:
    """All at the root, and attention's matrices under the names they once had."""
    path = written()
    before = from_diffusers(path)
    weights = load_file(path / "unet/diffusion_pytorch_model.safetensors")
    for new, old in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")):
        weights = {name.replace(new, old): value for name, value in weights.items()}
    assert any(".proj_attn." in name for name in weights)
    save_file(weights, path / "diffusion_pytorch_model.safetensors")
    (path / "unet/config.json").rename(path / "config.json")
    (path / "scheduler/scheduler_config.json").rename(path / "scheduler_config.json")
    (path / "unet/diffusion_pytorch_model.safetensors").unlink()
    (path / "unet").rmdir()
    (path / "scheduler").rmdir()
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.25, 1.0])
    close(from_diffusers(path).estimate(x, t), before.estimate(x, t))


def test_the_folders_without_an_index(written) -> None:
    path = written()
    before = from_diffusers(path)
    (path / "model_index.json").unlink()
    model = from_diffusers(str(path))
    assert model.notes["diffusers"]["pipeline"] is None
    assert all(torch.equal(a, b) for a, b in zip(model.restorer.parameters(), before.restorer.parameters(), strict=True))


def test_half_precision_weights_are_widened(written) -> None:
    path = written()
    file = path / "unet/diffusion_pytorch_model.safetensors"
    save_file({name: value.half() for name, value in load_file(file).items()}, file)
    assert {p.dtype for p in from_diffusers(path).restorer.parameters()} == {torch.float32}


def test_it_clips_where_the_pipeline_does(written, close, pipeline, theirs) -> None:
    path = written(clip_sample=True)
    model = from_diffusers(path)
    assert model.notes["diffusers"]["clips"] is True
    assert model.notes["diffusers"]["sampler"] == f"ancestral:steps={T},clip=true"
    generator = torch.Generator().manual_seed(7)
    walk = snowmelt.build(model.notes["diffusers"]["sampler"], "sampler")
    x = walk.sample(model, model.prior.sample(N, generator), generator)
    close(x, theirs(pipeline(path), T))


def test_it_is_saved_and_loaded_like_any_model(written, tmp_path: Path) -> None:
    model = from_diffusers(written())
    snowmelt.save(model, tmp_path / "run")
    again = snowmelt.load(tmp_path / "run")
    assert again.degradation == model.degradation
    assert again.prior == model.prior
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.3, 0.9])
    assert torch.equal(again.estimate(x, t), model.estimate(x, t))


@pytest.mark.parametrize("pipeline", ["DDPMPipeline", "DDIMPipeline"])
@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "DDIMScheduler", "PNDMScheduler"])
def test_the_walk_is_that_of_the_pipeline(written, pipeline: str, scheduler: str) -> None:
    """DDIMPipeline turns any scheduler into DDIM's."""
    path = written(scheduler=scheduler)
    index = json.loads((path / "model_index.json").read_text())
    (path / "model_index.json").write_text(json.dumps({**index, "_class_name": pipeline}))
    said = from_diffusers(path).notes["diffusers"]["sampler"]
    assert said == (f"ancestral:steps={T}" if (pipeline, scheduler) == ("DDPMPipeline", "DDPMScheduler") else f"ancestral:steps={T},eta=0,snap=true")
