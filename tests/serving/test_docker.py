"""What can be said of the image without building it: its commands, extras and files exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

TOP = Path(__file__).parents[2]
FOLDER = TOP / "docker"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
INSTRUCTIONS = [
    line.partition(" ")[::2] for line in DOCKERFILE.replace("\\\n", " ").splitlines() if re.match("[A-Z]+ ", line)
]


def arguments(instruction: str) -> list[str]:
    return [rest.strip() for name, rest in INSTRUCTIONS if name == instruction]


def test_it_installs_extras_that_exist_and_no_torch() -> None:
    extras = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r'"\.\[([a-z,]+)\]"', DOCKERFILE)
    wanted = [requirement for extra in named.split(",") for requirement in extras[extra]]
    assert {"runtime", "serve"} <= set(named.split(","))
    assert not [requirement for requirement in wanted if re.match("torch|singleshot", requirement)]


def test_it_copies_what_there_is() -> None:
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for rest in arguments("COPY") if "--from" not in rest for name in rest.split()[:-1]]
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert all((TOP / name).exists() for name in copied)
    for needed in ("readme", "license-files"):
        value = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"][needed]
        assert set([value] if isinstance(value, str) else value) <= set(copied)


def test_it_is_no_root_and_writes_to_its_cache_alone() -> None:
    (user,) = arguments("USER")
    assert user.isdecimal()
    assert user != "0"
    assert arguments("VOLUME") == ["/cache"]
    assert "SINGLESHOT_CACHE=/cache" in arguments("ENV")[0]


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_is_a_command_that_works(status: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    asked: list[str] = []
    command = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        code = command[2].replace(":8000", f":{server.server_address[1]}")
        done = subprocess.run([sys.executable, "-S", command[1], code], capture_output=True, check=False)
        server.shutdown()
    assert command[:2] == ["python", "-c"]
    assert (done.returncode == 0) == (status == 200)
    assert asked == ["/v2/health/ready"]


def test_compose_names_files_and_options_that_exist() -> None:
    from singleshot.cli import Verbs, app  # noqa: F401
    from singleshot.cli.console import options_of
    from singleshot.cli.serve import serve

    service, prometheus = COMPOSE["services"]["singleshot"], COMPOSE["services"]["prometheus"]
    own = typer.Typer()
    own.command()(serve)
    known = {flag for flags in options_of(typer.main.get_command(own)).values() for flag in flags}
    given = [*json.loads(arguments("ENTRYPOINT")[0])[2:], *json.loads(arguments("CMD")[0]), *service["command"]]
    assert {word for word in given if word.startswith("--")} <= known
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    (mounted,) = [volume.partition(":")[0] for volume in prometheus["volumes"] if volume.startswith("./")]
    scraped = yaml.safe_load((FOLDER / mounted).read_text(encoding="utf-8"))["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == ["singleshot:8000"]
    assert service["read_only"] is True
    for name in COMPOSE["secrets"]:
        assert f"/run/secrets/{name}" in shlex.join(service["command"])
        assert scraped["authorization"]["credentials_file"] == f"/run/secrets/{name}"
