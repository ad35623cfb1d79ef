"""The door of sound: rate, loudness, depth and length come back as they were, and files that lie are named."""

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from snowmelt.data import DataOptions, audio, open_data
from snowmelt.data.door import Unreadable, door_for
from snowmelt.data.sound import SoundDoor, padded
from snowmelt.signals import PICTURE, Sound

RATE = 8000


def tone(n: int, rate: int = RATE, hertz: float = 440.0, height: float = 0.3) -> np.ndarray:
    return (height * np.sin(2 * np.pi * hertz * np.arange(n) / rate)).astype(np.float32)


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(x), dtype=np.float64))))


@pytest.mark.parametrize(
    ("name", "subtype", "rate"),
    [("a.wav", "PCM_16", 8000), ("a.wav", "PCM_24", 44_100), ("a.wav", "FLOAT", 16_000), ("a.wav", "PCM_U8", 8000), ("a.flac", "PCM_16", 22_050)],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_comes_back_as_it_was(tmp_path, name, subtype, rate, channels):
    sound = np.stack([tone(rate + 7, rate, 440 * (i + 1)) for i in range(channels)], 1)
    soundfile.write(tmp_path / name, sound, rate, subtype=subtype)
    door = SoundDoor(Sound(rate_hz=RATE))
    found = door.read(tmp_path / name)
    assert tuple(found.x.shape) == door.probe(tmp_path / name) == (channels, -(-(rate + 7) * RATE // rate))
    assert rms(found.x) == pytest.approx(0.2, abs=1e-4)
    out = tmp_path / "out" / name
    door.write(out, found.x, found)
    info = soundfile.info(out)
    assert (info.samplerate, info.subtype, info.frames, info.channels) == (rate, subtype, rate + 7, channels)
    before, after = soundfile.read(tmp_path / name)[0], soundfile.read(out)[0]
    edge = 200 * rate // RATE  # beyond the ends there is nothing, which rings
    assert rms((before - after)[edge:-edge]) < 0.001 if rate != RATE else np.abs(before - after).max() <= 2.0**-15


def test_what_did_not_change_is_the_same_bits(tmp_path):
    values = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", values, RATE)
    with audio.File(tmp_path / "a.wav") as file:
        header = file.header
        clipped = audio.save(tmp_path / "b", iter([file.read(0, header.frames)]), header, tmp_path / "b.wav")
    assert clipped == 0
    assert np.array_equal(soundfile.read(tmp_path / "b", dtype="int16")[0], values)


@pytest.mark.parametrize(("rate", "to"), [(44_100, 8000), (8000, 44_100), (11_025, 8000), (48_000, 16_000), (7999, 8000)])
def test_a_piece_is_what_the_whole_would_give(rate, to):
    sound = np.random.default_rng(0).normal(0, 0.1, (rate, 1)).astype(np.float32)

    def read(start, n):
        return padded(sound, start, n)

    n = audio.length(rate, rate, to)
    whole = audio.resampled(read, rate, rate, to, 0, n)
    assert len(whole) == n
    for start, m in ((0, 50), (1234, 777), (n - 100, 300)):
        piece = audio.resampled(read, rate, rate, to, start, m)
        assert len(piece) == m
        there = min(m, n - start)
        assert np.abs(piece[:there] - whole[start : start + there]).max() < 1e-6


@pytest.mark.parametrize(("rate", "to"), [(44_100, 8000), (8000, 44_100), (16_000, 8000)])
def test_a_moment_stays_where_it_was(rate, to):
    sound = tone(rate, rate, 1000)[:, None]
    found = audio.resampled(lambda start, n: padded(sound, start, n), rate, rate, to, to // 3, to // 3)[:, 0]
    assert np.abs(found - tone(to, to, 1000)[to // 3 : to // 3 * 2]).max() < 1e-3


def test_what_would_fold_is_gone_and_what_is_kept_is_level():
    for hertz, low, high in ((3500, 0.999, 1.001), (4200, 0.0, 1e-3)):
        sound = tone(44_100, 44_100, hertz)[:, None]
        found = audio.resampled(lambda start, n, x=sound: padded(x, start, n), 44_100, 44_100, RATE, 1000, 6000)
        assert low * rms(sound) <= rms(found) <= high * rms(sound), hertz


@pytest.mark.parametrize(("rate", "to"), [(44_100, 8000), (8000, 44_100)])
def test_the_ends_of_what_is_resampled_do_not_ring_and_beyond_them_is_nothing(rate, to):
    sound = np.cos(2 * np.pi * 200 * np.arange(rate // 5) / rate).astype(np.float32)[:, None]
    n = audio.length(len(sound), rate, to)
    found = audio.resampled(lambda start, m: padded(sound, start, m), len(sound), rate, to, -5, n + 10)[:, 0]
    assert not found[:5].any()
    assert not found[-5:].any()
    wrong = np.abs(found[5:-5] - np.cos(2 * np.pi * 200 * np.arange(n) / to))
    assert wrong.max() < 0.04, "followed by silence, it is off by a half"
    assert wrong[to // 50 : -to // 50].max() < 2e-3
    short = audio.resampled(lambda start, m: padded(sound[:3], start, m), 3, rate, to, 0, 40)
    assert np.isfinite(short).all()


def test_silence_keeps_its_gain_and_clipping_is_counted(tmp_path):
    soundfile.write(tmp_path / "s.wav", np.zeros(1000, np.float32), RATE)
    found = SoundDoor().read(tmp_path / "s.wav")
    assert found.gain == 1
    assert not found.x.any()
    door = SoundDoor()
    door.write(tmp_path / "out.wav", found.x, found)
    assert not soundfile.read(tmp_path / "out.wav")[0].any()
    four = dataclasses.replace(found, header=dataclasses.replace(found.header, frames=4))
    assert door.written_to(tmp_path / "loud.wav", torch.tensor([[0.0, 2.0, -3.0, 0.5]]), four) == 2
    with pytest.raises(ValueError, match="NaN"):
        door.write(tmp_path / "nan.wav", torch.full((1, 9), torch.nan), None)
    assert not (tmp_path / "nan.wav").exists()
    with pytest.raises(ValueError, match=r"cannot be written as \".mp4\""):
        door.write(tmp_path / "x.mp4", found.x, None)


def hostile(folder: Path) -> dict[str, tuple[str, str]]:
    """Files that lie, by name: how, and what is said of it."""
    soundfile.write(folder / "good.wav", tone(4000), RATE)
    soundfile.write(folder / "good.flac", tone(4000), RATE)
    wav, flac = (folder / "good.wav").read_bytes(), (folder / "good.flac").read_bytes()
    huge = bytearray(flac)
    huge[21] |= 0x0F
    huge[22:26] = b"\xff" * 4
    files = {
        "empty.wav": (b"", "the file is empty"),
        "text.wav": (b"hello " * 99, "not a recording"),
        "short.wav": (wav[:3000], "truncated: its header says 8,000 bytes of sound, and 2,956 are there"),
        "claims.wav": (wav[:40] + struct.pack("<I", 0x10000000) + wav[44:], "truncated: its header says 268,435,456 bytes"),
        "ragged.wav": (wav[:40] + struct.pack("<I", 0xFFFFFFF0) + wav[44:-1], "truncated: its header says 4,294,967,280 bytes"),
        "rate.wav": (wav[:24] + struct.pack("<I", 2**31 - 1) + wav[28:], "2,147,483,647 Hz"),
        "none.wav": (wav[:40] + struct.pack("<I", 0), "0 samples"),
        "cut.flac": (flac[: len(flac) // 2], "damaged|truncated"),
        "huge.flac": (bytes(huge), "too long to be held"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    soundfile.write(folder / "six.wav", np.zeros((100, 6), np.float32), RATE)
    return {name: (name, said) for name, (_, said) in files.items()} | {"six.wav": ("six.wav", "6 channels")}


def test_files_that_lie_are_unreadable_and_named(tmp_path):
    for name, said in hostile(tmp_path).values():
        with pytest.raises(Unreadable, match=said) as caught:
            SoundDoor().read(tmp_path / name)
        assert caught.value.path == tmp_path / name
    with pytest.raises(FileNotFoundError):
        SoundDoor().read(tmp_path / "nothing.wav")
    wav = (tmp_path / "good.wav").read_bytes()
    for length in (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0):  # written by programs that did not know it
        (tmp_path / "piped.wav").write_bytes(wav[:40] + struct.pack("<I", length) + wav[44:])
        assert torch.equal(SoundDoor().read(tmp_path / "piped.wav").x, SoundDoor().read(tmp_path / "good.wav").x)
    (tmp_path / "nothing.wav").write_bytes(wav[:40] + struct.pack("<I", 0) + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(Unreadable, match="0 samples"):
        SoundDoor().probe(tmp_path / "nothing.wav")


@pytest.mark.parametrize(("name", "kind"), [("a.wav", "RF64"), ("a.aiff", "AIFF")])
def test_other_truncated_containers_are_named(tmp_path, name, kind):
    soundfile.write(tmp_path / name, tone(4000), RATE, format=kind, subtype="PCM_16")
    assert SoundDoor().probe(tmp_path / name) == (1, 4000)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(Unreadable, match=r"truncated: its header says 8,00[08] bytes of sound, and 3,9\d\d are there"):
        SoundDoor().probe(tmp_path / name)
    if kind == "AIFF":  # one whose sound was cut and whose COMM was not told
        at = content.index(b"SSND") + 4
        (tmp_path / name).write_bytes(content[:at] + struct.pack(">I", 4008) + content[at + 4 : at + 4 + 4008])
        with pytest.raises(Unreadable, match="truncated: its header says 4,000 samples, and 2,000 are there"):
            SoundDoor().probe(tmp_path / name)


def test_doors_are_found_by_suffix_and_by_signal(tmp_path):
    assert door_for(Path("A.WAV")) == SoundDoor()
    assert door_for(Sound(16_000)).signal.rate_hz == 16_000
    for nothing in ("a.txt", PICTURE):
        with pytest.raises(ValueError, match="no file of sound or scans"):
            door_for(nothing)


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in range(12):
        place = tmp_path / "sounds" / ("ab"[i % 2])
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{i}.wav", tone(3000 + 100 * i, hertz=200 + 20 * i, height=0.05 * (1 + i % 4)), RATE)
    return tmp_path / "sounds"


def test_a_folder_of_recordings_is_a_data_set_of_windows(folder):
    options = DataOptions(path=str(folder), window=2048)
    data = open_data(options, "train")
    assert data.signal == Sound(RATE)
    assert data.shape == (1, 2048)
    assert data.classes == ("a", "b")
    item = data.numbered(3, range(4))
    assert item["x0"].shape == (4, 1, 2048)
    assert item["x0"].dtype == torch.float32
    assert all(rms(x) == pytest.approx(0.2, abs=0.02) for x in item["x0"])
    assert torch.equal(item["x0"], data.numbered(3, range(4))["x0"])
    assert not torch.equal(item["x0"], data.numbered(4, range(4))["x0"])
    found = [len(open_data(options, split)) for split in ("train", "validation", "test")]
    assert sum(found) == 12
    validation = open_data(options, "validation")
    x = validation.batch([0])["x0"]
    whole = SoundDoor(Sound(RATE)).read(folder / validation.ids[0]).x
    middle = (whole.shape[1] - 2048) // 2
    assert torch.equal(x[0], whole[:, middle : middle + 2048])


def test_short_recordings_are_followed_by_zeros(folder):
    data = open_data(DataOptions(path=str(folder), window=5000), "train")
    x = data.batch([0])["x0"][0, 0]
    n = 3000 + 100 * int(Path(data.ids[0]).stem)
    assert not data.random
    assert not x[n:].any()
    assert x[n - 20 : n].any()


def test_of_a_long_recording_only_the_window_is_read(tmp_path, monkeypatch):
    rate, read = 16_000, []
    for i in range(3):
        sound = np.concatenate([tone(rate * 80, rate, 300 + i), tone(rate * 50, rate, 900, 0.1)])
        soundfile.write(tmp_path / f"{i}.flac", sound, rate)
    data = open_data(DataOptions(path=str(tmp_path), window=4000, rate_hz=RATE), "train")
    whole = SoundDoor(Sound(RATE)).read(tmp_path / data.ids[0]).x
    read_file = audio.File.read
    monkeypatch.setattr(audio.File, "read", lambda self, start, n: (read.append(n), read_file(self, start, n))[1])
    data.batch([0])
    del read[:]
    x = data.batch([0])["x0"][0]
    assert 8000 < sum(read) < 10_000, "the window and the margin of the filter, not 130 s"
    middle = (whole.shape[1] - 4000) // 2
    ours, theirs = x, whole[:, middle : middle + 4000]
    assert torch.allclose(ours / rms(ours), theirs / rms(theirs), atol=1e-4)
    assert rms(ours) == pytest.approx(rms(theirs), rel=0.1), "the loudness is that of 64 pieces"


def test_what_cannot_be_decided_is_asked(folder, tmp_path):
    def said(**options) -> str:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is asserted where it is called
            open_data(DataOptions(path=str(folder), **options), "train")
        return str(caught.value)

    assert "a/0.wav has 3,000 samples, a/10.wav has 4,000: give --data.window" in said()
    for options, name in (({"flip": True}, "flip"), ({"turn": True}, "turn"), ({"size": 32}, "size"), ({"sensor": "scan"}, "sensor")):
        assert f"data.{name} = " in said(window=2048, **options)
        assert "means nothing for recordings" in said(window=2048, **options)
    assert "data.channels = 3" in said(channels=3, window=2048)
    soundfile.write(folder / "stereo.wav", np.stack([tone(3000)] * 2, 1), RATE)
    assert "give --data.channels 1" in said(window=2048)
    assert open_data(DataOptions(path=str(folder), channels=1, window=2048), "train").shape == (1, 2048)
    from PIL import Image

    for i in range(5):
        Image.new("L", (8, 8), i).save(folder / f"{i}.png")
    assert open_data(DataOptions(path=str(folder)), "train").signal == PICTURE, "stray recordings change nothing"
    assert open_data(DataOptions(path=str(folder), channels=1, window=2048), "train").shape == (1, 2048)
    with pytest.raises(ValueError, match=r"data.window = 3 lies outside"):
        DataOptions(window=3)
    with pytest.raises(ValueError, match=r"data.rate_hz = 10 lies outside"):
        DataOptions(rate_hz=10)
    with pytest.raises(ValueError, match="one recording, which cannot be split"):
        open_data(DataOptions(path=str(folder / "stereo.wav")), "train")


def test_options_of_sound_mean_nothing_for_pictures():
    with pytest.raises(ValueError, match=r"data.window = 100 means nothing for pictures"):
        open_data(DataOptions(window=100), "train")


def test_damaged_recordings_are_left_out_and_named(tmp_path):
    hostile(tmp_path)
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", tone(4000, hertz=300 + i), RATE)
    data = open_data(DataOptions(path=str(tmp_path), window=1024, validation=0, test=0), "train")
    assert {name for name, _ in data.skipped} == {"empty.wav", "text.wav", "short.wav", "claims.wav", "ragged.wav", "rate.wav", "none.wav", "six.wav"}
    every = data.batch(range(len(data)))["x0"]
    assert torch.isfinite(every).all()
    assert {name for name, _ in data.skipped} >= {"cut.flac", "huge.flac"}


def test_what_is_kept_stays_below_a_gigabyte_by_a_running_count(tmp_path, monkeypatch):
    from snowmelt.data import readings

    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", tone(1000, hertz=300 + i), RATE)
    monkeypatch.setattr(readings, "_KEPT_BYTES", 8500)
    shelf = open_data(DataOptions(path=str(tmp_path), validation=0, test=0), "train").shelf
    shelf.take(range(3))
    shelf.take(range(3))
    assert shelf._held == [8000]
    assert len(shelf._kept) == 2


def test_most_files_decide_the_rate_and_a_test_folder_follows_its_train(tmp_path):
    for split, rates in (("train", (16_000, 8000, 8000)), ("test", (16_000, 16_000))):
        (tmp_path / split).mkdir()
        for i, rate in enumerate(rates):
            soundfile.write(tmp_path / split / f"{i}.wav", tone(rate, rate, 300 + i), rate)
    for split in ("train", "test"):
        data = open_data(DataOptions(path=str(tmp_path), validation=0), split)
        assert (data.signal, data.shape) == (Sound(8000), (1, 8000))


def test_another_folder_of_recordings_is_the_endpoint(folder, tmp_path):
    noise = tmp_path / "noise"
    noise.mkdir()
    for i in range(4):
        soundfile.write(noise / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 44_100).astype(np.float32), 44_100)
    data = open_data(DataOptions(path=str(folder), window=2048, endpoint=str(noise)), "train")
    item = data.numbered(0, range(3))
    assert item["endpoint"].shape == item["x0"].shape
    assert all(rms(x) == pytest.approx(0.2, abs=0.02) for x in item["endpoint"])
    assert data.signal == Sound(RATE)


def test_the_file_before_is_the_endpoint(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        for i in range(4):
            soundfile.write(tmp_path / place / f"{i}.wav", tone(1000, hertz=300 + 50 * i), RATE)
    data = open_data(DataOptions(path=str(tmp_path), endpoint="previous", validation=0, test=0), "train")
    assert data.ids == [f"{place}/{i}.wav" for place in ("one", "two") for i in (1, 2, 3)]
    item = data.batch(range(6))
    before = [SoundDoor(Sound(RATE)).read(tmp_path / place / f"{i}.wav").x for place in ("one", "two") for i in (0, 1, 2)]
    assert torch.equal(item["endpoint"], torch.stack(before))
    assert not torch.equal(item["endpoint"], item["x0"])
