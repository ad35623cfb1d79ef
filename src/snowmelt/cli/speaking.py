"""What is said comes out in any locale: names as the bytes they have on the disk, and no sign that cannot be printed ends a command.

Python keeps the bytes of a name that are no text as surrogates, and refuses to print them; and in the locale C it refuses whatever is not ASCII. A
file name must not end the work of hours.
"""

import codecs
import io
import sys

_HANDLER = "snowmelt.bytes"
_FIRST, _LAST = 0xDC80, 0xDCFF  # what PEP 383 makes of the bytes 80 to FF


def speak() -> None:
    """Let stdout and stderr of this process say everything."""
    codecs.register_error(_HANDLER, as_bytes)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


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
