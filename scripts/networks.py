"""The table of docs/networks.md: what the sizes of ``unet`` cost on colour pictures of three sizes; counted, not timed.

``python scripts/networks.py`` prints it, ``--write`` puts it between the markers of the page.
"""

import argparse
from pathlib import Path

from snowmelt.degradations import GaussianBlur
from snowmelt.pictures import between_markers
from snowmelt.restorers import Residual, Restorer, UNet
from snowmelt.restorers.backbones import SIZES
from snowmelt.restorers.cost import cost, size

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
PATCHES = {32: 2, 64: 4, 128: 4}  # side in px: patch
BATCH = 64
HEAD = ("backbone", "px", "parameters", "GFLOP a call", f"memory: call on {BATCH}", f"memory: training step of {BATCH}")


def row(name: str, side: int) -> tuple[str, ...]:
    """A size on colour pictures of `side` px, fp32."""
    shape = (3, side, side)
    found = cost(Restorer(GaussianBlur(), UNet(size=name, patch=PATCHES[side]), shape, parameterization=Residual()), shape, BATCH)
    spec = f"`unet:size={name}" + (f",patch={PATCHES[side]}`" if PATCHES[side] != 2 else "`")
    return spec, str(side), f"{found.parameters / 1e6:.2f} M", f"{found.flops / 1e9:.3g}", size(found.call_bytes), size(found.training_bytes)


def table(sides: tuple[int, ...] = tuple(PATCHES), names: tuple[str, ...] = tuple(SIZES)) -> str:
    """The table, in Markdown."""
    rows = [HEAD, ("---", *["--:"] * (len(HEAD) - 1)), *(row(name, side) for side in sides for name in names)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def main() -> None:
    """Print the table, and with --write put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="also put it into docs/networks.md")
    write, made = parser.parse_args().write, table()
    print(made, end="")
    if write:
        PAGE.write_text(between_markers(PAGE.read_text(encoding="utf-8"), "sizes", made.strip()), encoding="utf-8")


if __name__ == "__main__":
    main()
