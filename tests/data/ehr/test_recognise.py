"""`multimodn init` of a folder of health records says what to write instead."""

import pytest

from multimodn.data.ehr.recognise import record_format
from multimodn.errors import DataError
from multimodn.scaffold.folders import read_folder
from tests.data.ehr._hospital import hospital, write_csv, write_fhir, write_meds, write_omop


@pytest.mark.parametrize(
    ("name", "write"), [("meds", write_meds), ("omop", write_omop), ("fhir", write_fhir), (None, write_csv)]
)
def test_the_format_is_told_by_the_files(tmp_path, name, write):
    patients = hospital(8)
    if name is None:
        patients.tables.pop("measurement")
    write(patients, tmp_path / "records")
    assert record_format(tmp_path / "records") == name
    said = "holds no files of a known kind" if name is None else rf"`labs: {{{name}: .*records, part: measurement}}`"
    with pytest.raises(DataError, match=said):
        read_folder(tmp_path / "records", tmp_path, [])
