"""The page at ``/docs``: the OpenAPI document as plain HTML, which needs no script and no other host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def docs_page(document: Mapping[str, Any]) -> str:
    """The page.

    Args:
        document: OpenAPI, as FastAPI makes it.
    """
    parts = [
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    title = f"{escape(document['info']['title'])} {escape(document['info']['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head>'
        f"<body><h1>{title}</h1>"
        f'<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>{"".join(parts)}</body></html>\n'
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    head = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
    rows = [
        (parameter["name"], parameter["in"], parameter.get("description", ""))
        for parameter in operation.get("parameters", ())
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    answers = [(code, answer.get("description", "")) for code, answer in sorted(operation["responses"].items())]
    return (
        head
        + _table("Parameters", ("name", "in", "meaning"), rows)
        + (f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in bodies)}</p>" if bodies else "")
        + _table("Answers", ("code", "meaning"), answers)
    )


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    cells = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<h3>{title}</h3><table><thead><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{cells}</tbody></table>"
    )
