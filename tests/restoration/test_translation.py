"""Translation as a function of batches, and of folders."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import snowmelt
from snowmelt.data.images import read
from snowmelt.model import Model
from snowmelt.randomness import generator, generators, uniform
from snowmelt.registry import build
from snowmelt.restoration import restore_folder, translate, translate_folder, translation


def halfway(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A restorer that is wrong, and depends on both of its arguments."""
    return -x_t * (1 - t[:, None, None, None] / 2)


def model(spec: str = "morph", *, floor: float = 0.0) -> Model:
    return Model(build(spec, "degradation"), halfway, noise_floor=floor)


def pictures(n: int = 3) -> torch.Tensor:
    return uniform(torch.empty(n, 3, 6, 6, dtype=torch.float64), generator(0, "pictures")) * 2 - 1


def test_an_estimated_endpoint_explains_every_state() -> None:
    m, y = model(), pictures()
    walk = list(translation(m, y, steps=5))
    assert [len(walk), walk[0].t, walk[-1].t] == [6, 1.0, 0.0]
    assert torch.equal(walk[0].x, y)
    assert walk[0].x0 is None
    previous = None
    for before, after in itertools.pairwise(walk):
        t, s = (torch.full((3,), float(state.t), dtype=torch.float64) for state in (before, after))
        assert after.x0 is not None
        torch.testing.assert_close(after.x0, halfway(before.x, t))  # the estimate is the restorer's
        x0 = after.x0 if previous is None else after.x0 + (after.x0 - previous) / 2  # order 2, at equal steps
        torch.testing.assert_close(m.degradation(x0, t, after.z), before.x, atol=1e-9, rtol=0)
        torch.testing.assert_close(m.degradation(x0, s, after.z), after.x, atol=1e-9, rtol=0)
        previous = after.x0
    assert float((walk[3].z["endpoint"] - y).abs().max()) > 0.1  # estimated: it moves
    assert torch.equal(translate(m, y, steps=5), walk[-1].x)


def test_one_step_of_an_estimated_endpoint_is_the_restorer() -> None:
    y = pictures()
    torch.testing.assert_close(translate(model(), y, steps=1), halfway(y, torch.ones(3)), atol=1e-6, rtol=0)


def test_a_fixed_endpoint_stays() -> None:
    m, y = model(), pictures()
    walk = list(translation(m, y, endpoint="fixed", steps=5))
    assert all(torch.equal(state.z["endpoint"], y) for state in walk)
    assert not torch.allclose(walk[-1].x, translate(m, y, steps=5))


@pytest.mark.parametrize("endpoint", ["fixed", "estimated"])
def test_with_a_perfect_restorer_it_is_the_truth(endpoint: str) -> None:
    x0, y = pictures(), pictures().flip(0)
    m = Model(build("morph:schedule=linear", "degradation"), lambda x_t, t: x0)
    torch.testing.assert_close(translate(m, y, endpoint=endpoint, steps=4, noise=0.1, generator=generator(0, "n")), x0, atol=1e-9, rtol=0)


def test_noise_is_the_models_floor_unless_told_and_seeded_per_picture() -> None:
    y = pictures()
    for m, noise, level in ((model(floor=0.05), None, 0.05), (model(floor=0.05), 0.0, 0.0), (model(), 0.3, 0.3), (model(), None, 0.0)):
        start = next(iter(translation(m, y, noise=noise, generator=generators(0, "n", range(3)))))
        assert torch.equal(start.x, start.z["endpoint"])
        assert float((start.x - y).std()) == pytest.approx(level, rel=0.2)
    alone = translate(model(), y[2:], noise=0.3, generator=[generator(0, "n", 2)])
    assert torch.equal(alone, translate(model(), y, noise=0.3, generator=generators(0, "n", range(3)))[2:])


