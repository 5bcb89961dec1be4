"""A small hospital, drawn at random, and how each format writes the same patients. Nothing here is downloaded."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

SEXES = {"female": (8532, "F"), "male": (8507, "M")}
RACES = {"Asian": (8515, "2028-9"), "Black or African American": (8516, "2054-5"), "White": (8527, "2106-3")}
LABS = {"2160-0": (3016723, 1.1, "mg/dL"), "2951-2": (3019550, 139.0, "mmol/L"), "8480-6": (3004249, 128.0, "mm[Hg]")}
CONDITIONS = {"I10": 35207668, "E11.9": 35206882, "N18.3": 35209277, "J44.9": 35208013}
DRUGS = {"860975": 40164929, "197361": 1332419}
PROCEDURES = {"80146002": 4198190, "232717009": 4336464}
VOCABULARIES = {"measurement": "LOINC", "condition": "ICD10CM", "drug": "RxNorm", "procedure": "SNOMED"}
SYSTEMS = {
    "LOINC": "http://loinc.org",
    "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "RxNorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "SNOMED": "http://snomed.info/sct",
}
CODES = {"condition": CONDITIONS, "drug": DRUGS, "procedure": PROCEDURES}
PARTS = ("person", "death", "measurement", "condition", "drug", "procedure", "note")
OMB = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"


@dataclass
class Hospital:
    """The tables of all parts as the package reads them (times and dates as text), the key in ``patient``.

    ``label`` has each patient's moment of prediction and outcome.
    """

    tables: dict[str, pd.DataFrame]

    def __getitem__(self, part: str) -> pd.DataFrame:
        return self.tables[part]


def hospital(n: int = 200, seed: int = 0) -> Hospital:
    """Draws patients with laboratory values, codes, notes and deaths; not everyone has everything."""
    rng = np.random.default_rng(seed)
    ids = [str(number) for number in rng.permutation(np.arange(1000, 1000 + n))]
    start = pd.Timestamp("2020-03-01 08:30:00")

    def times(count: int, days: float = 300.0) -> list[str]:
        seconds = rng.integers(0, int(days * 86400), count)
        return [str(start + pd.Timedelta(int(second), "s")) for second in seconds]

    person = pd.DataFrame({
        "patient": ids,
        "birth_date": [f"{rng.integers(1930, 2000)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}" for _ in ids],
        "sex": rng.choice(list(SEXES), n),
        "race": [None if rng.random() < 0.1 else rng.choice(list(RACES)) for _ in ids],
        "ethnicity": rng.choice(["Hispanic or Latino", "Not Hispanic or Latino"], n, p=[0.2, 0.8]),
    })  # fmt: skip
    died = rng.random(n) < 0.3
    death = pd.DataFrame({
        "patient": ids, "died": died.astype(int),
        "time": [time if dead else None for time, dead in zip(times(n), died, strict=True)],
    })  # fmt: skip
    owners = np.repeat(ids, rng.integers(0, 8, n))
    variable = rng.choice(list(LABS), len(owners))
    noise = rng.normal(1, 0.2, len(owners))
    measurement = pd.DataFrame({
        "patient": owners, "time": times(len(owners)), "variable": variable,
        # MEDS holds single precision
        "value": [float(np.float32(round(LABS[v][1] * x, 2))) for v, x in zip(variable, noise, strict=True)],
        "unit": [LABS[v][2] for v in variable],
    })  # fmt: skip
    tables = {"person": person, "death": death, "measurement": measurement}
    for part, codes in CODES.items():
        owners = np.repeat(ids, rng.integers(0, 4, n))
        code = rng.choice(list(codes), len(owners))
        tables[part] = pd.DataFrame({"patient": owners, "time": times(len(owners)), "code": code})
    owners = np.repeat(ids, rng.integers(0, 2, n))
    words = ["dyspnoea at rest", "no complaints", 'pain, "severe"', "follow-up\nin a week", "Grüße"]
    text = rng.choice(words, len(owners))
    tables["note"] = pd.DataFrame({"patient": owners, "time": times(len(owners)), "text": text})
    moment = [str(start + pd.Timedelta(int(day), "D")) for day in rng.integers(200, 320, n)]
    tables["label"] = pd.DataFrame({"patient": ids, "prediction_time": moment, "boolean_value": rng.random(n) < 0.4})
    by_all = {name: table.sort_values(list(table.columns)).reset_index(drop=True) for name, table in tables.items()}
    return Hospital(by_all)


def write_csv(hospital: Hospital, folder: Path) -> None:
    """Writes a CSV for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in hospital.tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def write_meds(hospital: Hospital, folder: Path, version: str = "0.4.0") -> None:
    """Writes a MEDS data set in two shards, and labels in ``labels``."""

    def events(table: pd.DataFrame, code, numeric=None, text=None, time="time"):
        nothing = [None] * len(table)
        return pd.DataFrame({
            "subject_id": table["patient"].astype("int64"),
            "time": pd.to_datetime(table[time]).astype("datetime64[us]") if time else pd.Series(pd.NaT, table.index),
            "code": code,
            "numeric_value": pd.Series(nothing if numeric is None else numeric, table.index, dtype="float32"),
            "text_value": pd.Series(nothing if text is None else text, table.index, dtype="str"),
        })  # fmt: skip

    person, death = hospital["person"], hospital["death"].query("died == 1")
    with_race = person[person["race"].notna()]
    measurement, note = hospital["measurement"], hospital["note"]
    parts = [
        events(person, "MEDS_BIRTH", time="birth_date"),
        events(person, "GENDER//" + person["sex"].map(lambda sex: SEXES[sex][1]), time=None),
        events(with_race, "RACE//" + with_race["race"], time=None),
        events(person, "ETHNICITY//" + person["ethnicity"], time=None),
        events(death, "MEDS_DEATH"),
        events(measurement, "LOINC//" + measurement["variable"], numeric=measurement["value"]),
        events(note, "NOTE", text=note["text"]),
        *(events(hospital[part], f"{VOCABULARIES[part]}//" + hospital[part]["code"]) for part in CODES),
    ]
    rows = pd.concat([part.astype({"time": "datetime64[us]"}) for part in parts], ignore_index=True)
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"meds_version": version}))
    for shard, odd in (("train/0", 0), ("tuning/0", 1)):
        file = folder / "data" / f"{shard}.parquet"
        file.parent.mkdir(parents=True)
        some = rows[rows["subject_id"] % 2 == odd]
        some.sort_values(["subject_id", "time"], kind="stable", na_position="first").to_parquet(file, index=False)
    label = hospital["label"]
    (folder / "labels").mkdir()
    pd.DataFrame({
        "subject_id": label["patient"].astype("int64"),
        "prediction_time": pd.to_datetime(label["prediction_time"]).astype("datetime64[us]"),
        "boolean_value": label["boolean_value"],
    }).to_parquet(folder / "labels" / "0.parquet", index=False)  # fmt: skip


