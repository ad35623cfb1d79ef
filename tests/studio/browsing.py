"""A studio in a process of its own, and a real browser that looks at it.

Every page is watched: a request to any other host, an error on its console or a failed request of its own ends the test.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

CHROMIUM = os.environ.get("SNOWMELT_CHROMIUM") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
WITHOUT = "NO CHROMIUM ON THIS MACHINE: the studio is not tried in a browser (SNOWMELT_CHROMIUM names one)"
SCREENSHOTS = os.environ.get("SNOWMELT_SCREENSHOTS")  # a folder: the pictures of the documentation are made by these tests
WIDE, PHONE = (1280, 900), (390, 844)
START_S = 60


class Served:
    """A studio that runs.

    Attributes:
        url: of its page.
        process: in which it runs.
        said: what it has printed so far.
    """

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self.url, self.process, self.said = url, process, list[str]()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.said.append(line)

    def close(self) -> None:
        """Wait for its end, and hear all of it."""
        self.process.wait(20)
        self._listener.join(5)

    def wait(self) -> None:
        """Until somebody can come in."""
        port = urlsplit(self.url).port or 0
        for _ in range(START_S * 10):
            assert self.process.poll() is None, "".join(self.said)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the studio did not open within {START_S} s: {''.join(self.said)}")


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Served]:
    """A studio whose trainings lie in `folder`; it has to end on Ctrl-C, and to have said nothing of a bug."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "snowmelt", "studio", "--port", str(port), "--folder", str(folder), *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder.parent
    )
    studio = Served(f"http://127.0.0.1:{port}/", process)
    try:
        studio.wait()
        yield studio
        assert process.poll() is None, "".join(studio.said)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            studio.close()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the studio did not end on Ctrl-C") from None
    assert not re.search(r"Traceback|this is a bug", "".join(studio.said)), "".join(studio.said)


class Watched:
    """What a page asked for and complained of."""

    def __init__(self, page: "Page", url: str) -> None:
        self.page, self.own = page, urlsplit(url).netloc
        self.requests: list[str] = []
        self.strange: list[str] = []
        self.wrong: list[str] = []
        page.on("request", self._asked)
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("response", lambda answer: self.wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)

    def _asked(self, request: "Request") -> None:
        self.requests.append(request.url)
        place = urlsplit(request.url)
        if place.scheme not in ("data", "blob") and place.netloc != self.own:
            self.strange.append(request.url)

    def forgive(self, *words: str) -> None:
        """Complaints with one of these words were what the test wanted."""
        self.wrong = [text for text in self.wrong if not any(word in text for word in words)]

    def check(self) -> None:
        """Nothing was asked of anybody else, and nothing went wrong."""
        assert not self.strange, f"requests to other hosts: {self.strange}"
        assert not self.wrong, f"the page complained: {self.wrong}"


def shot(page: "Page", name: str) -> None:
    """A picture of what is seen, for the documentation, if somebody wants some."""
    if SCREENSHOTS:
        page.wait_for_timeout(400)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"studio-{name}.png"))
