"""How the identifiers of a source are written, where other sources write them otherwise."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal

from pydantic import Field, field_validator, model_serializer

from multimodn.study.yaml_file import Spec

_WITHOUT_WIDTH = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_QUOTED = re.compile(r"=?\"(.*)\"|=?'(.*)'|'(.*)")
_WHOLE = re.compile(r"([0-9]+)[.,]0+")
_LAST_DIGITS = re.compile(r"(.*?)0*([0-9]+)", re.DOTALL)


class KeySpec(Spec):
    """Steps that rewrite the identifiers of a source, done in this order; empty: they are right as they stand.

    Attributes:
        strip: Whether to remove blanks of any kind around an identifier and characters without width; blanks inside,
            dashes and full-width digits become plain ones.
        unquote: Whether to remove quotes around it: ``="12"``, ``"12"`` and ``'12`` are 12.
        whole: Whether ``12.0`` is 12.
        remove: A regular expression; what matches it is removed, such as ``^P-`` or the sample in ``-01A$``.
        case: ``lower`` or ``upper``.
        zero_pad: Number of digits at the end of an identifier, zeros before included; 1: without zeros before.
    """

    strip: bool = False
    unquote: bool = False
    whole: bool = False
    remove: str | None = None
    case: Literal["lower", "upper"] | None = None
    zero_pad: int | None = Field(default=None, ge=1, le=64)

    @field_validator("remove")
    @classmethod
    def _expression(cls, text: str | None) -> str | None:
        try:
            re.compile(text or "")
        except re.error as error:
            raise ValueError(f"`remove` is not a regular expression: {error}.") from None
        return text

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return {name: value for name, value in self if value not in (None, False)}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is rewritten."""
        return self == KeySpec()

    def rewrite(self, identifier: str) -> str:
        """Returns an identifier after all steps."""
        text = identifier
        if self.strip:
            if not text.isascii():
                text = unicodedata.normalize("NFKC", _DASHES.sub("-", _WITHOUT_WIDTH.sub("", text)))
            text = " ".join(_DASHES.sub("-", text).split())
        if self.unquote and (quoted := _QUOTED.fullmatch(text)):
            text = next(part for part in quoted.groups() if part is not None)
            text = text.strip() if self.strip else text
        if self.whole and (whole := _WHOLE.fullmatch(text)):
            text = whole[1]
        if self.remove is not None:
            text = re.sub(self.remove, "", text)
        if self.case is not None:
            text = text.lower() if self.case == "lower" else text.upper()
        if self.zero_pad is not None and (parts := _LAST_DIGITS.fullmatch(text)):
            text = parts[1] + parts[2].zfill(self.zero_pad)
        return text
