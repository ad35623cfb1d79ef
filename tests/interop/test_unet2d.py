"""The backbone: severities as timesteps, any size, features; and what happens where diffusers is not there."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from snowmelt import registry
from snowmelt.interop.unet2d import DiffusersUNet2D, timestep
from snowmelt.registry import SpecError
from snowmelt.restorers import Conditions, Restorer

TINY = DiffusersUNet2D(steps=10, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
NOISE = registry.build("noise:schedule=betas(steps=10,beta_max=0.3)")


def noisy(net: torch.nn.Module) -> torch.nn.Module:
    """A network whose last layer is not zero any more."""
    torch.manual_seed(0)
    torch.nn.init.normal_(net.unet.conv_out.weight)
    return net.eval()


@pytest.fixture
def diffusers():
    return pytest.importorskip("diffusers", reason="the backbone needs diffusers, which is not installed: pip install 'snowmelt[test]'")


@pytest.mark.parametrize("steps", [3, 10, 1000, 4000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_severities_at_knots_are_whole_timesteps(steps: int, dtype: torch.dtype) -> None:
    i = torch.arange(1, steps + 1)
    assert torch.equal(timestep((i.double() / steps).to(dtype), steps), i.float() - 1)


def test_severities_between_knots_lie_between_timesteps() -> None:
    assert timestep(torch.tensor([0.25, 0.0, 0.05]), 10).tolist() == [1.5, 0.0, 0.0]


def test_a_timestep_between_two_is_asked_for_as_it_is(diffusers) -> None:
    net = noisy(TINY.build(1, 1))
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x, torch.tensor([0.35, 0.35])), net.unet(x, torch.tensor([2.5, 2.5])).sample)
        assert not torch.equal(net(x, torch.tensor([0.35, 0.35])), net(x, torch.tensor([0.3, 0.3])))


def test_any_height_and_width(diffusers) -> None:
    net = noisy(replace(TINY, block_out_channels=(8, 8, 16)).build(1, 2))
    x, t = torch.randn(2, 1, 8, 12), torch.tensor([0.1, 1.0])
    with torch.no_grad():
        assert net(x[..., :7, :9], t).shape == (2, 2, 7, 9)
        assert torch.equal(net(x, t), net.unet(x, torch.tensor([0.0, 9.0])).sample)


def test_the_last_layer_starts_at_zero(diffusers) -> None:
    assert TINY.build(1, 1)(torch.randn(1, 1, 8, 8), torch.ones(1)).abs().max() == 0


def test_features_reach_the_network(diffusers) -> None:
    net = noisy(TINY.build(1, 1, features=5))
    x, t = torch.randn(1, 1, 8, 8), torch.ones(1)
    with torch.no_grad():
        assert not torch.equal(net(x, t, torch.zeros(1, 5)), net(x, t, torch.ones(1, 5)))


def test_a_restorer_of_it_is_told_classes(diffusers) -> None:
    restorer = Restorer(NOISE, TINY, (1, 8, 8), parameterization=registry.build("v", "parameterization"), conditions=Conditions(classes=3)).eval()
    noisy(restorer.net)
    x, t = torch.randn(1, 1, 8, 8), torch.ones(1)
    one, two, none = (restorer(x, t, {"label": torch.tensor([label])}) for label in (1, 2, -1))
    assert not torch.equal(one, two)
    assert torch.equal(none, restorer(x, t))


def test_gradients_reach_every_weight(diffusers) -> None:
    net = noisy(TINY.build(1, 1)).train()
    net(torch.randn(2, 1, 8, 8), torch.tensor([0.5, 1.0])).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("block_out_channels=(8,18),norm_num_groups=4", "norm_num_groups = 4"),
        ("block_out_channels=()", "0 levels"),
        ("down_block_types=(DownBlock2D)", "down_block_types has 1 entries for 3 levels"),
        ("up_block_types=(UpBlock2D)", "up_block_types has 1 entries for 3 levels"),
        ("down_block_types=(DownBlock3D,DownBlock2D,DownBlock2D)", "did you mean 'DownBlock2D'"),
        ("attn_norm_num_groups=7", "attn_norm_num_groups = 7"),
        ("attention_head_dim=256", "attention_head_dim = 256 exceeds 128"),
        ("steps=0", "diffusers-unet2d.steps = 0"),
    ],
)
def test_sizes_that_make_no_network(spec: str, words: str) -> None:
    with pytest.raises(SpecError) as error:
        registry.build(f"diffusers-unet2d:{spec}", "backbone")
    assert words in str(error.value)


def test_wide_heads_where_attention_is_wide(diffusers) -> None:
    noisy(replace(TINY, attention_head_dim=16).build(1, 1))  # 8 channels have no attention


@pytest.mark.parametrize("part", [TINY, replace(TINY, down_block_types=("DownBlock2D", "DownBlock2D"), mid_block_type=None, attention_head_dim=None)])
def test_from_text_and_back(part: DiffusersUNet2D) -> None:
    assert registry.build(registry.spec(part), "backbone") == part
    assert registry.build(registry.table(part), "backbone") == part


WITHOUT = """
import sys
sys.modules["diffusers"] = None
from snowmelt.cli import main
assert main(["list", "backbone"]) == 0
assert main(["describe", "diffusers-unet2d"]) == 0
noise, net = "noise:schedule=betas(steps=10)", "diffusers-unet2d:steps=10"
sys.exit(main(["train", "--data", "bundled:digits", "--degradation", noise, "--model.backbone", net, "--out", sys.argv[1]]))
"""


def test_without_diffusers_it_is_listed_and_says_what_it_needs(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path / "run")], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("diffusers-unet2d") >= 2
    assert "block_out_channels" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "pip install 'snowmelt[diffusers]'" in done.stderr
