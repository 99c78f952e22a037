"""Look up known weaknesses of all packages of this environment, and say which could not be looked up: ``make audit``.

``pip-audit`` alone ends with "No known vulnerabilities found" where it could look up nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

OPTIONS = ["--skip-editable", "--progress-spinner", "off", "--format", "json"]
NAMED = 8


def main() -> None:
    """Ask, print, end with 1 if anything is weak or not known."""
    done = subprocess.run([sys.executable, "-m", "pip_audit", *OPTIONS], capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        sys.exit(done.stderr.strip() or "pip-audit says nothing: is there a connection?")
    lines, is_good = tell(packages)
    print("\n".join(lines))
    sys.exit(not is_good)


def tell(packages: Sequence[Mapping[str, Any]]) -> tuple[list[str], bool]:
    """What is known of packages, a line each; and whether all were looked up, and none is weak.

    Args:
        packages: as pip-audit's JSON has them.
    """
    wanted = [own for own in packages if "editable" not in own.get("skip_reason", "")]
    unknown = [own["name"] for own in wanted if "skip_reason" in own]
    lines = [
        f"{own['name']} {own['version']}: {weak['id']}, mended in {', '.join(weak['fix_versions']) or 'no version'}"
        for own in wanted
        for weak in own.get("vulns", [])
    ]
    is_good = not lines and not unknown
    lines.append(f"{len(wanted) - len(unknown)} of {len(wanted)} packages looked up, {len(lines)} weaknesses known")
    if unknown:
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        lines.append(f"not looked up (is pypi.org within reach?): {', '.join(unknown[:NAMED])}{more}")
    return lines, is_good


if __name__ == "__main__":
    main()