def omop_tables(hospital: Hospital) -> dict[str, pd.DataFrame]:
    """Returns the tables of an OMOP Common Data Model."""
    person, death, lab = hospital["person"], hospital["death"], hospital["measurement"]
    ids = lambda table: table["patient"].astype(int)  # noqa: E731
    born = pd.to_datetime(person["birth_date"])
    day = lambda table: table["time"].str[:10]  # noqa: E731
    concepts = [(number, code, "LOINC", code) for code, (number, _, _) in LABS.items()]
    concepts += [
        (number, code, VOCABULARIES[part], code) for part, each in CODES.items() for code, number in each.items()
    ]
    concepts += [(number, code, "Gender", sex.upper()) for sex, (number, code) in SEXES.items()]
    concepts += [(number, str(number), "Race", race) for race, (number, _) in RACES.items()]
    units = {unit: 8000 + k for k, (_, _, unit) in enumerate(LABS.values())}
    concepts += [(number, unit, "UCUM", unit) for unit, number in units.items()]
    tables = {
        "person": pd.DataFrame({
            "person_id": ids(person), "gender_concept_id": [SEXES[sex][0] for sex in person["sex"]],
            "year_of_birth": born.dt.year, "month_of_birth": born.dt.month, "day_of_birth": born.dt.day,
            "race_concept_id": [RACES[race][0] if isinstance(race, str) else 0 for race in person["race"]],
            "ethnicity_concept_id": [38003564 if name.startswith("Not") else 38003563 for name in person["ethnicity"]],
        }),
        "death": pd.DataFrame({
            "person_id": ids(death), "death_date": day(death), "death_datetime": death["time"],
        })[death["died"] == 1],
        "measurement": pd.DataFrame({
            "measurement_id": range(len(lab)), "person_id": ids(lab),
            "measurement_concept_id": [LABS[code][0] for code in lab["variable"]], "measurement_date": day(lab),
            "measurement_datetime": lab["time"], "value_as_number": lab["value"],
            "unit_concept_id": [units[unit] for unit in lab["unit"]], "operator_concept_id": 4172703,
        }),
        "note": pd.DataFrame({
            "person_id": ids(hospital["note"]), "note_date": day(hospital["note"]),
            "note_datetime": hospital["note"]["time"], "note_text": hospital["note"]["text"],
        }),
        "concept": pd.DataFrame(concepts, columns=["concept_id", "concept_code", "vocabulary_id", "concept_name"]),
        "cdm_source": pd.DataFrame({"cdm_source_name": ["small"], "cdm_version": ["v5.4"]}),
    }  # fmt: skip
    for part, name, concept, time in (
        ("condition", "condition_occurrence", "condition", "condition_start"),
        ("drug", "drug_exposure", "drug", "drug_exposure_start"),
        ("procedure", "procedure_occurrence", "procedure", "procedure"),
    ):
        table = hospital[part]
        tables[name] = pd.DataFrame({
            "person_id": ids(table), f"{concept}_concept_id": [CODES[part][code] for code in table["code"]],
            f"{time}_date": day(table), f"{time}_datetime": table["time"], f"{concept}_source_value": table["code"],
        })  # fmt: skip
    return tables


