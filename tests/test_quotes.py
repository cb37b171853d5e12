"""A quote is text that stands in a document and cuts nothing: a word or figure that goes on means something else."""

from __future__ import annotations

import pytest

from mcp_tierkit.playbook.quotes import Sources, is_quoted


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        ("The parties are not liable.", "not liable"),
        ("The parties are not\n   liable.", "not liable"),
        ("within 30 days", "within 30"),
        ("within 30 days", "30 days"),
        ("EUR 5,000 a month", "5,000"),
        ("EUR 5,000.", "5,000"),
        ("on 2024-10-12.", "2024-10-12"),
        ("a non-exclusive licence", "non-exclusive licence"),
        ("it isn't liable", "isn't liable"),
        ("it isn't liable", "liable"),
        ("clause 4 (term)", "clause 4"),
        ("pays 100 EUR 30 days later", "100 EUR"),
        ("合同自2024年起生效", "2024年"),
        ("between Acme Ltd - the buyer - and Bolt", "the buyer"),
        ("a total of 12 300-page books", "12 300-page"),
    ],
)
def test_whole_words_and_figures_are_a_quote(document: str, quote: str) -> None:
    assert is_quoted(quote, Sources([document]))


@pytest.mark.parametrize(
    ("document", "quote"),
    [
        ("cannot be liable", "not be liable"),
        ("EUR 5,000,000", "5,000"),
        ("EUR 5,000", "000"),
        ("Balance -5,000", "5,000"),
        ("Price 1 000 000 EUR", "1 000"),
        ("Price 1 000 000 EUR", "000 000 EUR"),
        ("a fee of $5M", "$5"),
        ("a non-exclusive licence", "exclusive licence"),
        ("un-\nlimited liability", "limited liability"),
        ("it isn't liable", "t liable"),
        ("it isn’t liable", "isn"),
        ("can\u200bnot be", "not be"),
        ("cafe\u0301 noir", "cafe"),
        ("version 10b", "10"),
        ("", "x"),
        ("x", ""),
        ("x", " "),
    ],
)
def test_a_part_of_a_word_or_figure_is_none(document: str, quote: str) -> None:
    assert not is_quoted(quote, Sources([document]))
