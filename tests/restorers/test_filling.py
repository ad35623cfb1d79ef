"""Lost cells of scans from their neighbours, against a search cell by cell."""

import numpy as np
import pytest
import torch

from snowmelt.registry import SpecError, build
from snowmelt.restorers import Restorer
from snowmelt.restorers.filling import nearby


def filled(x_t, left):
    seen = nearby(x_t, left)
    return seen.filled(), seen.known


NET = "ring-unet:widths=(8,8),rows=2,columns=2,groups=4,attention=false,fill=true"


def scene(seed=0, shape=(2, 3, 6, 9), lost=0.5):
    source = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=source) * 2 - 1
    there = torch.rand((shape[0], 1, *shape[2:]), generator=source) > 0.3
    x = torch.where(there, torch.cat([x[:, :2], torch.ones_like(x[:, 2:])], 1), -1)
    left = (torch.rand((shape[0], 1, *shape[2:]), generator=source) > lost).float()
    return x, left


def by_search(values, valid):
    """(h, w) of one channel: 1/d-weighted over the first valid cell up, down, left and right around the turn."""
    h, w = values.shape
    out = np.full((h, w), -1.0)
    for i in range(h):
        for j in range(w):
            found = []
            for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                for d in range(0, h if di else w + 1):
                    a, b = i + d * di, j + d * dj
                    if not 0 <= a < h:
                        break
                    if valid[a, b % w]:
                        found.append((values[a, b % w], 1 / max(d, 1)))
                        break
            if found:
                out[i, j] = sum(v * weight for v, weight in found) / sum(weight for _, weight in found)
    return out


@pytest.mark.parametrize("lost", [0.3, 0.8, 1.1])
def test_it_is_what_a_search_finds(lost):
    x, left = scene(lost=lost)
    found, known = filled(torch.where(left > 0, x, -1), left)
    for n in range(len(x)):
        seen = (left[n, 0] > 0).numpy()
        there = seen & (x[n, 2] > 0).numpy()
        for c, valid in ((0, there), (1, there), (2, seen)):
            wanted = np.where(seen, x[n, c].numpy(), by_search(x[n, c].numpy(), valid))
            np.testing.assert_allclose(found[n, c].numpy(), wanted, atol=1e-6)
    assert torch.equal(known, left > 0)


def test_between_two_rings_it_is_a_line():
    x = torch.ones(1, 3, 9, 4)
    x[:, 0] = torch.linspace(-0.8, 0.8, 9)[:, None]
    degradation = build("beam-drop:beams=2,rings=8")
    x8 = x[:, :, :8]
    z = degradation.draw(x8)
    out = filled(degradation(x8, torch.ones(1), z), degradation.context((3, 8, 4), torch.ones(1), z))[0]
    torch.testing.assert_close(out[:, 0, :5], x8[:, 0, :5])  # rings 0 and 4 are there
    torch.testing.assert_close(out[:, 0, 5:], x8[:, 0, 4:5].expand(1, 3, 4))  # below the last one there is only that


def test_half_faded_cells_are_known_exactly():
    x, _ = scene()
    left = torch.full_like(x[:, :1], 0.25)
    found, known = filled(left * (x + 1) - 1, left)
    assert bool(known.all())
    torch.testing.assert_close(found, x, atol=1e-6, rtol=0)


def test_the_turn_has_no_seam_and_rows_of_a_batch_are_apart():
    x, left = scene(shape=(2, 3, 6, 12))
    found, _ = filled(torch.where(left > 0, x, -1), left)
    x5, left5 = x.roll(5, 3), left.roll(5, 3)
    torch.testing.assert_close(filled(torch.where(left5 > 0, x5, -1), left5)[0], found.roll(5, 3))
    torch.testing.assert_close(filled(torch.where(left > 0, x, -1)[1:], left[1:])[0], found[1:])


def test_a_fresh_network_is_the_neighbours_and_leaves_known_cells_alone():
    x, _ = scene(shape=(2, 3, 8, 16))
    degradation = build("beam-drop:beams=4,rings=8")
    made = Restorer(degradation, build(NET, "backbone"), (3, 8, 16)).eval()
    z, t = degradation.draw(x), torch.ones(2)
    x_t = degradation(x, t, z)
    begun, known = filled(x_t, degradation.context((3, 8, 16), t, z))
    torch.testing.assert_close(made(x_t, t, z), begun)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    out = made(x_t, t, z)
    torch.testing.assert_close(out[known.expand_as(out)], x[known.expand_as(out)], atol=1e-6, rtol=0)
    assert not torch.allclose(out, begun)


def test_belief_chooses_among_the_neighbours():
    x, left = scene(lost=0.8)
    seen = nearby(torch.where(left > 0, x, -1), left)
    lost = ~seen.known[:, 0]
    for i in range(4):
        g = torch.zeros(2, 4, 6, 9)
        g[:, i] = 60
        there = lost & (seen.weights[:, i, 0] > 0)
        for c in (0, 1):
            torch.testing.assert_close(seen.filled(g)[:, c][there], seen.values[:, i, c][there])
    torch.testing.assert_close(seen.filled(torch.full((2, 4, 6, 9), 300.0)), seen.filled())  # all alike believed


def test_without_a_mask_there_is_nothing_to_fill():
    with pytest.raises(SpecError, match=r"ring-unet\.fill = true needs to be told"):
        Restorer(build("range-noise"), build(NET, "backbone"), (3, 8, 16))
