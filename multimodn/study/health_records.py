"""The keys of a source that name one part of a folder of health records: OMOP, MEDS or FHIR."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from multimodn.study.yaml_file import Spec

Part = Literal["person", "death", "measurement", "condition", "drug", "procedure", "code", "note", "label"]

FORMATS = ("meds", "omop", "fhir")
PARTS: dict[str, tuple[Part, ...]] = {
    "meds": ("person", "death", "measurement", "condition", "drug", "procedure", "code", "note", "label"),
    "omop": ("person", "death", "measurement", "condition", "drug", "procedure", "note"),
    "fhir": ("person", "death", "measurement", "condition", "drug", "procedure", "note"),
}
OF_CODES = ("measurement", "condition", "drug", "procedure", "code")  # parts that a vocabulary selects from
NAMED_BY_PREFIX = ("condition", "drug", "procedure")  # which codes are which, MEDS says by their beginnings alone
RECORD_KEYS = {*FORMATS, "part", "vocabulary", "codes", "several_units"}


class HealthRecordSpec(Spec):
    """One part of a folder of health records, as a table.

    Attributes:
        meds: A folder in the Medical Event Data Standard, 0.3 or 0.4; for labels a file or folder of Parquet.
        omop: A DuckDB file, or a folder of CSV or Parquet, with tables of the OMOP Common Data Model, 5.3 or 5.4.
        fhir: A folder of NDJSON as FHIR Bulk Data exports write it, R4.
        part: What of it: ``person`` (birth_date, sex, race, ethnicity), ``death`` (died, time), ``measurement`` (time,
            variable, value, unit), ``condition``, ``drug`` or ``procedure`` (time, code), ``note`` (time, text); of
            MEDS also ``code``, all events without a number, and ``label`` (prediction_time and the values).
        vocabulary: Only codes of it, such as ``ICD10CM`` or ``LOINC``; of MEDS the beginning of the codes, which is
            cut off: ``DIAGNOSIS//ICD10CM``.
        codes: Which codes of OMOP: those of ``standard`` concepts, as the ``source`` has them, or the concepts' ``id``.
        several_units: What to do with a variable in several units: ``split`` it (the unit is added to its name), or
            ``ignore`` them; default: an error.
    """

    meds: str | None = None
    omop: str | None = None
    fhir: str | None = None
    part: Part | None = None
    vocabulary: str | None = None
    codes: Literal["standard", "source", "id"] | None = None
    several_units: Literal["split", "ignore"] | None = None

    @property
    def record_format(self) -> str | None:
        """The format, ``meds``, ``omop`` or ``fhir``; None: the source is something else."""
        return next((name for name in FORMATS if getattr(self, name) is not None), None)

    @property
    def record_place(self) -> str:
        """The file or folder of health records, as the study writes it."""
        return str(getattr(self, str(self.record_format)))

    @model_validator(mode="after")
    def _part_fits_format(self) -> Self:
        name = self.record_format
        if name is None:
            given = [key for key in ("part", "vocabulary", "codes", "several_units") if getattr(self, key) is not None]
            if given:
                raise ValueError(f"`{given[0]}` needs `meds`, `omop` or `fhir`, where the records are.")
            return self
        if self.part not in PARTS[name]:
            what = "names no `part`" if self.part is None else f"has no part '{self.part}'"
            raise ValueError(f"`{name}` {what}; write `part:` and one of {', '.join(PARTS[name])}.")
        if self.vocabulary is not None and self.part not in OF_CODES:
            raise ValueError(f"part '{self.part}' has no codes, so `vocabulary` selects nothing; remove it.")
        if name == "meds" and self.part in NAMED_BY_PREFIX and self.vocabulary is None:
            example = "`vocabulary: DIAGNOSIS//ICD10CM`"
            raise ValueError(
                f"MEDS does not say which codes are part '{self.part}'; write with what they begin, such as {example}, "
                f"or take all events without a number, `part: code`."
            )
        if self.codes is not None and (name != "omop" or self.part not in OF_CODES):
            raise ValueError("`codes` says which codes of a part of `omop` are read; remove it.")
        if self.several_units is not None and (name == "meds" or self.part != "measurement"):
            raise ValueError("`several_units` is used for `part: measurement` of `omop` and `fhir` alone; remove it.")
        return self

    def of_records(self, place: str) -> dict[str, Any]:
        """Returns the keys that read the same part of another file or folder."""
        kept = {key: getattr(self, key) for key in ("part", "vocabulary", "codes", "several_units")}
        return {str(self.record_format): place} | {key: value for key, value in kept.items() if value is not None}
