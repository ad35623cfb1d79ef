"""What programs may ask, what they get, and that nothing they send is answered by a 500."""

import base64
import contextlib
import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("fastapi_offline")

from PIL import Image
from starlette.testclient import TestClient

from snowmelt.data import images
from snowmelt.model import Model, save
from snowmelt.priors import Normal
from snowmelt.registry import build
from snowmelt.restorers import Restorer
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.studio.desk import Desk
from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Limits
from snowmelt.studio.shelf import Shelf
from snowmelt.studio.web.answers import NOTE

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"


@pytest.fixture(scope="module")
def zoo(script) -> ModuleType:
    return script("tests/zoo.py")


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_degrade_does_what_the_library_does_and_says_how(client: TestClient, drawn: Callable[..., bytes]):
    given = {"degradation": "gaussian-blur:sigma_px=2", "severity": 0.5}
    answer = client.post("/v1/degrade", files={"picture": drawn()}, data=given)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert json.loads(answer.headers[NOTE])["degradation"] == "gaussian-blur:sigma_px=2"
    x = images.read("x", content=drawn()).x[None]
    y = build("gaussian-blur:sigma_px=2")(x, torch.tensor([0.5]))
    assert np.array_equal(pixels(answer.content), images.to_uint8(y[0]))
    untouched = client.post("/v1/degrade", files={"picture": drawn()}, data={**given, "severity": 0})
    assert np.array_equal(pixels(untouched.content), pixels(drawn()))


def test_the_seed_is_all_that_chance_depends_on(client: TestClient, drawn: Callable[..., bytes]):
    def noisy(seed: int) -> bytes:
        return client.post("/v1/degrade", files={"picture": drawn()}, data={"degradation": "noise", "severity": 0.5, "seed": seed}).content

    assert noisy(1) == noisy(1) != noisy(2)


def test_a_second_picture_is_the_end_of_a_morph(client: TestClient, drawn: Callable[..., bytes]):
    two = {"picture": drawn(seed=1), "endpoint": drawn(seed=2)}
    answer = client.post("/v1/degrade", files=two, data={"degradation": "morph"})
    assert np.array_equal(pixels(answer.content), pixels(drawn(seed=2)))
    alone = client.post("/v1/degrade", files={"picture": drawn()}, data={"degradation": "morph"})
    assert alone.status_code == 400
    assert "second picture" in alone.json()["error"]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_restore_gives_a_picture_of_the_same_size_and_colours(client: TestClient, drawn: Callable[..., bytes], mode: str):
    answer = client.post("/v1/restore", files={"picture": drawn(30, 42, mode=mode)}, data={"model": "restores", "severity": 1, "mode": "faithful"})
    assert answer.status_code == 200, answer.text
    assert pixels(answer.content).shape == ((30, 42, 3) if mode == "RGB" else (30, 42))
    note = json.loads(answer.headers[NOTE])
    assert note["model"] == "restores"
    assert note["mode"] == "faithful"
    held = Image.open(io.BytesIO(answer.content)).text["snowmelt"]
    assert json.loads(held)["seed"] == 0


def test_json_holds_the_same_file_beside_its_note(client: TestClient, drawn: Callable[..., bytes]):
    given = {"degradation": "grey", "format": "json"}
    text = client.post("/v1/degrade", files={"picture": drawn()}, data=given).json()
    file = client.post("/v1/degrade", files={"picture": drawn()}, data={**given, "format": "png"}).content
    assert [base64.b64decode(one) for one in text["pictures"]] == [file]
    assert text["note"]["degradation"] == "grey"


def test_one_sample_is_a_picture_several_are_a_zip_or_a_sheet(client: TestClient):
    given = {"model": "makes", "seed": 3}
    one = client.post("/v1/sample", data=given)
    assert pixels(one.content).shape == (8, 8)
    many = client.post("/v1/sample", data={**given, "n": 5})
    assert many.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(many.content))
    assert archive.namelist() == [f"{number:04d}.png" for number in range(5)]
    assert np.array_equal(pixels(archive.read("0000.png")), pixels(one.content))  # sample i depends on (seed, i) alone
    board = client.post("/v1/sample?sheet=1", data={**given, "n": 5})
    assert board.headers["content-type"] == "image/png"
    assert pixels(board.content).shape[1] > 3 * 8


