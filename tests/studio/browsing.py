"""A studio in a process of its own, and a real browser that looks at it.

Every page is watched: a request to any other host, an error on its console or a failed request of its own ends the test. Nothing here waits for
a fixed time: a machine may be ten times slower than the one on which a time was found to be enough. What is waited for is the thing itself, and
where it does not come, the report of the test holds what the page showed.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

CHROMIUM = os.environ.get("SNOWMELT_CHROMIUM") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
WITHOUT = "NO CHROMIUM ON THIS MACHINE: the studio is not tried in a browser (SNOWMELT_CHROMIUM names one)"
SCREENSHOTS = os.environ.get("SNOWMELT_SCREENSHOTS")  # a folder: the pictures of the documentation are made by these tests
WIDE, PHONE = (1280, 900), (390, 844)
WAIT_MS = 180_000  # for one thing, on the slowest machine
TRIES, TRY_MS = 3, 90_000
STREAM_S = 15
_STREAM = "/gradio_api/queue/data"
START_S = 300
END_S = 120  # how fast Ctrl-C is, test_server.py judges
_A_WHILE = "() => new Promise(done => { let left = 5; const next = () => left-- ? setTimeout(next, 40) : done(); next() })"
_PICTURES = "() => [...document.images].every(image => image.complete)"


class Served:
    """A studio that runs.

    Attributes:
        url: of its page.
        process: in which it runs.
        said: what it has printed so far.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.url, self.process, self.said = "", process, list[str]()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.said.append(line)

    def close(self) -> None:
        """Wait for its end, and hear all of it."""
        self.process.wait(END_S)
        self._listener.join(END_S)

    def wait(self) -> None:
        """Until somebody can come in, and it says where."""
        for _ in range(START_S * 10):
            assert self.process.poll() is None, "".join(self.said)
            if (found := re.search(r"the studio is open: (http://\S+)", "".join(self.said))) is not None:
                self.url = found[1]
                return
            time.sleep(0.1)
        raise AssertionError(f"the studio did not open within {START_S} s: {''.join(self.said)}")


