"""Texts and files that nobody wrote: mutated ones are read or refused, in one of the ways that are promised, and quickly."""

import gc
import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from snowmelt.fields import UnknownName
from snowmelt.files import BadFile, read_tensors
from snowmelt.recipes.recipe import from_table, load
from snowmelt.registry import SpecError, build, kinds, names, schema, spec

SLOWEST_S = 1.0

LETTERS = "abcxyz019.,:+-=()\"' \t\n\\/_%{}[]eE\0é😀"
VALUES = ["1", "-1", "0", "2.5", "1e+5", "1e400", "nan", "inf", "true", "none", "", '""', "(1,2)", "()", "(", ")", "10000000000", "x" * 50]
VALUES += ['"a,b"', "-0.0"]
VALUES += ["linear", "ve:sigma_max=2", "ve(sigma_max=2)", "(mask,jpeg)", "(mask+noise,grey)", "betas(steps=10)", "1_0", "٣", "0x10", "8 ", "fixed"]


@pytest.fixture(autouse=True)
def tidied() -> Iterator[None]:
    """What other tests have left in this process is not gone through again while it is measured how long reading takes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def term(r: random.Random, kind: str, depth: int = 0) -> str:
    """A spec of a known part with fields of its own and values of any kind."""
    name = r.choice(names(kind))
    own = [field.name for field in schema(name, kind)] or ["x"]
    chosen = r.sample(own, min(len(own), r.randrange(3)))
    fields = ",".join(f"{one}={r.choice(VALUES) if depth or r.random() < 0.8 else term(r, r.choice(kinds()), 1)}" for one in chosen)
    return name + (r.choice((":", ":", "(", "")) + fields if fields else "") + ("+" + term(r, kind, depth) if r.random() < 0.2 else "")


def mutated(r: random.Random, text: str, letters: str = LETTERS) -> str:
    """A few letters more, less or other, or a piece twice."""
    for _ in range(r.randrange(4)):
        i, j = sorted((r.randrange(len(text) + 1), r.randrange(len(text) + 1)))
        way = r.randrange(4)
        middle = ("", text[i:j] * 2, "".join(r.choices(letters, k=r.randrange(1, 4))), r.choice(letters) * r.choice((1, 3, 50)))[way]
        text = text[:i] + middle + text[j if way < 2 else i + (way == 2) :]
    return text[:3000]


@pytest.mark.filterwarnings("ignore")
def test_specs(rounds: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    r, built, refused, slowest, lines = random.Random(7), 0, 0, 0.0, set[int]()
    for _ in range(rounds(12_000, 1_000_000)):
        kind = r.choice(kinds())
        text = term(r, kind) if r.random() < 0.95 else "".join(r.choices(LETTERS, k=r.randrange(60)))
        text = mutated(r, text) if r.random() < 0.5 else text
        began = time.process_time()
        try:
            part = build(text, kind)
        except SpecError as error:
            refused += 1
            lines.add(len(str(error).splitlines()))
            continue
        finally:
            slowest = max(slowest, time.process_time() - began)
        built += 1
        assert build(spec(part), kind) == part, (text, spec(part))
    assert lines == {1}
    assert min(built, refused) > 100
    assert slowest < SLOWEST_S
    figure("fuzz-specs", f"{built:,} built, and built again from their own spec; {refused:,} refused; the slowest took {slowest:.3f} s")


RECIPE = """degradation = "noise:schedule=betas(steps=100)+gaussian-blur:sigma_px=2"
about = 'a test'
[data]
path = "bundled:digits"
size = 32
range = [0, 1.0]
flip = false
[model]
backbone = "unet:widths=(8,16)"
noise_floor = 0.02
conditions = ["label"]
[training]
images = 200_000
lr = 1e-3
decay = "cosine"
[evaluation]
samplers = ["naive:snap=true", "tacos:order=2"]
calls = [4, 8]
"""


def test_recipes(tmp_path: Path, rounds: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    r, read, refused, slowest, path = random.Random(8), 0, 0, 0.0, tmp_path / "recipe.toml"
    kinds_met, named = set[type](), set[bool]()
    words = LETTERS + "[]{}=\"'#"
    for _ in range(rounds(1_500, 200_000)):
        text = RECIPE
        for _ in range(r.randrange(1, 3)):
            lines = text.splitlines(keepends=True)
            i = r.randrange(len(lines))
            lines[i] = mutated(r, lines[i], words) if r.random() < 0.8 else r.choice(lines)
            text = "".join(lines)
        data = text.encode()
        if r.random() < 0.1:
            data = data[: r.randrange(len(data))] + bytes(r.choices(range(256), k=3))
        path.write_bytes(data)
        began = time.process_time()
        try:
            from_table(load(path), where=str(path))
            read += 1
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            kinds_met.add(type(error))
            named.add(str(path) in str(error) or isinstance(error, FileNotFoundError))
        slowest = max(slowest, time.process_time() - began)
    assert kinds_met <= {ValueError, SpecError, UnknownName, FileNotFoundError}
    assert named == {True}
    assert min(read, refused) > 100
    assert slowest < SLOWEST_S
    figure("fuzz-recipes", f"{read:,} read, {refused:,} refused; the slowest took {slowest:.3f} s")


def test_headers(tmp_path: Path, rounds: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    """Bytes are changed, and numbers and names of the header: what is read has as many values as the file has room for."""
    r, read, refused, slowest, path, said = random.Random(9), 0, 0, 0.0, tmp_path / "x.safetensors", set[bool]()
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4), "c": torch.ones(3, dtype=torch.float16)}, path, metadata={"format": "pt"})
    whole = path.read_bytes()
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    header = whole[8:end].decode()
    tokens = ["0", "-1", "8", "24", "2", "3", "1e3", "18446744073709551616", "1000000000000", "null", "[]", "{}", '"F32"', '"F64"', '"F8_E4M3"']
    tokens += ['"BOOL"', '"C64"', '"F4"', '"F8_E8M0"', '"U64"', '"a"', '"__metadata__"', '"b"', "true", '""', "[[]]"]
    for _ in range(rounds(2_500, 400_000)):
        if r.random() < 0.2:  # values alone, which no header knows: these are read
            data = bytearray(whole)
            data[r.randrange(end, len(data))] = r.randrange(256)
        elif r.random() < 0.5:
            data = bytearray(whole)
            for _ in range(r.choice((1, 1, 1, 3))):
                data[r.randrange(len(data) if r.random() < 0.6 else end)] = r.randrange(256)
            data = data[: r.randrange(len(data))] if r.random() < 0.1 else data
        else:
            pieces = json.dumps(json.loads(header)).replace(",", " ,").replace("]", " ]").replace("[", "[ ").split(" ")
            for _ in range(r.randrange(1, 3)):
                pieces[r.randrange(len(pieces))] = r.choice(tokens)
            text = " ".join(pieces).encode()
            data = bytearray(struct.pack("<Q", len(text)) + text + whole[end:])
        path.write_bytes(data)
        began = time.process_time()
        try:
            found = read_tensors(path)
            read += 1
            assert sum(value.numel() * value.element_size() for value in found.values()) <= len(data)
        except BadFile as error:
            refused += 1
            said.add(str(path) in str(error))
        slowest = max(slowest, time.process_time() - began)
    assert said == {True}
    assert min(read, refused) > 100
    assert slowest < SLOWEST_S
    figure("fuzz-headers", f"{read:,} read, {refused:,} refused; the slowest took {slowest:.3f} s")
