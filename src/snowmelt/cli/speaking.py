"""What is said comes out in any locale: names as the bytes they have on the disk, and no sign that cannot be printed ends a command.

Python keeps the bytes of a name that are no text as surrogates, and refuses to print them; and in the locale C it refuses whatever is not ASCII. A
file name must not end the work of hours. Nor must it rule the terminal: control characters, with which a name could clear the screen or write over
what was said, come out as their numbers. Where rich draws with such characters, what it is given is shown so first.
"""

import codecs
import io
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

_HANDLER = "snowmelt.bytes"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0, delete and C1; a newline and a tab do no harm
_FIRST, _LAST = 0xDC80, 0xDCFF  # what PEP 383 makes of the bytes 80 to FF


def speak() -> None:
    """Let stdout and stderr of this process say everything."""
    codecs.register_error(_HANDLER, as_bytes)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
        if not isinstance(stream, _Shown):
            setattr(sys, name, _Shown(stream))


def shown(text: str) -> str:
    """A text as a terminal may have it: control characters as their numbers."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class _Shown:
    """A stream that shows what is written to it; rich, which draws with control characters, writes past it, as to any stream with this attribute."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(shown(text))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def as_bytes(error: UnicodeError) -> tuple[bytes, int]:
    """A handler of encoding errors: kept bytes as they are, other signs as UTF-8 where the locale is ASCII, which says nothing, else as numbers.

    Raises:
        UnicodeError: the error itself, where it is none of encoding.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    plain = codecs.lookup(error.encoding).name == "ascii"
    found = b""
    for sign in error.object[error.start : error.end]:
        if _FIRST <= ord(sign) <= _LAST:
            found += bytes([ord(sign) & 0xFF])
        else:
            found += sign.encode("utf-8" if plain else "ascii", "backslashreplace")
    return found, error.end
