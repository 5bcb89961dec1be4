"""Reports that are not plain text: what they are, and the text of HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

BINARY = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a Word, OpenDocument or zip file",
    b"\xd0\xcf\x11\xe0": "a Word file of before 2007",
    b"\x1f\x8b": "compressed (gzip)",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"II*\x00": "a picture",
    b"\xff\xfe": "UTF-16 (write `encoding: utf-16`)",
    b"\xfe\xff": "UTF-16 (write `encoding: utf-16`)",
}
START = 1024  # bytes in which a PDF may begin
TEXTS = {"%PDF-": "a PDF", "{\\rtf": "RTF", "JVBERi0": "a PDF in Base64", "UEsDB": "a zip or Word file in Base64"}
TEXTS |= {"e1xydGY": "RTF in Base64", "PGh0bWw": "HTML in Base64", "PCFET0NUWVBF": "HTML in Base64"}
# elements that are closed, line breaks and the head of a document: a "<" alone is a sign of the language
HTML = re.compile(
    r"<!doctype\s+html|<html[\s>]|</(p|div|span|b|i|u|em|strong|font|td|tr|table|li|ul|ol|body|html|h[1-6]|a|pre)\s*>"
    r"|<br\s*/?>|<p\s*/?>",
    re.IGNORECASE,
)
XML = re.compile(r"\s*<\?xml\s|\s*<ClinicalDocument[\s>]")
BLOCKS = {"p", "div", "br", "tr", "li", "table", "ul", "ol", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "title", "body"}
NULS = 0.2  # share of NUL characters from which a text is UTF-16


def binary_format(data: bytes) -> str | None:
    """Returns what the content of a file is, if it is no text whatever its encoding."""
    start = data[:START].lstrip()
    for signature, name in BINARY.items():
        if start.startswith(signature) and not (name.startswith("UTF-16") and len(data) < 4):
            return name
    return "a PDF" if b"%PDF-" in data[:START] else None


def text_format(text: str) -> str | None:
    """Returns what a text is that is meant for a program: RTF, HTML, XML, a document in Base64, or UTF-16 misread."""
    start = text[:START].lstrip("\ufeff \t\r\n")
    for signature, name in TEXTS.items():
        if start.startswith(signature):
            return name
    if "\x00" in text and text.count("\x00") >= NULS * len(text) and any(map(str.isalnum, text)):
        return "UTF-16 (write `encoding: utf-16`)"
    if HTML.search(text):
        return "HTML"
    return "XML" if XML.match(start) else None


def html_text(text: str) -> str:
    """Returns the text of HTML as a browser shows it, without scripts and styles; a block begins a line."""
    parser = _Text()
    parser.feed(text)
    parser.close()
    lines = ("".join(parser.parts)).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())


class _Text(HTMLParser):
    """Collects the texts between tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts = list[str]()
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Begins a line at a block; a script or style hides what follows."""
        self.hidden += tag in ("script", "style")
        self.parts += ["\n"] if tag in BLOCKS else []
        self.parts += [" "] if tag in ("td", "th") else []

    def handle_endtag(self, tag: str) -> None:
        """Ends a line after a block."""
        self.hidden = max(0, self.hidden - (tag in ("script", "style")))
        self.parts += ["\n"] if tag in BLOCKS else []

    def handle_data(self, data: str) -> None:
        """Keeps a text; its line ends are blanks."""
        if not self.hidden:
            self.parts.append(re.sub(r"\s+", " ", data))
