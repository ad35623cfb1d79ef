"""``snowmelt cite``: the papers behind a run, to be read or for BibTeX."""

import textwrap
from typing import Literal

from snowmelt.cli.machine import Plugins, plug_in

_WIDTH = 120


def cite(name: str, /, *, format: Literal["text", "bibtex"] = "text", plugin: Plugins = ()) -> None:
    """Print the papers behind a run: of its degradation, network, loss, sampler, measures, and snowmelt itself.

    The walk is the one that is taken when nothing is said. For another sampler, cite that as well: snowmelt cite heun.

    Args:
        name: a run directory, a model in the package (photo), a recipe, a part such as tacos, or a spec such as gaussian-blur:sigma_px=8+noise.
        format: text says what each paper is behind; bibtex is for a .bib file.
        plugin: parts of your own.
    """
    plug_in(plugin)
    from snowmelt.recipes.citing import behind

    found = behind(name)
    if format == "bibtex":
        print("\n\n".join(one.paper.bibtex() for one in found))
        return
    for one in found:
        print("\n".join(textwrap.wrap(str(one.paper), _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)))
        print("\n".join(textwrap.wrap(f"[{one.paper.key}] {', '.join(one.reasons)}", _WIDTH, initial_indent="  ", subsequent_indent="  ")))
    if len(found) == 1:
        print(f"\n{name} names no paper of its own.")
