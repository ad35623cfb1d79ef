"""Sound and scans as they are seen and heard: the right thing at the right place, on one scale, and never too loud."""

import base64
import io
import math
import re

import pytest
import soundfile
import torch
from torch import Tensor

from snowmelt import pictures
from snowmelt.pictures import page
from snowmelt.pictures.colours import MAGMA, VIRIDIS, coloured
from snowmelt.pictures.sound import ACROSS, BINS, LOUDEST, PEAK, audible, wav_bytes
from snowmelt.sensor import encode
from snowmelt.signals import PICTURE, Scan, Sound

SOUND = Sound(rate_hz=8000)
SCAN = Scan(rings=16, azimuths=64, up_deg=10, down_deg=-10)


def sine(hertz: float, n: int = 4096, amplitude: float = 0.5) -> Tensor:
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(n) / SOUND.rate_hz)[None, None]


def wall(metres: float = 10.0, *, ahead: float | None = None) -> Tensor:
    """Everything at one distance, but for the middle columns, straight ahead, at another; behind, nothing."""
    r = torch.full((16, 64), metres)
    r[:, 28:36] = metres if ahead is None else ahead
    r[:, :8] = 0
    return encode(r, torch.full_like(r, 0.5), SCAN)[None]


def light(x: Tensor) -> Tensor:
    """How bright a picture is, (b, h, w)."""
    return x.mean(1)


def test_lightness_rises_along_every_map_and_nan_stays() -> None:
    for points in (MAGMA, VIRIDIS):
        steps = coloured(torch.linspace(0, 1, 50), points) @ torch.tensor([0.2126, 0.7152, 0.0722])
        assert bool((steps.diff() > 0).all())
        assert torch.equal(coloured(torch.tensor([-3.0, 7.0]), points), coloured(torch.tensor([0.0, 1.0]), points))
    assert bool(coloured(torch.tensor(math.nan), MAGMA).isnan().all())


