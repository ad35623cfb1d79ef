"""The whole application: who is let in, what stays closed, and that the page keeps to itself."""

import asyncio
import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("gradio")

from starlette.testclient import TestClient

from snowmelt.studio.limits import Left, Limits
from snowmelt.studio.page.keeping import folder_in
from snowmelt.studio.surroundings import settled, sweep
from snowmelt.studio.web.app import build
from snowmelt.studio.web.doorkeeper import hashes, is_loopback, policy

# Starlette leaves uploads open that were cut off.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
TOKEN = "a-token-that-nobody-guesses"
HOME = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def quiet() -> Iterator[Path]:
    with settled() as folder:
        yield folder


@pytest.fixture(scope="module")
def client(quiet: Path, desk) -> Iterator[TestClient]:
    with TestClient(build(desk(megabytes=1)), base_url=HOME, follow_redirects=False) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(quiet: Path, desk) -> Iterator[TestClient]:
    with TestClient(build(desk(), TOKEN), base_url="http://studio.example", follow_redirects=False) as found:
        yield found


def join(client: TestClient, **more: object):
    return client.post("/gradio_api/queue/join", json={"session_hash": "abc", "fn_index": 0, "data": [], **more})


# --- how it is made ---------------------------------------------------------------------------------------


def test_no_event_loop_is_left_open_inside_another_or_not(quiet: Path, desk, monkeypatch: pytest.MonkeyPatch):
    """One would be collected with its sockets in the midst of something else."""
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def counted() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", counted)
    build(desk())

    async def inside() -> None:
        build(desk())

    asyncio.run(inside())
    assert [loop for loop in made if not loop.is_closed()] == []


# --- the page ---------------------------------------------------------------------------------------------


def test_the_page_says_what_it_may_do_and_asks_nobody(client: TestClient):
    answer = client.get("/", headers={"accept-encoding": "br, gzip"})
    assert answer.status_code == 200
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "frame-ancestors 'none'" in rules
    assert "unsafe-inline" not in next(rule for rule in rules.split("; ") if rule.startswith("script-src"))
    assert all(f"'{one}'" in rules for one in hashes(answer.content))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    fetched = re.findall(r"""<(?:script|link|img|iframe)[^>]*\s(?:src|href)="([^"]*)""", answer.text)
    assert fetched
    assert not [place for place in fetched if re.match(r"(https?:)?//", place)]


def test_every_answer_carries_the_rules(client: TestClient):
    for place in ("/v1/health", "/config", "/nothing", "/theme.css", "/v1/nothing"):
        headers = client.get(place).headers
        assert "default-src 'none'" in headers["content-security-policy"], place
        assert "unsafe-eval" not in headers["content-security-policy"], place


def test_the_page_knows_no_place_of_this_machine(client: TestClient, stock: Path):
    config = client.get("/config").text
    for place in (str(stock), str(Path.home()), os.getcwd()):
        assert place not in config


@pytest.mark.parametrize(
    "place",
    [
        "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/runs", "/gradio_api/proxy=http://example.com", "/gradio_api/app_id",
        "/gradio_api/file=http://example.com/x.png", "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/gradio_api/file=",
        "/gradio_api/file=%2Fetc%2Fpasswd", "/gradio_api/file=/proc/self/environ", "/gradio_api/file=%00", "/gradio_api/deep_link", "/login",
        "/monitoring", "/monitoring/summary", "/gradio_api/dev/reload", "/gradio_api/vibe-code", "/gradio_api/token", "/docs", "/openapi.json",
        "/pwa_icon/100000", "/gradio_api/custom_component/a/client/b/c", "/gradio_api/queue/status", "/?deep_link=x", "/config?deep_link=x",
        "/assets/../../x", "/assets/..\\x", "/gradio_api/heartbeat/" + "x" * 100, "/gradio_api/stream/x/1/2/playlist.m3u8",
    ],
)  # fmt: skip
def test_what_the_page_does_not_need_is_not_there(client: TestClient, place: str):
    assert client.get(place).status_code == 404