@contextmanager
def served(folder: Path, *arguments: str) -> Iterator[Served]:
    """A studio whose trainings lie in `folder`; it has to end on Ctrl-C, and to have said nothing of a bug."""
    command = [sys.executable, "-m", "snowmelt", "studio", "--port", "0", "--folder", str(folder), *arguments]  # one that is free, for sure
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder.parent
    )
    studio = Served(process)
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
    """A page, what it asked for and complained of.

    Attributes:
        page: in a context of its own.
        url: of the studio.
        requests: the addresses it has asked for.
        seen_s: after how many seconds the first picture was seen.
    """

    def __init__(self, page: "Page", url: str) -> None:
        self.page, self.url, self.own = page, url, urlsplit(url).netloc
        self.requests: list[str] = []
        self.strange: list[str] = []
        self.wrong: list[str] = []
        self.seen_s = 0.0
        self._open: set[Request] = set()
        page.set_default_timeout(WAIT_MS)
        page.on("request", self._asked)
        page.on("requestfinished", self._ended)
        page.on("requestfailed", self._ended)
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("response", lambda answer: self.wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)

    def _asked(self, request: "Request") -> None:
        place = urlsplit(request.url)
        if place.scheme in ("data", "blob"):
            return
        self.requests.append(request.url)
        if place.netloc != self.own:
            self.strange.append(request.url)
        elif "/heartbeat/" not in place.path:  # which stays open as long as the page
            self._open.add(request)

    def _ended(self, request: "Request") -> None:
        self._open.discard(request)

    def open(self) -> None:
        """Go there, and wait until all that a page asks for when it opens was answered: only then an answer cannot undo what a test does.

        On a machine with far more work than cores a page was seen whose connections all stood still, its files and its wishes unanswered, while the
        next page was served at once: what a visitor does then, reload it, is done here, and said.
        """
        began = time.monotonic()
        for left in reversed(range(TRIES)):
            try:
                with self.page.expect_request(_wish, timeout=TRY_MS):
                    self.page.goto(self.url, wait_until="commit", timeout=TRY_MS)
                self.page.locator("#look-frames img:visible").wait_for(timeout=TRY_MS)
                self.seen_s = time.monotonic() - began
                self.settle(TRY_MS)
                return
            except (_too_late(), AssertionError) as error:
                if not left:
                    raise
                print(f"opened again, as it stood still: {error}; unanswered: {self._unanswered()}")
                self._open.clear()

    def settle(self, wait_ms: float = WAIT_MS) -> None:
        """Wait until nothing that was asked for is unanswered, and no answer leads to another question. Not while a training ticks.

        Gradio sometimes leaves the stream of its answers open when all of them have come; one on which nothing follows for long is not waited for.
        """
        began = changed = time.monotonic()
        asked = -1
        while True:
            if len(self.requests) != asked:
                asked, changed = len(self.requests), time.monotonic()
            self.page.evaluate(_A_WHILE)  # by the page's own clock: the slower it is, the longer
            waiting = self._unanswered()
            if len(self.requests) == asked and (not waiting or (set(waiting) == {_STREAM} and time.monotonic() - changed > STREAM_S)):
                return
            assert time.monotonic() - began < wait_ms / 1000, f"not answered: {waiting}"

    def _unanswered(self) -> list[str]:
        return [urlsplit(request.url).path for request in self._open]

    def answered(self, action: Callable[[], object]) -> None:
        """Do what makes the page ask the studio, and wait for all that follows."""
        with self.page.expect_request(_wish):
            action()
        self.settle()

    def choose(self, tab: str) -> None:
        """Open a tab; on a narrow screen it may be behind the three dots, where the page puts it when it knows how wide it is."""
        page, until = self.page, time.monotonic() + WAIT_MS / 1000
        found, more = page.get_by_role("tab", name=tab, exact=True), page.get_by_role("button", name="More tabs")
        hidden = page.locator(".overflow-dropdown").get_by_role("button", name=tab, exact=True)
        chosen = page.get_by_role("tab", name=tab, exact=True, selected=True)
        while not chosen.count():
            assert time.monotonic() < until, f"the tab {tab} cannot be opened"
            one = next((one for one in (found, hidden, more) if one.is_visible()), None)
            if one is not None:
                with suppress(_too_late()):  # it has moved meanwhile
                    one.click(timeout=5000)
        page.get_by_role("tabpanel").filter(visible=True).first.wait_for()

    def forgive(self, *words: str) -> None:
        """Complaints with one of these words were what the test wanted."""
        self.wrong = [text for text in self.wrong if not any(word in text for word in words)]

    def check(self) -> None:
        """Nothing was asked of anybody else, and nothing went wrong."""
        assert not self.strange, f"requests to other hosts: {self.strange}"
        assert not self.wrong, f"the page complained: {self.wrong}"

    def told(self, picture: Path) -> str:
        """What the page shows now, for the report of a test that failed."""
        if self.page.is_closed():
            return "(closed)"
        try:
            self.page.screenshot(path=str(picture), timeout=20_000)
            text = "\n".join(line for line in self.page.locator("body").inner_text(timeout=20_000).splitlines() if line.strip())
        except _playwright().Error as error:
            return f"(it does not answer: {error})"
        return f"picture: {picture}\nunanswered: {self._unanswered()}\ncomplaints: {self.wrong}\ntext:\n{text}"


class Visits:
    """The pages of one test: called, it opens one more.

    Args:
        studio: what is visited.
        browser: with which.
        folder: where the picture of a page is put when its test fails.
    """

    def __init__(self, studio: Served, browser: "Browser", folder: Path) -> None:
        self.studio, self.browser, self.folder = studio, browser, folder
        self.pages: list[Watched] = []

    def __call__(self, tab: str = "Look", size: tuple[int, int] = WIDE) -> Watched:
        """A page with a tab open."""
        page = self.browser.new_context(viewport={"width": size[0], "height": size[1]}, accept_downloads=True).new_page()
        watched = Watched(page, self.studio.url)
        self.pages.append(watched)
        watched.open()
        if tab != "Look":
            watched.choose(tab)
        return watched

    def told(self) -> str:
        """What there is to see of all of them, and what the studio has said."""
        pages = [f"--- page {i + 1}\n{watched.told(self.folder / f'page-{i + 1}.png')}" for i, watched in enumerate(self.pages)]
        return "\n".join([*pages, "--- the studio", *map(str.rstrip, self.studio.said)])

    def end(self) -> None:
        """Close them all, then judge them."""
        for watched in self.pages:
            watched.page.context.close()
        for watched in self.pages:
            watched.check()


def _wish(request: "Request") -> bool:
    return "/queue/join" in request.url


def _playwright() -> Any:
    import playwright.sync_api

    return playwright.sync_api


def _too_late() -> type[Exception]:
    return _playwright().TimeoutError


def shot(page: "Page", name: str) -> None:
    """A picture of what is seen, for the documentation, if somebody wants some."""
    if SCREENSHOTS:
        page.wait_for_function(_PICTURES)
        page.mouse.move(0, 0)
        page.screenshot(path=str(Path(SCREENSHOTS) / f"studio-{name}.png"), animations="disabled")
