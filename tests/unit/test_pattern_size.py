"""The size of an expression whose repetitions are written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rubricrm.errors import GrammarUnusable
from rubricrm.generation.grammar_compiler import compile_grammar
from rubricrm.generation.pattern_size import pattern_size
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.tokenizer import Tokenizer
from rubricrm.text_model import DEMO_BUNDLE


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("a*b+c?|d", 4),
        ("a{3}", 3),
        ("ab{2,5}", 6),
        ("a{2,}", 2),
        ("a{0}", 1),
        ("(?:ab){4}c", 9),
        ("(a{10}){20}", 200),
        ("((a{10}){10}){10}", 1000),
        (r"[a-z\]]{3}\d{2}", 5),
        (r"\{3\}", 3),
        ("a{1000}{1000}", 1_000_000),
    ],
)
def test_size(pattern: str, size: int) -> None:
    # "?:" counts as one character per written-out group: an upper estimate.
    assert size <= pattern_size(pattern) <= 2 * size + 1


@given(text=st.text("ab()[]{}0123456789,\\|?*+", max_size=40))
def test_any_text_has_a_size(text: str) -> None:
    assert pattern_size(text) >= 0


@pytest.mark.parametrize("pattern", ["a{1000}{1000}", "((a{100}){100}){100}", "(?:[a-z]{5000}){100}"])
def test_what_would_take_all_memory_is_refused_at_once(pattern: str) -> None:
    bundle = Bundle.open(DEMO_BUNDLE)
    tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
    with pytest.raises(GrammarUnusable, match="when its repetitions are written out"):
        compile_grammar(pattern, tokenizer, bundle.manifest.prompt.stop_ids)
