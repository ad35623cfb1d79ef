"""Put a trained classifier into the package as shipped features: checked, versioned, with its card.

    snowmelt train-features --data DIR --name mnist --epochs 6 --out runs/mnist-features
    python scripts/ship_features.py runs/mnist-features mnist-v1 --data MNIST --licence "CC BY-SA 3.0 as commonly stated (LeCun, Cortes)"

A version never changes once it is released: better weights are ``-v2``, and scores keep the name of what they were computed with.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from snowmelt.files import read_json, write_text
from snowmelt.metrics.features import INFO, SHIPPED, ClassifierFeatures, load_features, save_features

CARD = """# {name}: features of {data}

A small classifier whose {dims} features compare sets of pictures. The distance in them is called **FD-{name}**.
It is not FID and compares with no FID.

- test accuracy: {accuracy:.2%} of {test:,} pictures, all of the official test set; the number of passes was settled after one look at it
- trained on the {train:,} official training pictures at {shape}, {epochs} passes, seed {seed}, mirrored: {flip}
- recipe: `src/snowmelt/training/features.py`, by `snowmelt train-features --name {base} --epochs {epochs}{flag}`, commit {commit}
- torch {torch}, {minutes} minutes on {device} that was busy with other work
- data: {data}; licence of the data: {licence}
- weights: `{file}`, float16, SHA-256 `{sha256}`

Pictures of any size are resized to {shape} and turned grey. It knows what it was trained on: for pictures of other things its numbers mean little.
"""


def ship(source: Path, name: str, data: str, licence: str, out: Path = SHIPPED, commit: str | None = None) -> Path:
    """Copy the features in `source` to `out`/`name` under a version; the directory written.

    Raises:
        ValueError: `name` is not that of the source and a version, or that version is there with other weights.
    """
    features, info = load_features(source), read_json(source / INFO)
    found = re.fullmatch(r"(.+)-v([1-9][0-9]*)", name)
    if not isinstance(features, ClassifierFeatures) or found is None or found[1] != info["name"]:
        raise ValueError(f"{source} holds features of {info['name']}: call them {info['name']}-v1, not {name}")
    there = out / name / INFO
    if there.is_file() and read_json(there)["weights"]["sha256"] != info["weights"]["sha256"]:
        raise ValueError(f"{name} has been released with other weights: take the next version")
    notes: dict[str, Any] = {**features.notes, "data": data, "licence": licence}
    if commit is not None:
        notes["trained_with"] = {**notes["trained_with"], "commit": commit}
    plain = ClassifierFeatures(features.net, info["name"], features.classes or (), features.shape, notes)
    save_features(plain, out / name, release=int(found[2]))
    write_text(out / name / "README.md", _card(name, read_json(there)))
    return out / name


def _card(name: str, info: dict[str, Any]) -> str:
    notes, recipe, machine = info["notes"], info["notes"]["recipe"], info["notes"]["trained_with"]
    c, h, w = info["shape"]
    flip = {"flip": "yes", "flag": " --flip"} if recipe["flip"] else {"flip": "no", "flag": ""}
    counts = {"accuracy": notes["test_accuracy"], "test": notes["test_pictures"], "train": notes["train_pictures"], "minutes": notes["minutes"]}
    made = {"epochs": recipe["epochs"], "seed": recipe["seed"], **{key: machine[key] for key in ("commit", "torch", "device")}}
    said = {"name": name, "base": info["name"], "dims": info["dims"], "shape": f"{w} x {h} px, {c} channel{'s' if c > 1 else ''}"}
    return CARD.format(**said, **flip, **counts, **made, **info["weights"], data=notes["data"], licence=notes["licence"])


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--commit", help="of the recipe, if the weights were trained before it was committed")
    given = parser.parse_args()
    try:
        print(ship(given.source, given.name, given.data, given.licence, commit=given.commit))
    except (ValueError, OSError) as error:
        print(f"ship_features: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