@pytest.mark.parametrize("hertz", [500, 2000, 3500])
def test_a_sine_is_a_line_at_its_frequency_upwards(hertz: float) -> None:
    seen = pictures.seen(sine(hertz), SOUND)
    assert seen.shape[1:] == (3, BINS + 33, ACROSS)
    row = int(light(seen)[0, :BINS, ACROSS // 2].argmax())
    assert abs((BINS - 1 - row) / (BINS - 1) * 4000 - hertz) <= 4000 / (BINS - 1)


def test_time_goes_to_the_right_in_spectrogram_and_waveform() -> None:
    x = sine(1000)
    x[..., :2048] = 0
    seen = light(pictures.seen(x, SOUND))[0]
    spectrogram, wave = seen[:BINS], seen[-31:]
    for part in (spectrogram, wave):
        assert float(part[:, 160:240].mean()) > float(part[:, 16:100].mean()) + 0.02


def test_all_spectrograms_have_one_scale() -> None:
    loud, soft = pictures.seen(sine(1000, amplitude=0.5), SOUND), pictures.seen(sine(1000, amplitude=0.005), SOUND)
    assert float(light(loud)[:, :BINS].max()) > float(light(soft)[:, :BINS].max()) + 0.3
    both = pictures.seen(torch.cat([sine(1000), sine(1000, amplitude=0.005)]), SOUND)
    assert torch.allclose(both[:1], loud, atol=1e-5)


@pytest.mark.parametrize("n", [1, 40, 300, 4096, 50_000])
def test_recordings_of_any_length_stereo_and_silence(n: int) -> None:
    x = torch.cat([sine(900, n), sine(300, n)], 1)
    assert pictures.seen(x, SOUND).shape == (1, 3, BINS + 33, ACROSS)
    assert bool(pictures.seen(torch.zeros(2, 1, n), SOUND).isfinite().all())


def test_what_is_no_batch_of_that_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch of recordings"):
        pictures.seen(torch.zeros(1, 1, 8, 8), SOUND)
    with pytest.raises(ValueError, match="no batch of scans"):
        pictures.seen(torch.zeros(1, 1, 8, 8), SCAN)
    with pytest.raises(ValueError, match="NaN"):
        pictures.show(sine(900) * math.nan, signal=SOUND)
    x = torch.rand(2, 1, 8, 8)
    assert pictures.seen(x, PICTURE) is x


def test_near_is_bright_far_is_dark_and_nothing_is_black() -> None:
    seen = light(pictures.seen(wall(10.0, ahead=40.0), SCAN))[0]
    assert seen.shape == (128, 1024)
    behind, beside, ahead = (float(seen[:, column].mean()) for column in (60, 300, 512))
    assert behind == -1
    assert beside > ahead > behind + 0.1
    assert float(light(pictures.seen(wall(3.0), SCAN))[0, 64, 512]) > beside


def test_from_above_ahead_is_up_and_left_is_left() -> None:
    x = wall(10.0)
    x[..., 16:] = -1  # what remains is behind, to the left: columns go clockwise from straight behind
    view = pictures.birds_eye(x, SCAN, size_px=64, reach_m=20)
    points = (light(view) > -0.7)[0]
    points[30:34, 30:34] = False  # the sensor
    rows, columns = points.nonzero().unbind(1)
    assert len(rows) >= 5
    assert bool((columns < 32).all())
    assert bool((rows >= 31).all())
    assert torch.equal(pictures.birds_eye(torch.full_like(x, -1), SCAN)[0], pictures.birds_eye(torch.full_like(x, -1), SCAN)[0])


def test_sheets_of_scans_stand_one_below_the_other_and_of_sound_side_by_side() -> None:
    x = torch.cat([wall(5), wall(9)])
    stacked = pictures.grid({"Degraded": x, "Clean": x}, rows=["one", "two"], signal=SCAN)
    assert stacked.height > 4 * 128 > stacked.width / 4
    assert stacked.width < 2 * 1024
    heard = pictures.grid({"Degraded": sine(900), "Clean": sine(900)}, signal=SOUND)
    assert 2 * ACROSS < heard.width < 3 * ACROSS
    assert pictures.show(sine(900)[0], signal=SOUND).size == pictures.show(sine(900), signal=SOUND).size
    assert pictures.portraits(x, SCAN).shape == (2, 3, 258, 1024 + 2 + 258)
    assert pictures.gif_bytes([x, x], ["a", "b"], signal=SCAN).startswith(b"GIF8")


@pytest.mark.parametrize("x", [torch.randn(1, 4000) * 1e6, torch.full((2, 100), math.nan), torch.full((1, 10), math.inf), torch.ones(1, 10)])
def test_nothing_that_is_played_hurts(x: Tensor) -> None:
    held, rate = soundfile.read(io.BytesIO(wav_bytes(x, 8000)), always_2d=True)
    assert (held.shape, rate) == ((x.shape[1], x.shape[0]), 8000)
    assert abs(held).max() <= PEAK + 1e-4
    assert (held**2).mean() ** 0.5 <= LOUDEST + 1e-3


def test_what_is_quiet_enough_is_played_as_it_is() -> None:
    x = sine(440, amplitude=0.28)[0]
    assert torch.equal(audible(x), x)
    assert soundfile.info(io.BytesIO(wav_bytes(x, 8000))).subtype == "PCM_16"


def test_a_listening_grid_has_a_player_for_each_and_asks_for_nothing() -> None:
    x = torch.cat([sine(440), sine(880), sine(1320)])
    html = page.page("Heard", [page.listening({"Degraded": x, "Clean <x>": x}, SOUND, rows=["a", "b", "<c>"], caption=pictures.explained(SOUND))])
    assert html.count("<audio") == html.count("<img") == 6
    assert "media-src data:" in html
    assert "Clean &lt;x&gt;" in html
    assert "0 to 4 kHz" in html
    assert all(address.startswith("data:") for address in re.findall(r'(?:src|href)="([^"]*)"', html))
    first = re.search(r'src="data:audio/wav;base64,([^"]*)"', html)
    assert first is not None
    held, _ = soundfile.read(io.BytesIO(base64.b64decode(first.group(1))))
    assert len(held) == 4096
    assert page.players(x, SOUND, columns=2, rows=["one", "two"]).count("<tr>") == 2
    with pytest.raises(ValueError, match="one name for each|give one for each"):
        page.players(x, SOUND, columns=2, rows=["one"])
    with pytest.raises(ValueError, match="same number"):
        page.listening({"a": x, "b": x[:2]}, SOUND)
