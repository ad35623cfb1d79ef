"""A training that does not come to its end before it is asked to stop: whoever asks may be slow."""

_HELD = """
import time
from snowmelt.training.loop import Trainer
advance = Trainer._advance
def held(self, bar):
    until = time.monotonic() + 240
    while self.step == {step} and not self._asked.is_set() and time.monotonic() < until:
        time.sleep(0.01)
    return advance(self, bar)
Trainer._advance = held
"""


def held(step: int) -> str:
    """Python for a process to execute before its command: after that step its training waits until it is asked to stop, four minutes at most."""
    return _HELD.format(step=step)
