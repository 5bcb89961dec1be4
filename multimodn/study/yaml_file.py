"""Reads study files, and words their problems.

YAML is read by the rules of YAML 1.2: ``1e-3`` is a number, ``yes`` and ``007`` are text. By those of PyYAML, YAML 1.1,
a class named ``no`` would silently become False, and a site ``010`` the number 8.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from multimodn.errors import StudyError, did_you_mean

Location = tuple[str | int, ...]
Problem = tuple[Location, str]  # where in the file, and what is wrong there
UP = "<up>"  # in a location: one level higher, as a kind's options are beside the spec's own keys
_PLAIN_VALUES = {
    "null": (r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    "float": (
        r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$",
        "-+.0123456789",
    ),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way to hold them

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Builds a mapping, and refuses a key that is written twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise StudyError(f"{', '.join(twice)} is written twice, line {node.start_mark.line + 1}; keep one.")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        """Writes every value out, even one that occurs twice."""
        return True


for _tag, (_pattern, _first) in _PLAIN_VALUES.items():
    for _class in (_Loader, _Dumper):
        first = ["" if letter == "\0" else letter for letter in _first]
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), first)


def read_yaml(text: str) -> Any:
    """Parses YAML by the rules of YAML 1.2; a StudyError names the line that cannot be read."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise StudyError(f"The text is not valid YAML: {error}") from None


def read_yaml_file(path: Path, what: str) -> Any:
    """Reads a YAML file, which errors call ``what``, as `read_yaml` does."""
    try:
        return read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"Cannot read the {what} {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise StudyError(f"{path} is not a text file in UTF-8.") from None
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None


def write_yaml(data: Any) -> str:
    """Writes ``data`` so that `read_yaml` gives it back."""
    text = _dump(data, allow_unicode=True)
    # PyYAML takes rare characters such as U+0085 for line breaks unless they are escaped.
    return text if text.isascii() or read_yaml(text) == data else _dump(data, allow_unicode=False)


def write_yaml_text(text: str) -> str:
    """Writes a text as YAML in one line and in double quotes, for any place in a file."""
    for allow_unicode in (True, False):
        quoted = yaml.dump(text, Dumper=_Dumper, default_style='"', allow_unicode=allow_unicode, width=float("inf"))
        if quoted.count("\n") == 1 and (text.isascii() or read_yaml(quoted) == text):
            break
    return str(quoted).strip()


def _dump(data: Any, *, allow_unicode: bool) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode, width=110))


class SpecError(StudyError):
    """A `StudyError` with the place of each of its problems in the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(worded(self.problems)))


class Spec(BaseModel):
    """A part of a study; wrong or unknown keys raise one `StudyError` that lists them all."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise SpecError(located(error, list(type(self).model_fields))) from None


def located(error: ValidationError, valid: Sequence[str]) -> list[Problem]:
    """Lists the problems of a validation, each with its place; ``valid`` are the existing keys."""
    problems: list[Problem] = []
    for item in error.errors():
        where = _keys_of_the_file(item["loc"])
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, SpecError):
            problems += [(_keys_of_the_file(where + inner), text) for inner, text in cause.problems]
        elif item["type"] == "extra_forbidden":
            hint = did_you_mean(str(where[-1]), valid) if len(where) == 1 else ""
            problems.append((where, f"unknown key '{where[-1]}'.{hint}"))
        elif item["type"] == "missing":
            problems.append((where, f"the key '{where[-1]}' is missing."))
        else:
            value = repr(item["input"])
            value = value if len(value) <= 60 else f"{value[:57]}..."
            problems.append((where, str(cause) if cause is not None else f"{item['msg']}, found {value}"))
    return problems


def worded(problems: Sequence[Problem]) -> list[str]:
    """Writes each problem as ``modalities[1].columns: ...``."""
    lines = []
    for where, text in problems:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
        lines.append(f"{path}: {text}" if path else text)
    return lines


def _keys_of_the_file(location: Location) -> Location:
    keys: list[str | int] = []
    for part in location:
        if part == UP:
            keys = keys[:-1]
        elif not str(part).startswith("<"):  # the tag of a union
            keys.append(part)
    return tuple(keys)
