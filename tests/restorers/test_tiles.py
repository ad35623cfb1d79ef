"""Large pictures by tiles: exact for networks that say how far they see, bounded for the others, little memory for all."""

import logging
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.restorers import Restorer, Tiles
from snowmelt.restorers import tiles as tiles_module
from snowmelt.restorers.tiles import least, spans, tiled


def pixels(*shape: int) -> Tensor:
    return torch.empty(shape).uniform_(-1, 1, generator=generator(0, "pixels"))


def scattered(net: nn.Module, size: float = 0.1) -> nn.Module:
    """The net with random weights everywhere: a fresh one would hide what F does."""
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.add_(size * torch.randn(p.shape, generator=generator(i, "weights")))
    return net.eval()


class Local(nn.Module):
    """Convolutions on one grid: each of the three sees 1 px further."""

    radius, multiple = 3, 1

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in ((channels, 8), (8, 8), (8, 3)))
        self.largest = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.largest = max(self.largest, x.shape[0] * x.shape[2] * x.shape[3])
        for layer in self.layers:
            x = torch.tanh(layer(x) + t[:, None, None, None])
        return x


class Strided(Local):
    """Down to a grid of 4 px and back, so that a tile that begins off the grid is another computation."""

    radius, multiple = 16, 4

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(a, 8, 3, stride=2, padding=1) for a in (channels, 8))
        self.up = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = functional.pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")
        for layer in self.down:
            x = torch.tanh(layer(x) + t[:, None, None, None])
        for layer in self.up:
            x = torch.tanh(layer(functional.interpolate(x, scale_factor=2.0)))
        return self.last(x)[..., :h, :w]


def local_unet() -> nn.Module:
    return build("local-unet:widths=(8,8,8),blocks=1", "backbone").build(3, 3)


LOCAL = {"convolutions": Local, "strided": Strided, "local-unet": local_unet}


def local(name: str) -> nn.Module:
    return scattered(LOCAL[name](), 0.04 if name == "local-unet" else 0.2)  # its blocks add up


@torch.no_grad()
def farthest(net: nn.Module, x: Tensor, tiles: Tiles) -> float:
    t = torch.linspace(0.2, 0.9, len(x))
    return float((tiled(net, x, t, tiles) - net(x, t)).abs().max())


