"""What would take too long or too much memory is refused before it is begun."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("fastapi_offline")

from starlette.testclient import TestClient

from snowmelt import registry
from snowmelt.studio.limits import Refused
from snowmelt.studio.web.affordable import require_affordable


@pytest.mark.parametrize(
    ("side", "pixel_s", "call_s", "tried"),
    [
        (1500, 2e-6, 0, [16, 32, 64, 128, 256]),  # 256 px take 0.13 s, the whole would take 4.5 s
        (1500, 1e-3, 0, [16]),  # 16 px take 0.26 s, the next piece would take 1 s
        (24, 0, 0.6, [16]),  # a picture no larger than a thumbnail
        (1500, 0, 0.001, [16, 32, 64, 128, 256, 1500]),  # what a call costs whatever the size is not held against a large picture
    ],
)
def test_a_degradation_that_would_take_long_is_not_begun(
    whole, desk, drawn: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, side: int, pixel_s: float, call_s: float, tried: list[int]
):
    """A call of a degradation cannot be stopped, so what pieces of the picture take says whether it is begun."""
    sides: list[int] = []

    def costly(D: Any, x: Any, severities: list[float], **_: Any) -> list[Any]:
        sides.append(x.shape[-1])
        clock.now += call_s + pixel_s * x.shape[-1] * x.shape[-2]
        return [x]

    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("snowmelt.studio.web.affordable.time", clock)
    monkeypatch.setattr("snowmelt.studio.work.looking.degraded", costly)
    with TestClient(whole(desk(seconds=1))) as client:
        answer = client.post("/v1/degrade", files={"picture": drawn(side, side)}, data={"degradation": "grey"})
    assert list(dict.fromkeys(sides)) == tried  # each for its time, then for its memory
    assert (answer.status_code == 200) == (side in sides)
    if side not in sides:
        assert answer.status_code == 400
        assert "would take about" in answer.json()["error"]
        assert "1 s is the limit" in answer.json()["error"]


@pytest.mark.parametrize(
    ("side", "row_bytes", "same_bytes", "tried"),
    [
        (1500, 1000, 0, [16, 32, 64, 128, 256]),  # the whole would take 2.25e9 bytes
        (1500, 2 * 2**20, 0, [16, 32]),  # 2 GiB, and no more, for the second piece
        (1500, 2 * 2**20 + 1, 0, [16]),
        (1500, 100, 0, [16, 32, 64, 128, 256, 1500]),
        (1500, 0, 4 * 2**20, [16, 32, 64, 128, 256, 1500]),  # what is as large whatever the size is not held against a large picture
    ],
)
def test_a_degradation_that_would_take_much_memory_is_not_begun(
    whole, desk, drawn: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, side: int, row_bytes: int, same_bytes: int, tried: list[int]
):
    """Nobody can take back what a call takes, and a machine without memory ends whom it likes."""
    sides: list[int] = []

    def heavy(D: Any, x: Any, severities: list[float], **_: Any) -> list[Any]:
        sides.append(x.shape[-1])
        if x.shape[-1] <= 256:
            x.new_empty(same_bytes + row_bytes * x.shape[-1] * x.shape[-2], dtype=torch.uint8)
        return [x]

    monkeypatch.setattr("snowmelt.studio.work.looking.degraded", heavy)
    with TestClient(whole(desk())) as client:
        answer = client.post("/v1/degrade", files={"picture": drawn(side, side)}, data={"degradation": "grey"})
    assert list(dict.fromkeys(sides)) == tried  # each for its time, then for its memory
    assert (answer.status_code == 200) == (side in sides)
    if side not in sides:
        assert answer.status_code == 400
        assert "GB of memory or more on a picture of this size, and 2 GB is the limit" in answer.json()["error"]


def test_hundreds_of_strokes_on_a_photograph_are_drawn_some_at_a_time(client: TestClient, drawn: Callable[..., bytes]):
    """Each stroke is as large as the picture: 400 together would have taken 2.3 GB, which nobody is granted."""
    answer = client.post("/v1/degrade", files={"picture": drawn(512, 768)}, data={"degradation": "grey+holes:strokes=400"})
    assert answer.status_code == 200, answer.text


def test_what_is_registered_can_be_had_for_the_largest_picture():
    """As it comes, on 16 megapixels; only pieces of them are tried."""
    x = torch.rand(1, 3, 1, 1).expand(1, 3, 4000, 4000)
    tried = []
    for name in set(registry.names("degradation")) - {"compose", "mixture", "choice"}:
        D = registry.build(name, "degradation")
        if D.takes in (None, "picture") and not D.needs:
            require_affordable(D, x, 1.0, 1e9, lambda: None, None)
            tried.append(name)
    assert len(tried) > 12


def test_a_small_picture_and_a_costly_spec_end_between_two_parts(whole, desk, drawn: Callable[..., bytes]):
    spec = "+".join(f"resample:factor=64,steps={steps}" for steps in range(1000, 966, -1))
    assert len(spec) <= 1000
    with TestClient(whole(desk(seconds=0.05))) as client:
        answer = client.post("/v1/degrade", files={"picture": drawn(16, 16)}, data={"degradation": spec})
    assert answer.status_code == 503
    assert "0.05 s" in answer.json()["error"]


def test_a_piece_too_small_for_a_degradation_says_nothing_of_the_whole(whole, desk, drawn: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch):
    def picky(D: Any, x: Any, severities: list[float], **_: Any) -> list[Any]:
        if x.shape[-1] < 64:
            raise Refused("too small")
        return [x]

    monkeypatch.setattr("snowmelt.studio.work.looking.degraded", picky)
    with TestClient(whole(desk())) as client:
        given = {"degradation": "grey"}
        assert client.post("/v1/degrade", files={"picture": drawn(100, 100)}, data=given).status_code == 200
        small = client.post("/v1/degrade", files={"picture": drawn(40, 40)}, data=given)
    assert small.status_code == 400
    assert small.json() == {"error": "too small"}
