"""The studio as a process: what it says, where it listens, how it ends, and that many clients at once neither break nor fatten it."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")

import httpx

from snowmelt.cli import main
from snowmelt.studio.web.server import Seldom, address_of, listening, token_for

START_S = 240  # where it does not open, the test fails; on no machine it takes as long
WAIT_S = 60  # so long an answer is waited for
LEAVE_S = 2.0  # as long as Ctrl-C may take
SLACK = 3  # on a machine that does something else besides
CLIENTS = 20


def _hears() -> None:
    """Whoever started the tests may have had their terminal's end ignored, as nohup does, and what they start would inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Studio:
    """A studio in a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.files = (folder / "out", folder / "err")
        self.began = time.monotonic()
        env = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        command = [sys.executable, "-m", "snowmelt", "studio", *arguments]
        with self.files[0].open("w") as out, self.files[1].open("w") as err:
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, env=env, preexec_fn=_hears)
        self._until("the studio is open")
        self.url = re.search(r"http://\S+", self.said())[0]

    def said(self) -> str:
        return self.files[0].read_text() + self.files[1].read_text()

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def end(self, number: int = signal.SIGINT) -> float:
        """Ask it to end; how many seconds that took."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return time.monotonic() - start

    def _until(self, words: str) -> None:
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() - self.began < START_S, self.said()
            time.sleep(0.05)


@contextmanager
def opened(folder: Path, *arguments: str) -> Iterator[Studio]:
    folder.mkdir(parents=True, exist_ok=True)
    studio = Studio(folder, *arguments)
    try:
        yield studio
    finally:
        if studio.process.poll() is None:
            studio.process.kill()
            studio.process.wait(10)


def port_of(found: socket.socket) -> int:
    return found.getsockname()[1]


# --- before anything is imported --------------------------------------------------------------------------


def test_a_port_that_is_taken_gives_the_next_one():
    with closing(socket.create_server(("127.0.0.1", 0))) as held, closing(listening("127.0.0.1", port_of(held))) as found:
        assert port_of(held) < port_of(found) <= port_of(held) + 20


def test_what_cannot_be_listened_on_is_said_in_one_line():
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1"):
        listening("192.0.2.1", 7860)
    with pytest.raises(ValueError, match="no name or address"):
        listening("no such host", 7860)


@pytest.mark.parametrize(
    ("host", "token", "needed"),
    [
        ("127.0.0.1", None, False),
        ("localhost", None, False),
        ("::1", None, False),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("127.0.0.1", "x" * 16, True),
    ],
)
def test_a_token_is_made_where_others_can_reach_it(host: str, token: str | None, needed: bool):
    found = token_for(host, token)
    assert (found is not None) == needed
    if needed and token is None:
        assert len(found) >= 32
        assert found != token_for(host, None)
    assert token is None or found == token


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "with a space in between", "x" * 201, "ä" * 20, "a-token-with-a-&-in-it"])
def test_a_token_that_could_be_guessed_is_refused(token: str):
    with pytest.raises(ValueError, match="--token"):
        token_for("0.0.0.0", token)


def test_the_address_names_this_machine_and_the_token():
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        assert address_of(found, "127.0.0.1", None) == f"http://127.0.0.1:{port_of(found)}/"
        assert address_of(found, "::1", "abc") == f"http://[::1]:{port_of(found)}/?token=abc"
        assert "0.0.0.0" not in address_of(found, "0.0.0.0", "abc")


