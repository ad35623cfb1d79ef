"""``--animation``: as what a kept trajectory is animated, for the verbs that keep one."""

from typing import Annotated, Literal

from cyclopts import Parameter

_HELP = "As what a kept trajectory is animated: gif by default; webp loses nothing; mp4 needs the extra snowmelt[video]."
OnAnimation = Annotated[Literal["gif", "webp", "mp4"] | None, Parameter(name="--animation", show_default=False, help=_HELP)]


def playing(animation: str | None, *, kept: bool) -> str:
    """What is meant by --animation.

    Raises:
        ValueError: it is given where no trajectory is kept.
    """
    if animation is not None and not kept:
        raise ValueError(f"--animation {animation} is of a trajectory, and none is kept: add --save-trajectory, or leave it out")
    return animation or "gif"
