"""docs/networks.md: its table says what the code counts."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from snowmelt.pictures import between_markers
from snowmelt.restorers import UNet
from snowmelt.restorers.backbones import SIZES


@pytest.fixture(scope="module")
def networks(script):
    return script("scripts/networks.py")


@pytest.fixture(scope="module")
def rows(networks) -> list[list[str]]:
    page = networks.PAGE.read_text(encoding="utf-8")
    table = page.partition("<!-- begin sizes -->")[2].partition("<!-- end sizes -->")[0].strip()
    assert between_markers(page, "sizes", table) == page, "run scripts/networks.py --write"
    return [[cell.strip() for cell in line.strip("| \n").split("|")] for line in table.splitlines()[2:]]


def test_the_table_holds_every_size_at_every_side(networks, rows) -> None:
    assert [(row[0], row[1]) for row in rows] == [
        (f"`unet:size={name}{f',patch={patch}' if patch != 2 else ''}`", str(side)) for side, patch in networks.PATCHES.items() for name in SIZES
    ]


@pytest.mark.parametrize(("name", "side"), [("xs", 32), ("s", 32), ("xs", 64)])
def test_a_row_is_what_the_script_makes(networks, rows, name: str, side: int) -> None:
    made = list(networks.row(name, side))
    kept = next(row for row in rows if row[:2] == made[:2])
    assert made[:4] == kept[:4]
    for ours, page in zip(made[4:], kept[4:], strict=True):  # a version of torch may keep a little more or less
        assert megabytes(ours) == pytest.approx(megabytes(page), rel=0.05)


def test_parameters_and_operations_of_all_rows(networks, rows) -> None:
    for spec, side, parameters, operations, *_ in rows:
        size = UNet(size=re.search(r"size=(\w+)", spec).group(1), patch=networks.PATCHES[int(side)])
        with torch.device("meta"):
            net = size.build(3, 3)
            with FlopCounterMode(display=False) as counter:  # attention is counted on this device
                net(torch.empty(1, 3, int(side), int(side)), torch.empty(1))
        assert parameters == f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M"
        assert float(operations) == pytest.approx(counter.get_total_flops() / 1e9, rel=0.01)


def test_the_words_of_the_page_are_those_of_the_code(networks) -> None:
    page = networks.PAGE.read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| (\w+) \| `widths=\(([\d,]+)\)` \|$", page, flags=re.M))
    assert said == {name: ",".join(map(str, widths)) for name, widths in SIZES.items()}


def megabytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"MB": 1, "GB": 1000}[unit]
