"""What one visitor may ask of the studio, and the words for what was refused.

A page in the browser is a door like any other: what comes through it may be a stranger's. So bytes and pixels of a picture are bounded before it is
decoded, the queue before anything waits, and time between two calls of the restorer.
"""

from dataclasses import dataclass

LONGEST_SPEC = 1000  # letters of a spec that comes from a page
_KEPT = 64  # files of the largest size


@dataclass(frozen=True)
class Limits:
    """The bounds of the studio; none of them can be passed by asking more politely.

    Attributes:
        megabytes: of one upload, and of the body of one request.
        megapixels: of one picture, as its header says, before it is decoded.
        seconds: of work on one wish, waiting not counted.
        queue: how many wishes may wait while one is worked on; the next one is told to come again.
        samples: new samples of one wish.
        steps: calls of the restorer of one wish.
        look_px: the longer side of what Look degrades.
        walk_px: the longer side of the frames of a walk, as shown; the result itself keeps its size.

    Raises:
        ValueError: one of them is not positive.
    """

    megabytes: float = 32
    megapixels: float = 16
    seconds: float = 120
    queue: int = 16
    samples: int = 64
    steps: int = 250
    look_px: int = 384
    walk_px: int = 512

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limits.{name} = {value} must be above 0")

    @property
    def bytes(self) -> int:
        """Of one upload."""
        return round(self.megabytes * 2**20)

    @property
    def kept_bytes(self) -> int:
        """Of all files that the page keeps for a while."""
        return _KEPT * self.bytes

    @property
    def pixels(self) -> int:
        """Of one picture."""
        return round(self.megapixels * 1e6)


class Refused(ValueError):
    """A wish that cannot be granted as it is; the message says what would be."""


class TooLarge(Refused):
    """More bytes or pixels than one wish may have."""


class Unknown(Refused):
    """Nothing of this name is here."""


def require_short(*texts: object) -> None:
    """Refuse what is longer than any spec that somebody writes, before it is read: parts in parts cost more than their letters.

    Raises:
        Refused: a text has more than 1,000 letters.
    """
    longest = max((len(text) for text in texts if isinstance(text, str)), default=0)
    if longest > LONGEST_SPEC:
        raise Refused(f"a spec of {longest:,} letters is longer than {LONGEST_SPEC:,}: write a shorter one, or use the command line")


class Busy(Exception):
    """Too many wait already."""


class Late(Exception):
    """The work took longer than one wish may take."""


class Left(Exception):
    """Whoever asked is gone, so nobody waits for the rest."""
