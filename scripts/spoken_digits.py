"""Arrange the Free Spoken Digit Dataset as the recipes of sound read it: one speaker for testing, whom no training hears.

    git clone https://github.com/Jakobovski/free-spoken-digit-dataset
    python scripts/spoken_digits.py free-spoken-digit-dataset/recordings data --test yweweler

``recordings`` holds DIGIT_SPEAKER_INDEX.wav. Two folders come of it, each with train/ and test/:

* ``digits``: the recordings as they are, one folder a digit;
* ``tracks``: four recordings of one speaker in a row, in an order drawn from a fixed seed and each brought to the same loudness: speech without
  the silence that a window of one short recording would have to be filled with.
"""

import argparse
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile

_IN_A_ROW = 4
_LEVEL = 0.1
_PEAK = 0.99


def arrange(recordings: Path, out: Path, test: str) -> dict[str, int]:
    """Write both folders; the number of recordings of every speaker.

    Raises:
        ValueError: there are no recordings of that name, none of the test speaker, or of nobody else.
    """
    files = sorted(path for path in recordings.glob("*_*_*.wav"))
    speakers: dict[str, list[Path]] = {}
    for path in files:
        speakers.setdefault(path.stem.split("_")[1], []).append(path)
    if test not in speakers or len(speakers) < 2:
        raise ValueError(f"{recordings} holds recordings of {', '.join(speakers) or 'nobody'}: --test needs one of at least two speakers")
    for speaker, own in speakers.items():
        split = "test" if speaker == test else "train"
        for path in own:
            target = out / "digits" / split / path.stem.split("_")[0] / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        random.Random(f"0 {speaker}").shuffle(own)
        for number, first in enumerate(range(0, len(own), _IN_A_ROW)):
            _join(own[first : first + _IN_A_ROW], out / "tracks" / split / f"{speaker}-{number:02d}.wav")
    return {speaker: len(own) for speaker, own in speakers.items()}


def _join(paths: list[Path], target: Path) -> None:
    pieces, rates = [], set()
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float64")
        rates.add(rate)
        pieces.append(samples * (_LEVEL / max(float(np.sqrt(np.mean(samples**2))), 1e-9)))
    if len(rates) > 1:
        raise ValueError(f"{paths[0].parent} holds recordings at {sorted(rates)} Hz: one rate is needed to join them")
    whole = np.concatenate(pieces)
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, whole * min(1.0, _PEAK / float(np.abs(whole).max())), rates.pop(), subtype="PCM_16")


def main() -> int:
    """Read the command line, arrange, say what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--test", required=True, metavar="SPEAKER", help="the one for testing")
    arguments = parser.parse_args()
    try:
        found = arrange(arguments.recordings, arguments.out, arguments.test)
    except (OSError, ValueError, soundfile.LibsndfileError) as error:
        print(f"spoken_digits: {error}", file=sys.stderr)
        return 2
    print(f"{', '.join(f'{name} {n:,}' for name, n in found.items())} recordings in {arguments.out}/digits and {arguments.out}/tracks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
