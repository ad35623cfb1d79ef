"""Two data sets: clean pictures x0, and the endpoints that they are morphed into.

Unpaired, any picture of one may meet any of the other: the sets may be of unequal size, each is visited in its own order and cut and
flipped by its own random stream. Paired, endpoint i is what became of x0 i (a blurred photograph, a sketch), so the two are split,
visited, cut and flipped together.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.data.pools import ArrayPool, FilePool, Pool
from snowmelt.data.readings import DoorPool
from snowmelt.randomness import generators, visits
from snowmelt.registry import spec
from snowmelt.signals import PICTURE

_NAMED = 3
_NUMBERED = re.compile(r"(.*?)([0-9]+)((?:\.[A-Za-z][A-Za-z0-9]*)*)")  # 0000000012.bin.npy


class Paired(Dataset):
    """The clean pictures of `x0`, and an endpoint for each: batches are ``{"x0": (b, c, h, w), "endpoint": (b, c, h, w)}``.

    Args:
        x0: the clean pictures; length, names and shape are theirs.
        endpoint: the pictures they end in, of the same shape.
        pairs: endpoint i belongs to x0 i.

    Raises:
        ValueError: the shapes differ, or the numbers where they are pairs.
    """

    def __init__(self, x0: Dataset, endpoint: Dataset, *, pairs: bool) -> None:
        vars(self).update(vars(x0))  # it is the first set, and gives something more
        self.x0, self.endpoint, self.pairs = x0, endpoint, pairs
        self.content = lambda: x0.content() + endpoint.content()
        if x0.signal != endpoint.signal:
            both = (x0.signal, endpoint.signal)
            what = " and data.endpoint ".join(one.many if both[0].name != both[1].name else spec(one) for one in both)
            raise ValueError(f"data.path holds {what}: give two sources of one kind")
        if x0.shape != endpoint.shape:
            _require_pictures(x0, endpoint)
            ours, theirs = (f"(c, h, w) = {one.shape}" for one in (x0, endpoint))
            way_out = " and ".join(
                f"--data.{name} {value}"
                for name, value, other in (
                    ("size", min(*x0.shape[1:], *endpoint.shape[1:]), x0.shape[1:] != endpoint.shape[1:]),
                    ("channels", max(x0.shape[0], endpoint.shape[0]), x0.shape[0] != endpoint.shape[0]),
                )
                if other
            )
            raise ValueError(f"data.path holds pictures of shape {ours} and data.endpoint of {theirs}: give {way_out}")
        if pairs and len(x0) != len(endpoint):
            raise ValueError(f"data.pairs: {len(x0)} {x0.signal.many} have {len(endpoint)} endpoints in {x0.split}: each needs its own")

    @property
    def keys(self) -> tuple[str, ...]:
        """See :attr:`Dataset.keys`."""
        return (*self.x0.keys, "endpoint")

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """See :attr:`Dataset.skipped`; of both sets, an endpoint as "endpoint NAME", for the two may share their names."""
        return [*self.x0.skipped, *((f"endpoint {name}", reason) for name, reason in self.endpoint.skipped)]

    @property
    def random(self) -> bool:
        """Whether either set is cut or flipped at random."""
        return self.x0.random or self.endpoint.random

    def batch(
        self, indices: Sequence[int], generators: Sequence[torch.Generator] | None = None, *, raw: bool = False
    ) -> dict[str, Tensor]:
        """See :meth:`Dataset.batch`. Endpoint i is the partner of x0 i; without pairs, the sets run side by side, the shorter one again and again."""
        if not self.pairs:
            first = self.x0.batch(indices, generators, raw=raw)
            return {**first, "endpoint": self.endpoint.batch([i % len(self.endpoint) for i in indices], generators)["x0"]}
        # One cut for both: the same numbers, drawn twice.
        twins = None if generators is None else [torch.Generator().set_state(one.get_state()) for one in generators]
        out = {**self.x0.batch(indices, generators, raw=raw), "endpoint": self.endpoint.batch(indices, twins)["x0"]}
        if broken := self.skipped:
            raise ValueError(f"data.pairs: {': '.join(broken[0])}; a pair needs both {self.signal.many}: repair them, or take both away")
        return out

    def numbered(self, seed: int, numbers: Sequence[int], *, raw: bool = False) -> dict[str, Tensor]:
        """See :meth:`Dataset.numbered`; without pairs, each set has its own order and its own cuts."""
        if self.pairs:
            return super().numbered(seed, numbers, raw=raw)
        cuts = generators(seed, "endpoint-augmentation", numbers) if self.endpoint.random else None
        theirs = visits(seed, "endpoint-order", numbers, len(self.endpoint))
        return {**self.x0.numbered(seed, numbers, raw=raw), "endpoint": self.endpoint.batch(theirs, cuts)["x0"]}


def _require_pictures(x0: Dataset, endpoint: Dataset) -> None:
    """Of other samples whose shapes differ, say so in their own words.

    Raises:
        ValueError: they are no pictures.
    """
    if x0.signal != PICTURE:
        ours, theirs, axes = x0.shape, endpoint.shape, x0.signal.axes
        raise ValueError(f"data.path holds {x0.signal.many} of shape {axes} = {ours} and data.endpoint of {theirs}: make them of one shape")


def predecessors(pool: Pool) -> dict[int, int]:
    """The position of the file before each, in its folder and in the order of names, in which 10 comes after 9; the first of each folder has none.

    Where names end in numbers, they say how frames follow: only those have one before them that come after it by the step that most of the folder do.
    So a frame after a gap, or the first of another drive, has none. Where no step is that common, as of times in microseconds, half of the median
    step more or less is none either.

    Raises:
        ValueError: the pool has no files.
    """
    if not isinstance(pool, FilePool):
        raise ValueError(f'data.endpoint = "previous" is the file before in a folder, and {pool.name} is no folder of files')
    paths = pool.paths
    found: dict[int, int] = {}
    order = sorted(range(len(paths)), key=lambda i: (paths[i].parent, _natural(paths[i].name)))
    for _, folder in itertools.groupby(order, key=lambda i: paths[i].parent):
        pairs = list(itertools.pairwise(folder))
        steps = [_step(paths[i].name, paths[j].name) for i, j in pairs]
        due = _due([step for step in steps if step])
        found |= {j: i for (i, j), step in zip(pairs, steps, strict=True) if step is None or due[0] <= step <= due[1]}
    return found


def _natural(name: str) -> tuple[list[str | int], str]:
    """What names are sorted by: their numbers as numbers."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))], name


