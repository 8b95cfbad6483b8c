"""The pages are true: bounds, links, commands, paths and examples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import schemas
from jobs.cli import app
from tests import ROOT
from tests.models import save_causal, save_classifier

PAGES = sorted(path for path in ROOT.glob("**/README.md") if not {".venv", ".pytest_cache"} & set(path.parts))
#: What stands in a page for a value of the reader's own.
PLACEHOLDERS = {"N": "1"}
#: Words that end a command in a line of shell.
ENDS = {">>", ">", "|", "&&", ";"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def blocks(page: Path, language: str) -> list[str]:
    return [block for name, block in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def prose(page: Path) -> str:
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in the page's shell blocks and in its inline code."""
    for block in blocks(page, "sh"):
        yield from shell_lines(block.replace("\\\n", " "))
    for span in re.findall(r"`([^`\n]+)`", prose(page)):
        if re.match(r"(regulars|make|pytest|python -m) ", span):
            yield shlex.split(span)


def shell_lines(block: str) -> Iterator[list[str]]:
    """The words of each line; a quotation may go on in the next line."""
    pending = ""
    for line in block.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:
            continue
        yield words
        pending = ""
    assert not pending, f"a quotation does not end: {pending}"


def arguments(words: list[str], *starts: str) -> Iterator[list[str]]:
    """What follows each of `starts` up to the end of its command."""
    for number, word in enumerate(words):
        if word.rpartition("/")[2] in starts:
            rest = words[number + 1 :]
            yield rest[: next((i for i, one in enumerate(rest) if one in ENDS), len(rest))]


def has_option(source: str, option: str) -> bool:
    """Whether a benchmark declares the option: by its name, or as a keyword of `measure.arguments`."""
    name = option.removeprefix("--")
    return re.search(rf'"(--)?{name}"|\b{name.replace("-", "_")}=', source) is not None


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_first_page_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 250
    assert len(text.split()) <= 2000


@each_page
def test_an_empty_line_stands_before_each_heading(page: Path) -> None:
    assert re.findall(r"[^\n]\n(## .+)$", prose(page), re.MULTILINE) == []


def test_the_page_of_the_nights_has_every_command() -> None:
    page = (ROOT / "jobs/README.md").read_text(encoding="utf-8")
    table = page.split("## Commands")[1].split("\n## ")[0]
    group = typer.main.get_command(app)
    assert [name for name in group.commands if f"| `regulars {name}" not in table] == []


def test_the_first_page_says_where_the_commands_are_before_it_uses_them() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.index(". .venv/bin/activate") < page.index("regulars init")
    lines = [line for block in BLOCK.findall(page) for line in block[1].splitlines() if line.startswith("30 ")]
    assert lines  # cron does not read the shell's activation
    assert all("/.venv/bin/regulars nightly" in line for line in lines)


@each_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page_id(page)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page_id(page)} links to {link}"


@each_page
def test_paths_of_the_code_exist(page: Path) -> None:
    paths = re.findall(r"`((?:jobs|lm|schemas|tests)/[\w/.]+)`", prose(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", ["jobs/README.md", "lm/README.md"])
def test_the_five_changes_name_what_is_in_their_files(page: str) -> None:
    section = (ROOT / page).read_text(encoding="utf-8").split("### Five changes")[1]
    rows = [row for row in section.splitlines() if row.startswith("|")][2:]
    assert len(rows) == 5
    for row in rows:
        sources = [ROOT / path for path in re.findall(r"`([\w/]+\.(?:py|toml))`", row)]
        text = "".join(source.read_text(encoding="utf-8") for source in sources)
        missing = [name for name in re.findall(r"`(\w+)`", row) if not re.search(rf"\b{name}\b", text)]
        assert missing == [], row


@each_page
def test_commands_of_regulars_parse(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(page):
        for found in arguments(words, "regulars", "night.py"):
            if not found or found[0].isupper() or found == ["--version"]:  # `> night.py`, `regulars COMMAND --help`
                continue
            name, *options = found
            assert name in group.commands, f"{page_id(page)}: regulars {name}"
            if options:
                group.commands[name].make_context(name, [PLACEHOLDERS.get(option, option) for option in options])


@each_page
def test_benchmarks_exist_with_their_options(page: Path) -> None:
    shared = (ROOT / "tests/bench/measure.py").read_text(encoding="utf-8")
    for words in commands(page):
        for module, *options in arguments(words, "-m"):
            if not module.startswith("tests.bench."):
                continue
            script = ROOT / f"{module.replace('.', '/')}.py"
            assert script.exists(), f"{page_id(page)}: {module}"
            source = script.read_text(encoding="utf-8") + shared
            unknown = [option for option in options if option[:2] == "--" and not has_option(source, option)]
            assert unknown == [], f"{page_id(page)}: {module}"


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(page):
        for target, *_ in arguments(words, "make"):
            assert target in targets, f"{page_id(page)}: make {target}"


@each_page
def test_tests_that_are_named_exist(page: Path) -> None:
    for words in commands(page):
        for path, *options in arguments(words, "pytest"):
            names = re.findall(r"^def (test_\w+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
            chosen = options[options.index("-k") + 1].split(" or ") if "-k" in options else []
            missing = [part for part in chosen if not any(part in name for name in names)]
            assert missing == [], f"{page_id(page)}: {path} has no test of {missing}"


def test_the_models_are_used_without_spark_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = blocks(ROOT / "lm/README.md", "python")[0]
    monkeypatch.chdir(tmp_path)
    save_causal(tmp_path / "demo/models/recommend", item_ids=["P000149", "P000258"])
    save_classifier(tmp_path / "demo/models/sentiment")
    exec(compile(example, "lm/README.md", "exec"), {})
    lists, probabilities = capsys.readouterr().out.split("\n", 1)
    assert "P000258" in lists
    assert "P000149" not in lists  # it was bought
    assert len(probabilities.strip().splitlines()) == 2


@pytest.mark.parametrize("page", ["README.md", "lm/README.md"])
def test_prompts_are_continued_as_shown(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for block in blocks(ROOT / page, "python") if "lm.engine.generation" in block]
    model = save_causal(tmp_path / "model", stock=True)
    exec(compile(example.replace('"gpt2"', repr(str(model))), page, "exec"), {})
    assert capsys.readouterr().out.count("Hello, how are you?") == 5


def test_the_first_page_has_every_column_of_every_input() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("| input | needed columns")[1].split("\n\n")[0]
    shown = {}
    for row in section.splitlines()[2:]:
        (name,), *columns = (re.findall(r"`(\w+)`", cell) for cell in row.strip("|").split("|"))
        shown[name] = columns
    contracts = {name: schemas.contract(name) for name in schemas.INPUTS}
    assert shown == {
        name: [
            list(contract.required),
            [column for column in contract.column_names if column not in contract.required],
        ]
        for name, contract in contracts.items()
    }
