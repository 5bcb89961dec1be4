"""Words in labels, in several languages: which of two says that the outcome happened, and which are empty."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from multimodn.study.yaml_file import read_yaml_file

_SCRIPTS_WITHOUT_BLANKS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
SIGNS = {"+": True, "++": True, "+++": True, "-": False, "\u2212": False}
_PREFIXES = {"non", "nicht", "un", "in", "im", "ir", "il", "a"}


def fold(label: str) -> str:
    """Returns a label without differences of writing only: upper case, blanks, accents, forms of letters."""
    letters = unicodedata.normalize("NFKD", label.casefold())
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())


@cache
def _words() -> dict[str, set[str]]:
    """Returns the folded words of the file beside this one, by their group."""
    groups = read_yaml_file(Path(__file__).with_suffix(".yaml"), "list of words")
    return {group: {fold(word) for word in text.split()} for group, text in groups.items()}


@cache
def _meanings() -> dict[str, bool]:
    words = _words()
    yes, no = words["yes"] | words["happened"], words["no"] | words["not_happened"]
    return dict.fromkeys(yes, True) | dict.fromkeys(no, False) | SIGNS


def is_yes(label: str) -> bool | None:
    """Says whether a label answers yes or no, such as ``ja``, ``1`` and ``true``; None of any other."""
    text = fold(label)
    return True if text in _words()["yes"] else False if text in _words()["no"] else None


def is_empty_word(label: str) -> bool:
    """Says whether a label means that nothing is known, such as ``n.a.``, ``unknown`` or ``[Not Available]``."""
    text = fold(label).strip("[]()<> ")
    return text in _words()["empty"] or re.sub("[ _]", "-", text) in _words()["empty"]


def has_happened(label: str) -> bool | None:
    """Says whether the words of a label, such as ``1:DECEASED``, tell that the outcome happened; None: no word does."""
    whole, meanings, words = fold(label), _meanings(), _words()
    if whole in meanings:
        return meanings[whole]
    if _SCRIPTS_WITHOUT_BLANKS.search(whole):
        found = [word for word in meanings if word in whole and _SCRIPTS_WITHOUT_BLANKS.search(word)]
        return meanings[max(found, key=len)] if found else None
    told: list[bool] = []
    is_denied = False
    for token in re.findall(r"[^\W\d_]+", fold(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label))):
        if token in words["denying_after"] or (len(token) > 6 and token.endswith(("frei", "free"))):
            told = [False]  # `disease free`
        elif token in words["denying"]:
            is_denied = True
        elif token in meanings and len(token) > 1:
            told.append(meanings[token] is not is_denied)
    if not told:
        return False if is_denied else None  # `without surgery`
    return told[0] if len(set(told)) == 1 else None


def positive_of(labels: Sequence[str]) -> tuple[str | None, str]:
    """Returns which of two labels is the positive class, and what tells it; None: nothing in them does."""
    folded = [fold(label) for label in labels]
    if all(re.fullmatch(r"[+-]?\d+(?:\.\d+)?", text) for text in folded):
        return max(labels, key=float), "as the larger number"
    told = [has_happened(label) for label in labels]
    if any(len(text) == 1 and text.isalnum() for text in folded) and None in map(is_yes, labels):
        told = [None, None]  # a letter answers a letter only: F and M are no false and ...
    if told.count(True) == 1:
        return labels[told.index(True)], "by its words"
    if told.count(False) == 1:
        return labels[1 - told.index(False)], "by the words of the other"
    letters = [re.sub(r"[\W_]", "", text) for text in folded]
    for k in (0, 1):
        if len(letters[k]) > 3 and letters[1 - k].removesuffix(letters[k]) in _PREFIXES:
            return labels[k], "as the other denies it"
    for pattern in (r"\s*(\d+)\s*[:=).-]", r"\D*(\d+)\s*$"):  # `0: a`, `1: b`; `M0`, `M1`
        codes = [re.match(pattern, label) for label in labels]
        numbers = [int(code[1]) for code in codes if code]
        if len(numbers) == 2 and numbers[0] != numbers[1]:
            return labels[numbers.index(max(numbers))], "by its number"
    above = [re.match(r"\s*(>|\u2265)", label) is not None for label in labels]
    return (labels[above.index(True)], "as the higher one") if above.count(True) == 1 else (None, "")


def spellings(counts: Mapping[str, int], *, are_answers: bool = False) -> dict[str, str]:
    """Returns the most frequent spelling of each label, where several differ in upper case, blanks or accents only.

    Labels stay as they are if they would all become one. With ``are_answers`` more than two labels that are all words
    for yes and for no become one word for each.
    """
    groups: dict[object, list[str]] = {}
    for label in counts:
        groups.setdefault(fold(label), []).append(label)
    answers = {label: is_yes(label) for label in counts}
    if are_answers and len(groups) > 2 and set(answers.values()) == {True, False}:
        groups = {answer: [label for label in counts if answers[label] is answer] for answer in (True, False)}
    if len(groups) < 2:
        return {label: label for label in counts}
    return {label: _usual(group, counts) for group in groups.values() for label in group}


def _usual(group: Iterable[str], counts: Mapping[str, int]) -> str:
    return min(group, key=lambda label: (-counts[label], label))