@pytest.mark.parametrize("place", ["run/x", "api/x", "call/x", "call/v2/x", "component_server", "process_recording", "login", "vibe-edit"])
def test_nor_can_it_be_posted_to(client: TestClient, place: str):
    assert client.post(f"/gradio_api/{place}", json={"data": []}).status_code == 404
    assert client.put("/v1/restore").status_code == 405
    assert client.delete("/").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "http://example.com/x.png", "https://example.com", "../../etc/passwd", "", 7, ["x"], "/proc/self/environ", "x" * 5000, "a\x00b"],
)
def test_the_page_can_send_back_only_files_of_the_studio(client: TestClient, quiet: Path, path: object):
    """Gradio would fetch an address: a visitor could have this machine ask others."""
    meta = {"_type": "gradio.FileData"}
    for value in ({"path": path, "meta": meta}, [[{"path": path, "url": None}]], {"path": path}, [{"deep": [{"path": path}]}], {"x": {"path": path}}):
        answer = join(client, data=[value])
        assert answer.status_code == 400
        assert "drop it again" in answer.json()["error"]
    (quiet / "link.png").unlink(missing_ok=True)
    (quiet / "link.png").symlink_to("/etc/passwd")
    for place in (quiet / "link.png", quiet / ".." / "x.png", quiet):
        for more in ({"meta": {}}, {}):
            assert join(client, data=[{"path": str(place), **more}]).status_code == 400, place
    assert "drop it again" in join(client, event_data={"value": {"path": path}}).json()["error"]


@pytest.mark.parametrize(
    "value",
    [{"url": "data:image/png;base64,AAAA"}, {"url": "data:image/png;base64,/gradio_api/file=x"}, {"url": None}, {"url": ["x"]},
     {"meta": {"_type": "gradio.FileData"}}, {"path": None, "url": "http://example.com/x.png"}, {"path": None, "meta": {}}],
)  # fmt: skip
def test_a_picture_in_an_address_is_refused_before_anybody_decodes_it(client: TestClient, value: dict[str, object]):
    """Gradio decodes it whatever its size, beside a path or without one."""
    whose = client.post("/gradio_api/upload", files={"files": ("x.png", b"x")}).json()[0]
    spoiled = [{**value, "path": whose}] if value.get("url") else []
    for one in (value, *spoiled):
        answer = join(client, data=[[{"image": one}]])
        assert answer.status_code == 400, one
        assert "drop it again" in answer.json()["error"]


def test_what_was_uploaded_is_let_in_as_the_page_sends_it_back(client: TestClient):
    """A file of ours passes this door, and the next thing that is said is that there is no such function."""
    path = client.post("/gradio_api/upload", files={"files": ("x.png", b"x")}).json()[0]
    meta = {"_type": "gradio.FileData"}
    for url in (None, f"{HOME}/gradio_api/file={path}", f"https://studio.example/below/gradio_api/file={path}", f"/gradio_api/file={path}"):
        answer = join(client, data=[{"path": path, "url": url, "orig_name": "x.png", "meta": meta}, {"path": None}], fn_index=99999)
        assert answer.status_code == 400
        assert "drop it again" not in answer.json()["error"], url


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"\xff", b"{}", b"[" * 200_000, b'{"session_hash":"../x","fn_index":0,"data":[]}',
     b'{"session_hash":"a","fn_index":true,"data":[]}',
     b'{"session_hash":"a","fn_index":99999,"data":[]}', b'{"session_hash":"a","fn_index":0,"data":' + b"[" * 100 + b"]" * 100 + b"}"],
)  # fmt: skip
def test_what_the_page_does_not_send_is_refused(client: TestClient, body: bytes):
    answer = client.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert "error" in answer.json()


@pytest.mark.parametrize("place", ["queue/join", "cancel", "reset"])
def test_what_carries_no_picture_is_short(client: TestClient, place: str):
    """It is read while nobody else is served."""
    body = json.dumps({"session_hash": "abc", "fn_index": 99999, "data": ["x" * 2**18]})
    answer = client.post(f"/gradio_api/{place}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"] == "this is more than 256 kB, the most that a request without a picture may carry: send less"
    short = json.dumps({"session_hash": "abc", "fn_index": 99999, "data": ["x" * 200_000]})
    assert client.post(f"/gradio_api/{place}", content=short, headers={"content-type": "application/json"}).status_code != 413


def test_an_upload_is_bounded_and_comes_back_as_a_file_only(client: TestClient, quiet: Path):
    assert client.post("/gradio_api/upload", files={"files": ("x.png", b"x" * 2**21)}).status_code == 413
    for name in ("../../../evil.html", "evil.svg"):
        place = client.post("/gradio_api/upload", files={"files": (name, b"<script>alert(1)</script>")}).json()[0]
        assert Path(place).is_relative_to(quiet)
        back = client.get(f"/gradio_api/file={place}")
        assert back.status_code == 200
        assert back.headers["content-disposition"].startswith("attachment")
        assert "default-src 'none'" in back.headers["content-security-policy"]


