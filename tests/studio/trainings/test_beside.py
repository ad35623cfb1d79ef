"""Trainings that the studio did not begin, in its folder: the page of every visitor goes on beside them."""

from pathlib import Path

import pytest

pytest.importorskip("gradio")

from snowmelt.locks import locked
from snowmelt.recipes.recipe import from_table, to_toml
from snowmelt.studio.desk import Desk
from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Limits
from snowmelt.studio.page.tabs import train
from snowmelt.studio.shelf import Shelf
from snowmelt.studio.trainings.runs import Runs


def test_a_tick_shows_a_run_of_the_list_beside_one_whose_name_none_has_here(tmp_path: Path) -> None:
    limits, runs = Limits(), Runs(tmp_path)
    tab = train._Handlers(Desk(limits, Gate(limits), Shelf([], tmp_path), tmp_path), runs)
    with locked(tmp_path / "exp.1"):
        assert runs.busy() == "exp.1"
        tab.ticked(None, None)  # there is nothing to show yet
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "recipe.toml").write_text(to_toml(from_table({"degradation": "grey", "data": {"path": "bundled:digits", "size": 8}})))
        shown = tab.ticked(None, None)
        assert (shown[0]["choices"], shown[0]["value"]) == (["mine"], "mine")
