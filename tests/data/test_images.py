import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from snowmelt.data import images
from snowmelt.data.images import UnreadableImage


def noise(*shape: int, top: int = 255, seed: int = 0) -> np.ndarray:
    dtype = np.uint8 if top < 256 else np.uint16
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(dtype)


def gradient(h: int = 12, w: int = 20) -> Image.Image:
    y, x = np.mgrid[:h, :w]
    return Image.fromarray(np.stack([x * 12, y * 20, x + y], -1).astype(np.uint8))


def reason(path: Path, **options: int) -> str:
    with pytest.raises(UnreadableImage) as caught:
        images.read(path, **options)
    assert str(caught.value).startswith(str(path))
    return caught.value.reason


# --- the door ------------------------------------------------------------------------------------------


def test_uint8_round_trip_is_exact_for_every_value():
    array = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = images.from_uint8(array)
    assert x.shape == (1, 1, 16, 16)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (-1, 1)
    assert (images.to_uint8(x) == array).all()
    assert torch.equal(images.quantise(x), x)


def test_uint16_round_trip_is_exact_for_every_value():
    array = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    assert (images.to_uint16(images.from_uint16(array)) == array).all()


def test_to_uint8_rounds_and_clips():
    x = torch.tensor([-3.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 3.0]).reshape(1, 2, 2)
    assert images.to_uint8(x).ravel().tolist() == [0, 0, 1, 255]


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        images.to_uint8(torch.full((1, 2, 2), torch.nan))


def test_quantise_is_what_saving_does():
    x = torch.rand(2, 3, 5, 7) * 2.2 - 1.1
    assert torch.equal(images.quantise(x), images.from_uint8(images.to_uint8(x)))


def test_channels():
    x = torch.rand(2, 1, 4, 4) * 2 - 1
    rgb = images.to_channels(x, 3)
    assert rgb.shape == (2, 3, 4, 4)
    torch.testing.assert_close(images.to_channels(rgb, 1), x)
    with pytest.raises(ValueError, match="4 channels"):
        images.to_channels(torch.zeros(4, 2, 2), 3)


@pytest.mark.parametrize(
    ("shape", "shrunk"), [((3, 20, 40), (3, 8, 16)), ((1, 1, 90, 2), (1, 1, 16, 1)), ((3, 16, 9), (3, 16, 9)), ((2, 3, 4), (2, 3, 4))]
)
def test_what_is_too_long_is_shrunk_in_proportion_and_nothing_is_enlarged(shape, shrunk):
    x = torch.rand(shape)
    assert images.shrunk(x, 16).shape == shrunk
    assert (images.shrunk(x, 16) is x) == (shape == shrunk)