def test_it_says_that_it_is_being_opened_before_it_imports_anything_heavy(tmp_path: Path):
    """Seconds pass until it is open: nobody should have to wonder."""
    words = """
import builtins, sys
from snowmelt.cli import main
said = print
def told(*what, **how):
    said(*what, *sorted({"torch", "gradio", "fastapi", "uvicorn"} & sys.modules.keys()), **how)
    if "opening" in what[0]:
        sys.exit(7)
builtins.print = told
main(["studio", "--port", "0"])
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=START_S)
    assert ended.returncode == 7, ended.stderr
    assert ended.stdout == "opening the studio, some seconds ...\n"


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    import importlib.util

    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "gradio" else known(name, *more))
    assert main(["studio"]) == 2
    said = capfd.readouterr()
    assert "pip install 'snowmelt[studio]'" in said.err
    assert len(said.err.splitlines()) == 1
    assert not said.out


@pytest.mark.parametrize(
    "flags", [("--port", "70000"), ("--seconds", "0"), ("--max-megabytes", "-1"), ("--token", "x"), ("--host", "0.0.0.0", "--token", "x")]
)
def test_flags_that_make_no_sense(flags: tuple[str, ...], capfd: pytest.CaptureFixture[str]):
    assert main(["studio", *flags]) == 2
    said = capfd.readouterr()
    assert flags[-2].removeprefix("--").removeprefix("max-") in said.err
    assert "opening" not in said.out


def test_the_token_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """A command line can be read by everybody on the machine, the environment of a process cannot."""
    seen: list[str | None] = []

    def asked(host: str, token: str | None) -> str | None:
        seen.append(token)
        raise ValueError("enough")

    monkeypatch.setattr("snowmelt.studio.web.server.token_for", asked)
    for told, flags, meant in (("x" * 16, (), "x" * 16), ("x" * 16, ("--token", "y" * 16), "y" * 16), ("", (), None), (None, (), None)):
        if told is None:
            monkeypatch.delenv("SNOWMELT_TOKEN", raising=False)
        else:
            monkeypatch.setenv("SNOWMELT_TOKEN", told)
        assert main(["studio", *flags]) == 2
        assert seen.pop() == meant
        assert "SNOWMELT_TOKEN" not in os.environ  # which trainings inherit
    assert "enough" in capfd.readouterr().err


def test_a_token_of_the_environment_that_could_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setenv("SNOWMELT_TOKEN", "short")
    assert main(["studio"]) == 2
    assert "SNOWMELT_TOKEN" in capfd.readouterr().err


def test_a_warning_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    log, clock = logging.getLogger("snowmelt.seldom"), SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("snowmelt.studio.web.server.time", clock)
    log.addFilter(Seldom())
    for clock.now in (0.0, 30.0, 59.0, 61.0, 62.0):
        log.warning("invalid %s", "words of a stranger" * int(clock.now))
        log.warning("too many")
        log.error("a bug")
    said = [record.msg for record in caplog.records]
    assert {one: said.count(one) for one in said} == {"invalid %s": 2, "too many": 2, "a bug": 5}


# --- as a process -----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="signals and memory as Linux has them")
def test_it_opens_and_ctrl_c_ends_it(tmp_path: Path, stock: Path):
    with opened(tmp_path / "s", "--folder", str(stock), "--port", "0") as studio:
        assert httpx.get(studio.url, timeout=WAIT_S).status_code == 200
        assert httpx.get(studio.url, headers={"host": "evil.example"}, timeout=WAIT_S).status_code == 421
        large = httpx.get(studio.url, headers={"x": "y" * 100_000}, timeout=WAIT_S)
        assert large.status_code in (400, 431)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", httpx.URL(studio.url).port)) as line:
                line.sendall(b"no request\r\n\r\n")
                assert line.recv(12) == b"HTTP/1.1 400"
            torn = {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=y"}, "timeout": WAIT_S}
            assert httpx.post(f"{studio.url}v1/degrade", **torn).status_code == 400
        lines = [httpx.Client(timeout=WAIT_S) for _ in range(3)]
        for line in lines:  # pages that are open
            line.send(line.build_request("GET", f"{studio.url}gradio_api/heartbeat/abc"), stream=True)
        took = studio.end()
        for line in lines:
            line.close()
        assert took < LEAVE_S * SLACK
        assert studio.process.returncode == 0
        assert "trainings that it began go on" in studio.said()
        assert "Traceback" not in studio.said()
        assert len(studio.said().splitlines()) < 20, "what strangers send is said seldom"
        assert not list((tmp_path / "s").glob("snowmelt-studio-*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="signals as Linux has them")
def test_it_serves_many_and_ends(tmp_path: Path, stock: Path, drawn: Callable[..., bytes], figure):
    with opened(tmp_path / "s", "--folder", str(stock), "--port", "0", "--queue", "4") as studio:
        found = load(studio, drawn, 4)
        assert set(found) <= {200, 503}
        assert found[200] > 0
        took = studio.end()
        assert took < LEAVE_S * SLACK
        assert studio.process.returncode == 0
        assert "Traceback" not in studio.said()
    said = f"{sum(found.values())} wishes of {CLIENTS} clients in 4 s: {found[200]} granted, {found[503]} told to come again, no other answer"
    figure("studio-short", f"{said}; Ctrl-C took {took:.1f} s")


@pytest.mark.skipif(sys.platform != "linux", reason="signals as Linux has them")
def test_elsewhere_the_token_is_in_the_address_and_in_no_log(tmp_path: Path):
    with opened(tmp_path / "s", "--host", "0.0.0.0", "--port", "0") as studio:
        token = studio.url.split("token=")[1]
        port = int(re.search(r":(\d+)/", studio.url)[1])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
            assert client.get("/").status_code == 401
            assert client.get("/?token=wrong").status_code == 401
            assert client.get(f"/?token={token}", follow_redirects=True).status_code == 200
            assert client.get("/v1/health").status_code == 200
        assert studio.end(signal.SIGHUP) < LEAVE_S * SLACK  # as when its terminal is closed
        assert studio.process.returncode == 0
        assert not list((tmp_path / "s").glob("snowmelt-studio-*"))
        assert studio.said().count(token) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux counts it")
def test_twenty_clients_for_a_minute(tmp_path: Path, stock: Path, drawn: Callable[..., bytes], figure):
    with opened(tmp_path / "s", "--folder", str(stock), "--port", "0") as studio:
        load(studio, drawn, 15)
        before = studio.rss_mb()
        found = load(studio, drawn, 60)
        after = studio.rss_mb()
        assert set(found) <= {200, 503}
        assert found[200] > 0
        assert after < 1.1 * before
        studio.end()
    said = f"{CLIENTS} clients for 60 s: {found[200]} wishes granted, {found[503]} told to come again, no other answer"
    figure("studio-load", f"{said}; memory {before:.0f} to {after:.0f} MB")


def load(studio: Studio, drawn: Callable[..., bytes], seconds: float) -> Counter[int]:
    """The statuses of all that twenty clients were answered: they degrade, restore, make samples, look at the page, upload to it, and leave early."""
    until, statuses, errors = time.monotonic() + seconds, Counter[int](), list[BaseException]()

    def client(number: int) -> None:
        picture = {"picture": drawn(64, 64, seed=number)}
        try:
            with httpx.Client(base_url=studio.url, timeout=60) as line:
                turn = number
                while time.monotonic() < until:
                    turn += 1
                    if turn % 7 == 0:
                        try:
                            line.post("/v1/restore", files=picture, data={"model": "restores", "severity": 1}, timeout=0.05)
                        except httpx.TimeoutException:
                            continue
                    wishes: tuple[Callable[[], httpx.Response], ...] = (
                        lambda: line.post("/v1/degrade", files=picture, data={"degradation": "gaussian-blur+noise"}),
                        lambda: line.post("/v1/restore", files=picture, data={"model": "restores", "severity": 1}),
                        lambda: line.post("/v1/sample", data={"model": "makes", "n": 2}),
                        lambda: line.get("/"),
                        lambda: line.post("/gradio_api/upload", files={"files": ("x.png", picture["picture"])}),
                    )
                    answer = wishes[turn % len(wishes)]()
                    statuses[answer.status_code] += 1
                    assert answer.status_code != 503 or answer.json()["error"]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 90)
    assert not errors, errors[:3]
    return statuses
