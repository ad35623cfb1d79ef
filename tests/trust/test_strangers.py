"""Directories and files that a stranger sent can be used or refused, and can do nothing else.

Each case is opened in a process that has everything imported (opening.py): refused in one line that names what was opened, in less than a second and
100 MB, with nothing imported or run from there, and nothing written anywhere. What is harmless is used, as silently.
"""

import gzip
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snowmelt import model, priors
from snowmelt.degradations import GaussianNoise
from snowmelt.files import write_json
from snowmelt.metrics.classifier import Classifier
from snowmelt.metrics.features import ClassifierFeatures, save_features
from snowmelt.model import Model
from snowmelt.registry import build
from snowmelt.restorers import Estimator, Restorer, UNet
from snowmelt.training.classifier import DegradedClassifier, save_classifier

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package, and two files share this one
from strangers import PICKLES, SHAPE, Cases, Evil, Opener, changed, link, moved_out, pickled, rehashed, repacked, scaled, text

# --- models, features, classifiers, reports, data -----------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small one of each kind, as snowmelt writes them."""
    root = tmp_path_factory.mktemp("sound")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        d = build("gaussian-blur:sigma_px=2")
        restorer = Restorer(d, UNet(widths=(8, 16), blocks=1), SHAPE).fit([torch.rand(8, *SHAPE)])
        prior = priors.GaussianMixture(grid=2).fit([torch.rand(40, *SHAPE)])
        state = dict(restorer.state_dict())
        model.save(Model(d, restorer, prior, estimator=Estimator(SHAPE, ["severity"])), root / "model", ema=state)
        noise = GaussianNoise(build("betas:steps=20", "schedule"))
        model.save(Model(noise, Restorer(noise, UNet(widths=(8,), blocks=1), SHAPE), priors.Normal(SHAPE)), root / "noise")
        several = build("choice:parts=(noise,gaussian-blur)")
        model.save(Model(several, Restorer(several, UNet(widths=(8,), blocks=1), SHAPE)), root / "choice")
        save_features(ClassifierFeatures(Classifier(1, 3, (4, 8), 6), "ours", "abc", SHAPE), root / "features")
        save_classifier(DegradedClassifier(noise, UNet(widths=(8,), blocks=1), SHAPE, ["a", "b"]), root / "classifier")
    (root / "report").mkdir()
    write_json(root / "report" / "evaluation.json", {"rows": [{"method": "direct", "input": "float", "rmse": 0.1}], "facts": {}, "verdict": ["fine"]})
    (root / "data").mkdir()
    np.savez_compressed(root / "data" / "x.npz", x0=np.arange(40 * 64, dtype=np.uint8).reshape(40, 8, 8))
    return {path.name: path for path in root.iterdir()}


