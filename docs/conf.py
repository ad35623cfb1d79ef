"""How the documentation is built: `make docs`."""

import importlib.util
import pkgutil
import re
from typing import Any

from snowmelt._version import __version__

project = "snowmelt"
author = "The snowmelt developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"snowmelt {release}"
exclude_patterns: list[str] = []
default_role = "code"
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]

# The public rooms, in reading order; api.md has one section each. A package gets one subsection per file.
ROOMS = [
    "types",
    "references",
    "registry",
    "signals",
    "sensor",
    "fields",
    "schedules",
    "degradations",
    "restorers",
    "priors",
    "model",
    "samplers",
    "losses",
    "testing",
    "pictures",
    "restoration",
    "interop",
    "evaluation",
    "training",
    "recipes",
    "studio",
    "data",
    "metrics",
    "randomness",
    "files",
    "processes",
    "stopping",
    "locks",
]


def rooms() -> str:
    """The body of api.md: an automodule directive for every room that is there."""
    out = []
    for room in ROOMS:
        name = f"snowmelt.{room}"
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            continue
        files = sorted(m.name for m in pkgutil.iter_modules(found.submodule_search_locations or ()) if not m.name.startswith("_"))
        out.append(f"## {name}\n\n{_automodule(name, members=not files)}")
        out += [f"### {name}.{file}\n\n{_automodule(f'{name}.{file}')}" for file in files]
    return "\n\n".join(out)


def _automodule(name: str, members: bool = True) -> str:
    option = "" if members else "   :no-members:\n"
    return f"```{{eval-rst}}\n.. automodule:: {name}\n{option}```"


def _fill(app: Any, docname: str, source: list[str]) -> None:
    if docname == "api":
        source[0] = source[0].replace("<!-- rooms -->", rooms())


_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_EMPHASIS = re.compile(r"(\*\*[^*\s](?:[^*]*[^*\s])?\*\*|(?<![\w*])\*[^*\s](?:[^*]*[^*\s])?\*(?!\w))")
_MARKUP = re.compile(r"\s*(?:[*+-] |:[^:`]+: ?)?")  # what may stand before the text of a line: a bullet, a field's name


def _as_written(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Formulas in docstrings mean what they say: a lone *, |out| and x_ are text, not markup."""
    literal: int | None = None  # the indent of the line whose indented body is left alone: after ::, or a directive
    doctest = False
    for i, line in enumerate(lines):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        doctest = bool(text) and (doctest or text.startswith(">>>"))
        if literal is not None and text and indent <= literal:
            literal = None
        if literal is None and (text.endswith("::") or text.startswith(".. ")):
            literal = indent
        elif literal is None and not doctest:
            start = _MARKUP.match(line)
            head = start.end() if start else 0
            lines[i] = line[:head] + "".join(piece if j % 2 else _escape(piece) for j, piece in enumerate(_CODE.split(line[head:])))


def _escape(text: str) -> str:
    pieces = _EMPHASIS.split(text)
    for j in range(0, len(pieces), 2):
        pieces[j] = re.sub(r"(?<!\\)([*|])", r"\\\1", pieces[j])
        pieces[j] = re.sub(r"(?<=\w)_(?=[^\w]|$)", r"\\_", pieces[j])
    return "".join(pieces)


def _language(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Pages under zh/ say that they are Chinese: browsers and readers of screens choose letters, hyphens and voices by it."""
    if pagename.startswith("zh/"):
        context["language"] = "zh"


def setup(app: Any) -> None:
    app.connect("html-page-context", _language)
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _as_written, priority=900)  # after napoleon
