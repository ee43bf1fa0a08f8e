"""``python -m tests.torture``: disturb the commands as long as there is time, and report what doesn't hold.

Every disturbance is drawn from ``--seed`` and written as a case (``tests/faults/harness/cases.py``); ``--case`` runs
one again. Exit code 1 if anything didn't hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.harness.cases import Case, Finding, Harness
from tests.faults.harness.material import COMPARED, material
from tests.faults.harness.scenarios import SCENARIOS
from tests.support.privileges import server_account
from tests.support.servers import rclone_s3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--only", action="append", choices=sorted(SCENARIOS), help="only this scenario; may be repeated"
    )
    parser.add_argument("--case", action="append", type=Case.parse, help="run this case, and no others")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and findings")
    arguments = parser.parse_args()
    chosen = tuple(arguments.only or SCENARIOS)
    chance = random.Random(arguments.seed)
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    print(f"seed {arguments.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="barman-cloud-torture-"))
    server_account().own(directory)
    directory.chmod(0o755)
    started = time.monotonic()
    try:
        with material(directory / "material") as made, rclone_s3() as server:
            harness = Harness(made, server, directory)
            end = time.monotonic() + arguments.minutes * 60
            cases = iter(arguments.case) if arguments.case else iter(lambda: harness.draw(chance, chosen), None)
            for case in cases:
                if not arguments.case and time.monotonic() > end:
                    break
                finding = harness.run(case)
                counts[case.kind] += 1
                if finding.problems:
                    findings.append(finding)
                _tell(finding, bool(arguments.case))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report = {
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - started),
        "processors": os.cpu_count(),
        "cases": dict(counts),
        "compared_bytes": COMPARED["bytes"],
        "findings": [finding.as_json() for finding in findings],
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(f"{sum(counts.values())} cases ({', '.join(f'{n} {kind}' for kind, n in counts.items())}): ", end="")
    print(f"{len(findings)} in which something didn't hold" if findings else "everything held")
    return 1 if findings else 0


def _tell(finding: Finding, always: bool) -> None:
    if finding.problems or always:
        outcome = finding.outcome
        print(f"{finding.case}: exit code {outcome.code} after {outcome.seconds:.1f} s", flush=True)
        for problem in finding.problems:
            print(f"    {problem}", flush=True)
        if always and outcome.errors:
            print("    | " + "\n    | ".join(outcome.errors.strip().splitlines()[-5:]))


if __name__ == "__main__":
    sys.exit(main())
