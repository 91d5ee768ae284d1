"""Running commands without a shell, and Verilator's cache in the place of all tests."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from systolith.cli import main

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))          # what all tests share
sys.path.append(str(TESTS / "sw"))      # small networks


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command line in an empty folder; its result has exit_code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def run_json(run):
    """Run a command line that must succeed without a word on stderr; what its JSON says."""
    def run_it(*arguments):
        result = run(*arguments, "--json")
        assert (result.exit_code, result.stderr) == (0, "")
        return json.loads(result.stdout)
    return run_it


@pytest.fixture
def refuse(run):
    """Run a command line that must be refused; the one sentence that says why."""
    def refuse_it(*arguments):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        *progress, sentence = result.stderr.splitlines()
        assert all(line.endswith(" ...") for line in progress)
        return sentence.removeprefix("systolith: ")
    return refuse_it
