"""The cases of tests/cases/engine/sessions.json: the tokens that any session finds, whatever its language."""

import pytest
from own_kernels import needs_kernels
from session_cases import ROOT, SessionCase, greedy, read_cases


@needs_kernels
@pytest.mark.parametrize("case", read_cases(), ids=lambda case: f"{case.bundle.split('/')[-1]}-{case.graph}")
def test_greedy_tokens(case: SessionCase) -> None:
    assert greedy(ROOT / case.bundle, case.graph, case.prompt_ids, len(case.token_ids)) == case.token_ids
