"""Reports that are not plain text."""

import gzip
import io
import zipfile

import pandas as pd
import pytest

from multimodn.encoders._texts.formats import binary_format, html_text, text_format
from multimodn.encoders._texts.reports import Reports
from multimodn.errors import UnreadableError

PLAIN = [
    "Stable. RR < 20, p<0.05 and CRP > 5; <unknown>", "", "PK: 3 ng/ml", "a & b < c > d", "Rtf: none. {brackets}",
    "<5 mg/l", "size 3x4 <b 5>", "RIGHT <-> LEFT", "T2 </= 5", "x\x00y and much more text", "\ufeffReport: well",
]  # fmt: skip
MARKED = {
    "<!DOCTYPE html><html><body>Stable</body></html>": "HTML",
    "<p>Stable</p><p>CRP 5</p>": "HTML",
    "Stable.<br>CRP 5.<BR/>": "HTML",
    "before\n<div class='x'>Stable</div>": "HTML",
    "{\\rtf1\\ansi Stable}": "RTF",
    "%PDF-1.7 stream": "a PDF",
    "JVBERi0xLjcKJeLjz9MK": "a PDF in Base64",
    "<?xml version='1.0'?><ClinicalDocument/>": "XML",
    "S\x00t\x00a\x00b\x00l\x00e\x00": "UTF-16",
}


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_is_plain(text):
    assert text_format(text) is None
    assert binary_format(text.encode()) is None


def reports_of(content, folder, **options):
    """A report in a file, and if it is text, one in a cell."""
    file = folder / "report.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    tables = [(pd.DataFrame({"x": [str(file)]}, ["P1"]), "utf-8")]
    tables += [] if isinstance(content, bytes) else [(pd.DataFrame({"x": [content]}, ["P1"]), None)]
    return [Reports(table, "x", encoding, "Encoder 'text'", **options) for table, encoding in tables]


@pytest.mark.parametrize("text", MARKED)
def test_marked_text_is_named_with_its_patient_and_the_repair(text, tmp_path):
    for reports in reports_of(text, tmp_path):
        with pytest.raises(UnreadableError, match=rf"patient 'P1': the .* is {MARKED[text]}") as found:
            reports.keys()
        assert ("markup: strip" in str(found.value)) == (MARKED[text] == "HTML")
    assert reports.encoding is None
    assert ("markup: keep" in str(found.value)) == (MARKED[text] != "UTF-16")


def docx():
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("word/document.xml", "<w:t>Stable</w:t>")
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (docx(), "a Word, OpenDocument or zip file"),
        (b"%PDF-1.4\n%\xe2\xe3", "a PDF"),
        (b"\n\n%PDF-1.4\n", "a PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a Word file of before 2007"),
        (gzip.compress(b"Stable", mtime=0), "compressed"),
        ("Stable".encode("utf-16"), "UTF-16 .write `encoding: utf-16`"),
    ],
)
def test_documents_are_named_whatever_the_encoding(content, said, tmp_path):
    for encoding in ("utf-8", "latin-1"):
        reports = reports_of(content, tmp_path)[0]
        reports.encoding = encoding
        with pytest.raises(UnreadableError, match=rf"report\.txt is {said}"):
            reports.keys()


def test_utf16_is_read_where_it_is_named(tmp_path):
    reports = reports_of("Größe 5".encode("utf-16"), tmp_path)[0]
    reports.encoding = "utf-16"
    assert reports.read(0) == "Größe 5"


def test_html_may_be_stripped_or_kept(tmp_path):
    text = (
        "<html><head><style>p {color: red}</style><script>x < 1</script></head><body><p>CRP &lt; 5&nbsp;mg</p>"
        "<table><tr><td>Hb</td><td>12</td></tr></table>Stable<br>now.</body></html>"
    )
    assert html_text(text) == "CRP < 5 mg\nHb 12\nStable\nnow."
    for reports in reports_of(text, tmp_path, markup="strip"):
        assert reports.read(0) == "CRP < 5 mg\nHb 12\nStable\nnow."
    for reports in reports_of(text, tmp_path, markup="keep"):
        assert reports.read(0) == text
    for reports in reports_of("{\\rtf1 x}", tmp_path, markup="strip"):
        with pytest.raises(UnreadableError, match="is RTF"):
            reports.keys()
