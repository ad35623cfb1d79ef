"""Recipes, directories of diffusers and tensors that a stranger sent: used or refused, and nothing else (see test_strangers.py)."""

import json
import os
import pickle
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package, and two files share this one
from strangers import Cases, Opener, changed, link, moved_out, pickled, repacked, scaled, text

# --- recipes ---------------------------------------------------------------------------------------------------

PLAIN = 'degradation = "gaussian-blur"\n[data]\npath = "bundled:digits"\n[model]\nbackbone = "unet:widths=(8),blocks=1"\n'
RECIPES: dict[str, str | bytes] = {
    "a plug-in": PLAIN.replace("[data]", 'plugin = "evil.py"\n[data]', 1),
    "plug-ins": PLAIN + 'plugins = ["evil.py"]\n',
    "a plug-in table": PLAIN + '[plugin]\npath = "evil.py"\n',
    "a plug-in in a spec": PLAIN.replace("gaussian-blur", "evil.py:blur"),
    "a class path": PLAIN.replace("gaussian-blur", "os.system"),
    "an import": PLAIN.replace("gaussian-blur", "__import__('os').system('touch pwned')"),
    "a class path as backbone": PLAIN.replace("unet:widths=(8),blocks=1", "torch.nn.Linear:in_features=1"),
    "a class path as a loss": PLAIN + '[training]\nloss = "evil.loss"\n',
    "a name with a new line": PLAIN.replace("gaussian-blur", "gaussian\\nblur"),
    "a base that is none": 'base = "../../../../etc/passwd"\n' + PLAIN,
    "a base that is a folder": 'base = "/etc"\n' + PLAIN,
    "a base that is a device": 'base = "/dev/zero"\n' + PLAIN,
    "a base that is a number": "base = 7\n" + PLAIN,
    "a base with a null": 'base = "a\\u0000b"\n' + PLAIN,
    "a base that is itself": 'base = "recipe.toml"\n' + PLAIN,
    "widths of 10^9": PLAIN.replace("(8)", "(1000000000)"),
    "terabytes": PLAIN.replace("widths=(8),blocks=1", "widths=(4096,4096,4096,4096,4096,4096,4096,4096),blocks=16"),
    "a hundred thousand levels": PLAIN.replace("(8)", f"({'8,' * 10_000})"),
    "pictures of 10^9 px": PLAIN.replace("[model]", "size = 1_000_000_000\n[model]"),
    "a size beyond all floats": PLAIN.replace("[model]", f"size = 0x{'f' * 5000}\n[model]"),
    "a rate beyond all floats": PLAIN + f"[training]\nlr = 0x{'f' * 500}\n",
    "a rate of 5,000 digits": PLAIN + f"[training]\nlr = {'9' * 5000}\n",
    "an infinite rate": PLAIN + "[training]\nlr = inf\n",
    "a rate that is no number": PLAIN + "[training]\nlr = nan\n",
    "images without end": PLAIN + "[training]\nimages = -9223372036854775808\n",
    "a warm-up of 1e400": PLAIN + "[training]\nwarmup = 1e400\n",
    "T = 10^12": PLAIN.replace("gaussian-blur", "noise:schedule=betas(steps=1000000000000)"),
    "a kernel of 10^9": PLAIN.replace("gaussian-blur", "recursive-blur:kernel_size=1000000001"),
    "a blur of 1e400": PLAIN.replace("gaussian-blur", "gaussian-blur:sigma_px=1e400"),
    "steps of 10^12": PLAIN.replace("gaussian-blur", "recursive-blur:steps=1000000000000"),
    "a walk of 10^12": PLAIN + '[evaluation]\nsamplers = ["tacos:steps=1000000000000"]\n',
    "a walk that is a path": PLAIN + '[evaluation]\nsamplers = ["../evil.py"]\n',
    "ten thousand parts": PLAIN.replace("gaussian-blur", "+".join(["grey"] * 10_000)),
    "parts in parts": PLAIN.replace("gaussian-blur", "choice:parts=(" * 500 + "grey" + ")" * 500),
    "a long word": PLAIN.replace("gaussian-blur", "g" * 60_000),
    "plus signs": PLAIN.replace("gaussian-blur", "+" * 60_000),
    "e+ e+ e+": PLAIN.replace("gaussian-blur", "mask:width=" + "1e+" * 19_000),
    "quotes": PLAIN.replace("gaussian-blur", '\\"' * 20_000),
    "a key of many words": "a." * 30_000 + "a = 1\n" + PLAIN,
    "a table of many words": PLAIN + "[" + "a." * 30_000 + "a]\n",
    "a key of many quoted words": '"=".' * 12_000 + "a = 1\n" + PLAIN,
    "an inline table of many words": "a = {" + "a." * 30_000 + "a = 1}\n" + PLAIN,
    "lists in lists": "a = " + "[" * 30_000 + "]" * 30_000 + "\n" + PLAIN,
    "tables in tables": "a = " + "{a = " * 10_000,
    "many lists": "a = [" + "[]," * 20_000 + "]\n" + PLAIN,
    "many tables": PLAIN + "".join(f"[a{i}]\n" for i in range(5000)),
    "too long": PLAIN + "#" * 10_000_000,
    "two degradations": PLAIN.replace("[data]", 'degradation = "noise"\n[data]', 1),
    "data twice": PLAIN + "[data]\n",
    "a table for a word": "[degradation]\nname = \"os.system\"\n",
    "a deep table for a word": "[degradation.name.name.name]\nname = 1\n",
    "a list for a table": "data = [1]\n" + PLAIN.replace("[data]\npath", "about"),
    "binary": b"\x80\x04\x95" + bytes(range(256)),
    "a pickle": pickle.dumps({"degradation": "noise"}),
    "empty": b"",
    "UTF-16": PLAIN.encode("utf-16"),
    "a null": PLAIN.replace("digits", "di\0gits"),
}  # fmt: skip


