"""Counter-based randomness: every draw is a function of (run seed, stream, sample number).

Nothing in snowmelt reads an ambient generator while it trains or evaluates. A stream is a name such as
``"severity"`` or ``"flip"``; a sample number counts the samples a run has seen. So the state of all
randomness is one integer, an interrupted run goes on exactly where it was, and a sample's draws do
not depend on the batch, the worker or the process it happens to land in.

Draws are made on the CPU and then moved, so that a CPU and a GPU see the same numbers. With one
generator per sample this is the only Python loop over a batch in the library.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), for the idea of keyed streams;
Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014) for SplitMix64.
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from snowmelt.types import Generators


def seed(run: int, stream: str, index: int = 0) -> int:
    """The 63-bit seed of one draw: a hash of (run seed, stream name, sample number)."""
    digest = hashlib.blake2b(f"{run}\x1f{stream}\x1f{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(run: int, stream: str, index: int = 0) -> torch.Generator:
    """A CPU generator at the start of the stream of one sample."""
    return torch.Generator().manual_seed(seed(run, stream, index))


def generators(run: int, stream: str, indices: Iterable[int]) -> list[torch.Generator]:
    """One generator per sample number in `indices`."""
    return [generator(run, stream, int(i)) for i in indices]


def permutation(run: int, stream: str, epoch: int, n: int) -> Tensor:
    """The order in which epoch number `epoch` visits `n` items: (n,), int64."""
    return torch.randperm(n, generator=generator(run, stream, epoch))


def visits(run: int, stream: str, numbers: Iterable[int], n: int) -> list[int]:
    """Which of `n` items each sample number visits: epoch k, the numbers from k n on, is a permutation of its own."""
    return [_epoch(run, stream, number // n, n)[number % n] for number in numbers]


@functools.lru_cache(maxsize=4)
def _epoch(run: int, stream: str, epoch: int, n: int) -> list[int]:
    return permutation(run, stream, epoch, n).tolist()


def fractions(run: int, stream: str, indices: Sequence[int]) -> Tensor:
    """One uniform number in [0, 1) per sample number, without a generator each: (n,), float64.

    The finaliser of SplitMix64 over (stream seed + index), vectorised: what a severity needs.
    """
    with np.errstate(over="ignore"):  # unsigned wrap-around is the algorithm
        x = np.uint64(seed(run, stream)) + (np.asarray(indices, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return torch.from_numpy((x >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def normal(like: Tensor, generator: Generators = None, shape: tuple[int, ...] | None = None) -> Tensor:
    """Standard normal numbers of shape (b, *shape), by default that of `like`; its dtype and device.

    Args:
        like: gives b, dtype and device; its values are never read.
        generator: one for the whole batch, a sequence with one per sample, or None for torch's own.
        shape: the shape of one sample's draw.

    Raises:
        ValueError: the sequence does not have one generator per sample.
    """
    return _fill("normal_", like, generator, shape)


def uniform(like: Tensor, generator: Generators = None, shape: tuple[int, ...] | None = None) -> Tensor:
    """Uniform numbers in [0, 1) of shape (b, *shape); see :func:`normal`."""
    return _fill("uniform_", like, generator, shape)


def _fill(law: str, like: Tensor, generator: Generators, shape: tuple[int, ...] | None) -> Tensor:
    b = like.shape[0]
    size = (b, *(like.shape[1:] if shape is None else shape))
    # Half precisions have no CPU sampler with the same stream on every version: draw wide, then round.
    dtype = torch.promote_types(like.dtype, torch.float32)
    if not isinstance(generator, Sequence):
        device = "cpu" if generator is None else generator.device
        out = torch.empty(size, dtype=dtype, device=device)
        getattr(out, law)(generator=generator)
        return out.to(like)
    if len(generator) != b:
        raise ValueError(f"{len(generator)} generators were given for a batch of {b}: give one per sample, or a single one")
    out = torch.empty(size, dtype=dtype)
    for row, one in zip(out, generator, strict=True):
        getattr(row, law)(generator=one)
    return out.to(like)
