"""``snowmelt export`` and ``snowmelt import``: models to and from the files of other libraries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from snowmelt.cli.machine import Plugins, Switch, plug_in

if TYPE_CHECKING:
    from snowmelt.model import Model
    from snowmelt.recipes.recipe import Recipe

_UNSAID = "no-pictures-given"


def export(run: Path, /, *, format: Literal["diffusers"], out: Path, overwrite: Switch = False, plugin: Plugins = ()) -> None:
    """Write a model as another library's files: diffusers is a directory that its DDPMPipeline loads.

    What such files cannot say is refused by name: for diffusers, all but noise with the schedule betas, the backbone
    diffusers-unet2d and parameterization eps, x0 or v.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        format: whose files.
        out: the directory to write; it appears whole, or not at all.
        overwrite: replace what an earlier export wrote there.
        plugin: parts of your own.
    """
    plug_in(plugin)
    from snowmelt.interop import to_diffusers
    from snowmelt.model import load

    to_diffusers(load(run), out, overwrite=overwrite)
    print(f"wrote {out}; diffusers.DDPMPipeline.from_pretrained({str(out)!r}) loads it")


def import_(
    directory: Path, /, *, out: Path, data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None, plugin: Plugins = ()
) -> None:
    """Read a directory of diffusers (DDPMPipeline, DDIMPipeline) and save it as a model that every verb understands.

    Nothing in it is run, unpickled or downloaded.

    Args:
        directory: what save_pretrained wrote, or was downloaded.
        out: the directory to save the model in; it must be empty, or not there.
        data: pictures such as it was trained on, for 'snowmelt evaluate'; may be given there instead.
        plugin: parts of your own.
    """
    plug_in(plugin)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty: choose another --out")
    from snowmelt import registry
    from snowmelt.files import replacing_folder, write_text
    from snowmelt.interop import from_diffusers
    from snowmelt.model import save
    from snowmelt.recipes.recipe import to_toml
    from snowmelt.recipes.run import RECIPE

    model = from_diffusers(directory)
    with replacing_folder(out) as made:  # without its recipe a run is none
        save(model, made)
        write_text(made / RECIPE, to_toml(_recipe(model, directory, data)))
    said = model.notes["diffusers"]
    print(f"wrote {out}: a model of {registry.spec(model.degradation)}")
    print(f"sample it by a walk like its pipeline's: snowmelt sample {out} --sampler {said['sampler']} --out DIR")


def _recipe(model: "Model", directory: Path, data: str | None) -> "Recipe":
    """What 'snowmelt evaluate' has to know: the parts, and pictures of their size."""
    from snowmelt import registry
    from snowmelt.data.options import DataOptions
    from snowmelt.recipes.recipe import ModelOptions, Recipe
    from snowmelt.restorers import Restorer

    restorer = model.restorer
    assert isinstance(restorer, Restorer)  # noqa: S101 - from_diffusers makes nothing else
    c, h, w = restorer.shape
    channels: dict[int, Literal[1, 3]] = {1: 1, 3: 3}
    return Recipe(
        degradation=registry.spec(model.degradation),
        about=f"read from the diffusers directory {directory.name}",
        data=DataOptions(path=data or _UNSAID, size=h if h == w and h >= 4 else None, channels=channels.get(c)),
        model=ModelOptions(backbone=registry.spec(restorer.backbone), parameterization=registry.spec(restorer.parameterization), input="float"),
    )
