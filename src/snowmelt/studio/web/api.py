"""The interface for programs: ``POST /v1/restore``, ``/v1/degrade`` and ``/v1/sample``, with the same work, gate and limits as the page.

Each wish is worked on in a thread of its own behind the desk's gate, while the event loop watches whether its client is still there: one that is not
lets the work end before its next call of the network. Every refusal is ``{"error": "..."}`` in words. What can be asked, with examples to
try, stands at ``/v1/docs``, which like all else asks no other server for anything.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.responses import JSONResponse, Response

from snowmelt._version import __version__
from snowmelt.data.images import Picture
from snowmelt.registry import spec
from snowmelt.restoration.identity import Opened
from snowmelt.studio.desk import Desk
from snowmelt.studio.gate import Turn
from snowmelt.studio.limits import LONGEST_SPEC, Refused
from snowmelt.studio.uploads import opened
from snowmelt.studio.web.affordable import require_affordable
from snowmelt.studio.web.answers import ERRORS, NOTE, Described, Health, Made, answer, failed, png, sheet
from snowmelt.studio.words import log_bug, plain
from snowmelt.studio.work import looking, making

Format = Annotated[Literal["png", "json"], Form(description="png: the file itself; json: base64 beside its note")]
Seed = Annotated[int, Form(ge=0, lt=2**63, description="of what is random; the same seed gives the same picture")]
Upload = Annotated[UploadFile, File(description="a JPEG, PNG, WebP, BMP, TIFF or GIF file")]
Name = Annotated[str, Form(max_length=200, description="of a model; GET /v1/models lists them", examples=["photo"])]
Wish = Callable[[Turn], Response]

_LOOK_S = 0.05  # how often a client is asked whether it is still there
_FIELDS, _FILES, _FIELD_BYTES = 16, 2, 16 * 2**10
_ABOUT = "Undo any degradation, from a program. The page for people is at /. Errors are {\"error\": \"...\"} in plain words."
_PNG: dict[str, Any] = {"content": {"image/png": {}}, "description": "The picture.", "headers": {NOTE: {"schema": {"type": "string"}}}}


class _Bounded(Request):
    """A request whose form holds few fields: the length of the whole is bounded elsewhere, but each field costs more than its length."""

    def form(self, **_: Any) -> Any:
        return super().form(max_files=_FILES, max_fields=_FIELDS, max_part_size=_FIELD_BYTES)


class _Route(APIRoute):
    """Reads requests as :class:`_Bounded` ones."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await inner(_Bounded(request.scope, request.receive))

        return handler


def api(desk: Desk) -> FastAPI:
    """The application that is mounted at /v1."""
    app: FastAPI = FastAPIOffline(
        redoc_url=None, title="snowmelt studio", version=__version__, description=_ABOUT, swagger_ui_parameters={"validatorUrl": None}
    )
    app.router.route_class = _Route
    _in_words(app)
    worked = _Worker(desk).worked

    @app.get("/health", summary="Is it there?")
    def health() -> Health:
        return Health(version=__version__, waiting=desk.gate.waiting, queue=desk.limits.queue)

    @app.get("/models", summary="What models are there?")
    def models() -> list[Described]:
        return [Described.of(entry) for entry in desk.shelf.entries()]

    @app.post("/restore", summary="Restore a picture", response_class=Response, responses={**ERRORS, 200: {**_PNG, "model": Made}})
    async def restore(
        request: Request,
        picture: Upload,
        model: Name = "photo",
        severity: Annotated[float | None, Form(ge=0, le=1, description="how degraded it is; left out, the model judges it")] = None,
        mode: Annotated[Literal["fast", "faithful", "best"], Form(description="a tuned copy's few calls, one call, or the whole walk")] = "best",
        seed: Seed = 0,
        anyway: Annotated[bool, Form(description="restore also what looks clean, and what the model is unsure of")] = False,
        format: Format = "png",
    ) -> Response:
        return await worked(request, lambda turn: _restored(desk, turn, picture, model, severity, mode, seed, anyway, format))

    @app.post("/degrade", summary="Degrade a picture", response_class=Response, responses={**ERRORS, 200: {**_PNG, "model": Made}})
    async def degrade(
        request: Request,
        picture: Upload,
        degradation: Annotated[str, Form(max_length=LONGEST_SPEC, description="a name and its fields", examples=["gaussian-blur:sigma_px=8"])],
        severity: Annotated[float, Form(ge=0, le=1, description="0 leaves it alone, 1 is the strongest")] = 1.0,
        seed: Seed = 0,
        endpoint: Annotated[UploadFile | None, File(description="the second picture, for a degradation that ends in one")] = None,
        format: Format = "png",
    ) -> Response:
        return await worked(request, lambda turn: _degraded(desk, turn, picture, degradation, severity, seed, endpoint, format))

    @app.post("/sample", summary="Make new pictures", response_class=Response, responses={**ERRORS, 200: {**_PNG, "model": Made}})
    async def sample(
        request: Request,
        model: Name,
        n: Annotated[int, Form(ge=1, le=desk.limits.samples, description="how many; several come as a zip of PNG files")] = 1,
        seed: Seed = 0,
        label: Annotated[str | None, Form(max_length=200, description="a class that the model knows")] = None,
        format: Format = "png",
        sheet: bool = False,
    ) -> Response:
        return await worked(request, lambda turn: _sampled(desk, turn, model, n, seed, label, format, sheet))

    return app