@pytest.mark.parametrize("shape", [(32, 32), (7, 9), (14, 40), (28, 20)])
def test_resize_is_pillows_bilinear(shape):
    array = noise(28, 20, 1)
    ours = images.to_uint8(images.resize(images.from_uint8(array), shape))[..., 0]
    theirs = np.asarray(Image.fromarray(array[..., 0]).resize(shape[::-1], Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


# --- reading what people have --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_write_then_read_changes_no_bit(tmp_path, suffix, channels):
    x = images.from_uint8(noise(9, 13, channels))
    images.write(tmp_path / f"a{suffix}", x)
    again = images.read(tmp_path / f"a{suffix}")
    assert torch.equal(again.x, x.expand_as(again.x))
    assert again.grey == (channels == 1 and suffix != ".webp")  # WebP knows no grey
    assert (again.alpha, again.bits) == (None, 8)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_survive(tmp_path, suffix):
    array = noise(9, 13, 1, top=65535)
    images.write(tmp_path / f"a{suffix}", images.from_uint16(array), bits=16)
    again = images.read(tmp_path / f"a{suffix}")
    assert (again.bits, again.grey) == (16, True)
    assert (images.to_uint16(again.x) == array).all()
    assert images.probe(tmp_path / f"a{suffix}") == (1, 9, 13)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_kept_apart(tmp_path, suffix):
    x, alpha = images.from_uint8(noise(6, 5, 3)), torch.linspace(0, 1, 30).reshape(1, 6, 5)
    images.write(tmp_path / f"a{suffix}", x, alpha=alpha)
    again = images.read(tmp_path / f"a{suffix}")
    assert torch.equal(again.x, x)
    torch.testing.assert_close(again.alpha, alpha, atol=0.002, rtol=0)
    assert (again.over()[:, again.alpha[0] == 0] == 1).all()


def test_grey_alpha_and_palette_and_bilevel(tmp_path):
    Image.fromarray(noise(4, 4, 2)).save(tmp_path / "la.png")
    assert (images.read(tmp_path / "la.png").grey, images.read(tmp_path / "la.png").alpha.shape) == (True, (1, 4, 4))
    Image.fromarray(noise(4, 4) > 127).save(tmp_path / "one.png")
    assert set(images.read(tmp_path / "one.png").x.unique().tolist()) == {-1, 1}
    gradient().quantize(16).save(tmp_path / "p.png", transparency=0)
    palette = images.read(tmp_path / "p.png")
    assert palette.x.shape == (3, 12, 20)
    assert set(palette.alpha.unique().tolist()) == {0, 1}
    gradient().save(tmp_path / "g.gif", save_all=True, append_images=[gradient().rotate(180)])
    assert images.read(tmp_path / "g.gif").x.shape == (3, 12, 20)


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    x = images.read(tmp_path / "a.jpg").x
    assert x.shape == (3, 16, 16)
    assert x[0].min() > 0.9
    assert x[1:].max() < -0.9


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_exif_orientation_is_applied(tmp_path, turn, suffix):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"a{suffix}"
    gradient().save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert (images.to_uint8(images.read(path).x) == expected).all()
    assert images.probe(path) == (3, *expected.shape[:2])


def test_broken_exif_does_not_hide_the_picture(tmp_path):
    gradient().save(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert images.read(tmp_path / "a.png").x.shape == (3, 12, 20)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return out


def test_sixteen_bit_colour_is_read_at_sixteen(tmp_path):
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00" + struct.pack(">6H", 0, 0x8000, 0xFFFF, 0x7F00, 1, 0xFE00))
    (tmp_path / "a.png").write_bytes(png((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")))
    picture = images.read(tmp_path / "a.png")
    assert picture.bits == 16
    assert images.to_uint16(picture.x).ravel().tolist() == [0, 0x8000, 0xFFFF, 0x7F00, 1, 0xFE00]


# --- refusing what is none -----------------------------------------------------------------------------


def test_empty_text_and_foreign_files(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    Image.new("L", (4, 4)).save(tmp_path / "a.ppm")
    assert "empty" in reason(tmp_path / "empty.png")
    assert "JPEG, PNG" in reason(tmp_path / "text.jpg")
    assert "not a picture" in reason((tmp_path / "a.ppm").rename(tmp_path / "a.png"))
    assert reason(tmp_path)
    with pytest.raises(FileNotFoundError):
        images.read(tmp_path / "missing.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_truncated(tmp_path, kind):
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(buffer, format=kind)
    (tmp_path / "a.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert reason(tmp_path / "a.png")


def test_a_bomb_is_refused_by_its_header(tmp_path):
    for name, side in (("big", 12_000), ("huge", 60_000)):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        (tmp_path / f"{name}.png").write_bytes(png((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100)))))
    assert "max_pixels = 100000000" in reason(tmp_path / "big.png")
    assert "max_pixels = 100000000" in reason(tmp_path / "huge.png")
    gradient().save(tmp_path / "a.png")
    assert "20 x 12 px" in reason(tmp_path / "a.png", max_pixels=100)


def test_float_and_32_bit_tiff_have_no_range(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.ones((4, 4), np.int32)).save(tmp_path / "i.tif")
    assert "range" in reason(tmp_path / "f.tif")
    assert "range" in reason(tmp_path / "i.tif")


# --- writing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("a.gif", (3, 4, 4), {}, r'".gif": use one of .png'),
        ("a.xyz", (3, 4, 4), {}, "use one of"),
        ("a.webp", (3, 4, 4), {"bits": 16}, "needs .png or .tif"),
        ("a.jpg", (1, 4, 4), {"bits": 16}, "needs .png or .tif"),
        ("a.png", (1, 4, 4), {"bits": 12}, "bits = 12"),
        ("a.jpg", (3, 4, 4), {"alpha": torch.ones(1, 4, 4)}, "keeps no alpha"),
        ("a.png", (2, 3, 4, 4), {}, "one at a time"),
        ("a.png", (2, 4, 4), {}, "one at a time"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, shape, options, message):
    with pytest.raises(ValueError, match=message):
        images.write(tmp_path / name, torch.zeros(shape), **options)
    assert not list(tmp_path.iterdir())


def test_no_suffix_is_png_and_jpeg_is_near(tmp_path):
    x = images.from_uint8(np.asarray(gradient()))
    images.write(tmp_path / "plain", x)
    assert torch.equal(images.read(tmp_path / "plain").x, x)
    images.write(tmp_path / "a.jpg", x)
    assert (images.read(tmp_path / "a.jpg").x - x).abs().mean() < 0.05


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    images.write(tmp_path / "a.png", torch.zeros(1, 4, 4))
    before = (tmp_path / "a.png").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        images.write(tmp_path / "a.png", torch.ones(1, 4, 4))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_knows_how_it_was_stored(tmp_path, turn):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    picture = images.read(tmp_path / "a.png")
    assert picture.turn == turn
    assert torch.equal(images.stored(picture.x, turn), images.from_uint8(pixels))
    assert torch.equal(images.upright(images.from_uint8(pixels), turn), picture.x)
