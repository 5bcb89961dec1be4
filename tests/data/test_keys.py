import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data.cohort import Cohort
from multimodn.data.keys import key_problems
from multimodn.errors import DataError, DataWarning, StudyError
from multimodn.study.keys import KeySpec
from multimodn.study.study import SourceSpec, Study
from multimodn.study.yaml_file import read_yaml
from tests.data._studies import study_dict

RIGHT = [f"{i:04d}" for i in range(1, 25)]
NAMED = [f"Ward-A{i:02d}" for i in range(1, 25)]
SPELLINGS = {
    "zeros": (RIGHT, lambda key: str(int(key)), "{zero_pad: 4}"),
    "blank": (NAMED, lambda key: key + " ", "{strip: true}"),
    "no-break space": (NAMED, lambda key: "\u00a0" + key, "{strip: true}"),
    "zero width": (NAMED, lambda key: "\ufeff" + key, "{strip: true}"),
    "dash": (NAMED, lambda key: key.replace("-", "\u2011"), "{strip: true}"),
    "full width": (RIGHT, lambda key: key.translate({48 + i: 0xFF10 + i for i in range(10)}), "{strip: true}"),
    "decimal": (RIGHT, lambda key: f"{int(key)}.0", "{whole: true, zero_pad: 4}"),
    "formula": (RIGHT, lambda key: f'="{key}"', "{unquote: true}"),
    "apostrophe": (RIGHT, lambda key: f"'{key}", "{unquote: true}"),
    "lower": (NAMED, str.lower, None),
    "upper and blank": (NAMED, lambda key: key.upper() + "  ", None),
    "prefix": (RIGHT, lambda key: f"PAT{key}", "{remove: '^[^0-9]+'}"),
    "separators": (NAMED, lambda key: key.replace("A", "A_"), None),
    "sample": (NAMED, lambda key: key + "-01X", "{remove: '[-_. ][^-_. ]*$'}"),
}