def models(cases: Cases, sound: dict[str, Path], mark: Path) -> None:
    """Hostile variants of a model's directory."""
    of, info = sound["model"], "model.json"

    def bad(name: str, do: Callable[[Path], object], **options: Any) -> None:
        cases.add(name, "model", do, of=options.pop("of", of), **options)

    for name in PICKLES:
        bad(f"a pickle beside it, {name}", pickled(name, mark), used=True)
    bad("a pickle as its weights", rehashed("ema", lambda path: path.write_bytes(pickle.dumps(Evil(mark)))))
    bad("a pickle of torch as its weights", rehashed("ema", lambda path: torch.save({"net": Evil(mark)}, path)))
    bad("a pickle as model.json", pickled(info, mark))
    for word in ("os.system", "torch.nn.Linear", "__import__", "evil", "evil:Network", "evil.py", "../evil", "builtins.eval", "Unet\n", "a" * 10**6):
        bad(f"the backbone {word[:20]!r}", changed(info, restorer__backbone={"name": word}))
        bad(f"the degradation {word[:20]!r}", changed(info, degradation={"name": word}))
    bad("a class path as a field", changed(info, restorer__backbone={"name": "unet", "_class_name": "torch.nn.Linear", "__class__": "os.system"}))
    bad("a plug-in in the description", changed(info, restorer__backbone={"name": "unet", "plugin": "evil.py"}))
    bad("a plug-in beside the description", changed(info, plugin="evil.py", plugins=["evil"]), used=True)
    bad("notes that name files", changed(info, notes={"recipe": {"data": {"path": "/etc/passwd", "fit": "../.."}}, "init": "/etc"}), used=True)
    bad("notes of the wrong form", changed(info, notes={"recipe": {"data": 7}, "init": [1]}), used=True)
    bad("notes that are a list", changed(info, notes=[1]))
    bad("classes that are no names", changed(info, notes={"classes": [[1], {}]}))
    for target in ("../weights.safetensors", "/etc/passwd", "..", ".", "", "a\0b", "x/../../y", "w" * 10**5, "\n", 7, None, ["a"], {"a": 1}):
        for group in ("ema", "prior", "estimator"):
            bad(f"{group} in {target!r:.30}", changed(info, **{f"files__{group}": {"file": target, "sha256": "0" * 64}}))
    for target in ("/etc/passwd", "/dev/zero", "/dev/stdin", "../../../../../../etc/hostname", "ema-000000000000.safetensors"):
        bad(f"weights that are a link to {target}", link("ema-*", target))
        bad(f"a description that is a link to {target}", link(info, target))
    bad("weights that lie elsewhere", moved_out("ema-*"))
    bad("a description that lies elsewhere", moved_out(info))
    bad("links that lead in a circle", lambda place: (link("ema-*", "loop")(place), (place / "loop").symlink_to("loop")))
    bad("a link within the directory", lambda place: (next(place.glob("ema-*")).rename(place / "blob") and None) or
        (place / json.loads((place / info).read_text())["files"]["ema"]["file"]).symlink_to("blob"), used=True)  # fmt: skip
    bad("a fifo as description", lambda place: ((place / info).unlink(), os.mkfifo(place / info)))
    twice = lambda place: (place / info).write_text('{"format": 1,' + (place / info).read_text().lstrip("{"))  # noqa: E731
    bad("a description that says format twice", twice)
    for name, data in {
        "empty": b"", "null": b"null", "a list": b"[]", "binary": b"\x80\x81", "deep": b'{"a":' * 100_000, "deep lists": b"[" * 10**6,
        "many lists": b"[" + b"[]," * 10**6 + b"[]]", "many values": b"[" + b"1," * 10**6 + b"1]", "digits": b'{"format": ' + b"9" * 10**6 + b"}",
        "many digits": b'{"format": 1' + b"0" * 400 + b"}", "a long string": b'"' + b"x" * 9_000_000 + b'"', "too long": b" " * 20_000_000,
        "wide letters": json.dumps("\U0001f600" * 10**6, ensure_ascii=False).encode(), "NaN": b'{"format": NaN}', "keys": b'{"":1,"":1}',
    }.items():  # fmt: skip
        bad(f"a description that is {name}", text(info, data))
    for widths in ([10**9], [4096] * 10, [8] * 10**5, [0], [-8], [8.5], ["8"], [True], [], 8, [10**39], [[8]], {"8": 8}, None):
        bad(f"widths {widths!r:.30}", changed(info, restorer__backbone={"name": "unet", "widths": widths}))
    bad("blocks without end", changed(info, restorer__backbone={"name": "unet", "widths": [4096] * 10, "blocks": 16, "patch": 16}))
    bad("a local network without end", changed(info, restorer__backbone={"name": "local-unet", "widths": [4096] * 10, "blocks": 16, "patch": 16}))
    bad("no network, where weights are", changed(info, restorer__backbone={"name": "zero"}))
    vast = [[1, 10**9, 10**9], [10**12, 8, 8], [1, 65_536, 65_536], [1, 8192, 8192]]
    for shape in (*vast, [1, -8, 8], [1, 0, 8], [], [1], [1, 8, 8, 8], "188", [1, 8, 8.0], None):
        bad(f"shape {shape}", changed(info, restorer__shape=shape))
    for entry, values in {
        "noise_floor": (float("inf"), float("nan"), 10**30, -1, "0", None, [0]), "input": ("16bit", 8, None, ["8bit"]),
        "range": ([0], [], "01", [1e300, 0], None), "estimates": ("mode", "consistency(2)", 7, None), "prior": ("evil", 7, {"name": "evil"}, {}),
        "estimator": (7, {}, "evil"), "files": (None, 7, [], {}), "degradation": (None, 7, [], {}), "restorer": (None, 7, [], {}),
    }.items():  # fmt: skip
        for value in values:
            bad(f"{entry} = {value!r}", changed(info, **{entry: value}))
    for conditions in ({"classes": 10**12}, {"classes": -1}, {"classes": 100_000}, {"vector": 10**9}, {"evil": 1}, 7):
        bad(f"conditions {conditions}", changed(info, restorer__conditions=conditions))
    large: tuple[dict[str, Any], ...] = ({"widths": [4096] * 3, "hidden": 4096}, {"widths": [10**9] * 3}, {"hidden": 10**12})
    for sizes in (*large, {"unknowns": ["a"] * 10**4}, {"shape": [10**5] * 3}, {"shape": [1]}):
        whole = {"shape": [1, 8, 8], "unknowns": ["severity"], "local": [], "widths": [32, 64, 96], "hidden": 96}
        bad(f"an estimator of {sizes!r:.40}", changed(info, estimator={**whole, **sizes}))
    for spec in (
        {"name": "noise", "schedule": {"name": "betas", "steps": 10**12}}, {"name": "recursive-blur", "steps": 10**12},
        {"name": "recursive-blur", "kernel_size": 10**9}, {"name": "gaussian-blur", "sigma_px": 1e400}, {"name": "gaussian-blur", "sigma_px": 10**39},
        {"name": "fade-mask", "steps": 10_000, "routine": "random", "kernel_std": 1000}, {"name": "snow", "steps": 10**9},
        {"name": "compose", "parts": []},
        {"name": "choice", "parts": [{"name": "noise"}] * 10**4}, {"name": "pixelate", "levels": 10**9}, {"name": "resample", "factor": 10**9},
    ):  # fmt: skip
        bad(f"the degradation {spec!r:.60}", changed(info, degradation=spec))
    deep: dict[str, Any] = {"name": "noise"}
    for _ in range(200):
        deep = {"name": "compose", "parts": [deep]}
    bad("degradations in degradations", changed(info, degradation=deep))
    nested = "choice:parts=(" * 300 + "noise" + ")" * 300
    bad("a spec in parentheses in parentheses", changed(info, degradation={"name": "choice", "parts": [nested]}))
    bad("weights of NaN", rehashed("ema", scaled(float("nan"))))
    bad("weights of infinity", rehashed("ema", scaled(float("inf"))))
    bad("an estimator of NaN", rehashed("estimator", scaled(float("nan"))))
    bad("a prior of NaN", rehashed("prior", scaled(float("nan"))))
    bad("weights of nothing", rehashed("ema", repacked()))
    bad("weights of another network", rehashed("ema", repacked(a=torch.zeros(3))))
    bad("weights as large as a disk", lambda place: os.truncate(next(place.glob("ema-*")), 2**32))  # to read them would take seconds
    grown = {"weights": (1,), "means": (1, 4), "roots": (1, 4, 4), "rows": (3000, 2), "columns": (3000, 2), "explained": ()}
    bad("a prior of vast pictures", rehashed("prior", repacked(**{name: torch.zeros(s, dtype=torch.float64) for name, s in grown.items()})))
    bad("a normal prior of vast pictures", changed(info, prior={"name": "normal", "shape": [1, 10**6, 10**6]}), of=sound["noise"])
    cases.add("a part that is a class path", "part", changed(info, degradation=["choice"]), of=sound["choice"])