def write_omop(hospital: Hospital, place: Path, suffix: str = ".csv") -> None:
    """Writes an OMOP Common Data Model: a folder of CSV or Parquet, or with ``.duckdb`` a database."""
    tables = omop_tables(hospital)
    if suffix == ".duckdb":
        with duckdb.connect(str(place)) as connection:
            for name, table in tables.items():
                connection.register("given", table)
                connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
        return
    place.mkdir(parents=True)
    for name, table in tables.items():
        if suffix == ".parquet":
            table.to_parquet(place / f"{name}.parquet", index=False)
        else:  # as vocabularies are handed out: upper case, tabs
            is_vocabulary = name == "concept"
            file = place / (f"{name.upper()}.csv" if is_vocabulary else f"{name}.csv")
            table.to_csv(file, index=False, sep="\t" if is_vocabulary else ",")


def write_fhir(hospital: Hospital, folder: Path) -> None:  # noqa: C901
    """Writes a FHIR export: NDJSON, observations in two files, times with a time zone."""
    folder.mkdir(parents=True)
    dead = hospital["death"].set_index("patient")["time"].dropna()

    def zoned(time: str) -> str:
        local = pd.Timestamp(time, tz="UTC").tz_convert("Europe/Berlin")
        return local.isoformat()

    def category(what: str, code: str, display: str):
        coding = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code, "display": display}
        inner = [{"url": "ombCategory", "valueCoding": coding}, {"url": "text", "valueString": display}]
        return {"url": OMB + what, "extension": inner}

    def patient(row) -> dict:
        code = "2186-5" if row.ethnicity.startswith("Not") else "2135-2"
        extension = [category("ethnicity", code, row.ethnicity)]
        if isinstance(row.race, str):
            extension.append(category("race", RACES[row.race][1], row.race))
        died = {"deceasedDateTime": zoned(dead[row.patient])} if row.patient in dead else {}
        given = {"id": row.patient, "birthDate": row.birth_date, "gender": row.sex, "extension": extension}
        return {"resourceType": "Patient", **given, **died}

    def coded(part: str, code: str) -> dict:
        return {"coding": [{"system": SYSTEMS[VOCABULARIES[part]], "code": code}]}

    def about(row, kind: str, **given) -> dict:
        return {"resourceType": kind, "subject": {"reference": f"Patient/{row.patient}"}, **given}

    def observation(row) -> dict:
        quantity = {"value": row.value, "code": row.unit, "system": "http://unitsofmeasure.org"}
        code, time = coded("measurement", row.variable), zoned(row.time)
        part = {"code": code, "valueQuantity": quantity}
        if row.variable == "8480-6":  # blood pressure is a component of a panel
            panel = {"coding": [{"system": SYSTEMS["LOINC"], "code": "85354-9"}]}
            return about(row, "Observation", status="final", code=panel, component=[part], effectiveDateTime=time)
        return about(row, "Observation", status="final", effectiveDateTime=time, **part)

    def document(row) -> dict:
        data = base64.b64encode(row.text.encode()).decode()
        content = [{"attachment": {"contentType": "text/plain; charset=utf-8", "data": data}}]
        return about(row, "DocumentReference", status="current", date=zoned(row.time), content=content)

    rows = {part: list(hospital[part].itertuples()) for part in PARTS}
    resources = {"Patient": [patient(row) for row in rows["person"]]}
    observations = [observation(row) for row in rows["measurement"]]
    half = len(observations) // 2
    resources |= {"Observation.1": observations[:half], "Observation.2": observations[half:]}
    resources["Condition"] = [
        about(row, "Condition", code=coded("condition", row.code), recordedDate=zoned(row.time))
        for row in rows["condition"]
    ]
    resources["MedicationRequest"] = [
        about(
            row, "MedicationRequest", status="active", medicationCodeableConcept=coded("drug", row.code),
            authoredOn=zoned(row.time),
        )
        for row in rows["drug"]
    ]  # fmt: skip
    resources["Procedure"] = [
        about(
            row, "Procedure", status="completed", code=coded("procedure", row.code), performedDateTime=zoned(row.time)
        )
        for row in rows["procedure"]
    ]
    resources["DocumentReference"] = [document(row) for row in rows["note"]]
    for name, lines in resources.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.ndjson").write_text(text, encoding="utf-8")
