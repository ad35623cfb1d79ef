"""The bibliography: every paper that a docstring names is behind the part it stands in, and nothing else is."""

import ast
import inspect
import re
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

import snowmelt
from snowmelt import losses, registry
from snowmelt.degradations import Degradation
from snowmelt.recipes import citing
from snowmelt.references import Paper, When, bibliography, paper
from snowmelt.registry import SpecError, build, papers, register

ARXIV = re.compile(r"arXiv\s+(\d{4}\.\d{4,5})")
# The name and the year that a docstring gives to a number: "Ho et al. 2020 (arXiv 2006.11239)", "Wang, Yu and Zhang 2022, DDNM (arXiv 2212.00490)".
NAMED = re.compile(r"([A-Z][\w’'-]+)(?:, \w+)*(?: et al\.| and \w+)?,? (\d{4})[^();]{0,50}?\(arXiv (\d{4}\.\d{5})\)")
SOURCES = sorted(Path(snowmelt.__file__).parent.rglob("*.py"))
PAGE = Path(__file__).parents[1] / "docs" / "theory.md"
TEX = {
    **{r"{\'e}": "é", r"{\'a}": "á", r"{\'n}": "ń", r"{\"a}": "ä", r"{\"e}": "ë", r"{\"o}": "ö", r"{\c c}": "ç", r"{\l}": "ł"},
    **{r"\&": "&", r"\%": "%", r"\_": "_"},
}
TABLES = (losses.PAPERS, citing.TOLD, citing.TRAINED, citing.MEASURED)


def plain(name: str) -> str:
    """Without accents and braces."""
    return "".join(sign for sign in unicodedata.normalize("NFD", name) if not unicodedata.combining(sign) and sign not in "{}")


def registered() -> list[tuple[str, type[registry.Part]]]:
    return [(f"{kind} {name}", registry.lookup(name, kind)) for kind in registry.kinds() for name in registry.names(kind)]


def own() -> list[tuple[str, type[registry.Part]]]:
    return [(name, cls) for name, cls in registered() if cls.__module__.startswith("snowmelt.")]


def arxiv(of: tuple[Paper, ...]) -> set[str]:
    return {one.arxiv for one in of if one.arxiv}


@pytest.mark.parametrize(("name", "cls"), own(), ids=[name for name, _ in own()])
def test_a_part_is_from_the_papers_that_its_docstring_names(name: str, cls: type[registry.Part]) -> None:
    assert set(ARXIV.findall(cls.__doc__ or "")) <= arxiv(papers(cls))


def test_the_parts_of_a_module_are_from_the_papers_that_its_docstring_names() -> None:
    seen = 0
    for module in {cls.__module__ for _, cls in own()}:
        said = set(ARXIV.findall(sys.modules[module].__doc__ or ""))
        behind = {number for _, cls in own() if cls.__module__ == module for number in arxiv(papers(cls))}
        assert said <= behind, module
        seen += len(said)
    assert seen > 40  # or the pattern finds nothing


def test_what_a_loss_is_from_is_what_its_page_says() -> None:
    said = set(ARXIV.findall(inspect.getsource(losses)))
    assert said == arxiv(tuple(paper(key) for name, keys in losses.PAPERS.items() for key in keys if name != "loss l1"))


def test_every_loss_that_can_be_asked_for_has_its_paper() -> None:
    assert {f"loss {name}" for name in get_args(losses.Loss)} - {"loss l2"} == {name for name in losses.PAPERS if name.startswith("loss ")}


@pytest.mark.parametrize(
    "spec",
    [
        *(f"{name}{fields}" for name in ("naive", "tacos", "heun", "momentum", "langevin") for fields in ("", ":steps=4")),
        *("naive:fresh=true", "naive:noise=0.02", "naive:fresh=true,noise=0.02", "ancestral:eta=0", "ancestral:eta=0.5", "ancestral"),
        *("ancestral:variance=large", "ancestral:variance=learned", "ancestral:again=3"),
    ],
)
def test_a_sampler_is_from_the_papers_that_its_rule_names(spec: str) -> None:
    walk = build(spec, "sampler")
    assert {number for source in walk.rule.source for number in ARXIV.findall(source)} <= arxiv(papers(walk))


def test_every_key_is_used_and_every_use_has_an_entry() -> None:
    used = {one.key for _, cls in own() for one in papers(cls)} | {paper(key).key for table in TABLES for keys in table.values() for key in keys}
    assert used | {"snowmelt"} == set(bibliography())


