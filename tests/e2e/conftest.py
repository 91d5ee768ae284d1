"""Makes the modules beside the tests importable, whichever way the tests are started, and behind
them those of the software's tests."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
sys.path.append(str(HERE.parent / "sw"))    # small networks