def test_files_do_not_pile_up(tmp_path: Path):
    now = time.time()
    for number in range(10):
        path = tmp_path / str(number) / "x.png"
        path.parent.mkdir()
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - 1000 + number,) * 2)
    (tmp_path / "new.png").write_bytes(b"x" * 10_000)
    assert sweep(tmp_path, 10_250, 100) == 8  # the new one is too young to go, however large it is
    assert sorted(one.name for one in tmp_path.iterdir()) == ["8", "9", "new.png"]
    assert sweep(tmp_path, 10**9, 2) == 1
    assert sweep(tmp_path, 0, 0) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["new.png"]


def test_empty_folders_go_when_they_are_old_and_a_new_result_makes_room(tmp_path: Path):
    old, young = tmp_path / "old" / "deep", tmp_path / "young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (0, 0))
    sweep(tmp_path, 10**9)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["old", "young"]  # the outer one has just changed
    os.utime(tmp_path / "old", (0, 0))
    (tmp_path / "large.png").write_bytes(b"x" * 1000)
    os.utime(tmp_path / "large.png", (0, 0))
    made = folder_in(tmp_path, Limits(megabytes=1e-6))
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["young", made.name])


def test_who_closes_the_page_is_not_worked_for_any_longer(quiet: Path, desk, slow, running):
    """The browser says nothing: the line that the page keeps open ends."""
    work = slow(0.05)
    counter = desk(work)
    with running(build(counter)) as port:
        left = counter.gate.leaving("visitor")
        done = threading.Event()

        def worked() -> None:
            with contextlib.suppress(Left), counter.gate.turn(left) as turn:
                while True:
                    turn.check()
                    work(torch.zeros(1), torch.zeros(1))
            done.set()

        with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as line:
            line.sendall(f"GET /gradio_api/heartbeat/visitor HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert line.recv(1000).startswith(b"HTTP/1.1 200")
            threading.Thread(target=worked, daemon=True).start()
            until = time.monotonic() + 30
            while work.calls < 2:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert not left.is_set()
        assert done.wait(30)
    assert left.is_set()


# --- who is let in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "[", "[::1", "127.0.0.1@evil.example"]
)
def test_a_name_that_somebody_else_lets_point_here_is_refused(client: TestClient, host: str):
    for place in ("/", "/v1/models", "/gradio_api/upload"):
        answer = client.get(place, headers={"host": host})
        assert answer.status_code == 421, (host, place)


def test_this_machine_is_let_in_by_all_its_names(client: TestClient):
    for host in ("127.0.0.1:7860", "localhost:1234", "LOCALHOST", "[::1]:7860", "127.8.9.1"):
        assert client.get("/v1/health", headers={"host": host}).status_code == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:7860"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:7860.evil.example"},
        {"origin": "http://["},
    ],
)
def test_a_page_of_somebody_else_cannot_post(client: TestClient, headers: dict[str, str], drawn: Callable[..., bytes]):
    answer = client.post("/v1/degrade", files={"picture": drawn()}, data={"degradation": "grey"}, headers=headers)
    assert answer.status_code == 403
    assert client.post("/gradio_api/upload", files={"files": ("x", b"x")}, headers=headers).status_code == 403


def test_nor_read_what_the_studio_says(client: TestClient):
    """Gradio would let every page on localhost read it, with the visitor's cookies."""
    for origin in ("http://localhost:3000", "http://127.0.0.1:9999", "null", "http://evil.example"):
        for method in ("GET", "HEAD", "OPTIONS"):
            for place in ("/config", "/", "/v1/models"):
                answer = client.request(method, place, headers={"origin": origin, "access-control-request-method": "POST"})
                assert answer.status_code == 403, (origin, method, place)
                assert not [name for name in answer.headers if name.startswith("access-control-")]
    own = client.get("/config", headers={"origin": HOME})
    assert own.status_code == 200
    assert not [name for name in own.headers if name.startswith("access-control-")]
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200  # who follows a link to the studio comes in


def test_the_studios_own_page_can(client: TestClient, drawn: Callable[..., bytes]):
    own = {"origin": HOME, "sec-fetch-site": "same-origin"}
    assert client.post("/v1/degrade", files={"picture": drawn()}, data={"degradation": "grey"}, headers=own).status_code == 200


