"""Recordings restored in files and folders: whole, in pieces, as they were stored; and refused in words."""

import itertools
import json
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from snowmelt.model import Model
from snowmelt.registry import build
from snowmelt.restoration import recordings, restore_folder, translate_folder
from snowmelt.restoration.recordings import crossed, pieces
from snowmelt.signals import Sound
from snowmelt.stopping import Stopped

RATE = 8000


def tone(n: int, rate: int = RATE, hertz: float = 440.0, height: float = 0.3) -> np.ndarray:
    return (height * np.sin(2 * np.pi * hertz * np.arange(n) / rate)).astype(np.float32)


def of(restorer, spec: str = "background:snr_db=0", rate: int = RATE) -> Model:
    return Model(build(spec, "degradation"), restorer, signal=Sound(rate), input="float")


@pytest.fixture
def same() -> Model:
    return of(lambda x, t: x)


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "in"
    (place / "deep").mkdir(parents=True)
    soundfile.write(place / "a.wav", tone(3 * 44_100, 44_100), 44_100, subtype="PCM_24")
    soundfile.write(place / "b.wav", np.stack([tone(9 * RATE + 17), tone(9 * RATE + 17, hertz=900)], 1), RATE)
    soundfile.write(place / "deep" / "c.flac", np.zeros(RATE, np.float32), RATE)
    soundfile.write(place / "e.wav", tone(100), RATE, subtype="FLOAT")
    (place / "d.wav").write_bytes(b"no sound")
    return place


def run(folder, out, model, **more):
    return restore_folder(folder, model=model, out=out, **{"severity": 1.0, "sampler": None, **more})


def test_a_folder_comes_back_as_it_was_stored(folder, tmp_path, same):
    said: list[str] = []
    tally = run(folder, tmp_path / "out", same, say=said.append)
    assert (tally.total, tally.done, len(tally.failed)) == (5, 4, 1)
    assert [failure.broken for failure in tally.failed] == [True]
    assert said == [f"left out {folder / 'd.wav'}: not a recording that libsndfile reads (Format not recognised)"]
    assert [bool(number) for number in tally.remarks] == [True, True, True, False]
    for name in ("a.wav", "b.wav", "deep/c.flac", "e.wav"):
        before, after = soundfile.info(folder / name), soundfile.info(tmp_path / "out" / name)
        assert (before.samplerate, before.frames, before.channels, before.subtype) == (after.samplerate, after.frames, after.channels, after.subtype)
        x, y = (soundfile.read(place / name)[0] for place in (folder, tmp_path / "out"))
        inner = slice(1200, -1200) if name == "a.wav" else slice(None)
        assert np.abs(x - y)[inner].max() < (1e-3 if name == "a.wav" else 2.0**-15)
    lines = [json.loads(line) for line in (tmp_path / "out" / "restored.jsonl").read_text().splitlines()]
    assert {Path(line["output"]).name for line in lines if "output" in line} == {"a.wav", "b.wav", "c.flac", "e.wav"}
    assert next(line for line in lines if line.get("output", "").endswith("c.flac"))["left as it is"] == "silent"
    assert "recordings_per_s" in lines[-1]["run"]
    assert "d.wav" in (tmp_path / "out" / "errors.jsonl").read_text()
    again = run(folder, tmp_path / "out", same)
    assert (again.done, again.kept) == (0, 4)


def test_pieces_that_share_a_call_come_out_as_alone(tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(15 * RATE), RATE, subtype="FLOAT")
    assert len(pieces(15 * RATE, 4 * RATE)) >= 4
    found, sizes = [], []

    def bends(x, t):
        sizes.append(len(x))
        return x + 0.1 * torch.tanh(x)

    for batch in (1, 2):
        run(tmp_path / "long.wav", tmp_path / f"{batch}.wav", of(bends), degrade=True, batch=batch)
        found.append(soundfile.read(tmp_path / f"{batch}.wav")[0])
    assert {1, 2} <= set(sizes)
    assert np.abs(found[0] - found[1]).max() < 1e-6


