"""The generators that a program shares: torch's, numpy's and Python's own. A degradation must leave them alone."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def disturbed(seed: int) -> Iterator[Callable[[], list[str]]]:
    """Set all global generators to a state nobody expects, and put them back at the end.

    A part that seeds one of them before it uses it is seen as well: the state it leaves is not the one set here.

    Yields:
        A function that names the generators which have moved since.
    """
    before = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # the global one is what is watched
    torch.default_generator.manual_seed(4_000_000 + seed)
    np.random.seed(4_000_000 + seed)
    random.seed(4_000_000 + seed)
    start = _states()
    try:
        yield lambda: [name for name, state in _states().items() if state != start[name]]
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _states() -> dict[str, object]:
    """The state of every global generator, as something that can be compared."""
    words = np.random.get_state(legacy=False)
    assert isinstance(words, dict)  # noqa: S101 - what legacy=False means
    return {
        "torch's global generator": torch.get_rng_state().numpy().tobytes(),
        "numpy's global generator (np.random)": repr((words["state"]["key"].tobytes(), words["state"]["pos"], words["has_gauss"])),
        "Python's random module": random.getstate(),
    }
