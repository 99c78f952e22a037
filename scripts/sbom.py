"""What an installation consists of, as a CycloneDX 1.5 document: ``python scripts/sbom.py --extra serve > sbom.json``.

Lists singleshot, what it needs with the extras that are named, and what those need, in the versions installed here;
the same installation gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

from packaging.requirements import Requirement


def main() -> None:
    """Print the document."""
    parser = argparse.ArgumentParser(description="What an installation consists of, as CycloneDX.")
    parser.add_argument("--extra", action="append", default=[], help="of singleshot; may be given several times")
    extras = parser.parse_args().extra
    try:
        known = distribution("singleshot").metadata.get_all("Provides-Extra") or []
    except PackageNotFoundError:
        sys.exit("singleshot is not installed here: pip install singleshot")
    unknown = sorted(set(extras) - set(known))
    if unknown:
        sys.exit(f"singleshot has no extra '{unknown[0]}'; there are: {', '.join(known)}")
    found, missing = collect("singleshot", frozenset(extras))
    for name in sorted(missing):
        print(f"{name} is not installed here and therefore not listed", file=sys.stderr)
    json.dump(document(found), sys.stdout, indent=1, sort_keys=True)
    print()


def normalised(name: str) -> str:
    """As indexes spell it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def collect(name: str, extras: frozenset[str]) -> tuple[dict[str, tuple[Distribution, set[str]]], set[str]]:
    """Installed packages that a package needs, by name, each with what it needs itself; and those that are missing."""
    found: dict[str, tuple[Distribution, set[str]]] = {}
    missing: set[str] = set()
    waiting, seen = [(normalised(name), extras)], set()
    while waiting:
        one, wanted = waiting.pop()
        if (one, wanted) in seen:
            continue
        seen.add((one, wanted))
        try:
            package = distribution(one)
        except PackageNotFoundError:
            missing.add(one)
            continue
        needs = found.setdefault(one, (package, set()))[1]
        for text in package.requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (wanted or {""}) | {""}):
                other = normalised(requirement.name)
                needs.add(other)
                waiting.append((other, frozenset(requirement.extras)))
    return found, missing


def document(found: dict[str, tuple[Distribution, set[str]]]) -> dict[str, Any]:
    """The packages in CycloneDX's words."""
    components = [component(name, package) for name, (package, _) in sorted(found.items())]
    references = {entry["name"]: entry["bom-ref"] for entry in components}
    own = next(entry for entry in components if entry["name"] == "singleshot")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(sorted(references.values())))}",
        "version": 1,
        "metadata": {"component": own | {"type": "application"}},
        "components": [entry for entry in components if entry is not own],
        "dependencies": [
            {
                "ref": references[name],
                "dependsOn": sorted(references[other] for other in needs if other in references and other != name),
            }
            for name, (_, needs) in sorted(found.items())
        ],
    }


def component(name: str, package: Distribution) -> dict[str, Any]:
    """One package."""
    address = f"pkg:pypi/{name}@{package.version}"
    entry: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": package.version,
        "purl": address,
        "bom-ref": address,
    }
    expression = package.metadata.get("License-Expression")
    return entry | ({"licenses": [{"expression": expression}]} if expression else {})


if __name__ == "__main__":
    main()
