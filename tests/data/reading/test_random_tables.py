"""Random tables in random writings end in a fitted encoder or in an error of the package, in no other exception."""

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodn import Cohort
from multimodn.encoders.table import TableEncoder, TableOptions
from multimodn.errors import DataWarning, MultiModNError
from multimodn.study.study import Study

WRITINGS = [
    lambda x: f"{x:.2f}", lambda x: f"{x:.2f}".replace(".", ","), lambda x: f"{x:.0f} %", lambda x: f"{x:.1f} mg/L",
    lambda x: f"<{x:.1f}", lambda x: f"{1000 * x:,.0f}", lambda x: f"{int(x)}-{int(x) + 5}", lambda x: "NA",
    lambda x: f"2024-01-{1 + int(abs(x)):02d}", lambda x: f"{1 + int(abs(x))}.1.2024", lambda x: "", lambda x: "\u00a0",
    lambda x: "-999", lambda x: str(int(x * 1e17)), lambda x: f"visit {int(x)}", lambda x: str(x > 4),
    lambda x: "ü;,\t",
    lambda x: '"q""', lambda x: "inf", lambda x: "1e400", lambda x: f"\u2212{x:.1f}", lambda x: "=1+1", lambda x: "½",
    lambda x: f"{int(abs(x)):02d}:30", lambda x: "1_000", lambda x: "٣", lambda x: "a\nb",
]  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "decimal": st.just(","), "units": st.just("strip"), "ranges": st.just("middle"), "empty": st.just(["-999"]),
        "detection_limit": st.sampled_from(["half", "limit", "flag"]), "encoding": st.sampled_from(["utf-8", "cp1252"]),
    },
)  # fmt: skip
COLUMN = st.lists(st.sampled_from(WRITINGS), min_size=1, max_size=3)


@settings(max_examples=15, deadline=None)
@given(
    columns=st.lists(COLUMN, min_size=1, max_size=4), n_rows=st.sampled_from([1, 2, 30]), options=OPTIONS,
    delimiter=st.sampled_from([",", ";", "\t"]), encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]),
    is_told=st.booleans(), repeats=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_table_is_read_or_refused(
    tmp_path_factory, columns, n_rows, options, delimiter, encoding, is_told, repeats, seed
):
    folder, generator = tmp_path_factory.mktemp("table"), np.random.default_rng(seed)
    rows = [["id", *(f"c{k}" for k in range(len(columns))), "y"]]
    for i in range(n_rows):
        cells = [column[generator.integers(len(column))](generator.normal(5, 3)) for column in columns]
        rows.append([f"P{i}", *cells, str(i % 2)])
    quoted = [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    (folder / "t.csv").write_bytes("\n".join(quoted).encode(encoding, "replace"))
    source = {"path": "t.csv", **options} | (
        {"delimiter": "tab" if delimiter == "\t" else delimiter} if is_told else {}
    )
    modality = {"name": "m", "kind": "table", "source": "t", "columns": {"all_but": ["y"]}}
    modality |= {"repeats": {"by": "c0", "most": 3}} if repeats else {}
    task = {"name": "y", "kind": "binary", "source": "t", "target": "y", "positive": 1}
    cohort = {"patient": "id", "sources": {"t": source}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            study = Study.from_dict({"name": "s", "cohort": cohort, "modalities": [modality], "tasks": [task]}, folder)
            for frame in Cohort.load(study).modalities.values():
                TableEncoder.fit(frame, TableOptions()).prepare(frame)
        except MultiModNError as error:
            assert str(error)  # noqa: PT017 - which error it is depends on the table