def test_no_token_no_entry(guarded: TestClient):
    guarded.cookies.clear()
    wrong = ({}, {"authorization": "Bearer x"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": f"Bearer {TOKEN}x"}, {"cookie": "snowmelt=x"})
    more = ({"authorization": "Bearer " + "é" * 9}, {"cookie": f"token={TOKEN}"}, {"x-forwarded-for": "127.0.0.1"}, {"host": "127.0.0.1"})
    for headers in (*wrong, *more):
        for place in ("/", "/v1/health", "/v1/docs", "/assets/x", "/gradio_api/queue/data", "/nothing"):
            answer = guarded.get(place, headers={name: value.encode() for name, value in headers.items()})
            assert answer.status_code == 401, (headers, place)
            assert TOKEN not in answer.text
    assert guarded.get("/?token=wrong").status_code == 401
    assert guarded.post(f"/v1/sample?token={TOKEN}x").status_code == 401
    assert guarded.get("/", headers={"origin": "http://["}).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_what_a_browser_opens_is_sent_on_without_the_token(guarded: TestClient, method: str):
    """A browser would send it again as a GET, without its body."""
    guarded.cookies.clear()
    answer = guarded.request(method, f"/v1/sample?token={TOKEN}")
    assert answer.status_code == 401
    assert "location" not in answer.headers
    assert "set-cookie" not in answer.headers
    assert guarded.head(f"/?token={TOKEN}").status_code == 303
    guarded.cookies.clear()


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/%E4%B8%AD.evil.example/", "/%E4%B8%AD.evil.example/"),
        ("/gradio_api/file=/a%20b%3Fc%23d%25.png", "/gradio_api/file=/a%20b%3Fc%23d%25.png"),
        ("//evil.example/", "/evil.example/"),
        ("/%5C%5Cevil.example/", "/evil.example/"),
        ("/%09/evil.example/", "/%09/evil.example/"),
        ("/%0D%0AX: 1", "/%0D%0AX:%201"),
    ],
)
def test_the_address_without_the_token_is_the_same_place(guarded: TestClient, path: str, place: str):
    assert guarded.get(f"http://studio.example{path}?token={TOKEN}").headers["location"] == place
    guarded.cookies.clear()


def test_the_token_in_the_address_becomes_a_cookie_and_is_gone_from_it(guarded: TestClient):
    answer = guarded.get(f"/?a=1&token={TOKEN}&b=2")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?a=1&b=2"
    said = answer.headers["set-cookie"]
    assert "HttpOnly" in said
    assert "SameSite=lax" in said  # a strict one is kept back on the way on, when the address was clicked in a mail or a chat: 401 at the first visit
    assert "Secure" not in said
    assert guarded.get("/v1/health").status_code == 200  # the client keeps cookies
    guarded.cookies.clear()
    assert guarded.get("/v1/health").status_code == 401
    assert guarded.get(f"http://studio.example//evil.example/?token={TOKEN}").headers["location"].startswith("/evil")
    assert "secure" in guarded.get(f"https://studio.example/?token={TOKEN}").headers["set-cookie"].lower()


def test_programs_show_the_token_in_a_header(guarded: TestClient):
    guarded.cookies.clear()
    assert guarded.get("/v1/health", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
    shown = {"authorization": f"Bearer {TOKEN}", "origin": "http://evil.example"}
    assert guarded.post("/v1/sample", data={"model": "x"}, headers=shown).status_code == 403


def test_refusals_are_text_for_people(guarded: TestClient):
    guarded.cookies.clear()
    answer = guarded.get("/", headers={"accept": "text/html,*/*"})
    assert answer.headers["content-type"].startswith("text/plain")
    assert "token" in answer.text


@pytest.mark.parametrize(
    ("host", "is_one"), [("localhost:1", True), ("127.0.0.1", True), ("[::1]", True), ("0.0.0.0", False), ("a", False), ("::", False)]
)
def test_names_of_this_machine(host: str, is_one: bool):
    assert is_loopback(host) == is_one


def test_hashes_are_those_of_inline_scripts_alone():
    page = b'<script src="x.js"></script><script type="module">a</script><SCRIPT>b\r\nc</SCRIPT>'
    import base64
    import hashlib

    expected = tuple("sha256-" + base64.b64encode(hashlib.sha256(one).digest()).decode() for one in (b"a", b"b\nc"))
    assert hashes(page) == expected
    assert f"'{expected[0]}'" in policy(expected)


def test_the_surroundings_are_as_they_were_afterwards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    before = dict(os.environ)
    with settled() as folder:
        assert "GRADIO_ALLOWED_PATHS" not in os.environ
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").write_bytes(b"")
    assert dict(os.environ) == before
    assert not folder.exists()
