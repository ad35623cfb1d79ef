"""A training step at 32 px, batch 32, equal parameters: ours, the peers as a user runs them (fp32), and all of them in bf16."""

import contextlib
import io
import tempfile
from pathlib import Path

import contest
import nets
import torch
from contest import BATCH, PX, Row
from timing import over, seconds

import snowmelt
from snowmelt.data.dataset import Dataset
from snowmelt.data.stores import Held
from snowmelt.model import Model
from snowmelt.restorers import Restorer
from snowmelt.restorers.backbones import UNet
from snowmelt.training.loop import Trainer
from snowmelt.training.options import TrainingOptions

TITLE = "A training step"
ABOUT = (
    f"Forward, squared error, backward and optimiser of a batch of {BATCH} pictures of {PX} px, networks of equal parameters (within 10 %). "
    "The ratio is how many times as fast ours is "
    "in bf16, channels last, with the fused AdamW; the peers run as they come, in fp32, and by bf16 autocast. The last rows: what share of "
    "the fastest bf16 convolution of "
    "the same run ours reaches, and what share of a whole step of `snowmelt train` is left for the network, beside data, degradation, "
    "clipping and the moving average."
)
GOALS = {f"{nets.DIFFUSERS}, fp32": 3.0, f"{nets.LUCIDRAINS}, fp32": 3.5, "peak": 0.6}
BLUR = "recursive-blur:steps=20"
WARM = 3  # steps of a training before the clock starts


def measure(*, runs: int, quick: bool) -> list[Row]:
    """The rows of the networks, then that of the whole step."""
    batch, px = (2, 16) if quick else (BATCH, PX)
    x, t = nets.batch(batch, px)
    found = contest.rows(lambda net, bf16: _ours_or_theirs(net, x, t, bf16), runs=runs, quick=quick, batch=batch, goals=GOALS)
    return [*found, whole(runs=runs, batch=batch, px=px, steps=1 if quick else 12, widths=nets.SMALL if quick else nets.WIDTHS)]


def _ours_or_theirs(net: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, bf16: bool):
    return nets.step(net, x, t, bf16=bf16, fused=not isinstance(net, nets.Called))


def whole(*, runs: int, batch: int, px: int, steps: int, widths: tuple[int, ...]) -> Row:
    """The network's own step as a part of the Trainer's, for the paper's blur."""
    x, t = nets.batch(batch, px)
    step = nets.step(nets.lean(widths == nets.SMALL), x, t, bf16=True, fused=True)
    network, trainer = [], []
    for _ in range(runs + 1):  # the first round warms both up
        network.append(seconds({"step": step}, runs=1)["step"][0])
        trainer.append(trained(batch, px, steps, widths))
    share = over(network[1:], trainer[1:])
    what = "the network's share of a whole step of `snowmelt train`"
    return {"what": what, "pictures/s": batch / contest.middle(trainer[1:]), **contest.spread(share)}


def trained(batch: int, px: int, steps: int, widths: tuple[int, ...]) -> float:
    """Seconds of one of `steps` steps of a short training in bf16, from data in memory, after the first few."""
    pixels = torch.randint(256, (256, px, px, nets.CHANNELS), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    data = Dataset(Held(pixels), "train", (nets.CHANNELS, px, px), [str(i) for i in range(len(pixels))], [])
    none = Dataset(Held(pixels[:0]), "validation", data.shape, [], [])
    blur = snowmelt.build(BLUR)
    model = Model(blur, Restorer(blur, UNet(widths=widths), data.shape, noise_floor=0.01), noise_floor=0.01)
    options = TrainingOptions(images=(WARM + steps) * batch, batch=batch, precision="bf16", validate_every=WARM * batch)
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stderr(io.StringIO()):  # its bar
        trainer = Clocked(model, data, none, options, Path(out))
        trainer.run()
    return (trainer.wall_s - trainer.warm_s) / steps


class Clocked(Trainer):
    """A training that saves nothing, and knows how long it took until it would have saved for the first time."""

    warm_s: float | None = None

    def save(self, **how: object) -> None:
        """Nothing but a look at the clock."""
        if self.warm_s is None:
            self.warm_s = self.wall_s
