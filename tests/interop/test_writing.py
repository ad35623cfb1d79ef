"""Our models as directories that plain diffusers loads and samples as we do; and what is refused by name."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt import registry
from snowmelt.interop import DiffusersUNet2D, from_diffusers, to_diffusers
from snowmelt.priors import Normal
from snowmelt.restorers import Conditions, Restorer

T, N = 10, 3
FILES = {"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"}


def small(**fields) -> DiffusersUNet2D:
    return DiffusersUNet2D(**{"steps": T, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, **fields})


def model(
    degradation: str = f"noise:schedule=betas(steps={T},beta_min=0.001,beta_max=0.4)",
    parameterization: str = "v",
    backbone: registry.Part | None = None,
    shape: tuple[int, int, int] = (1, 8, 8),
    restorer: dict | None = None,
    **fields,
) -> snowmelt.Model:
    pytest.importorskip("diffusers", reason="writing for diffusers needs it: pip install 'snowmelt[test]'")
    made = {"backbone": backbone or small(), "parameterization": registry.build(parameterization, "parameterization"), **(restorer or {})}
    d = registry.build(degradation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        r = Restorer(d, made.pop("backbone"), shape, **made, noise_floor=fields.get("noise_floor", 0.0)).eval().requires_grad_(False)
        for value in r.parameters():
            if value.ndim > 1 and float(value.abs().max()) == 0:  # the last layer
                torch.nn.init.normal_(value, std=0.1)
    return snowmelt.Model(d, r, fields.pop("prior", Normal(shape)), **fields)


@pytest.mark.parametrize("kind", ["linear", "scaled-linear", "cosine"])
@pytest.mark.parametrize("parameterization", ["eps", "x0", "v"])
def test_plain_diffusers_samples_what_we_sample(tmp_path: Path, pipeline, theirs, close, parameterization: str, kind: str) -> None:
    ours = model(f"noise:schedule=betas(steps={T},beta_min=0.001,beta_max=0.4,kind={kind})", parameterization)
    to_diffusers(ours, tmp_path / "dir")
    pipe = pipeline(tmp_path / "dir")
    for steps in (T, 5):
        x = snowmelt.generate(ours, N, sampler=f"ancestral:steps={steps}", generator=torch.Generator().manual_seed(7))
        close(x, theirs(pipe, steps))
        shown = pipe(batch_size=N, num_inference_steps=steps, output_type="pt", generator=torch.Generator().manual_seed(7)).images
        torch.testing.assert_close((x / 2 + 0.5).clamp(0, 1), shown, rtol=0, atol=1e-5 * max(1.0, float(x.abs().max())))


def test_a_learned_variance_and_a_picture_that_is_not_square(tmp_path: Path, pipeline, theirs, close) -> None:
    ours = model(shape=(2, 8, 12), restorer={"variance": "learned"})
    to_diffusers(ours, tmp_path / "dir")
    mine = snowmelt.generate(ours, N, sampler=f"ancestral:steps={T},variance=learned", generator=torch.Generator().manual_seed(7))
    close(mine, theirs(pipeline(tmp_path / "dir"), T))


def test_there_and_back(tmp_path: Path) -> None:
    ours = model(backbone=small(freq_shift=1, resnet_time_scale_shift="scale_shift", attention_head_dim=None))
    to_diffusers(ours, tmp_path / "dir")
    again = from_diffusers(tmp_path / "dir")
    assert again.degradation == ours.degradation
    assert again.prior == ours.prior
    assert again.restorer.parameterization == ours.restorer.parameterization
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.33, 1.0])
    assert torch.equal(again.estimate(x, t), ours.estimate(x, t))
    to_diffusers(again, tmp_path / "twice")
    for name in FILES:
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "dir" / name).read_bytes(), name


def test_it_says_that_it_does_not_clip(tmp_path: Path) -> None:
    to_diffusers(model(), tmp_path / "dir")
    said = json.loads((tmp_path / "dir/scheduler/scheduler_config.json").read_text())
    assert said["clip_sample"] is False
    assert {str(p.relative_to(tmp_path / "dir")) for p in (tmp_path / "dir").rglob("*") if p.is_file()} == FILES


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"degradation": "gaussian-blur", "parameterization": "x0"}, ["gaussian-blur", "noise:schedule=betas"]),
        ({"degradation": "gaussian-blur+noise:schedule=betas(steps=10)", "parameterization": "x0"}, ["its degradation is gaussian-blur+noise"]),
        ({"degradation": "noise:schedule=cosine"}, ["its schedule is cosine", "betas"]),
        ({"backbone": registry.build("unet:widths=(8,16),groups=4", "backbone")}, ["its backbone is unet", "diffusers-unet2d"]),
        ({"parameterization": "residual"}, ["its parameterization is residual", "eps, x0 or v"]),
        ({"parameterization": "wiener"}, ["its parameterization is wiener", "eps, x0 or v"]),
        ({"prior": None}, ["its prior is none", "N(0, I)"]),
        ({"prior": Normal((1, 8, 8), scale=3.0)}, ["its prior is normal:", "scale=3"]),
        ({"prior": registry.build("constant", "prior")}, ["its prior is constant"]),
        ({"noise_floor": 0.1}, ["noise_floor = 0.1"]),
        ({"input": "8bit"}, ["input = 8bit"]),
        ({"range": (0.0, 1.0)}, ["range"]),
        ({"estimates": "consistency(0.5)"}, ["tuned for few calls, consistency(0.5)"]),
        ({"restorer": {"conditions": Conditions(classes=3)}}, ["it is told label"]),
        ({"backbone": small(steps=20)}, ["20 steps", "10"]),
        ({"shape": (1, 7, 8)}, ["7 x 8 px", "multiples of 2"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, fields: dict, words: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot be written for diffusers") as error:
        to_diffusers(model(**fields), tmp_path / "dir")
    for word in words:
        assert word in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_model_that_ends_in_noise_needs_no_prior(tmp_path: Path) -> None:
    ours = model(f"noise:schedule=betas(steps={T},beta_max=0.9)", prior=None)
    to_diffusers(ours, tmp_path / "dir")
    assert from_diffusers(tmp_path / "dir").prior == Normal((1, 8, 8))


def test_a_plain_function_is_refused(tmp_path: Path) -> None:
    plain = snowmelt.Model(registry.build("noise:schedule=betas"), lambda x, t: x)
    with pytest.raises(ValueError, match="plain callable"):
        to_diffusers(plain, tmp_path / "dir")


def test_what_lies_there_is_kept(tmp_path: Path) -> None:
    ours, place = model(), tmp_path / "dir"
    to_diffusers(ours, place)
    os.utime(place / "unet/config.json", (0, 0))  # two files that are written one after the other may have one time
    before = (place / "unet/config.json").stat().st_mtime_ns
    with pytest.raises(ValueError, match="not empty.*--overwrite"):
        to_diffusers(ours, place)
    assert (place / "unet/config.json").stat().st_mtime_ns == before
    to_diffusers(ours, place, overwrite=True)
    assert (place / "unet/config.json").stat().st_mtime_ns > before
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"thesis\.tex, which no export wrote"):
        to_diffusers(ours, place, overwrite=True)
    assert (place / "thesis.tex").read_text() == "mine"
    with pytest.raises(ValueError, match="no directory"):
        to_diffusers(ours, place / "thesis.tex", overwrite=True)


def test_an_empty_directory_is_free(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    to_diffusers(model(), tmp_path / "dir")
    assert (tmp_path / "dir/model_index.json").is_file()


def test_nothing_half_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snowmelt.interop import writing

    ours, place = model(), tmp_path / "dir"
    to_diffusers(ours, place)
    old = (place / "unet/diffusion_pytorch_model.safetensors").read_bytes()
    changed = dataclasses.replace(ours, degradation=registry.build(f"noise:schedule=betas(steps={T},beta_max=0.3)"))

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(writing, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        to_diffusers(changed, place, overwrite=True)
    assert (place / "unet/diffusion_pytorch_model.safetensors").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["dir"]
