"""Several votes on one prompt: the first computes it, the others copy it, and nobody's tokens change."""

import pytest
from own_kernels import needs_kernels
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.sequence import Sequence
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prefix import compute_prefix
from rubricrm.runtime.session import Session

NEW_TOKENS = 16
PREFIX_IDS = [5 + (7 * n) % 250 for n in range(40)]


@needs_kernels
@pytest.mark.parametrize("bundle", ["packed_bundle", "narrow_bundle"])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_votes_that_take_what_the_first_computes_are_those_alone(
    request: pytest.FixtureRequest, bundle: str, with_prefix: bool
) -> None:
    opened = Bundle.open(request.getfixturevalue(bundle))
    session = Session(opened, threads=2)
    prompt_ids = [*PREFIX_IDS, *(5 + (11 * n) % 250 for n in range(300))]
    prefix = compute_prefix(session, PREFIX_IDS) if with_prefix else None

    def votes(*, keep_prompts: bool) -> list[Sequence]:
        engine = Engine(session, opened.manifest, prefix, EngineOptions(keep_prompts=keep_prompts))
        found = [
            engine.submit(prompt_ids, GenerationOptions(max_new_tokens=NEW_TOKENS, temperature=1.0, seed=seed))
            for seed in range(8)
        ]
        for each in found:
            each.wait()
        return found

    alone, together = votes(keep_prompts=False), votes(keep_prompts=True)
    session.close()
    assert [each.token_ids for each in together] == [each.token_ids for each in alone]
    assert {each.cached_tokens for each in alone} == {len(PREFIX_IDS) if with_prefix else 0}
    assert sum(each.cached_tokens == len(prompt_ids) - 1 for each in together) == 7
