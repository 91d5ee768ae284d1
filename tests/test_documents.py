"""Documents say what the code does: commands that run, manuals that are current, docstrings."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
from amaranth.lib import wiring
from click.testing import CliRunner
from systolith.cli import main
from systolith.cli.bench import bench
from systolith.cli.manual import manual
from systolith_hw.array import Array
from systolith_hw.axi import read_ports, write_ports
from systolith_hw.config import BusConfig, CoreConfig
from systolith_hw.control import slave_ports

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SOURCES = sorted(path for root, package in (("hw", "systolith_hw"), ("sw", "systolith"),
                                            ("sim", "systolith_sim"),
                                            ("boards", "systolith_boards"))
                 for path in (ROOT / root / package).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def blocks(document, kind):
    """Contents of a document's blocks of code in one language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", document.read_text(), re.M | re.S)


def shell_lines(document):
    """Lines of a document's `sh` blocks, continued lines joined, comments gone."""
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith("#"):
                yield line.partition("  #")[0].strip()


def needs_board(words):
    """Whether a command speaks to a board."""
    return (words[1] == "program" and "--dry-run" not in words
            or any(word.startswith("board:") for word in words))


def test_the_manual_of_commands_is_current():
    assert (ROOT / "docs" / "commands.md").read_text() == manual(), "run `make docs`"


def test_what_documents_tell_users_to_run_runs(tmp_path, monkeypatch):
    """Every `systolith` command in an `sh` block, in order; of the rest, that it exists."""
    monkeypatch.chdir(tmp_path)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    ran = 0
    for document in DOCUMENTS:
        for line in shell_lines(document):
            words = shlex.split(line)
            if words[:2] == ["systolith", "bench"]:
                # Minutes of simulation: that their options are understood.
                parent = main.make_context("systolith", words[1:])
                assert bench.commands[words[2]].make_context(words[2], words[3:], parent).params, (
                    document.name, line)
            elif words[0] == "systolith" and (words[1] == "build" or needs_board(words)):
                # Minutes of place and route, or a board: that their options are understood.
                parent = main.make_context("systolith", words[1:])
                assert main.commands[words[1]].make_context(words[1], words[2:], parent).params
            elif words[0] == "systolith":
                result = CliRunner().invoke(main, words[1:])
                assert result.exit_code == 0, (document.name, line, result.output)
                ran += 1
            elif words[0] == "make":
                assert set(words[1:]) <= targets, (document.name, line)
                if words[1] == "demo":
                    assert CliRunner().invoke(main, ["demo"]).exit_code == 0
            elif words[:2] == ["python", "-m"]:
                # Long-running tools of developers: that their options are understood.
                module = importlib.import_module(words[2])
                if hasattr(module, "__path__"):
                    module = importlib.import_module(f"{words[2]}.__main__")
                command = module.main
                options = command.make_context(words[2], words[3:]).params
                assert options, (document.name, line)
            elif words[0] == ".venv/bin/python":
                assert (ROOT / words[1]).is_file(), (document.name, line)
            else:
                assert words[0] in ("sudo", "git", "cd", "source", ".", "python3", "pip"), (
                    document.name, line)
    assert ran >= 4
    picture = ROOT / "docs" / "timeline.svg"
    assert picture.read_text() == (tmp_path / picture.name).read_text(), (
        "run the commands of docs/timeline.md")


def test_python_and_toml_in_documents_are_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count = 0
    for document in DOCUMENTS:
        for block in blocks(document, "python"):
            exec(compile(block, document.name, "exec"), {})
            count += 1
        for block in blocks(document, "toml"):
            (tmp_path / "config.toml").write_text(block)
            CoreConfig.from_toml(tmp_path / "config.toml")
            count += 1
    assert count >= 2


def test_the_readme_names_every_system_package_that_ci_installs():
    packages, = re.findall(r"^packages=\((.*?)\)", (ROOT / ".ci" / "run").read_text(), re.M)
    assert f"sudo apt-get install {packages}" in (ROOT / "README.md").read_text()


def test_links_in_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), (document.name, target)


def test_files_and_folders_in_backticks_exist():
    for document in DOCUMENTS:
        named = re.findall(r"`((?:hw|sw|sim|boards|tests|docs|examples|bench)/[\w/.]*)`",
                           document.read_text())
        for name in named:
            assert (ROOT / name).exists(), (document.name, name)


