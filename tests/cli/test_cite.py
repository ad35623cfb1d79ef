"""snowmelt cite, as a user calls it."""

from pathlib import Path


def test_of_a_run_what_each_paper_is_behind(cli, run: Path) -> None:
    done = cli("cite", run)
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "Severi Rissanen, Markus Heinonen, Arno Solin: Generative Modelling With Inverse Heat Dissipation." in said
    assert "[rissanen2022] degradation gaussian-blur" in said
    assert "[bansal2022] degradation gaussian-blur, sampler tacos" in said
    assert "[ronneberger2015] backbone unet" in said
    assert "[loshchilov2017] optimiser AdamW" in said
    assert said.endswith("[snowmelt] everything")


def test_for_bibtex_the_same_papers(cli, run: Path) -> None:
    text, bibtex = cli("cite", run).out, cli("cite", run, "--format", "bibtex").out
    for line in (line for line in text.splitlines() if line.startswith("  [")):
        key = line.partition("[")[2].partition("]")[0]
        assert bibtex.count(f"{{{key},\n") == 1
    assert bibtex.count("@") == text.count("\n  [")
    assert bibtex.startswith("@")


def test_of_a_part_and_of_a_spec(cli) -> None:
    assert "[lu2022] sampler tacos" in cli("cite", "tacos").out
    assert "[lu2022]" not in cli("cite", "tacos:steps=3").out
    assert "[hoogeboom2022]" in cli("cite", "gaussian-blur:sigma_px=20,growth=sine+noise").out
    assert "compose names no paper of its own." in cli("cite", "compose").out


def test_of_what_is_nothing(cli) -> None:
    done = cli("cite", "nowhere")
    assert done.code == 2
    assert "nowhere is no run directory, no recipe and no part" in done.error
    assert cli("cite", "tacos", "--format", "ris").code == 2


def test_describe_names_the_papers_of_a_part_too(cli) -> None:
    assert "  Tero Karras, Miika Aittala, Timo Aila, Samuli Laine: Elucidating the Design Space" in cli("describe", "heun").out
    assert "Blurring Diffusion Models" in cli("describe", "gaussian-blur").out
    assert "Blurring Diffusion Models" not in cli("describe", "gaussian-blur:sigma_px=2").out
    assert "Papers" not in cli("describe", "compose").out
