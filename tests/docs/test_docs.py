"""The documentation against the code: what exists is documented, what is documented exists."""

from __future__ import annotations

import ast
import importlib.util
import json
import shlex
import subprocess
from typing import TYPE_CHECKING

import click
import pytest
import yaml

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.config import MLOps
from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import FailureCode, RunState

from .pages import PAGES, ROOT, Block, all_blocks, anchors, blocks, command_lines, links

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from pydantic import BaseModel

LANGUAGES = {"sh", "console", "python", "ipython", "text", "json", "yaml", "toml"}


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()
REFERENCE = ROOT / "docs" / "reference"


def _page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(GENERATOR.PAGES))
def test_a_generated_page_is_what_the_code_says_now(name: str) -> None:
    assert _page(name) == GENERATOR.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize(("name", "command"), [*GENERATOR.commands(mlops)], ids=lambda value: str(value)[:40])
def test_a_command_and_its_options_have_words(name: str, command: click.Command) -> None:
    assert command.help, f"the command {name} has no docstring"
    section = _page("cli.md").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    for option in GENERATOR.options(command):
        assert option.help, f"{name} {option.opts[0]} has no help"
        for spelling in [*option.opts, *option.secondary_opts]:
            assert f"`{spelling}`" in section


@pytest.mark.parametrize("name", sorted(MLOps.class_traits(config=True)))
def test_a_setting_has_words(name: str) -> None:
    help_text = MLOps.class_traits()[name].help
    assert help_text
    section = _page("settings.md").partition(f"\n## c.MLOps.{name}\n")[2].partition("\n## ")[0]
    assert " ".join(help_text.split()) in section


def test_every_setting_that_a_page_names_exists() -> None:
    import re

    for page in PAGES:
        for name in re.findall(r"\bc\.MLOps\.(\w+)", page.read_text(encoding="utf-8")):
            assert name in MLOps.class_traits(config=True), f"{page.name} names c.MLOps.{name}"


def test_every_field_of_a_profile_has_words() -> None:
    page = _page("settings.md")
    for name in set(Profile.model_fields) - {"name"}:
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}` |")), "")
        assert row.rstrip(" |").count("|") == 3, f"the field {name} of a profile has no words"


@pytest.mark.parametrize("model", GENERATOR.event_types(), ids=lambda model: model.__name__)
def test_an_event_and_its_fields_have_words(model: type[BaseModel]) -> None:
    kind = model.model_fields["type"].default
    section = _page("events.md").partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    assert GENERATOR._summary(model) in " ".join(section.split())
    for name in set(model.model_fields) - {"type", "time"}:
        assert f"| `{name}` |" in section
        assert GENERATOR._attribute(model, name), f"{model.__name__}.{name} has no words"


@pytest.mark.parametrize("code", FailureCode)
def test_a_reason_to_fail_is_explained_with_its_remedy(code: FailureCode) -> None:
    what, remedy = GENERATOR.FAILURES[code]
    assert f"| `{code.value}` | {what} | {remedy} |" in _page("errors.md")


@pytest.mark.parametrize("state", RunState)
def test_a_state_is_explained(state: RunState) -> None:
    assert f"| `{state.value}` | {GENERATOR.STATES[state]} |" in _page("events.md")


def test_every_error_and_exit_code_is_explained() -> None:
    page = _page("errors.md")
    for error in GENERATOR.error_classes():
        assert f"| `{error.__name__}` | `{error.code}` | `{error.exit_code}` |" in page
        assert error.exit_code in GENERATOR.EXIT_CODES


def test_every_dependency_has_its_reason_bound_and_licence() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = {
        cells[1].strip().strip("`"): cells
        for line in text.splitlines()
        if (cells := line.split("|")) and len(cells) > 5
    }
    for requirement in _requirements():
        name, _, bound = requirement.partition(">=")
        assert name in rows, f"docs/dependencies.md says nothing of {name}"
        cells = [cell.strip() for cell in rows[name][2:6]]
        assert all(cells), f"docs/dependencies.md leaves a cell of {name} empty"
        assert f"`{bound}`" in rows[name][2], f"the bound of {name} is {bound} in pyproject.toml"


def _requirements() -> list[str]:
    import re

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = []
    for table in ("dependencies", "gpu", "kubernetes", "postgresql", "dev"):
        body = re.search(rf"^{table} = \[(.*?)\]\s*$", text, re.MULTILINE | re.DOTALL)
        assert body is not None, table
        for quoted in re.findall(r'"([^"]+)"', re.sub(r"#.*", "", body[1])):
            found.append(re.sub(r"\[.*?\]|;.*", "", quoted).strip())
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{page.relative_to(ROOT)} links to {target}"
        assert ROOT in goal.parents, f"{page.relative_to(ROOT)} links out of the repository: {target}"
        if anchor:
            assert anchor in anchors(goal), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_say_what_language_they_are_in(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: ```{block.language}"


@pytest.mark.parametrize("block", all_blocks("python", "ipython"), ids=lambda block: block.place)
def test_a_python_block_compiles(block: Block) -> None:
    source = block.text
    if block.language == "ipython":
        from IPython.core.inputtransformer2 import TransformerManager

        source = TransformerManager().transform_cell(source)
    compile(source, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", all_blocks("sh"), ids=lambda block: block.place)
def test_a_shell_block_is_shell(block: Block) -> None:
    checked = subprocess.run(["sh", "-n"], input=block.text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("block", all_blocks("json", "yaml"), ids=lambda block: block.place)
def test_a_data_block_parses(block: Block) -> None:
    if block.language == "yaml":
        yaml.safe_load(block.text)
        return
    for line in block.text.splitlines() if "lines" in block.words else [block.text]:
        json.loads(line)


@pytest.mark.parametrize(
    "block",
    [block for block in all_blocks("sh", "console", "ipython") if [*command_lines(block)]],
    ids=lambda block: block.place,
)
def test_commands_in_a_block_exist_with_these_options(block: Block) -> None:
    for line in command_lines(block):
        words = shlex.split(line)
        if words[:1] in ([], ["--help"]):
            continue
        context = click.Context(mlops, info_name="jupyter mlops")
        name, command, arguments = mlops.resolve_command(context, words)
        assert command is not None, line
        try:
            while isinstance(command, click.Group):  # such as `image build`; groups have no options of their own
                context = click.Context(command, info_name=name, parent=context)
                name, command, arguments = command.resolve_command(context, list(arguments))
                assert command is not None, line
            command.make_context(name, list(arguments), parent=context)
        except click.exceptions.Exit:  # --help
            continue
        except click.UsageError as error:
            pytest.fail(f"{block.place}: {line}: {error.format_message()}")


def test_the_makefile_says_what_each_command_is_for() -> None:
    import re

    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    public = set(re.findall(r"^([a-z-]+):.*##", text, re.MULTILINE))
    named = {
        word
        for page in PAGES
        for word in re.findall(
            r"\bmake ([a-z]+(?:-[a-z]+)*)\b(?=`|\s*$| +#|;| VENV)",
            page.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }
    assert named
    assert named <= public, f"no such make command: {named - public}"