def _step(before: str, after: str) -> int | None:
    """From the number that one name ends in to that of the next: 0 where they begin differently, None where either ends in no number."""
    ends = [_NUMBERED.fullmatch(name) for name in (before, after)]
    if ends[0] is None or ends[1] is None:
        return None
    return int(ends[1][2]) - int(ends[0][2]) if ends[0][1] == ends[1][1] else 0


def _due(steps: Sequence[int]) -> tuple[float, float]:
    """The least and the greatest of the steps that are a frame's."""
    if not steps:
        return 1, 1
    common, times = min(Counter(steps).items(), key=lambda item: (-item[1], item[0]))
    if 2 * times >= len(steps):
        return common, common
    median = sorted(steps)[len(steps) // 2]
    return 0.5 * median, 1.5 * median


def partners(ours: Pool, theirs: Pool, *, cut: bool) -> list[int]:
    """For every picture of `ours`, the position of its partner in `theirs`: files by their names, arrays by position.

    Args:
        ours: the pool of clean pictures.
        theirs: the pool of endpoints.
        cut: squares will be cut from them, so that partners must be of one size.

    Raises:
        ValueError: a picture has no partner, or one of another size where squares are cut; the message names some of them.
    """
    names = [_names(pool) for pool in (ours, theirs)]
    for (pool, mine), (other, known) in zip(zip((ours, theirs), names, strict=True), zip((theirs, ours), names[::-1], strict=True), strict=True):
        if alone := sorted(set(mine) - set(known)):
            more = f" and {len(alone) - _NAMED:,} more" if len(alone) > _NAMED else ""
            lonely = f"{', '.join(alone[:_NAMED])}{more} of {pool.name}"
            raise ValueError(f"data.pairs: {lonely} have no partner in {other.name}: pairs are files of one name, or arrays of one length")
    place = {name: i for i, name in enumerate(names[1])}
    found = [place[name] for name in names[0]]
    if isinstance(ours, DoorPool) and isinstance(theirs, DoorPool):
        for i, j in enumerate(found):
            if (first := ours.shapes[i][1:]) != (second := theirs.shapes[j][1:]):
                raise ValueError(f"data.pairs: {names[0][i]} has shape {first} in {ours.name} and {second} in {theirs.name}: partners are of one")
    if cut:
        for i, j in enumerate(found):
            if (a := _size(ours, i)) != (b := _size(theirs, j)):
                raise ValueError(
                    f'data.pairs: {names[0][i]} is {a[1]} x {a[0]} px in {ours.name} and {b[1]} x {b[0]} in {theirs.name}, and data.fit = "crop" '
                    'cuts the same square from both: make them equal, or give --data.fit resize'
                )
    return found


def _size(pool: Pool, i: int) -> tuple[int, ...]:
    """The height and width of picture i in px; () where a pool is neither of files nor of arrays, and cannot say."""
    if isinstance(pool, FilePool):
        return pool.shapes[i][1:]
    return tuple(pool.pixels.shape[1:3]) if isinstance(pool, ArrayPool) else ()


def _names(pool: Pool) -> list[str]:
    """What pairs are matched by: the files' paths below their folder, without their endings where those do not decide; else positions."""
    if not isinstance(pool, FilePool):
        return [f"picture {i}" for i in range(len(pool.digests()))]
    bare = [path.relative_to(pool.folder).with_suffix("").as_posix() for path in pool.paths]
    return bare if len(set(bare)) == len(bare) else [pool.id(path) for path in pool.paths]