def others(cases: Cases, sound: dict[str, Path], mark: Path) -> None:
    """Hostile variants of features, classifiers, reports, journals and data."""
    for kind, info in (("features", "features.json"), ("classifier", "classifier.json")):
        of = sound[kind]
        for target in ("../w.safetensors", "/etc/passwd", "w" * 10**5, 7):
            cases.add(f"{kind} in {target!r:.30}", kind, changed(info, weights={"file": target, "sha256": "0" * 64}), of=of)
        for target in ("/etc/passwd", "/dev/zero"):
            cases.add(f"{kind} whose weights are a link to {target}", kind, link("weights-*", target), of=of)
            cases.add(f"{kind} whose description is a link to {target}", kind, link(info, target), of=of)
        cases.add(f"{kind} of NaN", kind, rehashed("weights", scaled(float("nan")), info), of=of)
        cases.add(f"{kind} that is a pickle", kind, rehashed("weights", lambda path: torch.save(Evil(mark), path), info), of=of)
        cases.add(f"{kind} of vast pictures", kind, changed(info, shape=[1, 10**9, 10**9]), of=of)
        cases.add(f"{kind} of many lists", kind, text(info, b"[" + b"[]," * 10**6 + b"[]]"), of=of)
    cases.add("features without end", "features", changed("features.json", widths=[4096] * 8, dims=4096), of=sound["features"])
    for backbone in ({"name": "os.system"}, {"name": "unet", "widths": [4096] * 10, "blocks": 16}, "evil", None):
        cases.add(f"a classifier of {backbone!r:.50}", "classifier", changed("classifier.json", backbone=backbone), of=sound["classifier"])
    for name, rows in {"numbers": [1], "a word": "rows", "nothing": None, "methods": [{"method": 7, "input": "float"}], "digits": [10**50]}.items():
        cases.add(f"a report of {name}", "report", changed("evaluation.json", rows=rows), of=sound["report"], file="evaluation.json")
    hostile = [b"[" * 10**6]
    hostile += [b'{"settings": [1], "are": {}}\n', b'{"output": {}}\n{"input": 7}\n', b"9" * 10**6, b"\xff\xfe\n" * 1000, b'{"settings": ']
    for i, data in enumerate(hostile):
        cases.add(f"journals, {i}", "journal", lambda p, d=data: [(p / n).write_bytes(d) for n in ("metrics.jsonl",)], used=True)

    class Object:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {mark}",)

    def objects(place: Path) -> None:
        np.save(place / "x.npy", np.array([Object()], dtype=object), allow_pickle=True)

    def member(place: Path) -> None:
        with zipfile.ZipFile(place / "x.npz", "w") as archive:
            archive.writestr("x0.npy", pickle.dumps(Evil(mark)))

    def bomb(place: Path) -> None:
        with zipfile.ZipFile(place / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x0.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (3000, 256, 256)})
            for _ in range(300):
                stream.write(bytes(10 * 256 * 256))

    def flood(place: Path) -> None:
        with gzip.open(place / "train-idx3-ubyte.gz", "wb", compresslevel=9) as stream:
            stream.write(b"\0\0\x08\x03" + struct.pack(">3I", 3000, 256, 256))
            for _ in range(300):
                stream.write(bytes(10 * 256 * 256))

    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (10**6, 10**6), }"
    cases.add("an array of objects", "data", objects, file="x.npy")
    cases.add("a pickle in an archive", "data", member, file="x.npz")
    cases.add("a pickle as an array", "data", pickled("x.npy", mark), file="x.npy")
    cases.add("a pickle as an archive", "data", pickled("x.npz", mark), file="x.npz")
    cases.add("code in a header", "data", text("x.npy", header.replace(b"10**6", b"__import__('os').system('touch pwned')")), file="x.npy")
    cases.add("sizes that are not there", "data", text("x.npy", header.replace(b"10**6, 10**6", b"1000000, 1000000")), file="x.npy")
    cases.add("a zip bomb", "data", bomb, file="x.npz")
    cases.add("a gzip bomb", "data", flood, file="train-idx3-ubyte.gz")


def test_models(sound: dict[str, Path], tmp_path: Path, opener: Opener, figure: Callable[[str, str], None]) -> None:
    cases, mark = Cases(tmp_path / "cases"), tmp_path / "pwned"
    for kind in ("model", "features", "classifier"):
        cases.sound.append((kind, str(sound[kind])))
    cases.sound += [("model", str(sound["noise"])), ("part", str(sound["choice"])), ("report", str(sound["report"] / "evaluation.json"))]
    cases.sound += [("data", str(sound["data"] / "x.npz"))]
    models(cases, sound, mark)
    others(cases, sound, mark)
    said = cases.judged(opener)
    assert not list(tmp_path.rglob("pwned"))
    figure("strangers-models", said)


def test_a_run_directory_may_itself_be_a_link(sound: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(sound["model"])
    assert model.load(tmp_path / "run").prior is not None