def test_a_measure_is_from_the_papers_that_the_docstring_of_its_module_names() -> None:
    measured = arxiv(tuple(paper(key) for keys in citing.MEASURED.values() for key in keys)) | {paper("bansal2022").arxiv}
    seen = set()
    for file in SOURCES:
        # The network of classifier.py makes features, which every distance of sets bears in its name; it is no measure.
        if file.parent.name == "metrics" and file.name != "classifier.py":
            said = set(ARXIV.findall(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""))
            assert said <= measured, file.name
            seen |= said
    assert len(seen) > 7  # or the pattern finds nothing


def test_no_work_is_there_twice() -> None:
    for of in (lambda one: one.title.lower(), lambda one: one.arxiv, lambda one: one.doi):
        said = [of(one) for one in bibliography().values() if of(one)]
        assert len(said) == len(set(said))


def test_names_and_years_are_those_of_the_docstrings() -> None:
    by_number = {one.arxiv: one for one in bibliography().values() if one.arxiv}
    seen = set()
    for file in SOURCES:
        text = " ".join(file.read_text(encoding="utf-8").split())
        for name, year, number in NAMED.findall(text):
            if number in by_number:
                one = by_number[number]
                assert plain(one.authors[0]).endswith(plain(name)), (file.name, name, number)
                assert abs(int(year) - (one.year or 0)) <= 1, (file.name, name, year, number)
                seen.add(number)
    assert len(seen) > 0.7 * len(by_number)


