"""Directories that cannot or must not be read: one line that names the thing, its value and a way out, and nothing is run."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from snowmelt.degradations import GaussianNoise
from snowmelt.files import BadFile
from snowmelt.interop import from_diffusers

INDEX, UNET, SCHEDULER = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def refused(path: Path, *words: str) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        from_diffusers(path)
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 600
    for word in words:
        assert word in said, said
    return said


@pytest.mark.parametrize(
    ("file", "entries", "words"),
    [
        (INDEX, {"_class_name": "StableDiffusionPipeline"}, ["StableDiffusionPipeline", "DDPMPipeline"]),
        (INDEX, {"_class_name": ["evil", "Pipeline"]}, ["evil", "DDPMPipeline"]),
        (INDEX, {"_class_name": None}, ["None", "DDPMPipeline"]),
        (INDEX, {"unet": ["evil_module", "UNet2DModel"]}, ["unet", "evil_module", "ever run"]),
        (INDEX, {"unet": ["diffusers", "UNet2DConditionModel"]}, ["UNet2DConditionModel", "UNet2DModel"]),
        (INDEX, {"unet": ["../evil", "Network"]}, ["../evil", "ever run"]),
        (INDEX, {"scheduler": ["/tmp/evil.py", "DDPMScheduler"]}, ["/tmp/evil.py", "ever run"]),
        (INDEX, {"scheduler": ["diffusers", "LCMScheduler"]}, ["LCMScheduler", "DDPMScheduler"]),
        (INDEX, {"unet": "diffusers.UNet2DModel"}, ["diffusers.UNet2DModel"]),
        (INDEX, {"vqvae": ["diffusers", "VQModel"]}, ["vqvae", "VQModel"]),
        (SCHEDULER, {"_class_name": "EulerDiscreteScheduler"}, ["EulerDiscreteScheduler", "DDPMScheduler.from_config"]),
        (SCHEDULER, {"_class_name": "DDPMSheduler"}, ["did you mean 'DDPMScheduler'"]),
        (SCHEDULER, {"_class_name": None}, ["None", "DDPMScheduler"]),
        (SCHEDULER, {"beta_schedule": "sigmoid"}, ["beta_schedule = sigmoid", "squaredcos_cap_v2"]),
        (SCHEDULER, {"beta_schedule": ["linear"]}, ["beta_schedule"]),
        (SCHEDULER, {"prediction_type": "flow_prediction"}, ["prediction_type = flow_prediction", "epsilon"]),
        (SCHEDULER, {"predict_epsilon": False}, ["predict_epsilon = False", "sample"]),
        (SCHEDULER, {"variance_type": "learned"}, ["variance_type = learned", "learned_range"]),
        (SCHEDULER, {"variance_type": "fixed_large_log"}, ["fixed_large_log"]),
        (SCHEDULER, {"variance_type": "learned_range"}, ["out_channels = 1", "learned_range"]),
        (SCHEDULER, {"thresholding": True}, ["thresholding = True"]),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, ["rescale_betas_zero_snr = True"]),
        (SCHEDULER, {"trained_betas": [0.1, 0.2]}, ["trained_betas = [0.1, 0.2]"]),
        (SCHEDULER, {"num_train_timesteps": 0}, ["betas.steps = 0", "[1, 100000]"]),
        (SCHEDULER, {"num_train_timesteps": 10**9}, ["betas.steps = 1000000000"]),
        (SCHEDULER, {"num_train_timesteps": "12"}, ["betas.steps", "'12'"]),
        (SCHEDULER, {"beta_end": 7}, ["betas.beta_max = 7"]),
        (SCHEDULER, {"beta_start": float("nan")}, ["betas.beta_min", "NaN"]),
        (SCHEDULER, {"clip_sample": True, "clip_sample_range": 2.0}, ["clip_sample_range = 2.0", "clip_sample to false"]),
        (SCHEDULER, {"snr_shift_scale": 3.0}, ["snr_shift_scale = 3.0", "unknown"]),
        (UNET, {"_class_name": "UNet2DConditionModel"}, ["UNet2DConditionModel", "UNet2DModel"]),
        (UNET, {"time_embedding_type": "fourier"}, ["time_embedding_type = fourier"]),
        (UNET, {"num_class_embeds": 10}, ["num_class_embeds = 10", "class labels"]),
        (UNET, {"class_embed_type": "timestep"}, ["class_embed_type = timestep"]),
        (UNET, {"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, ["SkipDownBlock2D", "AttnDownBlock2D"]),
        (UNET, {"down_block_types": ["DownBlock2D"]}, ["down_block_types has 1 entries for 2 levels"]),
        (UNET, {"block_out_channels": [8, 10**12]}, ["block_out_channels", "1000000000000"]),
        (UNET, {"block_out_channels": [8] * 40}, ["40 levels"]),
        (UNET, {"block_out_channels": [8, 18]}, ["(8, 18)", "norm_num_groups = 4"]),
        (UNET, {"block_out_channels": 8}, ["block_out_channels = 8"]),
        (UNET, {"block_out_channels": [12, 16]}, ["shape (8,", "makes it (12,"]),
        (UNET, {"layers_per_block": 2}, ["lacks", "resnets.1"]),
        (UNET, {"attention_head_dim": 32}, ["attention_head_dim = 32", "16"]),
        (UNET, {"act_fn": "__import__('os').system('true')"}, ["act_fn"]),
        (UNET, {"norm_eps": "1e-5"}, ["norm_eps"]),
        (UNET, {"sample_size": None}, ["sample_size = None"]),
        (UNET, {"sample_size": [8]}, ["sample_size = [8]"]),
        (UNET, {"sample_size": 10**9}, ["sample_size"]),
        (UNET, {"sample_size": 16_384}, ["sample_size = 16384", "268,435,456 values", "over 50,000,000"]),
        (UNET, {"in_channels": 2}, ["out_channels = 1 for in_channels = 2"]),
        (UNET, {"in_channels": -1}, ["in_channels = -1", "[1, 1024]"]),
        (UNET, {"in_channels": True}, ["in_channels = True"]),
        (UNET, {"out_channels": 2}, ["out_channels = 2", "fixed"]),
        (UNET, {"window_size": 7}, ["window_size = 7", "unknown"]),
        (UNET, {"dropuot": 7}, ["dropuot = 7", "did you mean 'dropout'"]),
    ],
)
def test_what_is_said_of_a_setting(changed, file: str, entries: dict, words: list[str]) -> None:
    path = changed(file, **entries)
    said = refused(path, *words)
    assert str(path) in said


def test_no_code_of_a_directory_is_imported(changed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = changed(INDEX, unet=["evil_module", "Network"])
    for place in (path, path / "unet"):
        (place / "evil_module.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nclass Network: ...\n")
    monkeypatch.chdir(path)
    refused(path, "evil_module")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt", "weights.PT", "x.pkl"])
@pytest.mark.parametrize("folder", ["", "unet", "scheduler"])
def test_a_pickle_is_refused_unread(written, name: str, folder: str) -> None:
    path = written()
    (path / folder / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    refused(path, name, "pickle", "safe_serialization")


def test_weights_that_are_a_pickle_by_another_name(written, tmp_path: Path) -> None:
    path = written()
    torch.save({"a": torch.zeros(1)}, path / WEIGHTS)
    refused(path, WEIGHTS, "not a safetensors file")


def test_links_that_lead_out_are_not_followed(written, tmp_path: Path) -> None:
    path = written()
    for name in (WEIGHTS, UNET, SCHEDULER, INDEX):
        outside = tmp_path / Path(name).name
        (path / name).rename(outside)
        (path / name).symlink_to(outside)
        refused(path, str(path / name), "link", "cp -rL")
        (path / name).unlink()
        outside.rename(path / name)
    (path / "unet").rename(tmp_path / "elsewhere")
    (path / "unet").symlink_to("../elsewhere")
    refused(path, "link", "cp -rL")


def test_a_link_within_the_directory_is_no_harm(written) -> None:
    path = written()
    (path / WEIGHTS).rename(path / "blob")
    (path / WEIGHTS).symlink_to("../blob")
    (path / UNET).rename(path / "other.json")
    (path / UNET).symlink_to("../other.json")
    assert from_diffusers(path).prior is not None


def test_files_that_are_missing_or_split(written, tmp_path: Path) -> None:
    path = written()
    refused(tmp_path / "google" / "ddpm-cifar10-32", "no directory", "nothing is downloaded")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "model_index.json", "save_pretrained")
    (path / WEIGHTS).rename(path / "unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    refused(path, WEIGHTS, "missing")
    (path / "unet/diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    refused(path, "split", "max_shard_size")
    (path / SCHEDULER).unlink()
    refused(path, SCHEDULER, "missing")


@pytest.mark.parametrize("file", [INDEX, UNET, SCHEDULER])
@pytest.mark.parametrize("text", ["{", "[]", "7", '{"a": ' * 100_000, "\x00", " " * 2_000_000])
def test_configurations_that_are_none(written, file: str, text: str) -> None:
    path = written()
    (path / file).write_text(text)
    refused(path, file)


def test_a_fifo_does_not_hang(written) -> None:
    path = written()
    (path / UNET).unlink()
    os.mkfifo(path / UNET)
    refused(path, UNET, "no file")


def test_headers_that_lie(written) -> None:
    path = written()
    whole = (path / WEIGHTS).read_bytes()
    for data in (b"", whole[:7], struct.pack("<Q", 2**62) + whole[8:], whole[:-9], struct.pack("<Q", 12) + b'{"a": [1, 2]' + whole[8:]):
        (path / WEIGHTS).write_bytes(data)
        with pytest.raises(BadFile, match="diffusion_pytorch_model.safetensors"):
            from_diffusers(path)


def test_weights_that_do_not_fit(written) -> None:
    path = written()
    weights = load_file(path / WEIGHTS)
    first = "conv_in.weight"
    for changes, words in (
        ({first: weights[first][:, :, :1]}, [first, "(8, 1, 1, 3)", "(8, 1, 3, 3)"]),
        ({"extra": torch.zeros(1)}, ["holds extra"]),
        ({first: weights[first] * float("nan")}, [first, "finite"]),
        ({first: weights[first].to(torch.int8)}, [first, "int8"]),
    ):
        save_file({**weights, **{name: value.contiguous() for name, value in changes.items()}}, path / WEIGHTS)
        refused(path, *words)
    save_file({name: value for name, value in weights.items() if name != first}, path / WEIGHTS)
    refused(path, f"lacks {first}")


def test_a_network_is_given_no_memory_before_its_weights_fit(changed) -> None:
    """A configuration of 100 GB beside weights of 100 kB."""
    path = changed(UNET, block_out_channels=[4096] * 2, layers_per_block=16, norm_num_groups=4)
    refused(path, "lacks")


def test_eps_at_a_schedule_without_a_trace_of_the_sample(written) -> None:
    path = written(beta_schedule="squaredcos_cap_v2", num_train_timesteps=10_000)
    refused(path, str(path), "eps divides by alpha", "1e-5")


def test_the_numbers_of_a_config_cannot_be_infinite(changed) -> None:
    path = changed(SCHEDULER)
    text = json.dumps({**json.loads((path / SCHEDULER).read_text())}).replace("0.4", "1e999")
    (path / SCHEDULER).write_text(text)
    refused(path, "betas.beta_max")


def test_large_samples_take_no_memory_before_they_are_asked_for(changed, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sizes = changed(UNET, sample_size=7000), []
    draw = GaussianNoise.draw
    monkeypatch.setattr(GaussianNoise, "draw", lambda self, like, generator=None: sizes.append(like.numel()) or draw(self, like, generator))
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, **options: (found := zeros(*size, **options), sizes.append(found.numel()))[0])
    assert from_diffusers(path).prior.shape == (1, 7000, 7000)
    assert max(sizes, default=0) < 100_000


def test_a_range_of_clipping_that_is_not_used_is_no_matter(changed) -> None:
    assert from_diffusers(changed(SCHEDULER, clip_sample=False, clip_sample_range=2.0)).notes["diffusers"]["clips"] is False
