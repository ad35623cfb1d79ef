"""The Python that the page shows is a user's: names of the library and of torch, which are there, and nothing of the studio."""

import ast
import asyncio
import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

gr = pytest.importorskip("gradio")

import snowmelt  # noqa: E402
from snowmelt.data import images  # noqa: E402
from snowmelt.model import Model, save  # noqa: E402
from snowmelt.priors import Normal  # noqa: E402
from snowmelt.restorers import Conditions, Restorer  # noqa: E402
from snowmelt.studio.desk import Desk  # noqa: E402
from snowmelt.studio.gate import Gate  # noqa: E402
from snowmelt.studio.limits import Limits  # noqa: E402
from snowmelt.studio.page.blocks import TABS  # noqa: E402
from snowmelt.studio.page.restoring import Wish, commands  # noqa: E402
from snowmelt.studio.page.tabs import interpolate, look  # noqa: E402
from snowmelt.studio.page.visiting import Visitor  # noqa: E402
from snowmelt.studio.shelf import Shelf  # noqa: E402
from snowmelt.studio.work.looking import degraded  # noqa: E402

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    torch.manual_seed(0)
    D, limits = snowmelt.build("noise"), Limits()
    restorer = Restorer(D, snowmelt.build(TINY, "backbone"), (1, 8, 8), conditions=Conditions(classes=2))
    save(Model(D, restorer, Normal().fit([torch.zeros(1, 1, 8, 8)])), tmp_path / "runs" / "digits")
    return Desk(limits, Gate(limits), Shelf([], tmp_path / "runs"), tmp_path / "runs")


@pytest.fixture
def picture(tmp_path: Path) -> str:
    images.write(tmp_path / "three.png", torch.zeros(1, 8, 8))
    return str(tmp_path / "three.png")


def looked(desk: Desk, spec: str, picture: str) -> str:
    return look.look(desk, spec, look.Picked(picture, ""), look.Picked(picture, ""), 3, lambda: None).python


# Every tab that shows Python, and every kind of lines that it shows.
SHOWN: dict[str, list[Callable[[Desk, str, Visitor], str]]] = {
    "Look": [
        lambda desk, picture, visitor: looked(desk, "gaussian-blur", picture),
        lambda desk, picture, visitor: looked(desk, "morph", picture),
        lambda desk, picture, visitor: look.look(desk, "morph", look.Picked(None, "cat"), look.Picked(None, "coffee"), 0, lambda: None).python,
    ],
    "Restore": [
        lambda desk, picture, visitor: commands(desk, Wish("digits", picture, "", True, "faithful", 0.5, 3, anyway=True))[1],
        lambda desk, picture, visitor: commands(desk, Wish("digits", picture, "", False, "fast", None, 0, anyway=False))[1],
        lambda desk, picture, visitor: commands(desk, Wish("digits", None, "cat"))[1],
    ],
    "Interpolate": [
        lambda desk, picture, visitor: interpolate.made(desk, "digits", interpolate.New(0, 1, 0, None, None, 3), visitor)[-1],
        lambda desk, picture, visitor: interpolate.made(desk, "digits", interpolate.New(0, 1, 0, "0", "1", 3), visitor)[-1],
        lambda desk, picture, visitor: interpolate.blended(desk, "digits", interpolate.Own(picture, picture, 0.5, 0, 3), visitor)[-1],
    ],
}


def named(code: str) -> list[tuple[str, str]]:
    """The names (module, "" or what is taken from it) that lines of Python import, or reach through a module that they import."""
    tree, found, modules = ast.parse(code), list[tuple[str, str]](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(one.name, "") for one in node.names]
            modules |= {one.asname or one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found += [(node.module or "", one.name) for one in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            found.append((node.value.id, node.attr))
    return found


@pytest.mark.parametrize(("tab", "kind"), [(tab, kind) for tab, kinds in SHOWN.items() for kind in range(len(kinds))])
def test_lines_of_a_tab_name_what_is_in_the_library_and_nothing_of_the_studio(tab: str, kind: int, desk: Desk, picture: str, tmp_path: Path) -> None:
    code = SHOWN[tab][kind](desk, picture, Visitor(threading.Event(), gr.Progress(), str(tmp_path / "cache")))
    names = named(code)
    assert any(module.partition(".")[0] == "snowmelt" for module, _ in names)
    for module, name in names:
        assert module.partition(".")[0] in ("snowmelt", "torch"), code
        assert f"{module}.{name}.".partition("snowmelt.studio.")[1] == "", code
        found = importlib.import_module(module)
        assert not name or hasattr(found, name), code


@pytest.mark.parametrize("spec", ["gaussian-blur", "morph"])
def test_the_lines_of_look_run_and_do_what_it_shows(spec: str, desk: Desk, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images.write(tmp_path / "colour.png", torch.linspace(-1, 1, 3 * 5 * 12).reshape(3, 5, 12))  # another size, and colour where the first is grey
    code = look.look(desk, spec, look.Picked(picture, ""), look.Picked("colour.png", ""), 3, lambda: None).python
    names: dict[str, torch.Tensor] = {}
    exec(code, names)  # noqa: S102 - the lines that the page shows
    x, other = images.read(picture).x[None], images.read("colour.png").x[None]
    expected = degraded(snowmelt.build(spec), x, [0.5], seed=3, endpoint=other, check=lambda: None)[0]
    assert torch.equal(names["y"], expected)


def test_no_tab_shows_python_that_nobody_looks_at(desk: Desk) -> None:
    async def built(tab: Callable[[Desk], None]) -> Any:  # inside a running loop: gradio leaves one open where there is none
        with gr.Blocks() as page:
            tab(desk)
        return page

    def shows(tab: Callable[[Desk], None]) -> bool:
        blocks = asyncio.run(built(tab)).blocks.values()
        return any(isinstance(block, gr.Code) and block.language == "python" for block in blocks)

    assert {name for name, tab in TABS.items() if shows(tab)} == SHOWN.keys()
