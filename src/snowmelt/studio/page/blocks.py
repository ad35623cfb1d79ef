"""The page: seven tabs, one head, no request to anywhere but this process."""

from collections.abc import Callable

import gradio as gr

from snowmelt._version import __version__
from snowmelt.pictures.scrubber import SCRIPT, STYLE
from snowmelt.studio.desk import Desk
from snowmelt.studio.page.tabs import compare, generate, interpolate, look, restore, train, translate

TITLE = "snowmelt studio"
TABS: dict[str, Callable[[Desk], Callable[[gr.Tabs], None] | None]] = {
    "Look": look.tab,
    "Restore": restore.tab,
    "Generate": generate.tab,
    "Translate": translate.tab,
    "Interpolate": interpolate.tab,
    train.NAME: train.tab,
    "Compare": compare.tab,
}
HEAD = f"<style>{STYLE}{look.STYLE}</style><script>{SCRIPT}</script>"
_SYSTEM = ["system-ui", "sans-serif"]
_MONO = ["ui-monospace", "monospace"]


def theme() -> gr.themes.Base:
    """Gradio's plain one with the reader's own letters: a web font would be a request."""
    return gr.themes.Base(primary_hue="sky", neutral_hue="slate", font=_SYSTEM, font_mono=_MONO)


def blocks(desk: Desk) -> gr.Blocks:
    """The page of a studio, ready to be mounted."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"# snowmelt studio\nUndo any degradation. Pictures stay on this machine. `{__version__}`")
        with gr.Tabs() as tabs:
            following = []
            for name, tab in TABS.items():
                with gr.Tab(name, id=name.lower()):
                    following.append(tab(desk))
        for follow in following:
            if follow is not None:
                follow(tabs)

        def leave(request: gr.Request) -> None:
            desk.gate.leave(request.session_hash)

        page.unload(leave)
    page.queue(max_size=desk.limits.queue, default_concurrency_limit=desk.limits.queue, api_open=False)
    return page
