"""Runs the proofs of the hardware, and shows that each fails where it must.

Usage: ``python tests/formal/run.py [name ...] [--planted] [--jobs N] [--json]``; without names,
all of them. With ``--planted``, also every proof's planted bugs, which it must find. ``--keep
FOLDER`` leaves waveforms of counterexamples there, ``--list`` says what there is to prove. Ends
with 1 when a proof fails or a bug survives, with 2 when it cannot begin.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.formal import axi4, queues, registers, rounding, semaphores, tiles, walker
from tests.formal.proof import TIMEOUT, Proof, missing_tools, prove

__all__ = ["PROOFS", "main"]

PROOFS: dict[str, Proof] = {proof.name: proof for module in (
    queues, axi4, registers, semaphores, rounding, tiles, walker,
) for proof in module.PROOFS}


def emit(name: str) -> None:
    """Print the path of the sources in use, and the Verilog of a proof."""
    import systolith_hw.emit

    print(systolith_hw.emit.__file__)
    print(systolith_hw.emit.emit_verilog(PROOFS[name].make(), name="proof",
                                         assertions=PROOFS[name].checks))


def attempts(proofs, *, planted: bool):
    """Proofs, each followed by its planted bugs."""
    for proof in proofs:
        yield proof, None
        if planted:
            yield from ((proof, bug) for bug in proof.bugs)


def run(proofs, *, planted: bool, jobs: int, show, **options) -> list[dict]:
    """Run the proofs, telling ``show`` of each when it is done; one record for each.

    ``options`` are those of ``prove``.
    """
    def attempt(pair):
        proof, bug = pair
        outcome = prove(proof, bug, **options)
        ok = outcome.status == ("FAIL" if bug else "PASS")
        return {"block": proof.block, "proof": proof.name, "claim": proof.claim,
                "method": proof.method, "bug": bug.name if bug else None,
                "seconds": round(outcome.seconds, 1), "status": outcome.status,
                "broken": outcome.broken, "ok": ok}

    records = []
    with ThreadPoolExecutor(jobs) as pool:
        for record in pool.map(attempt, attempts(proofs, planted=planted)):
            show(record)
            records.append(record)
    return records


def row(record: dict) -> str:
    """A line of the table."""
    if record["bug"] is None:
        what, result = record["method"], "proved" if record["ok"] else record["status"]
        if record["broken"]:
            result += f": {record['broken']}"
    else:
        what = f"  bug: {record['bug']}"
        result = f"caught by: {record['broken']}" if record["ok"] else "NOT CAUGHT: " + (
            record["status"])
    return (f"{record['block']:14} {record['proof']:22} {what:44} {record['seconds']:6.1f} s  "
            f"{result}")


def main(arguments: list[str]) -> int:
    """Print the table; 0 when all is proved and every bug caught."""
    parser = argparse.ArgumentParser(prog="run.py", description="Run the proofs of the hardware.")
    parser.add_argument("names", nargs="*", metavar="name", help="of a proof; default: all")
    parser.add_argument("--planted", action="store_true", help="also plant each proof's bugs")
    parser.add_argument("--jobs", type=int, default=1, help="proofs at the same time")
    parser.add_argument("--json", action="store_true", help="print records instead of a table")
    parser.add_argument("--list", action="store_true", help="print what there is to prove")
    parser.add_argument("--timeout", type=int, default=TIMEOUT, help="seconds for one proof")
    parser.add_argument("--keep", type=Path, metavar="folder", help="leave waveforms there")
    parser.add_argument("--emit", metavar="name", help="print the Verilog of a proof")
    options = parser.parse_args(arguments)
    unknown = sorted({*options.names, *filter(None, [options.emit])} - set(PROOFS))
    if unknown:
        print(f"name must be one of {', '.join(PROOFS)}, not {unknown[0]!r}", file=sys.stderr)
        return 2
    for name in ("jobs", "timeout"):
        if getattr(options, name) < 1:
            print(f"{name} must be at least 1, not {getattr(options, name)}", file=sys.stderr)
            return 2
    if options.emit:
        emit(options.emit)
        return 0
    proofs = [PROOFS[name] for name in options.names or PROOFS]
    if options.list:
        for proof in proofs:
            print(f"{proof.block}: {proof.name} ({proof.method})\n    {proof.claim}")
        return 0
    if missing := missing_tools():
        print(f"proofs must find {', '.join(missing)} (pip install 'systolith[formal]')",
              file=sys.stderr)
        return 2
    begin = time.monotonic()
    records = run(proofs, planted=options.planted, jobs=options.jobs,
                  timeout=options.timeout, keep=options.keep,
                  show=lambda record: options.json or print(row(record), flush=True))
    if options.json:
        print(json.dumps(records, indent=1))
    else:
        plain = [record for record in records if record["bug"] is None]
        bugs = [record for record in records if record["bug"] is not None]
        line = f"{sum(r['ok'] for r in plain)} of {len(plain)} proved"
        if bugs:
            line += f", {sum(r['ok'] for r in bugs)} of {len(bugs)} bugs caught"
        print(f"{line} in {time.monotonic() - begin:.0f} s")
    return 0 if all(record["ok"] for record in records) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
