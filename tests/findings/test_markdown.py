import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from multimodn.findings.markdown import code, escaped, heading, items, prose, table
from tests.card._cards import READER, tables

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"), max_size=30)


def plain(text):
    return " ".join(text.split())


def inlines(lines):
    return ["".join(c.content for c in t.children) for t in READER.parse("\n".join(lines)) if t.type == "inline"]


@given(TEXTS, TEXTS)
@example("a|b", "\\|")
@example("|---|", "`x|y`")
@example("&lt; &#124;", "<script>x</script>")
@example("_a_ b_c", "[x](y) ![z](u)")
def test_no_text_breaks_a_table_and_each_cell_shows_it(first, second):
    found = tables("\n".join(table(["one", "two"], [(first, second), ("x", first)], 2)))
    assert found == [[["one", "two"], [plain(first), plain(second)], ["x", plain(first)]]]


@given(TEXTS)
@example("# title")
@example("1. one")
@example("- item")
@example("---")
@example("> quote")
@example("+")
def test_a_text_in_a_list_stays_one_paragraph_of_it(text):
    kinds = [t.type for t in READER.parse("\n".join(items([escaped(text), "end"])))]
    assert kinds.count("list_item_open") == 2
    assert {"heading_open", "blockquote_open", "hr", "html_block", "code_block"}.isdisjoint(kinds)
    assert inlines(items([escaped(text)])) == ([plain(text)] if plain(text) else [])


def test_line_breaks_of_users_become_spaces():
    assert escaped("one\n\n# two\r\n| three") == "one # two \\| three"


@pytest.mark.parametrize("text", ["plain", "with `ticks`", "a|b", "\\"])
def test_code_shows_its_text(text):
    assert inlines(prose(f"x {code(text)}")) == [f"x {text}"]


def test_headings_show_their_text():
    assert inlines(heading("1. a *b* | c")) == ["1. a *b* | c"]
