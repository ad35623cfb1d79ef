"""``snowmelt export`` and ``snowmelt import``: models to and from the files of other libraries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from snowmelt.cli.machine import Plugins, Switch, plug_in

if TYPE_CHECKING:
    from snowmelt.interop import Exported
    from snowmelt.model import Model
    from snowmelt.recipes.recipe import Recipe

_UNSAID = "no-pictures-given"


def export(
    run: Path,
    /,
    *,
    format: Literal["diffusers", "onnx", "torch-export"],
    out: Path,
    size: int | None = None,
    overwrite: Switch = False,
    plugin: Plugins = (),
) -> None:
    """Write a model as other libraries' files: a directory of diffusers, or the restorer as one graph, an ONNX file or one of torch.export.

    What such files cannot say is refused by name: for diffusers, all but noise with the schedule betas, the backbone
    diffusers-unet2d and parameterization eps, x0 or v. A graph is read again and compared with the model before it gets its name.

    Args:
        run: the directory that 'snowmelt train --out' wrote, one part of its model (RUN/PART), or a model that comes with snowmelt, photo.
        format: diffusers, a directory that its DDPMPipeline loads; onnx, a file for onnxruntime and others; torch-export, a .pt2 file.
        out: what to write; it appears whole, or not at all.
        size: side of the pictures a graph is made for, in px; by default any, or that of training where the coefficients are of one size.
        overwrite: replace what an earlier export wrote there.
        plugin: parts of your own.
    """
    plug_in(plugin)
    from snowmelt.interop import to_diffusers, to_onnx, to_torch_export
    from snowmelt.model import load, located, weights_of

    if format == "diffusers":
        if size is not None:
            raise ValueError("--size is for graphs: a DDPMPipeline takes the size of training; leave it out")
        to_diffusers(load(run), out, overwrite=overwrite)
        print(f"wrote {out}; diffusers.DDPMPipeline.from_pretrained({str(out)!r}) loads it")
        return
    write = to_onnx if format == "onnx" else to_torch_export
    model, sides = load(run), None if size is None else (size, size)
    _say(write(model, out, size=sides, weights=weights_of(located(run)), overwrite=overwrite), out)


def _say(made: "Exported", out: Path) -> None:
    """What the written graph takes and returns, for which sizes, and how close to torch it is."""
    inputs = ", ".join(f"{name} ({', '.join(map(str, axes))})" for name, axes in made.inputs.items())
    print(f"wrote {out}: {inputs} -> {', '.join(made.outputs)}")
    if made.size is None:
        sides = "any size" if made.multiple == 1 else f"any size whose sides are multiples of {made.multiple} px (at least {2 * made.multiple})"
        print(f"pictures of {sides}, in batches of any size")
    else:
        way = "" if made.why.startswith("--size") else "; --size makes it for another"
        print(f"pictures of {made.size[0]} x {made.size[1]} px only, in batches of any size: {made.why}{way}")
    print(f"largest difference from torch in {made.comparisons} comparisons: {made.difference:.1e} of the range")


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
    from snowmelt.disk import replacing_folder
    from snowmelt.files import write_text
    from snowmelt.interop import from_diffusers
    from snowmelt.model import save
    from snowmelt.recipes.directory import RECIPE
    from snowmelt.recipes.recipe import to_toml

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
