"""The cache: an entry is made once, whole, and goes when nobody uses it."""

import os
import threading
import time

from systolith.cache import cached


def test_two_builders_of_the_same_entry_build_it_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))
    built = []

    def work():
        with cached("things", "key") as (folder, building):
            if building is not None:
                built.append(folder)
                threading.Event().wait(0.2)
                (building / "text").write_text("done")
        assert (folder / "text").read_text() == "done"

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_what_nobody_has_used_for_30_days_goes_when_something_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("SYSTOLITH_CACHE", str(tmp_path))

    def make(key):
        with cached("things", key) as (folder, building):
            if building is not None:
                (building / "text").write_text(key)
        return building is not None

    assert all([make("old"), make("used"), make("young")])
    for key, days in (("old", 31), ("used", 31), ("young", 29)):
        then = time.time() - 86400 * days
        os.utime(tmp_path / "things" / key, (then, then))
    assert not make("used")
    assert make("new")
    assert {path.name for path in (tmp_path / "things").iterdir() if path.is_dir()} == {
        "used", "young", "new"}
    assert make("old")
