r"""The papers that snowmelt's parts come from, as data: ``references.toml`` beside this file.

A part names its papers by their keys where it is registered::

    @register("tacos", papers=("bansal2022", When("lu2022", lambda walk: walk.order == 2)))

:class:`When` is for a paper that only some values of the fields are from. A part of another package, whose papers are not in the bibliography,
gives a :class:`Paper` in place of a key. :func:`snowmelt.registry.papers` says what is behind a part, ``snowmelt cite`` what is behind a run.
"""

import functools
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

_FILE = Path(__file__).with_name("references.toml")
_NAMED = 4  # authors that are written out; of more, the first three
_VERBATIM = ("eprint", "doi", "url")
# What TeX reads as something else, and what not every BibTeX reads: an accented letter, which some styles cut in two.
_ESCAPED = {**{sign: f"\\{sign}" for sign in "&%$#_"}, "~": r"{\textasciitilde}", "^": r"{\textasciicircum}"}
_LETTERS = {"ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ß": "ss"}
_SIGNS = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0307\u0308", "`'^~=.\"", strict=True))  # grave, acute, circumflex, tilde, macron, dot, diaeresis
_NAMES = dict(zip("\u0306\u030a\u030b\u030c\u0327\u0328", "urHvck", strict=True))  # breve, ring, double acute, caron, cedilla, ogonek


@dataclass(frozen=True)
class Paper:
    """A paper, book, thesis or standard.

    Attributes:
        key: what it is called in BibTeX: the first author, the year, and a word where that is not enough.
        title: of the work.
        authors: given names first; a family name of several words in braces, and the whole where it is no person.
        year: of the publication named below, or else of the preprint; None if it has none.
        conference: where it was presented, or the volume that it is a chapter of.
        journal: where it was printed.
        publisher: of a book.
        school: of a thesis.
        institution: of a standard.
        arxiv: its number there.
        doi: without a prefix.
        url: of what is nowhere else.
        version: of a program.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    year: int | None = None
    conference: str = ""
    journal: str = ""
    publisher: str = ""
    school: str = ""
    institution: str = ""
    arxiv: str = ""
    doi: str = ""
    url: str = ""
    version: str = ""

    def __str__(self) -> str:
        """As a line of text: authors, title, where, when."""
        who = ", ".join(self.authors) if len(self.authors) <= _NAMED else ", ".join(self.authors[: _NAMED - 1]) + " and others"
        where = self.conference or self.journal or self.publisher or self.school or self.institution
        when = ", ".join(word for word in (where, str(self.year or ""), self.version and f"version {self.version}") if word)
        end = "" if self.title.endswith("?") else "."
        number = f"arXiv {self.arxiv}" if self.arxiv else f"doi {self.doi}" if self.doi else self.url
        what = f"{who}: {self.title}{end}".replace("{", "").replace("}", "")
        return " ".join(word for word in (what, when and f"{when}.", number) if word)

    @property
    def kind(self) -> str:
        """Of a BibTeX entry."""
        kinds = {
            "inproceedings": self.conference,
            "article": self.journal,
            "book": self.publisher,
            "phdthesis": self.school,
            "techreport": self.institution,
        }
        return next((name for name, where in kinds.items() if where), "misc")

    def bibtex(self) -> str:
        """As an entry of BibTeX, accents as commands of TeX. Titles keep their capitals."""
        arxiv = {"eprint": self.arxiv, "archiveprefix": "arXiv"} if self.arxiv else {}
        fields = {
            "author": " and ".join(self.authors),
            "title": f"{{{self.title}}}",
            "year": str(self.year or ""),
            "booktitle": self.conference,
            "journal": self.journal,
            "publisher": self.publisher,
            "school": self.school,
            "institution": self.institution,
            **arxiv,
            "doi": self.doi,
            "url": self.url,
            "note": self.version and f"Version {self.version}",
        }
        lines = [f"  {name} = {{{value if name in _VERBATIM else _tex(value)}}}" for name, value in fields.items() if value]
        return f"@{self.kind}{{{self.key},\n" + ",\n".join(lines) + "\n}"


@dataclass(frozen=True)
class When:
    """A paper that only some parts of a class are from.

    Attributes:
        paper: its key, or itself.
        holds: whether a part is, by its fields.
    """

    paper: str | Paper
    holds: Callable[[Any], bool]


Cited: TypeAlias = str | Paper | When


@functools.cache
def bibliography() -> Mapping[str, Paper]:
    """All papers, by their keys."""
    found = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return MappingProxyType({key: Paper(key=key, **{**entry, "authors": tuple(entry["authors"])}) for key, entry in found.items()})


def paper(cited: Cited) -> Paper:
    """What is meant by a key.

    Raises:
        KeyError: there is none.
    """
    if isinstance(cited, When):
        cited = cited.paper
    return cited if isinstance(cited, Paper) else bibliography()[cited]


def _tex(text: str) -> str:
    return "".join(map(_written, unicodedata.normalize("NFC", text)))


def _written(sign: str) -> str:
    """A sign as TeX has it. One that it has no command for stays as it is."""
    if sign in _LETTERS:
        return f"{{\\{_LETTERS[sign]}}}"
    apart = unicodedata.normalize("NFD", sign)
    letter, accent = apart[:1], apart[1:]
    if accent in _SIGNS:
        return f"{{\\{_SIGNS[accent]}{letter}}}"
    if accent in _NAMES:
        return f"{{\\{_NAMES[accent]} {letter}}}"
    return _ESCAPED.get(sign, sign)
