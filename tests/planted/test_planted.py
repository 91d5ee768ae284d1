"""Every planted bug is caught by the tests that should catch it."""

import pytest

from .run import BUGS, main, plant, try_bug


@pytest.mark.full
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_is_caught(bug):
    caught, by = try_bug(bug)
    assert caught, by


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_patch_applies(bug, tmp_path):
    plant(bug, tmp_path)


def test_refuses_an_unknown_name(capsys):
    assert main(["no such bug"]) == 2
    assert "not 'no such bug'" in capsys.readouterr().out
