"""Hidden and reordering characters are made visible; everything else stays."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.components.text_marks import label_words, mark_of, runs, token_label, visible

REORDERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202egnp.exe", "⟨202E⟩gnp.exe"),
        ("zero\u200bwidth\ufeff", "zero⟨200B⟩width⟨FEFF⟩"),
        ("a\tb\r\n", "a⇥b␍↵"),
        ("bell\x07\x00", "bell␇␀"),
        ("\x85\x9b", "⟨0085⟩⟨009B⟩"),
        ("lone \ud800", "lone ⟨D800⟩"),
        ("שלום مرحبا naïve 漢字", "שלום مرحبا naïve 漢字"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("a\u200db", "a⟨200D⟩b"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_nothing_hidden_or_reordering_is_left(text: str) -> None:
    for character in visible(text):
        assert character not in REORDERING
        assert character == "\u200d" or unicodedata.category(character) not in {"Cc", "Cf", "Cs"}


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))))
def test_ordinary_text_is_one_run(text: str) -> None:
    assert [run.text for run in runs(text)] == ([text] if text else [])
    assert all(mark_of(character) is None for character in text)


def test_token_labels_show_spaces_and_emptiness() -> None:
    assert token_label(" def\n") == "·def↵"
    assert token_label("") == "∅"


def test_labels_show_runs_of_spaces() -> None:
    assert label_words('one of " a", "\\n    " or "b"') == 'one of " a", "\\n····" or "b"'
    assert label_words("a\u202eb") == "a⟨202E⟩b"
