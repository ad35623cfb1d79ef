"""Pages and tables: everything escaped, nothing fetched, the same digits everywhere."""

import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from snowmelt.pictures import curve_svg, data_url, markdown_table, page, png_bytes, save

ROWS = [
    {"row": "Degraded", "rmse": 0.28714, "psnr": 11.021, "ssim": 0.1794},
    {"row": "Direct", "rmse": 0.14159, "psnr": 17.421, "ssim": 0.531, "calls": 1},
    {"row": "a | b", "rmse": 0.14161, "psnr": 17.0, "ssim": None, "calls": 1200},
]
ROOM = {"area", "br", "img", "link", "meta", "path", "circle"}


class Reader(HTMLParser):
    """Checks that tags close in order, and gathers addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ROOM:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ROOM
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_a_page_is_whole_escaped_and_asks_for_nothing() -> None:
    evil = '<script>alert("x")</script>&'
    picture = Image.new("RGB", (40, 20), "teal")
    html = page.page(
        evil,
        [
            evil,
            page.heading(evil),
            page.text(f"{evil}\n\nsecond"),
            page.note(evil),
            page.facts({evil: evil, "images": 1000, "later": None}),
            page.table([{evil: evil, "rmse": 0.1}], caption=evil),
            page.figure(picture, evil),
            page.figure(png_bytes(picture), alt=evil),
            page.svg(curve_svg({evil: [(0, 1), (1, 2)]}, title=evil, x_label=evil, y_label=evil), evil),
            page.details(evil, evil),
        ],
        subtitle=evil,
    )
    reader = read(html)
    assert "script" not in reader.seen
    assert reader.text.count(evil) >= 12
    assert all(address.startswith("data:") for address in reader.addresses)
    assert not re.search(r"url\(|@import", html)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html


def test_plain_strings_are_paragraphs() -> None:
    assert page.text("one\n\n two ") == "<p>one</p><p>two</p>"
    assert "<p>a &lt; b</p>" in page.page("t", ["a < b"])


def test_headings_have_anchors() -> None:
    assert page.heading("How many calls?") == '<h2 id="how-many-calls">How many calls?</h2>'
    with pytest.raises(ValueError, match="level = 1"):
        page.heading("x", 1)


def test_the_table_marks_the_best_and_the_gaps() -> None:
    html = page.table(ROWS, best={"calls": "low"})
    read(html)
    assert "RMSE&nbsp;↓" in html
    assert "PSNR, dB&nbsp;↑" in html
    assert "<strong>0.142</strong>" in html
    assert html.count("<strong>0.142</strong>") == 2, "equal digits are equally good"
    assert "<strong>17.42</strong>" in html
    assert "<strong>1</strong>" in html
    assert '<span class="gap">pending</span>' in html
    assert '<span class="gap">–</span>' in html


def test_markdown() -> None:
    assert markdown_table(ROWS) == (
        "| row | RMSE ↓ | PSNR, dB ↑ | SSIM ↑ | calls |\n"
        "| :--- | ---: | ---: | ---: | ---: |\n"
        "| Degraded | 0.287 | 11.02 | 0.179 | – |\n"
        "| Direct | **0.142** | **17.42** | **0.531** | 1 |\n"
        "| a \\| b | **0.142** | 17.00 | pending | 1,200 |\n"
    )
    assert markdown_table([]) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (math.nan, "–"),
        (math.inf, "∞"),
        ((0.1391, 0.1443), "0.139 to 0.144"),
        (12345.6, "12,346"),
        ("x", "x"),
        (0.25, "0.250"),
            (0.01, "0.0100"),
            (250.0, "250"),
    ],
)
def test_values_of_every_kind(value: object, text: str) -> None:
    assert f"| {text} |" in markdown_table([{"value": value}])


def test_a_single_number_is_not_the_best() -> None:
    assert "**" not in markdown_table([{"rmse": 0.1}, {"rmse": None}, {"rmse": math.nan}])


def test_pictures_inside_the_page_are_the_pictures() -> None:
    import base64

    picture = Image.new("RGB", (7, 5), (1, 2, 3))
    kind, data = data_url(picture).split(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as back:
        assert back.size == (7, 5)
        assert back.getpixel((3, 3)) == (1, 2, 3)
    assert data_url(b"GIF89a...").startswith("data:image/gif")
    with pytest.raises(ValueError, match="no PNG"):
        data_url(b"<html>")
    with pytest.raises(ValueError, match="not one <svg>"):
        page.svg("<p>")


def test_save_writes_a_png(tmp_path: Path) -> None:
    save(tmp_path / "sheets" / "a.png", Image.new("RGB", (3, 3)))
    with Image.open(tmp_path / "sheets" / "a.png") as back:
        assert back.format == "PNG"
    assert len(list((tmp_path / "sheets").iterdir())) == 1
    with pytest.raises(ValueError, match=r"a\.png"):
        save(tmp_path / "a.jpg", Image.new("RGB", (3, 3)))


def test_what_stands_apart_is_never_best() -> None:
    rows = [{"row": "method", "rmse": 0.2}, {"row": "other", "rmse": 0.3}, {"row": "floor", "rmse": 0.1}]
    assert "| **0.100** |" in markdown_table(rows)
    assert "| **0.200** |" in (table := markdown_table(rows, apart=[2]))
    assert "| 0.100 |" in table
    html = page.table(rows, apart=[2])
    assert html.count("<strong>") == 1
    assert '<tr class="apart"><td>floor</td><td class="number">0.100</td></tr>' in html
    assert "**" not in markdown_table(rows, mark=False)
    assert "↓" not in markdown_table(rows, mark=False)


def test_distances_are_better_when_low_whatever_features_they_are_of() -> None:
    table = markdown_table([{"FD-mnist-v1": 2.0, "KID-mine-0a": 0.5}, {"FD-mnist-v1": 1.0, "KID-mine-0a": 0.7}])
    assert "FD-mnist-v1 ↓ | KID-mine-0a ↓" in table
    assert "| 2.00 | **0.500** |" in table
    assert "| **1.00** | 0.700 |" in table


def test_folded_sections_are_inside_what_opens() -> None:
    html = page.folded("More <than> this", [page.text("inside"), "a & b"])
    read(html)
    assert html == '<details class="wide"><summary>More &lt;than&gt; this</summary><p>inside</p><p>a &amp; b</p></details>'
