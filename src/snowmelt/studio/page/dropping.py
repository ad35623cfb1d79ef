"""Where a visitor drops a picture."""

from typing import Any
from unittest.mock import patch

import gradio as gr
from gradio.data_classes import ImageData

with patch("gradio.component_meta.create_or_modify_pyi", create=True):  # gradio would write a stub beside this file, wherever that is installed

    class Dropped(gr.Image):  # type: ignore[misc]
        """Gradio's place for a picture, whose handlers get the file as it came.

        Gradio itself would first open it, with every decoder that Pillow has, and tell a visitor who brought something else about paths on this
        machine. Here a file is opened only within the limits (:func:`snowmelt.studio.uploads.opened`).
        """

        is_template = True  # to the browser it is gradio's own component

        def preprocess(self, payload: ImageData | None) -> str | None:
            """The path of the file; None without one."""
            return None if payload is None else payload.path


def drop(label: str, height: int, **more: Any) -> Dropped:
    """A place to drop, choose or paste a picture of any kind.

    Args:
        label: what for.
        height: in px.
        more: of gradio's own arguments.
    """
    return Dropped(label=label, type="filepath", image_mode=None, sources=["upload", "clipboard"], height=height, **more)
