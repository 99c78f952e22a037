"""Wrong settings in words: the dotted key, what is wrong, what was given, and the nearest right name."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from singleshot.core.wording import counted

MAX_WRONG = 10
UNKNOWN = "no such setting"
# A few lines of YAML can name a value of gigabytes, and a message must not spell it out.
SHORT = reprlib.Repr()
SHORT.maxlevel = 2
SHORT.maxstring = SHORT.maxother = 100

# Pydantic adds the alternative of a union that it tried to the place of an error; that is no key.
ALTERNATIVE = re.compile(r"int|float|str|bool|none|constrained-\w+|[\w-]+\[.*|[A-Z]\w+")

WORDS = {
    "missing": "is missing",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "too_long": "has {actual_length} entries; {max_length} are allowed",
    "too_short": "has {actual_length} entries; {min_length} are needed",
    "none_required": "must be null",
} | {
    f"{kind}_{what}": f"must be {words}"
    for kind, words in {
        "int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "tuple": "a list",
        "list": "a list", "dict": "a mapping of names to values", "model": "a mapping of settings",
    }.items()
    for what in ("type", "parsing", "from_float", "attributes_type", "parsing_size")
}  # fmt: skip
"""What is wrong, by pydantic's name for it."""


def explain_settings(
    error: ValidationError, origin: str, model: type[BaseModel], rename: Callable[[str], str] = str
) -> str:
    """A message about all wrong settings of a record, at most `MAX_WRONG` of them.

    Args:
        error: what validation raised.
        origin: where the settings come from: a file, ``the options given``.
        model: the record that was validated.
        rename: gives a dotted key the name that it has in ``origin``.
    """
    lines = [f"  {line}" for line in wrong_settings(error, model, rename)]
    more = [f"  and {len(lines) - MAX_WRONG:,} more"] if len(lines) > MAX_WRONG else []
    return "\n".join([f"{origin}: {counted(len(lines), 'wrong setting')}", *_said_once(lines[:MAX_WRONG]), *more])


def wrong_settings(error: ValidationError, model: type[BaseModel], rename: Callable[[str], str] = str) -> list[str]:
    """One line about each wrong setting; see `explain_settings`."""
    reasons: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        names = [str(part) for part in _path(detail)]
        place = ".".join(names)
        key = rename(place)
        reason = _reason(detail, _fields_at(model, names[:-1]))
        if place:  # a check of ours may have named the key already
            reason = re.sub(rf"^([\w.]*\b{re.escape(place)}: |`{re.escape(names[-1])}` )", "", reason)
        reasons.setdefault(key, []).append(reason)
        value = f"{SHORT.repr(detail['input']):.80}"
        if key and detail["type"] not in ("extra_forbidden", "missing") and not reason.endswith(f"not {value}"):
            given[key] = f" (given: {value})"
    # A misspelt name comes first: the right one is then missing, too.
    keys = sorted(reasons, key=lambda key: not reasons[key][0].startswith(UNKNOWN))
    return [f"{f'{key}: ' if key else ''}{_either(reasons[key])}{given.get(key, '')}" for key in keys]


def plain_reason(error: Exception) -> str:
    """What an error says; of wrong settings in a file's own description, all in our words."""
    if isinstance(error, ValidationError):
        return "; ".join(wrong_settings(error, BaseModel)[:MAX_WRONG])
    return str(error).strip() or type(error).__name__


def near_name(name: str, known: Iterable[str]) -> str:
    """``did you mean 'sizes'?``, or all the names that there are."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known) or 'none here'}"


def _path(detail: Mapping[str, Any]) -> list[str | int]:
    *before, last = detail["loc"] or ("",)
    kept = [part for part in before if isinstance(part, int) or not ALTERNATIVE.fullmatch(part)]
    is_key = isinstance(last, int) or detail["type"] == "extra_forbidden" or not ALTERNATIVE.fullmatch(last)
    return [*kept, last] if is_key else kept


def _reason(detail: Mapping[str, Any], known: list[str]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"{UNKNOWN}; {near_name(str(detail['loc'][-1]), known)}"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    words = WORDS.get(detail["type"])
    if words is None:
        return str(detail["msg"])
    return words.format(**detail.get("ctx", {}))


def _either(reasons: list[str]) -> str:
    """Reasons of the alternatives that a value could have been."""
    first, *others = dict.fromkeys(reasons)
    return " or ".join([first, *(other.removeprefix("must be ") for other in others)])


def _said_once(lines: list[str]) -> list[str]:
    """The list of known names is long: only the first line that needs it has it."""
    hints = [line.partition(UNKNOWN)[2] for line in lines]
    return [
        line.removesuffix(hint) if hint and hint in hints[:place] else line
        for place, (line, hint) in enumerate(zip(lines, hints, strict=True))
    ]


def _fields_at(model: type[BaseModel], names: list[str]) -> list[str]:
    """Settings inside the nested record that ``names`` leads to."""
    for name in names:
        field = model.model_fields.get(name)
        if field is not None:
            model = next(_records(field.annotation), model)
    return list(model.model_fields)


def _records(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _records(part)
