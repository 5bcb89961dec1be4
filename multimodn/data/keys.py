"""Identifiers that are spelled differently in different sources: rewriting them, and finding that it is needed.

A patient whose identifier is ``0012`` in one table and ``12`` in another would silently be two patients, each without
the data of the other.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute

from multimodn.errors import DataError, shown
from multimodn.study.keys import KeySpec

SURE = KeySpec(strip=True, unquote=True)  # identifiers that differ in this only are never two patients
ALIKE = KeySpec(strip=True, unquote=True, whole=True, case="lower", zero_pad=1)  # in this: hardly ever
SHAPES = (r"[-_./ ]+", r"^[^0-9]+", r"[-_. ][^-_. ]*$", r"(?:[-_. ][^-_. ]*){2}$")  # parts that tables may add
ALMOST_NONE = 0.05  # share of the patients of the smaller side who must be found on the other
MANY = 20  # patients from which on a few in common count as almost none
PAIRS = 500  # pairs of spellings on which rules are tried


@dataclass(frozen=True)
class KeyProblem:
    """Identifiers of a source that other sources do not have, or spell differently."""

    source: str
    n_patients: int  # of the source
    others: str  # the other sources
    n_alike: int  # identifiers that become one of another source by `repair`; 0: no rule was found
    here: list[str]  # some identifiers of the source
    there: list[str]  # the same in other sources; without a rule, some of their identifiers
    repair: KeySpec | None = None
    is_for_all: bool = False  # whether the other sources need the rule too

    def __str__(self) -> str:
        where = f"source '{self.source}'"
        if self.repair is None:
            return (
                f"{where}: (almost) none of its {self.n_patients} patients is in {self.others}: it has "
                f"{shown([quoted(key) for key in self.here], 3)}, they have "
                f"{shown([quoted(key) for key in self.there], 3)}. Check the key column, and rewrite its identifiers "
                f"with `key: {{remove: ...}}` of the source, or write `key: {{}}` there if they are other patients."
            )
        pairs = [f"{quoted(a)} here, {quoted(b)} there" for a, b in zip(self.here, self.there, strict=True)]
        rule = write_key(self.repair)
        places = "this source and the others" if self.is_for_all else "this source"
        return (
            f"{where}: {self.n_alike} of its {self.n_patients} patients are spelled differently in {self.others}: "
            f"{shown(pairs, 3)}. Write `key: {rule}` for {places}, such as "
            f"`{self.source}: {{path: ..., key: {rule}}}`; `key: {{}}` if they are other patients."
        )


def quoted(key: str) -> str:
    """Writes an identifier so that blanks, and characters that look like others, can be seen."""
    letters = [letter if letter.isascii() and letter.isprintable() else _escape(letter) for letter in key]
    return f"'{''.join(letters)}'"


def _escape(letter: str) -> str:
    return letter if unicodedata.normalize("NFKC", letter) == letter and letter.isalnum() else f"\\u{ord(letter):04x}"


def write_key(spec: KeySpec) -> str:
    """Writes a rule as in a study file, in one line."""
    given = spec.model_dump()
    if spec.remove is not None:  # in quotes, as brackets have a meaning in YAML
        given["remove"] = "'{}'".format(spec.remove.replace("'", "''"))
    return "{" + ", ".join(f"{name}: {'true' if value is True else value}" for name, value in given.items()) + "}"


def with_keys(table: pd.DataFrame, spec: KeySpec | None, *, several_rows: bool) -> pd.DataFrame:
    """Returns a table with its identifiers rewritten.

    Raises:
        DataError: If two identifiers become one, and a patient may have one row only.
    """
    if spec is None or spec.is_empty:
        return table
    before = table.index.unique()
    after = dict(zip(before, map(spec.rewrite, before), strict=True))
    if not several_rows and len(set(after.values())) < len(before):
        first: dict[str, str] = {}
        clashes = [(first[new], old, new) for old, new in after.items() if first.setdefault(new, old) != old]
        pairs = [f"{quoted(one)} and {quoted(other)} become {quoted(new)}" for one, other, new in clashes]
        raise DataError(f"`key: {write_key(spec)}` makes one patient of two: {shown(pairs, 3)}.")
    return table.set_axis(pd.Index(table.index.map(after), dtype=object, name=table.index.name), axis=0)


def key_problems(
    keys: Mapping[str, pd.Index], specs: Mapping[str, KeySpec | None], *, must_meet: bool
) -> list[KeyProblem]:
    """Finds sources whose identifiers others spell differently, or of whose patients (almost) none is in another.

    Args:
        keys: The identifiers of each source; the first, such as those of the targets, are rewritten last.
        specs: The rules that a study gives; a source with an empty one is taken as it is.
        must_meet: Whether a source of whose patients none is in another is a problem by itself.
    """
    unique = {name: _named(index.unique().astype(object)) for name, index in keys.items()}
    looked_at = [name for name in reversed(list(unique)) if (spec := specs.get(name)) is None or not spec.is_empty]
    problems = []
    for is_for_all in (False, True):  # a rule for one source is better than one for several
        for name in looked_at:
            found = _spelling_problem(name, unique, is_for_all)
            if found is not None and found.repair is not None:
                problems.append(found)
                for source in list(unique) if is_for_all else [name]:
                    unique[source] = pd.Index(list(map(found.repair.rewrite, unique[source])), dtype=object).unique()
    unique = {name: unique[name] for name in looked_at}
    apart = {name: _others(name, unique) for name in looked_at if must_meet and _is_apart(name, unique)}
    if len(unique) == 2:  # each of the two is apart from the other
        apart = dict(list(apart.items())[:1])
    for name, others in apart.items():
        here, there = (sorted(some[:1000])[:3] for some in (unique[name].difference(others), others))
        problems.append(KeyProblem(name, len(unique[name]), _whom(name, unique), 0, here, there))
    return problems


def _named(keys: pd.Index) -> pd.Index:
    return keys[keys != ""]


def _others(name: str, unique: Mapping[str, pd.Index]) -> pd.Index:
    parts = [own for other, own in unique.items() if other != name]
    return parts[0].append(parts[1:]).unique() if parts else pd.Index([], dtype=object)


def _whom(name: str, unique: Mapping[str, pd.Index]) -> str:
    names = [other for other in unique if other != name]
    return f"source '{names[0]}'" if len(names) == 1 else "the other sources"


def _is_apart(name: str, unique: Mapping[str, pd.Index]) -> bool:
    own, others = unique[name], _others(name, unique)
    n_met, smaller = int(own.isin(others).sum()), min(len(own), len(others))
    return smaller > 0 and (n_met == 0 or (smaller >= MANY and n_met < ALMOST_NONE * smaller))


def _spelling_problem(name: str, unique: Mapping[str, pd.Index], is_for_all: bool) -> KeyProblem | None:
    own, others = unique[name], _others(name, unique)
    is_met = np.asarray(own.isin(others))
    alone, met = own[~is_met], list(own[is_met][:PAIRS])
    if not len(alone) or not len(others):
        return None
    crude, their_crude = _crude(alone), _crude(others)
    near, there = sorted(alone[crude.isin(their_crude)]), sorted(others[their_crude.isin(crude)])
    pairs, shape = _pairs(near, there, SURE), None
    named = {here for here, _ in pairs}
    # a source that has both spellings means two patients
    alike = _pairs([key for key in near if key not in named], there, ALIKE)
    pairs += [(here, other) for here, other in alike if other not in own]
    if not pairs and _is_apart(name, unique):
        shapes = SHAPES[:1] if is_for_all else SHAPES  # without their prefixes two patients may be called the same
        theirs = {one: _removing(one) if is_for_all else ALIKE for one in shapes}
        tried = {one: _pairs(sorted(alone), sorted(others), theirs[one], _removing(one)) for one in shapes}
        enough = {one: found for one, found in tried.items() if len(found) >= min(len(own), len(others)) / 2}
        shape, pairs = next(iter(enough.items()), (None, []))
    rule = _rule(pairs[:PAIRS], met, shape, is_for_all) if pairs else None
    if rule is None:
        return None
    here, other = zip(*pairs[:3], strict=True)
    return KeyProblem(name, len(own), _whom(name, unique), len(pairs), list(here), list(other), rule, is_for_all)


def _removing(shape: str) -> KeySpec:
    return ALIKE.model_copy(update={"remove": shape})


def _crude(keys: pd.Index) -> pd.Index:
    """Returns a form of each identifier that is equal wherever `ALIKE` makes two of them equal."""
    texts = compute.utf8_lower(compute.utf8_normalize(pa.array(keys, pa.string()), "NFKC"))
    texts = compute.replace_substring_regex(texts, r"[.,]0+([^0-9\pL]*)$", r"\1")
    texts = compute.replace_substring_regex(texts, r"[^0-9\pL]+", "")
    texts = compute.replace_substring_regex(texts, r"0*([0-9]+)$", r"\1")
    crude: pd.Index[Any] = pd.Index(texts.to_numpy(zero_copy_only=False), dtype=object)
    return crude


def _pairs(
    alone: Sequence[str], others: Sequence[str], theirs: KeySpec, own: KeySpec | None = None
) -> list[tuple[str, str]]:
    """Pairs identifiers with those of other sources that are the same when rewritten."""
    there: dict[str, str] = {}
    for key in others:
        there.setdefault(theirs.rewrite(key), key)
    rewritten = [(key, (own or theirs).rewrite(key)) for key in alone]
    return [(key, there[text]) for key, text in rewritten if text and text in there]


def _rule(pairs: Sequence[tuple[str, str]], met: Sequence[str], shape: str | None, is_for_all: bool) -> KeySpec | None:
    """Returns the shortest rule that makes both of each pair the same; of one source alone it leaves others met."""
    digits = Counter(len(found[0]) for _, there in pairs if (found := re.search("[0-9]+$", there)))
    widths = [None, 1, *(width for width, _ in digits.most_common(1))]
    wanted = list(pairs) if is_for_all else [*pairs, *((key, key) for key in met)]

    def is_enough(spec: KeySpec) -> bool:
        return all(spec.rewrite(here) == (spec.rewrite(other) if is_for_all else other) for here, other in wanted)

    for case, width in product((None, "lower", "upper"), widths):
        spec = ALIKE.model_copy(update={"remove": shape, "case": case, "zero_pad": width})
        if is_enough(spec):
            for name, default in KeySpec():
                shorter = spec.model_copy(update={name: default})
                spec = shorter if is_enough(shorter) else spec
            return spec
    return None