def test_channels_that_are_restored_by_themselves_have_each_a_loudness_and_a_silent_one_is_copied(tmp_path):
    noise = np.random.default_rng(0).normal(0, 1, (2, 2 * RATE))
    heard: list[torch.Tensor] = []

    def listens(x, t):
        heard.append(x.square().mean((1, 2)).sqrt())
        return 0.5 * x

    for second in (0.001, 0.0):
        del heard[:]
        x = (noise * [[0.2], [second]]).T.astype(np.float32)
        soundfile.write(tmp_path / "two.wav", x, RATE, subtype="FLOAT")
        run(tmp_path / "two.wav", tmp_path / "out.wav", of(listens), overwrite=True)
        assert heard[-1].tolist() == pytest.approx([0.2 * np.sqrt(2)] * (2 if second else 1), rel=0.05)
        y = soundfile.read(tmp_path / "out.wav")[0]
        assert np.allclose(y, 0.5 * x, atol=1e-6)


def test_a_channel_too_quiet_to_be_heard_stays_as_it_is(tmp_path):
    x = np.stack([tone(RATE), 1e-7 * tone(RATE, hertz=900)], 1)
    soundfile.write(tmp_path / "two.wav", x, RATE, subtype="FLOAT")
    run(tmp_path / "two.wav", tmp_path / "out.wav", of(lambda x, t: 0.5 * x))
    y = soundfile.read(tmp_path / "out.wav", dtype="float32")[0]
    assert np.allclose(y[:, 0], 0.5 * x[:, 0], atol=1e-6)
    assert np.allclose(y[:, 1], x[:, 1], rtol=1e-3, atol=0)


def test_the_known_samples_alone_decide_the_loudness_of_gaps(tmp_path):
    heard: list[float] = []

    def listens(x, t, z=None):
        heard.append(float(x[x != 0].square().mean().sqrt()))
        return x

    x = tone(3 * RATE)
    for lost in (0.1, 0.6):
        for start in range(800, 2 * RATE, 800):
            x[start : start + int(800 * lost)] = 0
        soundfile.write(tmp_path / "gaps.wav", x, RATE, subtype="FLOAT")
        run(tmp_path / "gaps.wav", tmp_path / "out.wav", of(listens, "packet-loss:lost=0.3"), overwrite=True)
        assert heard[-1] == pytest.approx(0.2, rel=0.02)


def test_a_long_recording_shows_its_pieces(tmp_path, same, monkeypatch):
    from snowmelt.training.progress import Bar

    told: list[str] = []
    advance = Bar.advance
    monkeypatch.setattr(Bar, "advance", lambda self, n, **values: (told.extend(values.values()), advance(self, n, **values))[1])
    soundfile.write(tmp_path / "long.wav", tone(10 * RATE), RATE)
    run(tmp_path / "long.wav", tmp_path / "out.wav", same, bar=True)
    assert told == ["1/3", "2/3", "3/3"]


def test_shares_make_what_the_whole_makes_and_pieces_depend_on_nobody(folder, tmp_path):
    noisy = of(lambda x, t: x + 0.1 * torch.tanh(x))
    for i in (1, 2):
        run(folder, tmp_path / "parts", noisy, degrade=True, shard=(i, 2))
    run(folder, tmp_path / "whole", noisy, degrade=True, batch=None)
    names = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.wav"))
    assert len(names) == 6
    for name in names:
        one, other = (soundfile.read(tmp_path / place / name)[0] for place in ("parts", "whole"))
        assert np.abs(one - other).max() <= 2.0**-15


def test_one_file_becomes_the_file_that_is_named(folder, tmp_path, same):
    tally = run(folder / "a.wav", tmp_path / "new" / "clean.flac", same)
    assert tally.last == tmp_path / "new" / "clean.flac"
    assert soundfile.info(tally.last).subtype == "PCM_24"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["clean.flac"]
    assert run(folder / "a.wav", tmp_path / "new" / "clean.flac", same).kept == 1
    assert run(folder / "b.wav", None, same).last == folder / "b-restored.wav"
    with pytest.raises(ValueError, match="overwritten by its own restoration"):
        run(folder / "a.wav", folder / "a.wav", same)
    with pytest.raises(ValueError, match=r'clean.mp3: a recording cannot be written as ".mp3": use one of .wav, .flac'):
        run(folder / "a.wav", tmp_path / "clean.mp3", same)
    assert not (tmp_path / "clean.mp3").exists()
    (tmp_path / "named.dir").mkdir()
    assert run(folder / "a.wav", tmp_path / "named.dir", same).last == tmp_path / "named.dir" / "a.wav"


