import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodn.data.outcome_words import fold, has_happened, is_empty_word, is_yes, positive_of, spellings

POSITIVE_FIRST = """
Dead / Alive | 1:DECEASED / 0:LIVING | ja / nein | Ja / Nej
oui / non | sí / no | да / нет | はい / いいえ
陽性 / 陰性 | 死亡 / 生存 | positive / negative | positif / négatif
POS / NEG | + / - | décédé / vivant | muerto / vivo
verstorben / am Leben | tot / lebend | Died / Survived | Responder / Non-Responder
responder / nonresponder | relapse / no relapse | rezidiv / rezidivfrei | 1:Recurred/Progressed / 0:DiseaseFree
WITH TUMOR / TUMOR FREE | Progression / Censored | 1:DEAD WITH TUMOR / 0:ALIVE OR DEAD TUMOR FREE | not alive / alive
dead / not dead | symptomatic / asymptomatic | abnormal / normal | M1 / M0
>=65 / <65 | 2 / 1 | y / n | T / F
Alive with disease / Alive without disease | Dead of disease / Alive with disease | 1: x / 0: y
"""


@pytest.mark.parametrize("pair", POSITIVE_FIRST.strip().replace("\n", " | ").split(" | "))
def test_the_positive_class_is_told_by_words_in_any_order(pair):
    positive, negative = pair.split(" / ")
    assert positive_of([positive, negative])[0] == positive
    assert positive_of([negative, positive])[0] == positive


@pytest.mark.parametrize("labels", [("female", "male"), ("F", "M"), ("a", "b"), ("left", "right"), ("dead", "died")])
def test_labels_that_tell_nothing_are_not_guessed(labels):
    assert positive_of(labels) == (None, "")


@pytest.mark.parametrize("text", ["n.a.", "NA", "Unknown", "[Not Available]", "?", "k.A.", "not_reported", "sin datos"])
def test_words_for_an_empty_cell(text):
    assert is_empty_word(text)
    assert has_happened(text) is not True


@pytest.mark.parametrize("text", ["none", "no", "0", "absent", "Nancy", "Namibia"])
def test_other_labels_are_not_empty(text):
    assert not is_empty_word(text)


@given(st.text(max_size=8))
def test_folding_twice_changes_nothing(text):
    assert fold(fold(text)) == fold(text)


@given(st.dictionaries(st.text("AaBbÄä ", min_size=1, max_size=4), st.integers(1, 99), max_size=8))
def test_spellings_join_only_what_folds_alike_and_keep_two_labels(counts):
    usual = spellings(counts)
    assert set(usual) == set(counts)
    assert all(fold(label) == fold(name) and usual[name] == name for label, name in usual.items())
    assert len(counts) < 2 or len(set(usual.values())) > 1
    if len({fold(label) for label in counts}) > 1:
        assert all(counts[name] >= counts[label] for label, name in usual.items())


def test_words_for_yes_and_no_are_two_labels_if_there_are_no_others():
    counts = {"1": 11, "yes": 10, "0": 9, "no": 9}
    assert spellings(counts) == {word: word for word in counts}
    assert spellings(counts, are_answers=True) == {"1": "1", "yes": "1", "0": "0", "no": "0"}
    assert spellings(counts | {"maybe": 1}, are_answers=True)["yes"] == "yes"
    assert [is_yes(word) for word in ("Ja", "NON", "2")] == [True, False, None]