def test_what_there_is_and_no_place_of_it(client: TestClient, stock):
    found = {one["name"]: one for one in client.get("/v1/models").json()}
    assert set(found) == {"makes", "restores", "photo"}
    assert found["makes"]["generates"]
    assert not found["restores"]["generates"]
    assert str(stock) not in client.get("/v1/models").text
    assert client.get("/v1/health").json()["status"] == "ok"


def test_the_page_of_the_interface_asks_nobody_else(client: TestClient):
    page = client.get("/v1/docs").text
    places = [part.split('"')[0] for mark in ('src="', 'href="') for part in page.split(mark)[1:]]
    assert places
    assert all(place.startswith("/v1/") for place in places)
    for place in places:
        assert client.get(place).status_code == 200, place
    described = client.get("/v1/openapi.json").json()
    assert set(described["paths"]) == {"/health", "/models", "/restore", "/degrade", "/sample"}
    assert described["servers"] == [{"url": "/v1"}]
    for name in ("restore", "degrade", "sample"):
        assert {"400", "404", "413", "415", "422", "503"} <= set(described["paths"][f"/{name}"]["post"]["responses"])


@pytest.mark.parametrize(
    ("where", "given", "status", "word"),
    [
        ("degrade", {"degradation": "gauss"}, 400, "gauss"),
        ("degrade", {"degradation": "gaussian-blur:sigma_px=1e9"}, 400, "sigma_px"),
        ("degrade", {"degradation": "(" * 900}, 400, ""),
        ("degrade", {"degradation": "x" * 5000}, 422, "degradation"),
        ("degrade", {"degradation": "reverberation"}, 400, "signal"),
        ("degrade", {"degradation": "noise", "severity": "nan"}, 422, "severity"),
        ("degrade", {"degradation": "noise", "severity": 1.5}, 422, "severity"),
        ("degrade", {"degradation": "noise", "seed": -1}, 422, "seed"),
        ("degrade", {"degradation": "noise", "seed": 2**63 - 1}, 200, ""),
        ("degrade", {}, 422, "degradation"),
        ("restore", {"model": "../../etc/passwd"}, 404, "no model"),
        ("restore", {"model": "makes\x00"}, 404, "no model"),
        ("restore", {"model": "restores"}, 400, "severity"),
        ("restore", {"model": "restores", "severity": 1, "mode": "fast"}, 400, "tune"),
        ("restore", {"mode": "slowly"}, 422, "mode"),
        ("restore", {"severity": "inf"}, 422, "severity"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(client: TestClient, drawn, where: str, given: dict[str, Any], status: int, word: str):
    answer = client.post(f"/v1/{where}", files={"picture": drawn()}, data=given)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert set(answer.json()) == {"error"}
        assert word in answer.json()["error"]


@pytest.mark.parametrize(
    ("given", "status", "word"),
    [
        ({"model": "nothing"}, 404, "nothing"),
        ({"model": "restores"}, 400, "prior"),
        ({"model": "makes", "n": 65}, 422, "n"),
        ({"model": "makes", "n": 0}, 422, "n"),
        ({"model": "makes", "label": "cat"}, 400, "label"),
        ({}, 422, "model"),
    ],
)
def test_samples_that_cannot_be_made(client: TestClient, given: dict[str, Any], status: int, word: str):
    answer = client.post("/v1/sample", data=given)
    assert answer.status_code == status
    assert word in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"garbage", "multipart/form-data; boundary=x"),
        (b"garbage", "multipart/form-data"),
        (b"\xff\xfe", "application/json"),
        (b"picture=1", "application/x-www-form-urlencoded"),
        (b"", "text/plain"),
        (b"--x\r\nContent-Disposition: form-data; name=\"picture\"; filename=\"a\"\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"a=b&" * 5000, "application/x-www-form-urlencoded"),
        (b"model=" + b"x" * 100_000, "application/x-www-form-urlencoded"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # starlette leaves a torn upload open
def test_bodies_that_are_none(client: TestClient, content: bytes, kind: str):
    for where in ("restore", "degrade", "sample"):
        answer = client.post(f"/v1/{where}", content=content, headers={"content-type": kind})
        assert answer.status_code in (400, 404, 422), (where, answer.text)
        assert answer.json()["error"]


def test_names_of_files_lead_nowhere(client: TestClient, drawn: Callable[..., bytes]):
    for name in ("../../../etc/passwd", "a\x00b.png", "/etc/shadow", "x" * 5000, "-rf", "C:\\nul", "\r\nX: 1"):
        answer = client.post("/v1/degrade", files={"picture": (name, drawn())}, data={"degradation": "grey"})
        assert answer.status_code == (400 if len(name) > 4096 else 200), (name, answer.text)
    assert client.post("/v1/degrade", files=[("picture", drawn())] * 9, data={"degradation": "grey"}).status_code == 400


def test_strangers_files_are_read_or_refused_in_words(client: TestClient, zoo: ModuleType, figure):
    found: dict[int, int] = {}
    files = [(kind.name, kind.content) for kind in (*zoo.kinds(), *zoo.refused())] + list(zoo.bombs())
    for name, content in files:
        if len(content) > 2 * 2**20:
            continue
        answer = client.post("/v1/degrade", files={"picture": content}, data={"degradation": "grey"})
        assert answer.status_code in (200, 400, 413, 415), (name, answer.status_code, answer.text)
        assert answer.status_code == 200 or answer.json()["error"], name
        found[answer.status_code] = found.get(answer.status_code, 0) + 1
    assert found[415] > 20
    assert found[413] > 2
    assert sum(found.values()) > 60
    listed = ", ".join(f"{number} x {status}" for status, number in sorted(found.items()))
    figure("studio-strangers", f"{sum(found.values())} files of strangers, posted to the studio: {listed}, and no 5xx")


def test_mutated_files_too(client: TestClient, zoo: ModuleType, rounds):
    of = zoo.sound()
    for seed in range(rounds(40, 2000)):
        name, content = zoo.mutated(of, seed)
        answer = client.post("/v1/degrade", files={"picture": (name, content)}, data={"degradation": "grey"})
        assert answer.status_code in (200, 400, 413, 415), (seed, answer.text)


def test_a_large_picture_is_refused_by_its_header(client: TestClient, zoo: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """144 megapixels in a few kilobytes: to decode them would take seconds and gigabytes."""
    content = zoo.png((b"IHDR", (12000).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))), (b"IDAT", b"x" * 1000), (b"IEND", b""))

    def decoded(*_: Any) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(Image.Image, "load", decoded)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    answer = client.post("/v1/restore", files={"picture": content})
    assert answer.status_code == 413
    assert answer.json()["error"] == "this picture has 12000 x 12000 px, and 16 megapixels are the most: make it smaller"


def test_too_many_bytes_are_refused_announced_or_not(whole, desk, drawn: Callable[..., bytes]):
    with TestClient(whole(desk(megabytes=1))) as client:
        large = b"x" * (2 * 2**20)
        assert client.post("/v1/restore", files={"picture": large}).status_code == 413
        taken = 0

        def stream() -> Iterator[bytes]:
            nonlocal taken
            yield b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
            for _ in range(64):
                taken += 1
                yield b"x" * 2**16

        answer = client.post("/v1/restore", content=stream(), headers={"content-type": "multipart/form-data; boundary=x"})
        assert answer.status_code == 413
        assert "1 MB" in answer.json()["error"]
        wrong = client.post("/v1/restore", content=b"x", headers={"content-length": "-5"})
        assert wrong.status_code == 400


@pytest.mark.parametrize(("signal", "spec", "words"), [(Sound(), "low-pass", "takes sound"), (PICTURE, "morph", "turns one picture into another")])
def test_only_models_that_restore_pictures_are_asked_to(whole, drawn: Callable[..., bytes], tmp_path: Path, signal: Signal, spec: str, words: str):
    D = build(spec)
    save(Model(D, Restorer(D, build(TINY, "backbone"), (1, 16, 16)), signal=signal), tmp_path / "other")
    bounds = Limits()
    with TestClient(whole(Desk(bounds, Gate(bounds), Shelf([], tmp_path), tmp_path))) as client:
        assert {one["name"]: one["restores"] for one in client.get("/v1/models").json()} == {"other": False, "photo": True}
        for mode in ("best", "faithful", "fast"):
            answer = client.post("/v1/restore", files={"picture": drawn()}, data={"model": "other", "severity": 1, "mode": mode})
            assert answer.status_code == 400, answer.text
            assert words in answer.json()["error"]
            assert "/v1/models" in answer.json()["error"]


@pytest.mark.parametrize(("signal", "shape"), [(Scan(rings=8, azimuths=32), (3, 8, 32)), (Sound(), (1, 16, 16))])
def test_only_models_that_make_pictures_are_asked_to(whole, tmp_path: Path, signal: Signal, shape: tuple[int, ...]):
    D, law = build("noise"), Normal().fit([torch.zeros(2, *shape)])
    save(Model(D, Restorer(D, build(TINY, "backbone"), shape), law, signal=signal), tmp_path / "other")
    bounds = Limits()
    with TestClient(whole(Desk(bounds, Gate(bounds), Shelf([], tmp_path), tmp_path))) as client:
        assert {one["name"]: one["generates"] for one in client.get("/v1/models").json()} == {"other": False, "photo": False}
        for more in ({}, {"n": 2}, {"sheet": "1"}, {"format": "json"}):
            answer = client.post("/v1/sample", data={"model": "other", **more})
            assert answer.status_code == 400, answer.text
            assert f"takes {signal.name}" in answer.json()["error"]
            assert "/v1/models" in answer.json()["error"]


def test_time_that_is_over_is_said(whole, desk, slow, drawn: Callable[..., bytes]):
    work = slow(0.05)
    with TestClient(whole(desk(work, seconds=0.12))) as client:
        answer = client.post("/v1/restore", files={"picture": drawn()}, data={"model": "slow", "severity": 1})
    assert answer.status_code == 503
    assert "limit" in answer.json()["error"]
    assert work.calls <= 4


def test_who_comes_when_too_many_wait_is_told_when_to_come_again(whole, desk, drawn: Callable[..., bytes]):
    counter = desk(queue=1)
    with TestClient(whole(counter)) as client, counter.gate.turn():
        waiting = threading.Thread(target=lambda: counter.gate.turn().__enter__(), daemon=True)
        waiting.start()
        while counter.gate.waiting < 1:
            time.sleep(0.005)
        answer = client.post("/v1/degrade", files={"picture": drawn()}, data={"degradation": "grey"})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "wait" in answer.json()["error"]


def test_a_bug_is_no_traceback(whole, desk, drawn: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("/secret/place")

    monkeypatch.setattr("snowmelt.studio.work.looking.degraded", broken)
    with TestClient(whole(desk())) as client:
        answer = client.post("/v1/degrade", files={"picture": drawn()}, data={"degradation": "grey"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "not your fault" in answer.json()["error"]


def test_work_for_a_client_that_has_left_ends_within_a_step(whole, desk, slow, running, drawn: Callable[..., bytes]):
    work = slow(0.15)
    counter = desk(work)
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, more, value)
        for name, more, value in ((b"picture", b'; filename="a.png"', drawn()), (b"model", b"", b"slow"), (b"severity", b"", b"1"))
    )
    form += b"--x--\r\n"
    head = f"POST /v1/restore HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(form)}\r\n\r\n"
    with running(whole(counter)) as port:
        with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as line:
            line.sendall(head.encode() + form)
            until = time.monotonic() + 30
            while work.calls < 2:
                assert time.monotonic() < until, "it was never begun"
                time.sleep(0.01)
        with counter.gate.turn() as turn:  # the next one is let in when it has ended
            turn.check()
        assert work.calls < 40  # of 50, had nobody left
