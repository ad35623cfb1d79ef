"""One degradation: the recursive blur of a batch at t = 1, T convolutions against the closed form."""

import paper
import torch
from contest import Row, spread
from timing import interleaved

import snowmelt

TITLE = "One degradation"
ABOUT = (
    "The paper's recursive blur of a batch at full severity: one convolution after another, as it is defined, against our closed form, "
    "with the same output. The ratio is how "
    "many times as fast the closed form is."
)
BLURS = (
    ("MNIST 32 px, 11 taps of 7 px, T = 20, circular", "recursive-blur:steps=20", (32, 1, 32, 32)),
    ("CIFAR 32 px, special-6, T = 50, mirrored", "recursive-blur:routine=special-6,steps=50", (32, 3, 32, 32)),
    ("128 px, 27 taps growing, T = 300, circular", "recursive-blur:routine=exponential,kernel_size=27,kernel_std=0.01,steps=300", (2, 3, 128, 128)),
)


def measure(*, runs: int, quick: bool) -> list[Row]:
    """A row for each blur."""
    out: list[Row] = []
    for what, spec, shape in BLURS[:1] if quick else BLURS:
        blur = snowmelt.build(spec)
        x = torch.empty(shape).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
        t = torch.ones(len(x))
        ways = {"loop": lambda b=blur, x=x: paper.recursive(b, x, b.steps), "closed form": lambda b=blur, x=x, t=t: b(x, t)}
        error = float((ways["loop"]() - ways["closed form"]()).abs().max())
        ratio = interleaved(ways, runs=runs, least_s=0.0 if quick else 0.05)["closed form"]
        out.append({"what": what, "steps": blur.steps, "largest difference": error, **spread(ratio)})
    return out