def two_tables(folder, here, there, **labs):
    pd.DataFrame({"id": here, "died": ["yes", "no"] * (len(here) // 2)}).to_csv(folder / "clinical.csv", index=False)
    pd.DataFrame({"id": there, "crp": range(len(there))}).to_csv(folder / "labs.csv", index=False)
    sources = {"clinical": "clinical.csv", "labs": {"path": "labs.csv", **labs}}
    task = {"name": "death", "kind": "binary", "source": "clinical", "target": "died"}
    labs_alone = [{"name": "labs", "kind": "table", "source": "labs"}]
    changes = {"cohort": {"patient": "id", "sources": sources}, "modalities": labs_alone, "tasks": [task]}
    return Study.from_dict(study_dict(**changes), folder)


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("n_spelled", [24, 5])
def test_another_spelling_is_an_error_whose_repair_joins_the_tables(tmp_path, name, n_spelled):
    keys, spell, rule = SPELLINGS[name]
    if n_spelled == 5 and name in ("prefix", "separators", "sample"):
        return  # parts of an identifier are looked into where nobody is found only
    spelled = [spell(key) if i < n_spelled else key for i, key in enumerate(keys)]
    with pytest.raises(DataError, match=f"{n_spelled} of its 24 patients are spelled differently") as caught:
        Cohort.load(two_tables(tmp_path, keys, spelled))
    written, whose = re.search(
        r"Write `key: (\{.*?\})` for (this source(?: and the others)?),", str(caught.value)
    ).groups()
    source = re.search(r"source '(\w+)'", str(caught.value))[1]
    if rule is not None and n_spelled == 24:
        assert (source, written) == ("labs", rule)
    study = two_tables(tmp_path, keys, spelled).to_dict()
    for each in ["clinical", "labs"] if "others" in whose else [source]:
        study["cohort"]["sources"][each] = {"path": f"{each}.csv", "key": read_yaml(written)}
    repaired = Cohort.load(Study.from_dict(study, tmp_path))
    assert len(repaired) == 24
    assert repaired.presence.to_numpy().all()


def test_tables_of_other_patients_are_an_error_that_shows_both(tmp_path):
    with pytest.raises(DataError, match=r"none of its 24 patients is in source 'clinical': it has 'x.*y', .*'0001'"):
        Cohort.load(two_tables(tmp_path, RIGHT, [f"x{i}y" for i in range(1, 25)]))
    with pytest.raises(DataError, match=r"\(almost\) none"):
        Cohort.load(two_tables(tmp_path, RIGHT, [f"x{i}y" for i in range(1, 24)] + ["0003"]))
    with pytest.warns(DataWarning, match="23 of 24 patients have no row in the targets' source"):
        cohort = Cohort.load(two_tables(tmp_path, RIGHT, [f"x{i}y" for i in range(1, 24)] + ["0003"], key={}))
    assert len(cohort) == 47


def test_a_source_with_both_spellings_has_two_patients(tmp_path):
    keys = ["a1", "A1", *RIGHT]
    assert not key_problems({"out": pd.Index(keys), "labs": pd.Index(["a1", *RIGHT[:4]])}, {}, must_meet=True)
    both = pd.Index(["a1", "a1 ", *RIGHT])  # but never for a blank
    assert key_problems({"out": both, "labs": pd.Index(["a1", *RIGHT[:4]])}, {}, must_meet=True)


def test_new_patients_need_not_meet_but_are_spelled_alike(tmp_path):
    study = two_tables(tmp_path, RIGHT, RIGHT)
    new = pd.DataFrame({"id": ["9001", "9002"], "crp": [1.0, 2.0]})
    assert len(Cohort.load(study, labelled=False, sources={"labs": new})) == 2
    padded = two_tables(tmp_path, RIGHT, [str(int(key)) for key in RIGHT], key={"zero_pad": 4})
    new = pd.DataFrame({"id": ["3", "7"], "crp": [1.0, 2.0]})
    assert list(Cohort.load(padded, labelled=False, sources={"labs": new}).patients) == ["0003", "0007"]


def test_a_rule_that_makes_one_patient_of_two_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"makes one patient of two: '12' and '0012' become '0012'"):
        Cohort.load(two_tables(tmp_path, [*RIGHT, "0031", "0032"], ["12", *RIGHT], key={"zero_pad": 4}))


def test_a_wrong_rule_is_an_error_of_the_study():
    with pytest.raises(StudyError, match=r"Did you mean 'zero_pad'"):
        SourceSpec(path="a.csv", key={"zero_pads": 3})
    with pytest.raises(StudyError, match="not a regular expression"):
        KeySpec(remove="(")
    assert SourceSpec(path="a.csv", key=KeySpec(strip=True)).model_dump() == {"path": "a.csv", "key": {"strip": True}}


@given(
    st.lists(st.from_regex(r"[A-Z]{2}0?[1-9][0-9]{0,3}", fullmatch=True), min_size=4, max_size=30, unique_by=str.lower),
    st.sampled_from([" {}", "{}\t", "\u2003{}", '"{}"', "='{}'", "\u200b{} "]),
)
def test_identifiers_that_differ_by_blanks_and_quotes_always_meet(keys, pattern):
    spelled = pd.Index([pattern.format(key) for key in keys])
    (problem,) = key_problems({"out": pd.Index(keys), "labs": spelled}, {}, must_meet=True)
    assert [problem.repair.rewrite(key) for key in spelled] == keys


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=30, unique=True), st.integers(1, 30))
def test_clean_identifiers_of_any_text_are_no_problem(keys, n):
    own = {"out": pd.Index(keys), "labs": pd.Index(keys[:n])}
    assert not key_problems(own, {}, must_meet=True) or any(
        KeySpec(strip=True, unquote=True).rewrite(key) != key for key in keys
    )
