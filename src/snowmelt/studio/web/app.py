"""The application: the page and the interface for programs on one process, behind one set of headers, limits and one token."""

import asyncio
import contextlib

import gradio as gr
from fastapi import FastAPI

from snowmelt.studio.desk import Desk
from snowmelt.studio.page.blocks import HEAD, blocks, theme
from snowmelt.studio.surroundings import kept_in
from snowmelt.studio.web.api import api
from snowmelt.studio.web.doorkeeper import Doorkeeper
from snowmelt.studio.web.intake import Intake
from snowmelt.studio.web.narrow import Narrow


def build(desk: Desk, token: str | None = None) -> FastAPI:
    """The application of a studio.

    Args:
        desk: what it serves.
        token: what a visitor has to bring; None where only this machine can ask.
    """

    async def built() -> FastAPI:
        return _built(desk, token)

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # gradio would open an event loop for every lock that it makes, and close none
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            return loop.run_until_complete(built())
    return _built(desk, token)


def _built(desk: Desk, token: str | None) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/v1", api(desk))
    gr.mount_gradio_app(
        app,
        blocks(desk),
        path="/",
        theme=theme(),
        head=HEAD,
        footer_links=[],
        show_error=True,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        max_file_size=desk.limits.bytes,
    )
    folder = kept_in()
    # The last one added is the first one asked.
    app.add_middleware(Narrow, folder=folder)
    app.add_middleware(Intake, limits=desk.limits, folder=folder)
    app.add_middleware(Doorkeeper, token=token, scripts=HEAD)
    return app