def test_names_are_those_of_the_page_on_theory() -> None:
    by_number = {one.arxiv: one for one in bibliography().values() if one.arxiv}
    listed = re.findall(r"^\d+\. ([\w-]+).*, (\d{4})\. arXiv (\S+)$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    both = [(name, int(year), by_number[number]) for name, year, number in listed if number in by_number]
    assert len(both) >= 15
    for name, year, one in both:
        assert one.authors[0].split()[-1] == name
        assert year <= (one.year or 0) <= year + 1


# --- BibTeX ------------------------------------------------------------------------------------------------


def parsed(text: str) -> dict[str, dict[str, str]]:
    """A strict reader of BibTeX: entries, with all their fields in braces that match."""
    entries: dict[str, dict[str, str]] = {}
    at = 0
    while at < len(text):
        head = re.compile(r"\s*@([a-z]+)\{([A-Za-z0-9]+),\n").match(text, at)
        assert head, text[at : at + 80]
        fields, at = {"": head[1]}, head.end()
        while not text.startswith("}", at):
            field = re.compile(r"  ([a-z]+) = \{").match(text, at)
            assert field, text[at : at + 80]
            start, depth, at = field.end(), 1, field.end()
            while depth:
                assert at < len(text), f"{head[2]}.{field[1]} has no end"
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
            assert field[1] not in fields
            fields[field[1]] = text[start : at - 1]
            end = re.compile(r",\n(?=  )|\n(?=\})").match(text, at)
            assert end, text[at : at + 80]
            at = end.end()
        at += 1
        assert head[2] not in entries
        entries[head[2]] = fields
        at = re.compile(r"\s*").match(text, at).end()
    return entries


def untexed(text: str) -> str:
    """What TeX makes of the commands in a field."""
    for command, sign in TEX.items():
        text = text.replace(command, sign)
    assert "\\" not in text, text
    return text


def test_all_of_it_is_bibtex() -> None:
    found = parsed("\n\n".join(one.bibtex() for one in bibliography().values()))
    assert set(found) == set(bibliography())
    needs = {"inproceedings": "booktitle", "article": "journal", "book": "publisher", "phdthesis": "school", "techreport": "institution"}
    for key, entry in found.items():
        one = bibliography()[key]
        assert untexed(entry["author"]).split(" and ") == list(one.authors)
        assert untexed(entry["title"]) == "{" + one.title + "}"
        assert entry.get("eprint", "") == one.arxiv
        assert entry[""] == "misc" or entry[needs[entry[""]]]
        assert key == "snowmelt" or 1900 < int(entry["year"]) < 2030
        assert re.fullmatch(r"[a-z]+|[a-z]+\d{4}[a-z]*", key)
        assert "others" not in entry["author"], "BibTeX gets all authors"


def test_a_reader_of_bibtex_refuses_what_is_none() -> None:
    whole = paper("ho2020").bibtex()
    for broken in (whole[:-2], whole.replace("},", "}", 1), whole.replace("{{", "{", 1), whole + whole):
        with pytest.raises(AssertionError):
            parsed(broken)


def test_what_tex_would_read_otherwise_is_escaped() -> None:
    odd = Paper(key="odd2020", title="50 % of A & B_c", authors=("A. Odd",), year=2020, url="https://example.org/a_b")
    entry = parsed(odd.bibtex())["odd2020"]
    assert entry["title"] == r"{50 \% of A \& B\_c}"
    assert entry["url"] == "https://example.org/a_b"


def test_accents_are_commands_that_every_bibtex_reads() -> None:
    assert all(one.bibtex().isascii() for one in bibliography().values())
    odd = Paper(key="odd2020", title="Ångström & Çelik: Ω", authors=("Mikołaj Bińkowski", "Søren Žižek", "Jörg Weiß"), journal="Müller~2^n")
    entry = parsed(odd.bibtex())["odd2020"]
    assert entry["author"] == r"Miko{\l}aj Bi{\'n}kowski and S{\o}ren {\v Z}i{\v z}ek and J{\"o}rg Wei{\ss}"
    assert entry["title"] == r"{{\r A}ngstr{\"o}m \& {\c C}elik: Ω}"  # what has no command stays
    assert entry["journal"] == r'M{\"u}ller{\textasciitilde}2{\textasciicircum}n'


def test_family_names_of_two_words_stay_together() -> None:
    """BibTeX takes the last word, and those in lower case before it: 'Luc Van Gool' would be sorted under Gool."""
    names = [name for one in bibliography().values() for name in one.authors]
    assert {"Luc {Van Gool}", "Jonathan {Le Roux}"} <= set(names)
    assert not [name for name in names if re.search(r" (Van|Von|De|La|Le|Di|Del|Ter) [\w-]+$| Jr\.?$", name)]
    assert str(paper("leroux2019")).startswith("Jonathan Le Roux, Scott Wisdom")


def test_as_text_three_names_are_enough() -> None:
    assert str(paper("ho2020")) == (
        "Jonathan Ho, Ajay Jain, Pieter Abbeel: Denoising Diffusion Probabilistic Models. "
        "Advances in Neural Information Processing Systems (NeurIPS), 2020. arXiv 2006.11239"
    )
    assert str(paper("bansal2022")).startswith("Arpit Bansal, Eitan Borgnia, Hong-Min Chu and others: Cold Diffusion")
    assert "ITU-T: Recommendation" in str(paper("itu1992"))
    assert "Computer Vision? Advances" in str(paper("kendall2017"))


# --- how parts name them -----------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.kinds()
    for table in ("_names", "_papers"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    monkeypatch.setattr(registry, "_parts", {kind: dict(known) for kind, known in registry._parts.items()})


def test_papers_of_a_composition_are_those_of_its_parts_once_each() -> None:
    keys = [one.key for one in papers(build("gaussian-blur:sigma_px=2+noise:schedule=betas(kind=cosine)+pixelate"))]
    assert keys == ["bansal2022", "rissanen2022", "ho2020", "song2020", "nichol2021"]
    assert [one.key for one in papers(build("noise:schedule=ve"), inside=False)] == ["ho2020", "song2020"]
    assert papers(build("compose:parts=(mask)"))[0].key == "bansal2022"


def test_some_values_are_from_other_papers() -> None:
    def keys(spec: str) -> list[str]:
        return [one.key for one in papers(build(spec, "sampler"))]

    assert keys("tacos") == ["bansal2022"]
    assert keys("tacos:order=2") == ["bansal2022", "lu2022"]
    assert keys("ancestral:eta=0") == ["song2020"]
    assert keys("naive:fresh=true") == ["song2023", "daras2022"]
    assert {one.key for one in papers(registry.lookup("naive", "sampler"))} >= {"bansal2022", "song2023", "rissanen2022", "lu2022"}


@pytest.mark.usefixtures("fresh")
def test_a_part_of_another_package_brings_its_own_paper() -> None:
    mine = Paper(key="me2026", title="Mine", authors=("M. E.",), year=2026)

    @register("mine", papers=(mine, "ho2020", When(Paper(key="you2026", title="Yours", authors=("Y. O. U.",)), lambda part: False)))
    @dataclass(frozen=True)
    class Mine(Degradation):
        def degrade(self, x, t, z):
            return x

    assert [one.key for one in papers(Mine())] == ["me2026", "ho2020"]
    assert [one.key for one in papers(Mine)] == ["me2026", "ho2020", "you2026"]


@pytest.mark.usefixtures("fresh")
def test_a_key_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"mine is from 'hoo2022', which is no key of snowmelt.references \(did you mean 'ho2022'\?\): give a Paper"):

        @register("mine", papers=(When("hoo2022", lambda part: True),))
        @dataclass(frozen=True)
        class Mine(Degradation):
            def degrade(self, x, t, z):
                return x

    assert "mine" not in registry.names("degradation")


def test_the_file_for_citations_says_what_is_printed() -> None:
    said = (PAGE.parents[1] / "CITATION.cff").read_text(encoding="utf-8")
    own = paper("snowmelt")
    assert f"\nversion: {snowmelt.__version__}\n" in said
    assert f'\ntitle: "{own.title}"\n' in said
    assert [plain(name) for name in own.authors] == re.findall(r'^  - name: "(.+)"$', said, flags=re.M)
