from pathlib import Path

import pytest

gr = pytest.importorskip("gradio")

from snowmelt.studio.page import dropping  # noqa: E402


def test_a_file_is_handed_on_unopened_and_nothing_is_written_beside_the_package(tmp_path: Path) -> None:
    assert not list(Path(dropping.__file__).parent.glob("*.pyi"))
    (tmp_path / "text.png").write_text("no picture")
    place = dropping.drop("Yours", 100, render=False)
    again = place.__class__(**{**place.constructor_args, "visible": False})  # what gradio makes of it when a handler hides it
    for one in (place, again):
        assert one.get_block_name() == "image"
        assert one.preprocess(gr.data_classes.ImageData(path=str(tmp_path / "text.png"))) == str(tmp_path / "text.png")
        assert one.preprocess(None) is None
