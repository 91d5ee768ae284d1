"""What takes long is made once: builds, kept in folders named after all that they came from."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "cached", "digest"]

KEPT_SECONDS = 30 * 86400  # since an entry of the cache was last used


def cache_folder() -> Path:
    """Where builds are kept: ``$SYSTOLITH_CACHE``, or ``systolith`` among the user's caches."""
    chosen = os.environ.get("SYSTOLITH_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "systolith"


def digest(*parts: str | bytes) -> str:
    """One hash over ``parts``, which stay apart."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:40]


@contextmanager
def cached(kind: str, key: str) -> Iterator[tuple[Path, Path | None]]:
    """The cache entry ``key``: its final folder, and where to build it if it is not there yet.

    Yields ``(folder, None)`` when the entry exists. Otherwise the caller fills the second path,
    a temporary folder beside the first, which takes the first one's place when the block ends
    without an exception. Other processes that want the same entry wait for it. Whoever builds
    removes the entries of this kind that nobody has used for 30 days.
    """
    parent = cache_folder() / kind
    parent.mkdir(parents=True, exist_ok=True)
    final = parent / key
    if _use(final):
        yield final, None
        return
    with open(parent / f"{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _use(final):
            yield final, None
            return
        _prune(parent)
        building = Path(tempfile.mkdtemp(prefix=f"{key[:8]}-", dir=parent))
        try:
            yield final, building
            for path in building.iterdir():  # a name must not outlast a crash that its bytes do not
                if path.is_file():
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
            building.rename(final)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _use(folder: Path) -> bool:
    """Whether ``folder`` exists; it then counts as used now."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    except OSError:  # somebody else's, or read-only
        return folder.is_dir()
    return True


def _prune(parent: Path) -> None:
    """Remove entries, and what interrupted builds left, that nobody has used for long."""
    oldest = time.time() - KEPT_SECONDS
    for entry in parent.iterdir():
        try:
            if entry.is_dir() and entry.stat().st_mtime < oldest:
                shutil.rmtree(entry)
        except OSError:  # removed by somebody else meanwhile, or not ours to remove
            continue
