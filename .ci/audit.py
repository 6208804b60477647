"""Known vulnerabilities of the pinned dependencies, by pip-audit; says plainly how many it could not look up.

    python .ci/audit.py path/to/pip-audit constraints.txt

Exit status 1 where a dependency has a known vulnerability; 0 where none is known, or nothing could be looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

OPTIONS = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]


def main(program: str, requirements: str) -> int:
    done = subprocess.run([program, "--requirement", requirements, *OPTIONS], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        print(f"not audited: pip-audit said: {said}")
        return 0 if Path(requirements).is_file() else 2
    skipped = [package for package in found if "skip_reason" in package]
    vulnerable = [package for package in found if package.get("vulns")]
    for package in vulnerable:
        for known in package["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    looked_up = len(found) - len(skipped)
    print(f"{looked_up} of {len(found)} pinned dependencies looked up, {len(vulnerable)} with known vulnerabilities")
    if skipped:
        print(f"not audited: {len(skipped)}, first {skipped[0]['name']}: {skipped[0]['skip_reason']}")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