def test_what_is_degraded_here_is_scored(folder, tmp_path):
    entries: dict[str, dict] = {}
    clean = torch.from_numpy(tone(3 * RATE))
    soundfile.write(tmp_path / "one.wav", clean.numpy(), RATE)

    def knows(x, t):  # the projection on what was clean
        s = clean[: x.shape[-1]].to(x)
        return (x * s).sum(-1, keepdim=True) / (s * s).sum() * s

    run(tmp_path / "one.wav", tmp_path / "out.wav", of(knows), degrade=True, finished=lambda job, entry: entries.update({job.name.name: entry}))
    entry = entries["one.wav"]
    assert entry["degraded_si_sdr_db"] == pytest.approx(0, abs=0.2)
    assert entry["restored_si_sdr_db"] > 40
    degraded = soundfile.read(tmp_path / "out-degraded.wav")[0]
    s = clean.numpy().astype(np.float64)
    told = (s @ degraded) ** 2 / (s @ s)
    assert 10 * np.log10(told / ((degraded @ degraded) - told)) == pytest.approx(entry["degraded_si_sdr_db"], abs=0.2)


def test_a_degraded_recording_is_as_loud_as_the_model_knows_them(folder, tmp_path):
    heard: list[float] = []

    def listens(x, t):
        heard.append(float(x.square().mean().sqrt()))
        return x

    run(folder / "b.wav", tmp_path / "o.wav", of(listens))
    assert np.mean(heard[1:]) == pytest.approx(0.2 * np.sqrt(2), rel=0.05)
    del heard[:]
    run(folder / "b.wav", tmp_path / "p.wav", of(listens), severity=0.0)
    assert np.mean(heard[1:]) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(("n", "most"), [(1, 100), (100, 100), (101, 100), (1000, 100), (12_345, 800), (86_400_000, 32_000)])
def test_pieces_cover_everything_and_overlap(n, most):
    spans = pieces(n, most)
    assert spans[0][0] == 0
    assert spans[-1][1] == n
    assert len({stop - start for start, stop in spans}) == 1
    for (_, stop), (start, _) in itertools.pairwise(spans):
        assert stop - start >= most // 8
    assert all(stop - start <= most for start, stop in spans)


def test_pieces_fade_into_each_other(folder, tmp_path, monkeypatch):
    x = tone(1000)[:, None]
    assert np.allclose(crossed(x, x), x)
    assert abs(crossed(np.ones((9, 1), np.float32), np.zeros((9, 1), np.float32))[4, 0] - 0.5) < 1e-6
    counted: list[int] = []

    def steps(x, t):  # every piece is of another height
        counted.append(len(counted))
        return torch.full_like(x, 0.1 * (len(counted) % 2))

    soundfile.write(tmp_path / "long.wav", tone(20 * RATE), RATE)
    run(tmp_path / "long.wav", tmp_path / "out.wav", of(steps))
    y = soundfile.read(tmp_path / "out.wav")[0]
    assert len(counted) == 6
    assert np.ptp(y) > 0.05
    assert np.abs(np.diff(y)).max() < 0.001, "no click where pieces meet"