def public(node, inside=False):
    """Public classes and functions, with the place they are in; small accessors excepted."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield child
            yield from public(child, inside=True)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            named = not child.name.startswith("_")
            # What a base class documents, and accessors whose name says it all.
            accessor = inside and len(child.body) == 1 and isinstance(child.body[0], ast.Return)
            if named and not accessor and not (inside and child.name in INHERITED):
                yield child


INHERITED = {"elaborate", "write", "read", "run", "counters", "close", "main", "list_commands",
             "render"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    if path.read_text().strip():
        assert ast.get_docstring(tree)
    missing = [node.name for node in public(tree) if not ast.get_docstring(node)]
    assert missing == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 500
    assert not [line for line in lines if re.search(r"\b(TODO|FIXME|XXX)\b|# noqa", line)]


# Components, each with what it takes to make one.

def components():
    for path in SOURCES:
        if path.is_relative_to(ROOT / "hw"):
            module = importlib.import_module(module_name(path))
            for name, value in vars(module).items():
                if (inspect.isclass(value) and issubclass(value, wiring.Component)
                        and value.__module__ == module.__name__ and not name.startswith("_")):
                    yield value


SAMPLES = {
    "config": CoreConfig.preset("demo"), "depth": 16, "width": 16, "rows": 16, "cols": 4,
    "row": 1, "row_bytes": 8, "banks": 2, "readers": 2, "writers": 2, "loops": 3, "count": 8,
    "waiters": 4, "raisers": 5, "lanes": 4, "sum_bits": 20, "revisit": 16, "bits": 8,
    "delays": (0, 1, 2), "streams": (16, 16), "prefetch": 4, "granularity": 8, "lane_bits": 8,
    "delay": 2, "opcode": 1, "item": 8, "shape": 8, "memory": 0, "max_burst": 16,
    "data_bytes": 8, "weight_bits": 8, "ways": 2, "kept": 8,
    "adds": True, "left_bits": 19, "cell": "int4", "factor_bits": 8, "entries": 256,
    "multiply": True, "operations": True, "selects": True, "largest": True,
    "negative": True, "low_bits": 10, "high_bits": 10, "shift": 2,
}
SPECIAL = {("AxiReader", "config"): CoreConfig.preset("demo").bus,
           ("AxiWriter", "config"): CoreConfig.preset("demo").bus,
           ("BurstSplitter", "config"): CoreConfig.preset("demo").bus,
           ("Multiplier18", "cell"): True,
           ("Pairs", "nibbles"): Array(rows=4, cols=8, weight_bits=5),
           **{(name, "config"): CoreConfig.preset("tiny").overridden(
               ["control.shared=true", "bus.max_burst=1", "control.traffic=false"])
              for name in ("Grouper", "Mover", "Sequencer", "SharedCore", "Streamer", "WordBus")},
           ("Rom", "rows"): (1, 2, 3),
           # Members that come with an option.
           ("Accumulator", "single"): True,
           ("Ecp5Array", "pairs"): True, ("Ecp5Column", "pairs"): True}


def sample(component):
    """An instance, from the parameters without a default, and those that are special."""
    arguments = {
        name: SPECIAL.get((component.__name__, name), SAMPLES.get(name))
        for name, parameter in inspect.signature(component).parameters.items()
        if parameter.default is parameter.empty or (component.__name__, name) in SPECIAL}
    return component(**arguments)


def documented_members(component):
    """Names at the head of an entry of `Members`, and names that the entries mention in passing.

    `a, b : ...` heads two, `x_*` all that start so, `base` also base0 and base1.
    """
    text = inspect.getdoc(component) or ""
    section = re.search(r"^Members\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.M | re.S)
    if section is None:
        return set(), set()
    heads = re.findall(r"^([a-z][\w*]*(?:, [a-z][\w*]*)*) :", section[1], re.M)
    return ({name for line in heads for name in line.split(", ")},
            set(re.findall(r"``(\w+)``", section[1])))


# Channels of a bus have the standard's own names.
STANDARD = {*read_ports(BusConfig()), *write_ports(BusConfig()), *slave_ports()}


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("component", list(components()), ids=lambda component: component.__name__)
def test_documented_members_are_the_components_members(component):
    members = set(sample(component).signature.members)
    heads, mentioned = documented_members(component)
    unknown = {head for head in heads if not any(
        re.fullmatch(head.replace("*", r"\w+") + r"\d*", name) for name in members)}
    assert unknown == set()
    silent = {name for name in members - mentioned - STANDARD if not any(
        re.fullmatch(head.replace("*", r"\w+") + r"\d*", name) for head in heads)}
    assert silent == set()


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("component", list(components()), ids=lambda component: component.__name__)
def test_parameters_are_stored_under_their_names(component):
    parameters = inspect.signature(component).parameters
    made = sample(component)
    assert all(hasattr(made, name) for name in parameters)
