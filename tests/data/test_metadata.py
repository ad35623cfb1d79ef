"""What a file says besides its pixels goes through read and write; 16 bits of colour too."""

import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from snowmelt.data import images
from snowmelt.data.images import UnreadableImage

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOTE = {"severity": 0.5, "sampler": "tacos", "model": "a < b & ünïcode"}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6">'
    b"<dc:creator>Ada</dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def noise(*shape: int, top: int = 255) -> np.ndarray:
    return np.random.default_rng(3).integers(0, top + 1, shape).astype(np.uint8 if top < 256 else np.uint16)


def exif_of(path) -> Image.Exif:
    with Image.open(path) as image:
        image.load()
        return image.getexif()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "Camera Works", 6
    tags.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    tags[0x8769] = dict(tags.get_ifd(0x8769))
    return tags


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_exif_icc_xmp_and_the_note_go_through(tmp_path, suffix):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    kept = {"xmp": XMP} if suffix in (".jpg", ".webp") else {}
    Image.fromarray(noise(12, 20, 3)).save(source, exif=exif(), icc_profile=SRGB, **kept)
    picture = images.read(source)
    assert picture.x.shape == (3, 20, 12)  # turned
    images.write(target, picture.x, metadata=picture.metadata, note=NOTE)
    tags = exif_of(target)
    assert tags.get(0x0112, 1) == 1
    assert tags[0x010F] == "Camera Works"
    assert tags.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    with Image.open(target) as image:
        assert image.info["icc_profile"] == SRGB
        assert image.size == (12, 20)
        if kept:
            assert b"<dc:creator>Ada</dc:creator>" in image.info["xmp"]
            assert b'tiff:Orientation="1"' in image.info["xmp"]
    assert images.note(target) == NOTE
    assert images.note(source) is None
    again = images.read(target)
    assert again.x.shape == (3, 20, 12)  # not turned twice
    images.write(target, again.x, metadata=again.metadata, note={"severity": 1})
    assert images.note(target) == {"severity": 1}  # the newest, once


def test_only_the_orientation_changes_in_exif(tmp_path):
    data = exif().tobytes()
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "a.jpg", exif=data)
    metadata = images.read(tmp_path / "a.jpg").metadata
    before, after = data.removeprefix(b"Exif\x00\x00"), metadata.exif
    assert len(before) == len(after)
    assert [(b, a) for b, a in zip(before, after, strict=True) if a != b] == [(6, 1)]


def test_resolution_is_kept(tmp_path):
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png", dpi=(300, 300))
    picture = images.read(tmp_path / "a.png")
    images.write(tmp_path / "b.png", picture.x, metadata=picture.metadata)
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4, 2])
def test_sixteen_bits_of_colour_and_opacity_change_no_bit(tmp_path, suffix, channels):
    array = noise(9, 13, channels, top=65535)
    colours = 3 if channels > 2 else 1
    x = images.from_uint16(array[..., :colours])
    alpha = (images.from_uint16(array[..., colours:]) + 1) / 2 if channels % 2 == 0 else None
    path = tmp_path / f"a{suffix}"
    images.write(path, x, alpha=alpha, bits=16, note=NOTE)
    again = images.read(path)
    assert again.bits == 16
    assert (images.to_uint16(again.x) == array[..., :colours]).all()  # grey with alpha in a TIFF comes back as equal RGB
    if alpha is not None:
        assert (images.to_uint16(again.alpha * 2 - 1) == array[..., colours:]).all()
    assert images.probe(path) == (*again.x.shape[:1], 9, 13)
    assert images.note(path) == NOTE
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_files_keep_exif_and_profile(tmp_path, suffix):
    source, target, shallow = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", tmp_path / f"c{suffix}"
    Image.fromarray(noise(12, 20, 3)).save(shallow, exif=exif(), icc_profile=SRGB, dpi=(240, 240))
    given = images.read(shallow).metadata
    images.write(source, images.from_uint16(noise(12, 20, 3, top=65535)), bits=16, metadata=given)
    picture = images.read(source)
    images.write(target, picture.x, bits=16, metadata=picture.metadata, note=NOTE)
    tags = exif_of(target)
    assert tags[0x010F] == "Camera Works"
    assert tags.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"
    with Image.open(target) as image:
        assert image.info["icc_profile"] == SRGB
        assert image.info["dpi"] == pytest.approx((240, 240), abs=0.1)
    assert torch.equal(images.read(target).x, picture.x)
    assert images.note(target) == NOTE


