"""``snowmelt studio``: the page in the browser, and the interface for programs beside it."""

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snowmelt.cli.allocator import share_pages
from snowmelt.cli.errors import say
from snowmelt.cli.machine import HERE, OnMachine, Switch

_PACKAGES = ("gradio", "fastapi", "uvicorn", "fastapi_offline")
_TOKEN = "SNOWMELT_TOKEN"


def studio(
    *runs: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    token: str | None = None,
    folder: Path = Path("runs"),
    open_page: Annotated[Switch, Parameter(name="--open")] = False,
    max_megabytes: float = 32,
    max_megapixels: float = 16,
    queue: int = 16,
    seconds: float = 120,
    no_train: Switch = False,
    machine: OnMachine = HERE,
) -> int:
    """Open a page in the browser: see what a degradation is, restore, generate, translate, train, and compare runs.

    Only this machine can see it, and nothing leaves it. Bound to another --host, visitors need the token in the address that is printed. Programs
    find POST /v1/restore, /v1/degrade and /v1/sample on the same port; /v1/docs describes them.

    Args:
        runs: models to show besides those below --folder, and those that come with snowmelt.
        host: the address to listen on: 0.0.0.0 is every network that this machine is in.
        port: if it is taken, the next one that is free.
        token: what visitors have to show, 16 signs at least; SNOWMELT_TOKEN unless given here, where others on this machine see it; made, if it is
            needed and not given.
        folder: where trainings that begin on the page are kept.
        open_page: open the page in the browser of this machine.
        max_megabytes: of one upload.
        max_megapixels: of one picture.
        queue: how many wishes may wait while one is worked on.
        seconds: that one wish may take.
        no_train: show the trainings of --folder, but let nobody start or steer one from the page.
        machine: where to compute.
    """
    _require()
    from snowmelt.studio.limits import Limits
    from snowmelt.studio.surroundings import settled
    from snowmelt.studio.web.server import address_of, leave, listening, serve, token_for

    if not 0 <= port < 65536:
        raise ValueError(f"--port {port} lies outside 0 to 65535")
    limits = Limits(megabytes=max_megabytes, megapixels=max_megapixels, queue=queue, seconds=seconds)
    told = os.environ.pop(_TOKEN, None)  # trainings, which inherit the rest, need not know it
    token = token_for(host, told or None if token is None else token)
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(contextlib.closing(listening(host, port)))
        if port and (got := found.getsockname()[1]) != port:
            say(f"port {port} is taken: it will be {got}")
        print("opening the studio, some seconds ...", flush=True)
        share_pages()
        stack.enter_context(settled())
        where = machine.prepare()
        from snowmelt.studio.desk import Desk
        from snowmelt.studio.gate import Gate
        from snowmelt.studio.shelf import Shelf
        from snowmelt.studio.web.app import build

        desk = Desk(limits, Gate(limits), Shelf(runs, folder, where), folder, where, trains=not no_train)
        code = serve(build(desk, token), desk.gate, found, address_of(found, host, token), open_page=open_page)
    leave(code)


def _require() -> None:
    """Refuse at once where the packages of the page are missing.

    Raises:
        ValueError: they are.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"the studio needs {', '.join(missing).replace('_', '-')}: pip install 'snowmelt[studio]'")
