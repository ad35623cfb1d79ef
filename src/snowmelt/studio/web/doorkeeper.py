"""Who may come in, and what the browser is told to keep to.

The studio of one's own machine listens on loopback, where no password is asked for. A page of somebody else's in the same browser could still reach
it, in two ways: by a name of theirs that they let point at 127.0.0.1 (so the Host header has to name this machine), and by a form that posts here
(so Origin, which browsers send and pages cannot choose, has to be ours, whatever the method: gradio would let any page on localhost read). Anywhere
else a token is asked for: in the address once, which sets a cookie that no script can read and that comes along from another site with a link alone;
or, by programs, as ``Authorization: Bearer``.

Sources: RFC 6454 (Origin), RFC 6750 (Bearer), CSP level 3 (hashes of scripts), RFC 6265bis (SameSite).
"""

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADER_BYTES = 32 * 2**10
_SAFE = ("GET", "HEAD", "OPTIONS")
_IN_PATHS = "/:@!$&'()*+,;="  # what RFC 3986 lets stand in a path as it is
_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.S | re.I)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Doorkeeper:
    """Lets in whom it knows, and puts the browser under rules.

    Args:
        app: what lies behind.
        token: to be shown by whoever asks; None where only this machine can, whose name is then asked for.
        scripts: HTML whose inline scripts the page will add by itself.
    """

    def __init__(self, app: ASGIApp, token: str | None = None, scripts: str = "") -> None:
        self._app, self._token = app, token
        self._hashes = hashes(scripts.encode())
        # Cookies know no ports: two studios on one machine would overwrite each other's.
        self.cookie = "snowmelt-" + hashlib.sha256((token or "").encode()).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        rules = _Rules(send, self._hashes, evaluates=scope["path"] == "/")
        answer = self._answer(scope, Headers(scope=scope))
        if answer is not None:
            await answer(scope, receive, rules)
            return
        # A page is read on its way out, so it may not be compressed.
        if scope["path"] in ("/", "/v1/docs"):
            scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]}
        await self._app(scope, receive, rules)

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """What is said to somebody who is not let in, or not yet; None to the others."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) + len(scope.get("query_string", b"")) > _HEADER_BYTES:
            return refusal(431, "the headers of this request are too long", headers)
        host = headers.get("host", "")
        if self._token is None and not is_loopback(host):
            words = "this studio answers only under the name of this machine, http://127.0.0.1 or http://localhost; start it with --token for another"
            return refusal(421, words, headers)
        foreign = "origin" in headers and _named(headers["origin"]) != host.lower()
        # A link that leads here from another site is a GET without Origin.
        if foreign or (scope["method"] not in _SAFE and headers.get("sec-fetch-site") in ("cross-site", "same-site")):
            return refusal(403, "this wish came from a page that is not the studio's", headers)
        if self._token is None:
            return None
        asked = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        shown = next((value for name, value in asked if name == "token"), None)
        if shown is not None and scope["method"] in ("GET", "HEAD") and self._is_right(shown):  # a browser would send anything else again as a GET
            rest = urlencode([(name, value) for name, value in asked if name != "token"])
            # One slash: two would name another machine.
            place = "/" + quote(scope["path"].lstrip("/\\"), safe=_IN_PATHS) + ("?" + rest if rest else "")
            found = Response(status_code=303, headers={"Location": place, "Cache-Control": "no-store"})
            secure = scope.get("scheme") == "https"
            # Lax: a strict one would not come along to where this very answer sends whoever clicked the address on a page of somebody else's.
            found.set_cookie(self.cookie, self._token, httponly=True, samesite="lax", secure=secure, path="/", max_age=30 * 86400)
            return found
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if (kind.lower() == "bearer" and self._is_right(bearer.strip())) or self._is_right(_cookie(headers, self.cookie)):
            return None
        words = "this studio asks for its token: open the address that it printed, or send 'Authorization: Bearer TOKEN'"
        return refusal(401, words, headers, {"WWW-Authenticate": "Bearer"})

    def _is_right(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode(), (self._token or "").encode())


class _Rules:
    """Sends what is sent, with headers; a page with the hashes of its own scripts, so that no other script runs in it."""

    def __init__(self, send: Send, known: tuple[str, ...], *, evaluates: bool) -> None:
        self._send, self._known, self._evaluates = send, known, evaluates
        self._start: Message | None = None
        self._page = b""

    async def __call__(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in {name for name in headers if name.startswith("access-control-")}:
                del headers[name]  # gradio's own leave to other pages
            for name, value in _HEADERS.items():
                headers[name] = value
            if headers.get("content-type", "").startswith("text/html"):
                self._start = message
                return
            headers["Content-Security-Policy"] = policy(())
        elif self._start is not None:
            self._page += message.get("body", b"")
            if message.get("more_body"):
                return
            start, self._start = self._start, None
            headers = MutableHeaders(scope=start)
            headers["Content-Security-Policy"] = policy((*self._known, *hashes(self._page)), evaluates=self._evaluates)
            headers["Cache-Control"] = "no-store"
            await self._send(start)
            message = {**message, "body": self._page}
        await self._send(message)


def policy(scripts: Iterable[str], *, evaluates: bool = False) -> str:
    """What a page may do: run the scripts of this server and those with the given hashes, and ask nobody else for anything.

    Args:
        scripts: the hashes.
        evaluates: whether these scripts make others of text, as gradio's does to fill its HTML component.
    """
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", *(["'unsafe-eval'"] if evaluates else []), *(f"'{one}'" for one in dict.fromkeys(scripts))]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self' data: blob:",
        "worker-src": "'self' blob:",
        "manifest-src": "'self'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def hashes(page: bytes) -> tuple[str, ...]:
    """The hashes of the scripts that stand in a page, as a Content-Security-Policy has them."""
    found = (script.replace(b"\r\n", b"\n") for script in _SCRIPT.findall(page))
    return tuple("sha256-" + base64.b64encode(hashlib.sha256(script).digest()).decode() for script in found)


def is_loopback(host: str) -> bool:
    """Whether a name, as it stands in a Host header or after --host, is this machine's for itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # half a bracket
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _named(origin: str) -> str:
    """Whom an Origin header names; nobody where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # half a bracket
        return ""


def refusal(status: int, words: str, headers: Headers, more: dict[str, str] | None = None) -> Response:
    """A refusal in words: text for people, JSON for programs."""
    if "text/html" in headers.get("accept", ""):
        return PlainTextResponse(words, status, more)
    return JSONResponse({"error": words}, status, more)


def _cookie(headers: Headers, name: str) -> str:
    """The value of a cookie; the empty text where there is none."""
    for line in headers.getlist("cookie"):
        for pair in line.split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value
    return ""
