"""Studios to knock at: a desk with small models, and programs' clients of it."""

import io
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import snowmelt
from snowmelt.model import Model, save
from snowmelt.priors import Normal
from snowmelt.restoration.identity import Opened
from snowmelt.restorers import Restorer
from snowmelt.studio.desk import Desk
from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Limits
from snowmelt.studio.shelf import Entry, Shelf

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the pages of a browser showed when a test failed: without it, all that is known is what did not come."""
    report = yield
    visits = getattr(item, "funcargs", {}).get("visit")
    if report.when == "call" and report.failed and visits is not None:
        report.sections.append(("pages", visits.told()))
    return report


class Slow:
    """A restorer that takes its time and counts its calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        time.sleep(self.seconds)
        return x


class _Stocked(Shelf):
    """A shelf that also holds a model in memory, "slow"."""

    def __init__(self, folder: Path, slow: Slow) -> None:
        super().__init__([], folder)
        self._slow = Opened(Model(snowmelt.build("gaussian-blur"), slow), "slow", "")

    def entry(self, name: str) -> Entry:
        return Entry("slow", "slow", "gaussian-blur", "picture", False, (), 0) if name == "slow" else super().entry(name)

    def opened(self, name: str, *, fast: bool = False) -> Opened:
        return self._slow if name == "slow" else super().opened(name, fast=fast)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs: "makes" generates grey pictures of 8 x 8 px, "restores" undoes a blur in colour; neither has learned anything."""
    folder = tmp_path_factory.mktemp("stock")
    for name, spec, shape in (("makes", "noise", (1, 8, 8)), ("restores", "gaussian-blur", (3, 16, 16))):
        D = snowmelt.build(spec)
        torch.manual_seed(0)
        law = Normal().fit([torch.zeros(1, *shape)]) if name == "makes" else None
        save(Model(D, Restorer(D, snowmelt.registry.build(TINY, "backbone"), shape), law), folder / name)
    return folder


@pytest.fixture(scope="session")
def desk(stock: Path) -> Callable[..., Desk]:
    """desk(slow=Slow(0.1), queue=2, ...) -> Desk: one with the models of `stock`, and "slow"."""

    def made(slow: Slow | None = None, **limits: Any) -> Desk:
        bounds = Limits(**limits)
        return Desk(bounds, Gate(bounds), _Stocked(stock, slow or Slow(0.0)), stock)

    return made


@pytest.fixture
def slow() -> Callable[[float], Slow]:
    """slow(seconds) -> a restorer."""
    return Slow


@pytest.fixture(scope="session")
def drawn() -> Callable[..., bytes]:
    """drawn(h, w) -> the bytes of a PNG of noise."""

    def made(h: int = 24, w: int = 32, seed: int = 0, mode: str = "RGB") -> bytes:
        shape = (h, w, 3) if mode == "RGB" else (h, w)
        held = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(held, "PNG")
        return held.getvalue()

    return made
