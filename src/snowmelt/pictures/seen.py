"""How the samples of every signal look as pictures: as they are, as spectrograms, as strips of range."""

from snowmelt.pictures import scan as scans
from snowmelt.pictures import sound as sounds
from snowmelt.signals import Picture, Scan, Signal, Sound
from snowmelt.types import Batch


def seen(x: Batch, signal: Signal) -> Batch:
    r"""Samples x (b, \*d) of a signal as pictures (b, c, h, w) in [-1, 1].

    Raises:
        ValueError: `x` is no batch of that signal.
        TypeError: nobody knows how such a signal looks.
    """
    match signal:
        case Picture():
            return x
        case Sound():
            return sounds.spectrograms(x)
        case Scan():
            return scans.strips(x, signal)
    raise TypeError(f"{signal.many} have no picture: pictures, recordings and scans have")


def explained(signal: Signal) -> str:
    """What the pictures of :func:`seen` show, as a sentence for a caption; nothing of pictures, which need no explanation."""
    match signal:
        case Sound():
            return sounds.explained(signal)
        case Scan():
            return scans.explained(signal)
    return ""


def stacked(signal: Signal) -> bool:
    """Whether the pictures of :func:`seen` are so wide that what is to be compared stands one below the other."""
    return isinstance(signal, Scan)


def ready(signal: Signal) -> bool:
    """Whether the pictures of :func:`seen` have the size they are to be looked at already."""
    return not isinstance(signal, Picture)
