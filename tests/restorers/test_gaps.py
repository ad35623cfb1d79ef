"""The network that fills gaps begins as linear prediction, and never touches what is known."""

import pytest
import torch

from snowmelt.degradations import Degradation
from snowmelt.registry import SpecError, build
from snowmelt.restorers import Conditions, Restorer
from snowmelt.restorers.cost import cost
from snowmelt.restorers.prediction import predicted

NET = "gap-unet:widths=(8,16),patch=4,kernel=3,blocks=1,groups=4,order=12,context=200"
LOSS = "packet-loss:lost=0.4,packet=30"


def restorer(shape=(1, 400), degradation=LOSS, net=NET, *, fresh=False, **options):
    torch.manual_seed(0)
    made = Restorer(build(degradation), build(net, "backbone"), shape, **options)
    if not fresh:
        for weight in made.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return made.eval()


def sound(b=2, c=1, n=400):
    at = torch.arange(n)
    pitch = torch.linspace(0.2, 0.4, b * c).reshape(b, c, 1)
    noise = torch.randn(b, c, n, generator=torch.Generator().manual_seed(3))
    return 0.3 * torch.sin(pitch * at) + 0.02 * noise


def degraded(degradation: Degradation, x, t):
    t = torch.as_tensor(t).expand(len(x))
    z = degradation.draw(x, torch.Generator().manual_seed(1))
    return degradation(x, t, z), t, z


@pytest.mark.parametrize("n", [400, 397, 31, 5])
@pytest.mark.parametrize("c", [1, 2])
def test_a_fresh_one_is_linear_prediction(n, c):
    made, x = restorer((c, 400), fresh=True), sound(3, c, n)
    x_t, t, z = degraded(made.degradation, x, 1.0)
    lost = z["mask"] < 1
    want = torch.where(lost, predicted(x, lost, order=12, context=200).faded, x)
    torch.testing.assert_close(made(x_t, t, z), want)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_known_samples_are_exact_and_lost_ones_are_changed(precision):
    made, x = restorer(), sound()
    made.precision = precision
    x_t, t, z = degraded(made.degradation, x, 1.0)
    out, lost = made(x_t, t, z), z["mask"] < 1
    assert out.dtype == torch.float32
    assert torch.equal(out[~lost], x[~lost])
    assert not torch.allclose(out, restorer(fresh=True)(x_t, t, z))
    assert out.isfinite().all()


def test_what_only_began_to_fade_is_known_too():
    made, x = restorer(), sound()
    x_t, t, z = degraded(made.degradation, x, 0.5)
    gain = made.degradation.gain((1, 400), t, z)
    faint = (gain > 0.05) & (gain < 1)
    assert faint.any()
    torch.testing.assert_close(made(x_t, t, z)[gain > 0.05], x[gain > 0.05])


def test_nothing_lost_changes_nothing_and_all_lost_is_finite():
    made, x = restorer(), sound()
    z = {"mask": torch.ones(2, 1, 400)}
    assert torch.equal(made(x, torch.ones(2), z), x)
    nothing = {"mask": torch.zeros(2, 1, 400)}
    assert made(torch.zeros_like(x), torch.ones(2), nothing).isfinite().all()
    assert not restorer(fresh=True)(torch.zeros_like(x), torch.ones(2), nothing).any()


def test_twice_as_loud_is_filled_twice_as_loud():
    made, x = restorer(), sound()
    x_t, t, z = degraded(made.degradation, x, 1.0)
    torch.testing.assert_close(made(4 * x_t, t, z), 4 * made(x_t, t, z), atol=1e-3, rtol=1e-3)


def test_silence_among_what_is_known_counts_and_gaps_do_not():
    """The network is given values of unit loudness, whatever share is lost."""
    made, seen = restorer(), []
    made.net.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mask = (torch.arange(400) >= 200).float().expand(2, 1, 400)
    made(sound() * mask, torch.ones(2), {"mask": mask})
    torch.testing.assert_close(seen[0][:, 0, 0, 200:].square().mean(1), torch.ones(2), atol=1e-3, rtol=0)


def test_recordings_of_a_batch_do_not_know_each_other():
    made, x = restorer(), sound(3)
    x_t, t, z = degraded(made.degradation, x, 1.0)
    for i in range(3):
        alone = made(x_t[i : i + 1], t[i : i + 1], {"mask": z["mask"][i : i + 1]})
        torch.testing.assert_close(alone, made(x_t, t, z)[i : i + 1], atol=1e-4, rtol=1e-3)


def test_it_learns():
    torch.manual_seed(0)
    made, x = restorer(fresh=True).train(), sound(8)
    x_t, t, z = degraded(made.degradation, x, 1.0)
    optimiser = torch.optim.Adam(made.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = (made(x_t, t, z) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_classes_reach_it():
    made, x = restorer(conditions=Conditions(classes=3)), sound()
    x_t, t, z = degraded(made.degradation, x, 1.0)
    one, two = (made(x_t, t, {**z, "label": torch.full((2,), label)}) for label in (0, 1))
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"degradation": "noise"}, 0), ({"told": False}, 0), ({"conditions": Conditions(image=1)}, 3), ({"variance": "learned"}, 0)],
)
def test_what_tells_no_mask_is_refused(options, told):
    with pytest.raises(SpecError, match=rf"one channel beside \d of sound, and is told {told}: take degradation packet-loss with model\.told = true"):
        restorer(**options)


def test_pictures_and_bad_sizes_are_refused():
    with pytest.raises(SpecError, match=r"gap-unet is made for sound \(c, n\)"):
        restorer((1, 16, 16), degradation="mask")
    with pytest.raises(SpecError, match="no middle"):
        build("gap-unet:kernel=4", "backbone")
    with pytest.raises(SpecError, match="multiple of gap-unet"):
        build("gap-unet:widths=(12,),groups=8", "backbone")


def test_its_cost_is_counted():
    found = cost(restorer(), (1, 400), batch=4)
    assert found.flops > 0
    assert found.training_bytes > found.call_bytes > 0


def test_compiled_it_says_the_same():
    made = restorer()
    x_t, t, z = degraded(made.degradation, sound(), 1.0)
    compiled = torch.compile(made.net, backend="eager", dynamic=False)
    inner = torch.cat([x_t, made.degradation.context((1, 400), t, z)], dim=1)
    torch.testing.assert_close(compiled(inner, t), made.net(inner, t))