class _Worker:
    """Works on wishes in threads: as many as the gate lets wait, and a few to be told that no more may."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._threads = anyio.CapacityLimiter(desk.limits.queue + 4)

    async def worked(self, request: Request, wish: Wish) -> Response:
        """What comes of a wish; it ends before its next step when the client has gone, or the server is being stopped."""
        left = threading.Event()
        task = asyncio.ensure_future(anyio.to_thread.run_sync(self._turn, wish, left, limiter=self._threads))
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=_LOOK_S)
                if done:
                    return task.result()
                if not left.is_set() and await request.is_disconnected():
                    left.set()
        finally:
            left.set()

    def _turn(self, wish: Wish, left: threading.Event) -> Response:
        try:
            with self._desk.gate.turn(left) as turn:
                turn.check()
                return wish(turn)
        except Exception as error:
            log_bug(error)
            return failed(error)


def _restored(
    desk: Desk, turn: Turn, upload: UploadFile, name: str, severity: float | None, mode: looking.Mode, seed: int, anyway: bool, kind: str
) -> Response:
    entry = desk.shelf.entry(name)
    if not entry.restores:
        what = f"takes {entry.signal}" if entry.signal != "picture" else "turns one picture into another"
        raise Refused(f"{name} {what}, and only what was degraded as a picture is restored here: GET /v1/models says which models do ('restores')")
    picture = _picture(desk, upload)
    found = desk.shelf.opened(name, fast=mode == "fast")
    x = picture.x[None]
    walked = looking.restored(found.model, x, severity=severity, mode=mode, seed=seed, check=turn.check, anyway=anyway, turn=picture.turn)
    note = {**_note(found, seed), "mode": mode, "severity": severity, "how": walked.how, "said": list(walked.said)}
    note["seconds"] = round(walked.seconds, 3)
    return answer([png(walked.x[0], note, picture)], note, kind)


def _degraded(
    desk: Desk, turn: Turn, upload: UploadFile, text: str, severity: float, seed: int, endpoint: UploadFile | None, kind: str
) -> Response:
    D = looking.meant_by(text)
    picture = _picture(desk, upload)
    x = picture.x[None]
    other = None if endpoint is None else _picture(desk, endpoint).over()[None]
    require_affordable(D, x, severity, desk.limits.seconds, turn.check, other)
    y = looking.degraded(D, x, [severity], seed=seed, endpoint=other, check=turn.check)[0]
    note = {"degradation": spec(D), "severity": severity, "seed": seed, "snowmelt": __version__}
    return answer([png(y[0], note, picture)], note, kind)


def _sampled(desk: Desk, turn: Turn, name: str, n: int, seed: int, label: str | None, kind: str, board: bool) -> Response:
    entry = desk.shelf.entry(name)
    if not entry.generates:
        what = "has no prior to begin from" if entry.signal == "picture" else f"takes {entry.signal}, and only pictures are made here"
        raise Refused(f"{name} {what}: GET /v1/models says which models make them ('generates')")
    found = desk.shelf.opened(name)
    walked = making.generated(found.model, n, seed=seed, label=label, limits=desk.limits, check=turn.check)
    note = {**_note(found, seed), "label": label, "how": walked.how, "seconds": round(walked.seconds, 3)}
    files = [sheet(walked.x)] if board else [png(x, {**note, "number": number}) for number, x in enumerate(walked.x)]
    return answer(files, note, kind)


def _note(found: Opened, seed: int) -> dict[str, Any]:
    return {"model": found.name, "weights": found.weights, "seed": seed, "snowmelt": __version__}


def _picture(desk: Desk, upload: UploadFile) -> Picture:
    """What was uploaded; of the name that a client gives to it nothing is used."""
    return opened("picture", desk.limits, upload.file.read())


def _in_words(app: FastAPI) -> None:
    """Every error as {"error": "..."}."""

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = [f"{'.'.join(str(part) for part in one['loc'][1:]) or 'the request'}: {one['msg']}" for one in error.errors()[:5]]
        return JSONResponse({"error": "; ".join(wrong)}, 422)

    @app.exception_handler(AnyHTTPException)
    def refused(request: Request, error: AnyHTTPException) -> Response:
        words = {404: "there is no such page: /v1/docs lists what there is", 405: f"{request.method} is not for this page: see /v1/docs"}
        return JSONResponse({"error": words.get(error.status_code, str(error.detail))}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": plain(error)}, 500)
