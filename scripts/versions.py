"""Run the tests with the oldest or the newest versions that ``pyproject.toml`` allows.

    python scripts/versions.py oldest
    python scripts/versions.py oldest --torch 2.13.0
    python scripts/versions.py oldest --over .venv -- tests/core
    python scripts/versions.py newest -- -k images

Makes an environment of its own (``.venv-oldest``, ``.venv-newest``) and keeps it; ``--install-only`` stops there. The
oldest versions are the lower bounds themselves, of the package and of the extras that its tests use, with what goes
together with them (``constraints-oldest.txt``). On Linux an old PyTorch is the CUDA build, which is several gigabytes;
``--torch`` takes another one with the oldest of all else. ``--over`` lays just the older packages over an environment
that exists, which takes a minute: PyTorch and NNCF, which are large, stay those of that environment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("train", "runtime", "report", "tensorboard", "openvino", "onnx", "video", "parquet", "serve", "demo")
OF_TORCH = ("torch", "triton", "sympy", "nvidia-")
"""What comes with a PyTorch, by the beginnings of names."""
OF_NNCF = ("nncf", "networkx", "ninja", "pydot", "scipy")
"""NNCF and what it brings."""

BOUND = re.compile(r"^([A-Za-z0-9_.-]+)>=([0-9][0-9A-Za-z.]*)(; .+)?$")


def lower_bounds() -> dict[str, str]:
    """Package -> lower bound, of everything that users install.

    Raises:
        SystemExit: a requirement is written in another form, and would be left out.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for name in EXTRAS for r in project["optional-dependencies"][name])]
    bounds = {}
    for requirement in wanted:
        found = BOUND.match(requirement)
        if found:
            bounds[found[1]] = found[2]
        elif not requirement.startswith("singleshot["):
            raise SystemExit(f"pyproject.toml: '{requirement}' has no lower bound of the form name>=version")
    return bounds


def constraints(torch: str | None) -> str:
    """The oldest versions, one a line; with another PyTorch, if one is named."""
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    if torch is None:
        return "\n".join(lines)
    return "\n".join([f"torch=={torch}", *(line for line in lines if not line.startswith(OF_TORCH))])


def older(installed: dict[str, str]) -> list[str]:
    """Which of the oldest versions are older than those of an environment, PyTorch and NNCF left aside."""
    pins = [line.split("==") for line in constraints("0").splitlines() if "==" in line]
    return [
        f"{name}=={version}"
        for name, version in pins
        if not name.startswith((*OF_TORCH, *OF_NNCF)) and _key(version) < _key(installed.get(_plain(name), "0"))
    ]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _key(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def lay_over(base: Path, folder: Path) -> Path:
    """An environment with the older packages of its own and all else from ``base``; returns its Python."""
    theirs, python = base / "bin" / "python", folder / "bin" / "python"
    facts = "import json, sys, sysconfig; from importlib.metadata import distributions as d; "
    facts += "print(json.dumps([sysconfig.get_path('purelib'), {x.name: x.version for x in d()}]))"
    packages, versions = json.loads(subprocess.check_output([str(theirs), "-c", facts]))
    wanted = older({_plain(name): version for name, version in versions.items()})
    if not python.exists():
        subprocess.run([str(theirs), "-m", "venv", "--without-pip", str(folder)], check=True)
    own = subprocess.check_output(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(own.strip()) / "base.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    print(f"Laying {len(wanted)} older packages over {base.name} ...", flush=True)
    pip = [str(theirs), "-m", "pip", "--python", str(python), "install", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "--no-deps", *wanted], check=True)
    return python


def install(which: str, folder: Path, torch: str | None) -> Path:
    """Make the environment; returns its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    how = ["--upgrade", "--upgrade-strategy", "eager"]
    if which == "oldest":
        pins = folder / "constraints.txt"
        pins.write_text(constraints(torch))
        how = ["--constraint", str(pins)]
    print(f"Installing the {which} versions into {folder.name} ...", flush=True)
    subprocess.run([*pip, *how, "--editable", ".[dev]"], check=True, cwd=ROOT)
    return python


def show_versions(python: Path) -> None:
    """Print what is installed of the packages that have bounds."""
    code = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{n} {v(n)}' for n in sys.argv[1:]))"
    )
    subprocess.run([str(python), "-c", code, *lower_bounds()], check=True)


def parse(words: list[str]) -> argparse.Namespace:
    """The command line; what stands behind ``--`` is pytest's."""
    ours = words[: words.index("--")] if "--" in words else words
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("--torch", help="with oldest: this PyTorch in place of the oldest")
    parser.add_argument("--over", type=Path, help="with oldest: an environment to lay the older packages over")
    parser.add_argument("--install-only", action="store_true", help="run no test")
    options = parser.parse_args(ours)
    options.pytest = words[len(ours) + 1 :] or ["-n", "auto"]
    return options


def main() -> int:
    """Install, then run pytest."""
    options = parse(sys.argv[1:])
    folder = ROOT / f".venv-{options.which}{'-over' if options.over else ''}"
    python = lay_over(options.over.resolve(), folder) if options.over else install(options.which, folder, options.torch)
    show_versions(python)
    if options.install_only:
        return 0
    # Warnings of old and of unreleased versions are theirs, not faults of the tests.
    command = [str(python), "-m", "pytest", "-W", "default", *options.pytest]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