@pytest.mark.parametrize(
    ("spec", "arguments", "says"),
    [
        ("gaussian-blur", {}, "turns nothing into something else"),
        ("noise", {}, "turns nothing into something else"),
        ("morph:schedule=ve", {}, "train with a schedule that ends in the endpoint"),
        ("morph", {"noise": 1.5}, "noise = 1.5 lies outside"),
        ("morph", {"endpoint": "guessed"}, 'neither "estimated" nor "fixed"'),
        ("morph", {"steps": 0}, "steps = 0 lies outside"),
    ],
)
def test_what_cannot_be_is_refused(spec: str, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        translate(model(spec), pictures(), **arguments)


def test_values_that_are_not_finite_are_refused() -> None:
    y = pictures()
    y[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        translate(model(), y)


def test_a_folder_is_translated_picture_by_picture(draw: Callable[..., Path], tmp_path: Path) -> None:
    m = model(floor=0.1)
    for i in range(3):
        draw(tmp_path / "in" / ("deep" if i else "") / f"{i}.png", seed=i, channels=3)
    tally = translate_folder(tmp_path / "in", model=m, out=tmp_path / "out", steps=4, seed=2, save_trajectory=True)
    assert (tally.done, tally.failed) == (3, [])
    y = read(tmp_path / "in" / "deep" / "2.png").x[None]
    walk = list(translation(m, y, steps=4, generator=[generator(2, "restore/deep/2.png")]))
    assert float((read(tmp_path / "out" / "deep" / "2.png").x - walk[-1].x[0].clamp(-1, 1)).abs().max()) <= 0.51 / 127.5
    kept = np.load(tmp_path / "out" / "trajectory" / "deep" / "2.png" / "trajectory.npz")
    assert kept["x"].shape == (5, 3, 8, 8)
    assert kept["x0_hat"].shape == kept["endpoint"].shape == (4, 3, 8, 8)
    np.testing.assert_allclose(kept["endpoint"], torch.cat([s.z["endpoint"] for s in walk[1:]]).numpy(), atol=1e-5)
    names = {path.name for path in (tmp_path / "out" / "trajectory" / "deep" / "2.png").iterdir()}
    assert {"strip.png", "walk.gif", "x_00.png", "x0_hat_04.png", "endpoint_04.png"} <= names
    settings = json.loads((tmp_path / "out" / "translated.jsonl").read_text().splitlines()[0])["are"]
    assert (settings["endpoint"], settings["severity"], settings["seed"]) == ("estimated", 1.0, 2)
    again = translate_folder(tmp_path / "in", model=m, out=tmp_path / "out", steps=4, seed=2)
    assert (again.done, again.kept, again.elsewise) == (0, 3, 0)


def test_a_grey_picture_may_get_colours(draw: Callable[..., Path], tmp_path: Path) -> None:
    def red(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.ones_like(x_t[:, 0]), *[-torch.ones_like(x_t[:, 0])] * (x_t.shape[1] - 1)], dim=1)

    grey = read(draw(tmp_path / "in" / "a.png")).x
    snowmelt.data.images.write(tmp_path / "in" / "a.png", grey.expand(3, -1, -1))
    translate_folder(tmp_path / "in", model=Model(build("morph", "degradation"), red), out=tmp_path / "out", steps=2)
    assert float((read(tmp_path / "out" / "a.png").x[0] - read(tmp_path / "out" / "a.png").x[1]).min()) == 2


def test_a_size_is_kept_or_given(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png", h=12, w=20, channels=3)
    translate_folder(tmp_path / "in", model=model(), out=tmp_path / "as-it-is", steps=2)
    translate_folder(tmp_path / "in", model=model(), out=tmp_path / "small", steps=2, size=8)
    assert [read(tmp_path / out / "a.png").x.shape[1:] for out in ("as-it-is", "small")] == [(12, 20), (8, 8)]
    with pytest.raises(ValueError, match="size = 2 lies outside"):
        translate_folder(tmp_path / "in", model=model(), out=tmp_path / "out", size=2)


def test_nothing_makes_up_an_endpoint(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw(tmp_path / "a.png", channels=3)
    with pytest.raises(ValueError, match="translate such pictures"):
        restore_folder(tmp_path / "a.png", model=model(), degrade=True)