def test_recipes(tmp_path: Path, opener: Opener, figure: Callable[[str, str], None]) -> None:
    cases = Cases(tmp_path / "cases")
    (tmp_path / "sound.toml").write_text(PLAIN)
    cases.sound.append(("recipe", str(tmp_path / "sound.toml")))
    for name, data in RECIPES.items():
        cases.add(name, "recipe", text("recipe.toml", data), file="recipe.toml")
    cases.add("a fifo", "recipe", lambda place: os.mkfifo(place / "recipe.toml"), file="recipe.toml")
    cases.add("a device", "recipe", lambda place: (place / "recipe.toml").symlink_to("/dev/zero"), file="recipe.toml")
    said = cases.judged(opener)
    assert not list(tmp_path.rglob("pwned"))
    figure("strangers-recipes", said)


# --- directories of diffusers -----------------------------------------------------------------------------------

INDEX, UNET, SCHEDULER = "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def theirs(path: Path) -> None:
    """A directory that diffusers itself wrote."""
    diffusers = pytest.importorskip("diffusers", reason="these tests open what diffusers writes: pip install 'snowmelt[test]'")
    sizes = {"block_out_channels": (8, 16), "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = diffusers.UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4, **sizes)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=12, beta_start=0.001, beta_end=0.4, clip_sample=False)
    diffusers.DDPMPipeline(net, scheduler).save_pretrained(path)


def test_diffusers(tmp_path: Path, opener: Opener, figure: Callable[[str, str], None]) -> None:
    cases, of, mark = Cases(tmp_path / "cases"), tmp_path / "sound", tmp_path / "pwned"
    theirs(of)
    cases.sound.append(("diffusers", str(of)))

    def bad(name: str, do: Callable[[Path], object]) -> None:
        cases.add(name, "diffusers", do, of=of)

    for folder in ("", "unet/", "scheduler/"):
        for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pt", "last.ckpt", "x.PKL"):
            bad(f"a pickle {folder}{name}", pickled(folder + name, mark))
    bad("a pickle as weights", pickled(WEIGHTS, mark))
    for file in (INDEX, UNET, SCHEDULER):
        bad(f"a pickle as {file}", pickled(file, mark))
        for target in ("/etc/passwd", "/dev/zero", "../../../../../etc/hostname"):
            bad(f"{file} that is a link to {target}", link(file, target))
        bad(f"{file} that lies elsewhere", moved_out(file))
        many, deep = b"[" + b"[]," * 300_000 + b"1]", b'{"a":' * 10**5
        for name, data in {"deep": deep, "many lists": many, "long": b" " * 2 * 10**7, "twice": b'{"a":1,"a":2}'}.items():
            bad(f"{file} that is {name}", text(file, data))
    bad("weights that lie elsewhere", moved_out(WEIGHTS))
    bad("weights that are a link", link(WEIGHTS, "/etc/passwd"))
    for word in ("evil_module", "os", "torch.nn", "subprocess", "../evil", "diffusers.evil"):
        bad(f"a network of the module {word}", changed(INDEX, unet=[word, "UNet2DModel"]))
        bad(f"a pipeline {word}", changed(INDEX, _class_name=word))
        bad(f"a pipeline in {word}", changed(INDEX, _class_name=[word, "Pipeline"]))
        bad(f"a network {word}", changed(UNET, _class_name=word))
        bad(f"a scheduler {word}", changed(SCHEDULER, _class_name=word))
        bad(f"an activation {word}", changed(UNET, act_fn=word))
        bad(f"one part more, of {word}", changed(INDEX, safety_checker=[word, "Checker"]))
    bad("code of its own", changed(UNET, auto_map={"AutoModel": "evil.Network"}))
    for name, entries in {
        "widths of 10^12": {"block_out_channels": [8, 10**12]}, "terabytes": {"block_out_channels": [4096] * 2, "layers_per_block": 16},
        "forty levels": {"block_out_channels": [8] * 40}, "pictures of 10^9 px": {"sample_size": 10**9},
        "a depth of 10^9": {"layers_per_block": 10**9}, "an embedding of 10^9": {"time_embedding_dim": 10**9},
        "channels of 10^9": {"in_channels": 10**9, "out_channels": 10**9}, "classes": {"num_class_embeds": 10**12},
    }.items():  # fmt: skip
        bad(name, changed(UNET, **entries))
    bad("T = 10^12", changed(SCHEDULER, num_train_timesteps=10**12))
    bad("betas of its own", changed(SCHEDULER, trained_betas=[0.1] * 10**5))
    bad("weights of NaN", lambda place: scaled(float("nan"))(place / WEIGHTS))
    bad("weights of another network", lambda place: repacked(a=torch.zeros(2))(place / WEIGHTS))
    said = cases.judged(opener)
    assert not list(tmp_path.rglob("pwned"))
    figure("strangers-diffusers", said)


# --- headers of safetensors ----------------------------------------------------------------------------------------


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": list(offsets)}


def packed(header: bytes | dict[str, Any], data: bytes = bytes(8), length: int | None = None) -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


PAIR = {"a": entry(), "b": entry(offsets=(8, 16))}
HEADERS = {
    "400k keys": lambda: packed(b"{" + b",".join(b'"k%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(400_000)) + b"}"),
    "400k short keys": lambda: packed(b"{" + b",".join(b'"%x":{}' % i for i in range(400_000)) + b"}"),
    "400k lists": lambda: packed(b'{"a":[' + b"[]," * 400_000 + b"[]]}"),
    "a name twice": lambda: packed(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2)),
    "a type twice": lambda: packed(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "a length of 10^18": lambda: packed({}, length=10**18),
    "a length of 2^64 - 1": lambda: packed({}, length=2**64 - 1),
    "a length of 100 MB": lambda: packed({}, length=100_000_000),
    "a length of nothing": lambda: packed(b"", data=b""),
    "offsets that overlap": lambda: packed({**PAIR, "b": entry(offsets=(4, 12))}, bytes(12)),
    "offsets beyond the file": lambda: packed({"a": entry(shape=(200,), offsets=(0, 800))}),
    "offsets backwards": lambda: packed({"a": entry(offsets=(8, 0))}),
    "offsets below zero": lambda: packed({"a": entry(offsets=(-8, 0))}),
    "offsets of 2^63": lambda: packed({"a": entry(offsets=(2**63, 2**63 + 8))}),
    "a hole between two": lambda: packed({**PAIR, "b": entry(offsets=(12, 20))}, bytes(20)),
    "more data than said": lambda: packed({"a": entry()}, bytes(80)),
    "a type nobody has": lambda: packed({"a": entry("F33")}),
    "a type that is a class path": lambda: packed({"a": entry("torch.nn.Linear")}),
    "a type that is a number": lambda: packed({"a": entry(7)}),
    "a shape of 10^12": lambda: packed({"a": entry(shape=(10**12,))}),
    "a shape of 10^12 with its offsets": lambda: packed({"a": entry(shape=(10**12,), offsets=(0, 4 * 10**12))}),
    "a shape below zero": lambda: packed({"a": entry(shape=(-2,))}),
    "two sides below zero": lambda: packed({"a": entry(shape=(-1, -2))}),
    "a product that overflows": lambda: packed({"a": entry(shape=(2**32, 2**32))}),
    "a product that overflows to 2": lambda: packed({"a": entry(shape=(2**63 + 1, 2))}),
    "a shape that is a word": lambda: packed({"a": entry(shape="2")}),
    "a shape of halves": lambda: packed({"a": entry(shape=(2.5,))}),
    "a shape of 10^30": lambda: packed({"a": entry(shape=(10**30,))}),
    "no shape": lambda: packed({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "a list": lambda: packed(b"[]"),
    "null": lambda: packed(b"null"),
    "a number": lambda: packed({"a": 7}),
    "deep": lambda: packed(b'{"a":' * 100_000),
    "digits": lambda: packed(b'{"a":' + b"9" * 100_000 + b"}"),
    "binary": lambda: packed(bytes(range(256)) * 4),
    "a pickle": lambda: pickle.dumps({"a": 1}),
    "a zip of torch": lambda: b"PK\x03\x04" + bytes(1000),
    "nothing": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "metadata that is a list": lambda: packed({"__metadata__": [1], "a": entry()}),
    "metadata of numbers": lambda: packed({"__metadata__": {"a": 1}, "a": entry()}),
}


def test_headers(tmp_path: Path, opener: Opener, figure: Callable[[str, str], None]) -> None:
    cases = Cases(tmp_path / "cases")
    save_file({"a": torch.ones(2)}, tmp_path / "sound.safetensors")
    cases.sound.append(("tensors", str(tmp_path / "sound.safetensors")))
    for name, data in HEADERS.items():
        cases.add(name, "tensors", text("x.safetensors", data()), file="x.safetensors")
    name, said = "x.safetensors", {"__metadata__": {"pickle": "os.system"}, "a": entry()}
    cases.add("a sparse file of a terabyte", "tensors", lambda place: (text(name, packed(said))(place), os.truncate(place / name, 2**40)), file=name)
    cases.add("metadata", "tensors", text(name, packed(said)), file=name, used=True)
    figure("strangers-headers", cases.judged(opener))


def test_what_is_judged_would_be_seen(tmp_path: Path, opener: Opener) -> None:
    """The judge finds what these tests are to find: code that runs, files that are written, too much time and memory."""
    cases = Cases(tmp_path / "cases")
    save_file({"a": torch.ones(2)}, tmp_path / "sound.safetensors")
    cases.sound.append(("tensors", str(tmp_path / "sound.safetensors")))
    for name, used in (("one that is to be used", True), ("one that is used", False)):
        cases.add(name, "tensors", lambda place: save_file({"a": torch.ones(2)}, place / "x.safetensors"), file="x.safetensors", used=used)
    kinds = {"hungry": r"1(4[89]|5\d) MB", "slow": r"1\.[5-9]\d s", "running": r"os\.system", "writing": "open for writing"}
    for kind in (*kinds, "hungry"):  # one that has eaten must not hide the next
        cases.add(f"one that is {kind}, {len(cases.cases)}", kind, lambda place: None, used=True)
    with pytest.raises(AssertionError) as found:
        cases.judged(opener, attempts=1)
    lines = str(found.value).splitlines()
    assert len(lines) == len(kinds) + 2, lines
    for kind, why in {**kinds, "used": "used"}.items():
        assert all(re.search(why, line) for line in lines if f"'one that is {kind}" in line), lines
    assert "one that is to be used" not in str(found.value)


def test_what_is_written_would_be_seen(tmp_path: Path) -> None:
    cases = Cases(tmp_path / "cases")
    cases.add("a case", "tensors", lambda place: None)
    with pytest.raises(AssertionError, match="something was written"):
        cases.judged(lambda asked: [{"name": "a case", "cpu_s": 0, "path": (tmp_path / "pwned").write_text("")}])
