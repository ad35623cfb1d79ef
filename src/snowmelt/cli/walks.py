"""How many calls: --fast, --faithful, --best, or a --sampler and its --steps. Here is decided what they mean, for every verb that has them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from snowmelt.model import Model
    from snowmelt.restoration.identity import Opened
    from snowmelt.samplers import Sampler

_GROUP = Group.create_ordered("Calls")
_Mode = Annotated[bool, Parameter(negative=(), show_default=False, group=_GROUP)]


@dataclass(frozen=True)
class Calls:
    """What is asked for; nothing leaves the walk to the model.

    Attributes:
        fast: few calls: the copy that 'snowmelt tune RUN' made for them, with the walk it is tuned for.
        faithful: one call of the restorer, the smallest error on average.
        best: the walk that suits the degradation, 12 calls of order 2 for most: more plausible detail.
        sampler: another walk, as a spec: tacos, naive, ancestral:eta=0.5.
        steps: calls of the restorer in a walk.
    """

    fast: Annotated[_Mode, Parameter(name="--fast")] = False
    faithful: Annotated[_Mode, Parameter(name="--faithful")] = False
    best: Annotated[_Mode, Parameter(name="--best")] = False
    sampler: Annotated[str | None, Parameter(name="--sampler", group=_GROUP, show_default=False)] = None
    steps: Annotated[int | None, Parameter(name="--steps", group=_GROUP, show_default=False)] = None

    def check(self) -> None:
        """Refuse what contradicts itself, before anything is loaded.

        Raises:
            ValueError: it does.
        """
        asked = [*(f"--{name}" for name in ("fast", "faithful", "best") if getattr(self, name)), *(["--sampler"] if self.sampler is not None else [])]
        if len(asked) > 1:
            raise ValueError(
                f"{' and '.join(asked)} contradict each other: --fast is a tuned copy's few calls, --faithful one call, --best the default walk, "
                "--sampler another walk: give one of them"
            )
        if self.faithful and self.steps is not None:
            raise ValueError("--faithful is one call of the restorer: --steps belongs to a walk (--fast, --best or --sampler)")

    def place(self, run: str | Path) -> str | Path:
        """The model that is meant by `run`: with --fast, its tuned copy.

        Raises:
            ValueError: there is none.
            FileNotFoundError: there is no model at all.
        """
        if not self.fast:
            return run
        from snowmelt.recipes.tuning import tuned_copy

        return tuned_copy(run)

    def opened(self, run: str | Path) -> "Opened":
        """The model that is meant by `run`, under its name: RUN/fast for a tuned copy; raises as :meth:`place`."""
        from snowmelt.restoration.identity import opened

        place = Path(self.place(run))
        found = opened(place)
        own = Path(run).resolve()
        return found._replace(name=f"{own.name}/{place.resolve().relative_to(own).as_posix()}") if _lies_in(place, own) else found

    def walk(self, model: "Model") -> "Sampler | Literal['default'] | None":
        """The walk with a model: None is one call, "default" what the model does when nothing is said.

        Raises:
            ValueError: what is asked for does not suit the model.
            SpecError: an unknown sampler, or a number of steps that it refuses.
        """
        from snowmelt.degradations import Mixture

        if isinstance(model.degradation, Mixture) and (self.fast or self.best or self.sampler is not None or self.steps is not None):
            raise ValueError("this model is blind and restores in one call: leave --fast, --best, --sampler and --steps out")
        if model.gap and (self.faithful or self.best):
            meant = "--faithful is one call of the posterior mean" if self.faithful else "--best walks with posterior means"
            raise ValueError(f"{meant}, and this model is tuned for few calls ({model.estimates}): give the run it was tuned from, or --fast")
        if self.faithful:
            return None
        if self.sampler is not None or self.steps is not None:
            walk = walk_of(self.sampler, self.steps, model)
            walk.require_short(model)  # before the first picture
            return walk
        return "default"


ITS_OWN = Calls()
OnCalls = Annotated[Calls, Parameter(name="*")]


def walk_of(sampler: str | None, steps: int | None, model: "Model") -> "Sampler":
    """The sampler of a spec, by default the one that suits the model, with `steps` calls if they were given, on its knots if it has them.

    Raises:
        SpecError: an unknown sampler, or a number of steps that it refuses.
    """
    from snowmelt import registry
    from snowmelt.samplers import default_walk

    walk: Sampler = default_walk(model) if sampler is None else registry.build(sampler, "sampler")
    return dataclasses.replace(walk, steps=walk.steps if steps is None else steps, snap=walk.snap or model.degradation.knots is not None)


def _lies_in(place: Path, run: Path) -> bool:
    return place.resolve() != run and place.resolve().is_relative_to(run)