def test_lost_packets_are_seen(tmp_path):
    x = tone(4 * RATE)
    x[1000:1160] = 0
    x[9000:9480] = 0
    x[20_000:20_010] = 0  # too short to be one
    soundfile.write(tmp_path / "gaps.wav", x, RATE)
    with recordings.audio.File(tmp_path / "gaps.wav") as file:
        found = recordings.known(file, 500, 12_000, RATE)[0, 0].numpy()
        other = recordings.known(file, 250, 6000, RATE // 2)[0, 0].numpy()
    assert (found[:500] == 1).all()
    assert (found[501:659] == 0).all()
    assert (found[8501:8979] == 0).all()
    assert found.sum() == pytest.approx(12_000 - 640, abs=4)
    assert other.sum() == pytest.approx(6000 - 320 - 2 * 8, abs=4), "the filter rings on either side of a gap"


@pytest.mark.parametrize("rate", [RATE, 2 * RATE])
def test_pauses_are_no_gaps(tmp_path, rate):
    x = tone(2 * rate, rate)
    x[: rate // 10] = x[-rate // 10 :] = 0  # the ends
    x[rate // 2 : rate + rate // 10] = 0  # more than half a second
    soundfile.write(tmp_path / "pauses.wav", x, rate)
    with recordings.audio.File(tmp_path / "pauses.wav") as file:
        for start, n in ((0, 3 * RATE), (5000, 100), (RATE, 50), (2 * RATE - 10, 400)):
            assert recordings.known(file, start, n, RATE).all(), (start, n)


def test_a_channel_more_or_less(folder, tmp_path, same):
    from snowmelt.restorers import Restorer

    stereo = Restorer(same.degradation, build("wave-unet", "backbone"), (2, 4096)).eval()
    said: list[str] = []
    tally = run(folder, tmp_path / "out", of(stereo), say=said.append)
    assert any("a.wav: it is mono, and the model was trained on stereo" in line for line in said)
    assert (folder / "b.wav").name in {path.name for path in (tmp_path / "out").iterdir()}
    assert not any(failure.broken for failure in tally.failed if failure.source.name == "a.wav")


@pytest.mark.parametrize(
    ("option", "value"),
    [("mask", "m.png"), ("tile", 64), ("preview", 2), ("save_trajectory", True), ("colour", True), ("enlarge", 2), ("samples", 3)],
)
def test_options_of_pictures_are_refused(folder, tmp_path, same, option, value):
    (tmp_path / "m.png").touch()
    given = tmp_path / value if option == "mask" else value
    with pytest.raises(ValueError, match=rf"--{option.replace('_', '-')} is for pictures, and this model restores recordings"):
        run(folder, tmp_path / "out", same, **{option: given})
    assert not (tmp_path / "out").exists()


def test_pictures_and_recordings_are_not_confused(folder, tmp_path, same):
    from PIL import Image

    pictures = Model(build("gaussian-blur", "degradation"), lambda x, t: x)
    with pytest.raises(ValueError, match=r"a.wav is a recording, and this model restores pictures .*: give --model a run that was trained on sound"):
        run(folder / "a.wav", tmp_path / "out", pictures)
    with pytest.raises(ValueError, match="holds no picture .* but recordings"):
        run(folder, tmp_path / "out", pictures)
    Image.new("L", (8, 8)).save(tmp_path / "p.png")
    with pytest.raises(ValueError, match=r"p.png is a picture, and this model restores recordings"):
        run(tmp_path / "p.png", tmp_path / "out", same)
    with pytest.raises(ValueError, match="translate works on pictures, and this model was trained on recordings"):
        translate_folder(folder, model=same, out=tmp_path / "out")


def test_an_interrupted_run_goes_on_and_leaves_nothing_half(tmp_path, same):
    for i in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "in" / f"{i}.wav", tone(RATE, hertz=300 + i), RATE)
    calls: list[int] = []

    def stops(x, t):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return x

    with pytest.raises(Stopped, match="interrupted: 2 of 4 recordings are done"):
        run(tmp_path / "in", tmp_path / "out", of(stops))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.wav", "1.wav", "restored.jsonl"]
    tally = run(tmp_path / "in", tmp_path / "out", same)
    assert (tally.done, tally.kept) == (2, 2)


def test_a_recording_that_breaks_in_the_middle_is_named_and_leaves_nothing(tmp_path, same):
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * RATE)
    soundfile.write(tmp_path / "whole.flac", noise, RATE)
    content = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cut.flac").write_bytes(content[: len(content) // 2])
    tally = run(tmp_path / "in", tmp_path / "out", same)
    assert len(tally.failed) == 1
    assert tally.failed[0].broken
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["errors.jsonl"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path, same):
    minute = np.random.default_rng(0).normal(0, 0.1, 60 * RATE).astype(np.float32)
    soundfile.write(tmp_path / "short.wav", minute, RATE)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1) as file:
        for _ in range(180):
            file.write(minute)
    run(tmp_path / "short.wav", tmp_path / "a.wav", same)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally = run(tmp_path / "long.wav", tmp_path / "b.wav", same)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert tally.done == 1
    assert soundfile.info(tmp_path / "b.wav").frames == 180 * 60 * RATE
    assert grown < 150_000, f"{grown} KB more for three hours, which are 345 MB as floats"
