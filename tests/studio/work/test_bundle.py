"""Several files in one."""

import io
import zipfile

from snowmelt.studio.page.keeping import zipped as kept
from snowmelt.studio.web.answers import answer
from snowmelt.studio.work.bundle import zipped


def test_the_same_files_make_the_same_zip_here_and_on_the_page(tmp_path):
    files = {"0000.png": b"x" * 100, "0001.png": b"y"}
    content = zipped(files.items())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert answer(list(files.values()), {}, "png").body == content
    for name, held in files.items():
        (tmp_path / name).write_bytes(held)
    with open(kept([str(tmp_path / name) for name in files], "all of it"), "rb") as file:
        assert file.read() == content
