"""Commands of snowmelt in surroundings that offer nothing: no network, no home, a package that cannot be written to, the locale C.

Run by ``tests/trust/test_surroundings.py`` as a program of its own, for locale and home are read as the interpreter starts. Its argument is a JSON
file: the commands, the folders that may be written to, and where the report goes. An audit hook, which nothing can take off again, sees every name
that is looked up, every connection and every file that is opened for writing, made or moved.
"""

import contextlib
import io
import json
import locale
import os
import sys
from pathlib import Path
from typing import Any

_NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request", "http.client.connect")
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree", "shutil.move")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC


def watch(network: list[str], written: set[str]) -> None:
    """Refuse the network and note it; note what is written."""

    def seen(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NETWORK:
            network.append(f"{event}{arguments!r}")
            raise OSError(f"{event}: there is no network")
        if event == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            written.add(os.path.abspath(os.fsdecode(arguments[0])))
        elif event in ("os.remove", "os.rmdir") and arguments[-1] != -1:
            pass  # below a folder whose removal was seen
        elif event in _CHANGES:
            written.update(os.path.abspath(os.fsdecode(name)) for name in arguments[:2] if isinstance(name, str | bytes | os.PathLike))

    sys.addaudithook(seen)


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    network, written = list[str](), set[str]()
    watch(network, written)
    from snowmelt import cli

    codes = []
    for words in asked["commands"]:
        words = [os.fsdecode(word.encode("utf-8", "surrogateescape")) for word in words]  # as the interpreter takes its own arguments
        said = io.TextIOWrapper(io.BytesIO(), sys.stdout.encoding, sys.stdout.errors, write_through=True)
        wrong = io.TextIOWrapper(io.BytesIO(), sys.stderr.encoding, sys.stderr.errors, write_through=True)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            code = cli.main(words)
        out, err = (stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in (said, wrong))  # type: ignore[attr-defined]
        codes.append({"code": code, "out": out, "err": err})
    sys.stdout.flush()
    inside = [os.path.abspath(os.fsdecode(place.encode("utf-8"))) for place in asked["inside"]]
    inside.append(os.devnull)
    outside = [path for path in sorted(written) if not any(path == place or path.startswith(place + os.sep) for place in inside)]
    report = {
        "codes": codes,
        "network": network,
        "written": len(written),
        "outside": outside,
        "package": os.path.dirname(os.path.abspath(cli.__file__)),
        "encoding": [sys.stdout.encoding, sys.getfilesystemencoding(), locale.getpreferredencoding(False)],
    }
    Path(asked["report"]).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()