# --- networks that say how far they see ------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("size", [(150, 181), (64, 233), (97, 40)])
def test_tiles_of_a_local_network_give_what_the_whole_gives_to_the_border(name, size):
    net = local(name)
    smallest = 2 * -(-net.radius // net.multiple) * net.multiple + net.multiple
    assert 0.02 < net(pixels(1, 3, 32, 32), torch.ones(1)).std() < 2
    for side in (smallest + 8 * net.multiple, smallest + 27):
        assert farthest(net, pixels(2, 3, *size), Tiles(side)) < 1e-5


@pytest.mark.parametrize("name", LOCAL)
def test_the_radius_is_no_more_than_what_a_network_sees_and_no_less(name):
    """What the tests above rest on: one pixel moves the output within `radius` of it, and no other."""
    net = local(name).double()
    n = 2 * net.radius + 3 * net.multiple
    x, t = pixels(1, 3, n, n).double(), torch.ones(1, dtype=torch.float64)
    with torch.no_grad():
        out = net(x, t)
        for at in (n // 2, n // 2 + net.multiple - 1):
            moved = x.clone()
            moved[..., at, at] += 1
            rows = (net(moved, t) - out).abs().amax((0, 1, 3)).nonzero()
            assert int((rows - at).abs().max()) <= net.radius


@pytest.mark.parametrize(("name", "lie"), [("convolutions", "radius"), ("strided", "multiple")])
def test_a_network_that_understates_itself_shows_seams(name, lie, monkeypatch):
    """The test above can fail: neither the halo nor the grid is for show."""
    monkeypatch.setattr(LOCAL[name], lie, getattr(LOCAL[name], lie) - 1)
    assert farthest(local(name), pixels(1, 3, 150, 201), Tiles(61)) > 1e-4


def test_no_more_than_a_tile_of_one_picture_is_in_the_network_at_once():
    net = scattered(Local())
    with torch.no_grad():
        tiled(net, pixels(3, 3, 150, 201), torch.ones(3), Tiles(64))
    assert 0 < net.largest <= 64 * 64


def test_tiles_can_be_differentiated():
    net, x = scattered(Strided()), pixels(1, 3, 70, 90).requires_grad_()
    whole, cut = (torch.autograd.grad(f.square().sum(), x)[0] for f in (net(x, torch.ones(1)), tiled(net, x, torch.ones(1), Tiles(48))))
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-5)


# --- networks that do not --------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 120), st.floats(0, 0.5), st.sampled_from([1, 2, 3, 8]), st.sampled_from([None, 0, 1, 7]))
@settings(max_examples=300, deadline=None)
def test_weights_sum_to_one_exactly_and_tiles_begin_on_the_grid(n, size, share, multiple, radius):
    net = nn.Identity()
    net.multiple = multiple
    if radius is not None:
        net.radius = radius
        size += 2 * -(-radius // multiple) * multiple + multiple
    for dtype in (torch.float32, torch.float64):
        total = torch.zeros(n, dtype=dtype)
        for start, stop, weight in spans(n, net, Tiles(size, int(share * size)), total):
            assert start % multiple == 0
            assert 0 <= start < stop <= n
            assert stop - start <= max(size, 2 * multiple) + multiple
            assert weight.min() >= 0
            total[start:stop] += weight
        assert (total == 1).all()


def unet() -> nn.Module:
    return scattered(build("unet:widths=(8,16),blocks=1", "backbone").build(3, 3), 0.1)


def test_seams_of_a_network_with_norms_and_attention_are_no_steeper_than_its_tiles_and_their_disagreement():
    net, tiles, t = unet(), Tiles(64, 24), torch.tensor([0.5])
    x = functional.interpolate(pixels(1, 3, 10, 12), size=(120, 150), mode="bicubic") + 0.1 * pixels(1, 3, 120, 150)
    x[..., 70:] *= 0.3  # tiles with unlike statistics
    with torch.no_grad():
        whole = net(x, t)
        out = tiled(net, x, t, tiles)
        low, high = torch.full_like(x, math.inf), torch.full_like(x, -math.inf)
        steepest = torch.zeros(())
        for row in spans(120, net, tiles, x):
            for column in spans(150, net, tiles, x):
                window = (..., slice(row.start, row.stop), slice(column.start, column.stop))
                error = net(x[window], t) - whole[window]
                low[window], high[window] = torch.minimum(low[window], error), torch.maximum(high[window], error)
                steepest = torch.maximum(steepest, error.diff(dim=-1).abs().max())
    error = out - whole
    assert error.abs().max() > 1e-3, "this network has no exact tiles"
    assert (error <= high + 1e-6).all(), "nowhere farther from the whole than the worst tile"
    assert (error >= low - 1e-6).all()
    assert error.diff(dim=-1).abs().max() <= steepest + math.pi / 2 / 24 * (high - low).max() + 1e-6


def test_a_trained_network_with_norms_and_attention_errs_far_less_by_its_tiles_than_it_errs_anyway():
    torch.manual_seed(0)
    net = build("unet:widths=(8,16),blocks=1", "backbone").build(3, 3)
    optimiser, source = torch.optim.Adam(net.parameters(), 4e-3), generator(0, "train")

    def pair(n: int, side: int) -> tuple[Tensor, Tensor]:
        clean = functional.interpolate(torch.randn(n, 3, side // 8, side // 8, generator=source), size=(side, side), mode="bicubic")
        return clean, clean + 0.4 * torch.randn(clean.shape, generator=source)

    for _ in range(150):
        clean, noisy = pair(8, 48)
        loss = (noisy + net(noisy, torch.full((8,), 0.4)) - clean).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    clean, noisy = pair(1, 240)
    with torch.no_grad():
        whole, cut = (noisy + f for f in (net(noisy, torch.full((1,), 0.4)), tiled(net, noisy, torch.full((1,), 0.4), Tiles(96, 24))))
    error, tiling = ((a - b).square().mean().sqrt() for a, b in ((whole, clean), (cut, whole)))
    assert error < 0.3, "it has learned something: the noise is 0.4"
    assert 0 < tiling < 0.25 * error


def test_without_fading_the_seam_is_there():
    """The bound above is not met by luck: tiles cut hard differ across the seam by all they disagree."""
    net, t = unet(), torch.tensor([0.5])
    x = torch.cat([pixels(1, 3, 64, 64), 0.1 * pixels(1, 3, 64, 64)], dim=-1)
    with torch.no_grad():
        whole = net(x, t)
        hard, soft = ((tiled(net, x, t, Tiles(64, overlap)) - whole).diff(dim=-1)[..., 60:68].abs().max() for overlap in (0, 32))
    assert hard > 2 * soft


# --- when pictures are cut -------------------------------------------------------------------------------


def test_small_pictures_run_whole_and_large_ones_by_tiles(monkeypatch):
    monkeypatch.setattr(tiles_module, "WHOLE_PX", 100 * 100)
    monkeypatch.setattr(tiles_module, "_LOCAL_PX", 80)
    for side, cut in ((100, False), (101, True)):
        net = scattered(Local())
        with torch.no_grad():
            out = tiled(net, pixels(2, 3, side, side), torch.ones(2))
            assert (net.largest < 2 * side * side) == cut
            torch.testing.assert_close(out, net(pixels(2, 3, side, side), torch.ones(2)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tiles(0), r"tiles\.size = 0 is no side of a tile: give px"),
        (lambda: Tiles(64, 33), r"tiles\.overlap = 33 px lies outside \[0, 32\]"),
        (lambda: Tiles(64, -1), r"tiles\.overlap = -1 px lies outside \[0, 32\]"),
        (lambda: tiled(Strided(), pixels(1, 3, 80, 80), torch.ones(1), Tiles(35, 0)), r"tiles\.size = 35 px .* sees 16 px: give at least 36"),
    ],
)
def test_tiles_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
]


class Hungry(Local):
    """Has memory for so many pixels and no more."""

    def __init__(self, room: int, error: BaseException) -> None:
        super().__init__()
        self.room, self.error = room, error

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if x.shape[0] * x.shape[2] * x.shape[3] > self.room:
            raise self.error
        return super().forward(x, t)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("tiles", [None, Tiles(256), Tiles(400)], ids=str)
def test_without_memory_for_a_tile_it_is_halved_until_it_fits(error, tiles, caplog):
    net, x = scattered(Hungry(100 * 100, error)), pixels(1, 3, 300, 260)
    with torch.no_grad(), caplog.at_level(logging.WARNING, "snowmelt"):
        out = tiled(net, x, torch.ones(1), tiles)
        net.room = 300 * 300
        torch.testing.assert_close(out, net(x, torch.ones(1)), rtol=0, atol=1e-5)
    assert "out of memory for" in caplog.text
    assert "going on with tiles of" in caplog.text


def test_halving_ends_where_a_tile_would_be_all_halo_and_other_errors_are_not_touched(caplog):
    x, seen = pixels(1, 3, 300, 260), []
    for error in (ERRORS[1], RuntimeError("size mismatch")):
        net = Hungry(10, error)
        caplog.clear()
        with pytest.raises(RuntimeError, match=str(error)[:12]), caplog.at_level(logging.WARNING, "snowmelt"):
            tiled(net, x, torch.ones(1), Tiles(256))
        seen.append(len(caplog.records))
    assert seen == [2, 0]  # 256, 128, 64
    assert least(net) == 64


# --- in a restorer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("text", ["gaussian-blur", "mask", "pixelate", "noise"])
def test_a_restorer_by_tiles_is_the_restorer(text, precision):
    """The linear part of a preconditioned restorer stays whole, and its channels of context are cut with the picture."""
    d = build(text)
    restorer = Restorer(d, build("local-unet:widths=(8,8),blocks=1", "backbone"), (3, 16, 16)).fit([pixels(20, 3, 16, 16)])
    restorer = scattered(restorer, 0.02)
    restorer.precision = precision
    clean, t = pixels(2, 3, 150, 131), torch.tensor([0.4, 0.9])
    z = d.draw(clean, generator(0, "z"))
    x = d(clean, t, z)
    sides = []
    restorer.net.register_forward_pre_hook(lambda _, inputs: sides.append(max(inputs[0].shape[-2:])))
    with torch.no_grad():
        whole = restorer(x, t, z)
        restorer.tiles = Tiles(96)
        cut = restorer(x, t, z)
    assert sides[0] == 150
    assert len(sides) > 9
    assert max(sides[1:]) <= 96
    assert whole.dtype == cut.dtype == torch.float32
    assert 0.01 < (whole - x).std() < 2
    assert (cut - whole).abs().max() < (1e-5 if precision == "fp32" else 0.02)


def test_a_restorer_in_training_is_never_cut():
    restorer = scattered(Restorer(build("pixelate"), build("unet:widths=8,blocks=1", "backbone"), (3, 16, 16)), 0.1)
    x, t = pixels(1, 3, 40, 40), torch.ones(1)
    whole = restorer(x, t)
    restorer.tiles = Tiles(16, 4)
    assert not torch.equal(restorer(x, t), whole)
    assert torch.equal(restorer.train()(x, t), whole)


LARGE = """
import resource, time, torch
from snowmelt.registry import build
from snowmelt.restorers import Restorer
torch.set_num_threads(1)
x = torch.rand(1, 3, 3000, 4000) * 2 - 1
restorer = Restorer(build("pixelate"), build("{backbone}", "backbone"), (3, 64, 64)).eval()
with torch.no_grad():
    began = time.perf_counter()
    out = restorer(x, torch.ones(1))
assert out.shape == x.shape and torch.equal(out, x)  # the last layer of a fresh network is zero
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.perf_counter() - began)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_twelve_megapixels_are_restored_in_less_than_two_gigabytes():
    script = LARGE.format(backbone="local-unet:widths=(16,32,48),blocks=1")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280, check=True)
    peak, seconds = map(float, out.stdout.split())
    print(f"peak {peak / 1e9:.2f} GB, {seconds:.0f} s")
    assert 0.4e9 < peak < 2e9