def test_tiffs_of_others(tmp_path):
    array = noise(9, 13, 3, top=65535)
    for name, options in {
        "lzw": {"compression": "lzw", "predictor": True},
        "planes": {"planarconfig": "separate"},
        "big": {"byteorder": ">"},
    }.items():
        data = np.moveaxis(array, -1, 0) if name == "planes" else array
        tifffile.imwrite(tmp_path / f"{name}.tif", data, photometric="rgb", metadata=None, **options)
        assert (images.to_uint16(images.read(tmp_path / f"{name}.tif").x) == array).all(), name
    tifffile.imwrite(tmp_path / "turned.tif", array, photometric="rgb", metadata=None, extratags=[(274, "H", 1, 6, True)])
    assert (images.to_uint16(images.read(tmp_path / "turned.tif").x) == np.rot90(array, -1)).all()
    tifffile.imwrite(tmp_path / "inks.tif", noise(9, 13, 4, top=65535), photometric="separated", metadata=None)
    with pytest.raises(UnreadableImage, match=r"TIFF of 16 bits in SEPARATED"):
        images.read(tmp_path / "inks.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_half_of_a_deep_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    images.write(path, images.from_uint16(noise(64, 64, 3, top=65535)), bits=16)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage):
        images.read(path)
    if suffix == ".png":
        path.write_bytes(data[:500] + bytes([data[500] ^ 255]) + data[501:])
        with pytest.raises(UnreadableImage):
            images.read(path)


def test_inks_go_through_their_profile(tmp_path, monkeypatch):
    cms = ImageCms

    seen = {}

    def through(image, source, target, intent, mode, **options):
        seen.update(source=source, mode=mode)
        return Image.new("RGB", image.size, (1, 2, 3))

    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif", icc_profile=SRGB)
    # No CMYK profile comes with Pillow: one that does not fit is passed over, and a fitting one is what is asked.
    assert images.read(tmp_path / "a.tif").x[:, 0, 0].tolist() == pytest.approx([1, -1, -1], abs=0.02)
    monkeypatch.setattr(cms, "profileToProfile", through)
    picture = images.read(tmp_path / "a.tif")
    assert seen["mode"] == "RGB"
    assert images.to_uint8(picture.x)[0, 0].tolist() == [1, 2, 3]
    assert picture.metadata.icc is None


def test_several_frames_are_refused_by_number(tmp_path):
    frames = [Image.fromarray(noise(8, 8, 3)).rotate(90 * i) for i in range(3)]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableImage, match=r"of 3 (frames|pages)"):
            images.read(tmp_path / name, still=True)
        assert images.read(tmp_path / name).x.shape == (3, 8, 8)  # the first, for those who ask for no more
    frames[0].save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert images.read(tmp_path / "phone.jpg", still=True).x.shape == (3, 8, 8)


def test_more_than_pillows_limit_can_be_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    assert images.read(tmp_path / "a.png", max_pixels=1000).x.shape == (1, 30, 30)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_note_that_is_none_is_passed_over(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    for text in ("not json", "[1]"):
        chunk = PngInfo()
        chunk.add_text("snowmelt", text)
        buffer = io.BytesIO()
        Image.new("L", (3, 3)).save(buffer, format="PNG", pnginfo=chunk)
        (tmp_path / "a.png").write_bytes(buffer.getvalue())
        assert images.note(tmp_path / "a.png") is None
