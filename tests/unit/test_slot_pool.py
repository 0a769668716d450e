"""Slots for sequences: which one, with how much of the prompt, within how much memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rubricrm.errors import RuntimeFailed
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.slot_pool import SlotPool
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.kv_cache import bytes_per_position
from rubricrm.runtime.manifest import ModelFacts
from rubricrm.runtime.prefix import Prefix
from rubricrm.runtime.slot import Slot

NewSession = Callable[..., Any]
Make = Callable[..., tuple[SlotPool, Any]]

CONTEXT = 2048
PREFIX_IDS = tuple(range(20, 60))
A, B, C = list(range(60, 100)), list(range(100, 140)), list(range(140, 180))
any_session = pytest.mark.parametrize("takes_any_mix", [True, False], ids=["any-mix", "one-slot-a-run"])


@pytest.fixture(scope="session")
def model(tiny_bundle: Path) -> ModelFacts:
    return Bundle.open(tiny_bundle).manifest.model


@pytest.fixture(scope="session")
def prefix(model: ModelFacts) -> Prefix:
    shape = (model.num_layers, 2, 1, model.num_kv_heads, len(PREFIX_IDS), model.head_dim)
    return Prefix(PREFIX_IDS, np.random.default_rng(0).standard_normal(shape, np.float32))


def limits(model: ModelFacts, positions: int | None = None, **others: Any) -> EngineOptions:
    """EngineOptions whose memory is given in positions."""
    memory = None if positions is None else positions * bytes_per_position(model, "float32")
    return EngineOptions(max_memory=memory, **others)


@any_session
@pytest.mark.parametrize(("kv_type", "positions"), [("float32", 100), ("float16", 200), ("int8", 400)])
def test_memory_is_counted_in_the_type_of_the_cache(
    new_session: NewSession, model: ModelFacts, takes_any_mix: bool, kv_type: str, positions: int
) -> None:
    session = new_session(takes_any_mix=takes_any_mix)
    session.facts = SimpleNamespace(kv_type=kv_type)
    assert SlotPool(session, model, None, limits(model, 100)).room == positions


@pytest.fixture
def make(new_session: NewSession, model: ModelFacts) -> Make:
    """Return a function that makes a pool and its session."""

    def make_one(
        count: int = 2,
        *,
        prefix: Prefix | None = None,
        takes_any_mix: bool = True,
        is_paged: bool = False,
        **others: Any,
    ) -> tuple[SlotPool, Any]:
        session = new_session(takes_any_mix=takes_any_mix, is_paged=is_paged)
        return SlotPool(session, model, prefix, limits(model, max_concurrency=count, **others)), session

    return make_one


def lend(pool: SlotPool, prompt_ids: list[int], new_tokens: int = 10) -> tuple[Slot, int]:
    lent = pool.lend(prompt_ids, len(prompt_ids) + new_tokens)
    assert lent is not None
    slot, cached = lent
    assert slot.cache.length == cached < len(prompt_ids)
    assert slot.cache.capacity >= len(prompt_ids) + new_tokens
    return slot, cached


def use(pool: SlotPool, prompt_ids: list[int], generated: tuple[int, ...] = ()) -> tuple[Slot, int]:
    """Borrow a slot, compute a prompt in it, and give it back."""
    slot, cached = lend(pool, prompt_ids)
    slot.cache.advance(len(prompt_ids) + len(generated) - cached)
    pool.give_back(slot, [*prompt_ids, *generated])
    return slot, cached


# ---- what is kept ----


@any_session
def test_a_prompt_that_was_computed_is_found_but_for_its_last_token(make: Make, takes_any_mix: bool) -> None:
    pool, _ = make(takes_any_mix=takes_any_mix)
    slot, cached = use(pool, A)
    assert cached == 0
    assert use(pool, A) == (slot, len(A) - 1)


@any_session
def test_a_prompt_that_begins_alike_has_what_is_common(make: Make, takes_any_mix: bool) -> None:
    pool, _ = make(takes_any_mix=takes_any_mix)
    slot, _ = use(pool, A, generated=(7, 8))
    assert use(pool, [*A[:25], *B]) == (slot, 25)
    assert use(pool, [*A[:25], *B, *C]) == (slot, 25 + len(B))


def test_generated_tokens_are_kept_too(make: Make) -> None:
    """A conversation that goes on begins with the answer before."""
    pool, _ = make()
    slot, _ = use(pool, A, generated=(7, 8, 9))
    assert use(pool, [*A, 7, 8, 200, 201]) == (slot, len(A) + 2)


def test_only_what_was_computed_is_kept(make: Make) -> None:
    """The last token that was chosen was never run; a prompt may have been left in its middle."""
    pool, _ = make()
    slot, _ = lend(pool, A)
    slot.cache.advance(12)
    pool.give_back(slot, A)
    assert lend(pool, A) == (slot, 12)


@any_session
def test_a_cleared_slot_holds_nothing(make: Make, takes_any_mix: bool) -> None:
    """Numbers that were none were computed in it."""
    pool, _ = make(takes_any_mix=takes_any_mix)
    slot, _ = lend(pool, A)
    slot.cache.advance(len(A))
    slot.clear()
    pool.give_back(slot, A)
    assert lend(pool, A)[1] == 0


@any_session
def test_the_longest_beginning_wins(make: Make, takes_any_mix: bool) -> None:
    pool, _ = make(3, takes_any_mix=takes_any_mix)
    slots = [lend(pool, prompt)[0] for prompt in (A, B, C)]
    for slot, prompt in zip(slots, ([*A[:20], *B], [*A[:30], *C], [*A[:10], *C]), strict=True):
        slot.cache.advance(len(prompt))
        pool.give_back(slot, prompt)
    assert lend(pool, A) == (slots[1], 30)
    assert [lend(pool, A)[0] for _ in range(2)] == [slots[0], slots[2]]


@any_session
def test_of_equal_ones_the_oldest_is_given_up(make: Make, takes_any_mix: bool) -> None:
    pool, _ = make(3, takes_any_mix=takes_any_mix)
    slots = [lend(pool, prompt)[0] for prompt in (A, B, C)]
    for place in (1, 2, 0):
        slots[place].cache.advance(40)
        pool.give_back(slots[place], (A, B, C)[place])
    assert [lend(pool, list(range(200, 220)))[0] for _ in range(3)] == [slots[1], slots[2], slots[0]]


@any_session
@pytest.mark.parametrize("with_prefix", [False, True])
def test_several_prompts_are_kept_side_by_side(
    make: Make, prefix: Prefix, takes_any_mix: bool, with_prefix: bool
) -> None:
    """Also where all begin with the fixed prefix: it is no reason to overwrite a prompt while other slots are empty."""
    fixed = list(PREFIX_IDS) if with_prefix else []
    prompts = [[*fixed, *rest] for rest in (A, B, C)]
    pool, _ = make(3, prefix=prefix if with_prefix else None, takes_any_mix=takes_any_mix)
    held = [lend(pool, prompt)[0] for prompt in prompts]
    for slot, prompt in zip(held, prompts, strict=True):
        slot.cache.advance(len(prompt) - slot.cache.length)
        pool.give_back(slot, prompt)
    for _ in range(2):
        assert [use(pool, prompt)[1] for prompt in prompts] == [len(prompt) - 1 for prompt in prompts]


def test_one_after_the_other_fills_all_slots_before_one_is_overwritten(make: Make, prefix: Prefix) -> None:
    prompts = [[*PREFIX_IDS, *rest] for rest in (A, B, C)]
    pool, _ = make(3, prefix=prefix)
    assert [use(pool, prompt)[1] for prompt in prompts] == [len(PREFIX_IDS)] * 3
    assert [use(pool, prompt)[1] for prompt in prompts] == [len(prompt) - 1 for prompt in prompts]


@any_session
@pytest.mark.parametrize("with_prefix", [False, True])
def test_nothing_is_kept_where_it_must_not(make: Make, prefix: Prefix, takes_any_mix: bool, with_prefix: bool) -> None:
    pool, session = make(prefix=prefix if with_prefix else None, takes_any_mix=takes_any_mix, keep_prompts=False)
    prompt = [*PREFIX_IDS, *A]
    assert [use(pool, prompt)[1] for _ in range(3)] == [len(PREFIX_IDS) if with_prefix else 0] * 3
    assert session.slots <= 3


# ---- what others compute ----

LONG = [5 + (7 * n) % 250 for n in range(200)]


def write(slot: Slot, seed: int) -> None:
    """Fill a slot's memory with numbers of its own."""
    array = slot.cache.buffer.array  # type: ignore[union-attr]
    array[:] = np.random.default_rng(seed).standard_normal(array.shape, np.float32)


@any_session
@pytest.mark.parametrize("with_prefix", [False, True])
def test_what_a_busy_slot_holds_is_copied(make: Make, prefix: Prefix, takes_any_mix: bool, with_prefix: bool) -> None:
    fixed = list(PREFIX_IDS) if with_prefix else []
    pool, _ = make(3, prefix=prefix if with_prefix else None, takes_any_mix=takes_any_mix)
    busy, start = lend(pool, [*fixed, *A])
    assert start == len(fixed)
    busy.cache.advance(30)
    end = start + 30
    write(busy, 1)
    assert lend(pool, [*fixed, *A[:25], *B])[1] == end - 5
    slot, cached = lend(pool, [*fixed, *A])
    assert (cached, slot.arena.base_lengths[slot.number]) == (end, start if takes_any_mix else 0)
    assert (slot.cache.positions(end)[..., start:, :] == busy.cache.positions(end)[..., start:, :]).all()
    if with_prefix and not takes_any_mix:
        assert (slot.cache.positions(start) == prefix.positions).all()


def test_what_a_free_slot_holds_is_kept_and_the_rest_copied(make: Make) -> None:
    pool, _ = make(2)
    busy, _ = lend(pool, A)
    free, _ = use(pool, [*A[:20], *B])
    write(busy, 1)
    write(free, 2)
    mine = free.cache.positions(20)
    busy.cache.advance(30)
    assert lend(pool, A) == (free, 30)
    assert (free.cache.positions(20) == mine).all()
    assert (free.cache.positions(30)[..., 20:, :] == busy.cache.positions(30)[..., 20:, :]).all()


def test_nothing_is_copied_that_a_free_slot_holds(make: Make) -> None:
    pool, _ = make(2)
    busy, _ = lend(pool, A)
    free, _ = use(pool, A)
    write(free, 2)
    mine = free.cache.positions(39)
    busy.cache.advance(30)
    assert lend(pool, A) == (free, 39)
    assert (free.cache.positions(39) == mine).all()


@any_session
def test_a_prompt_that_is_being_computed_is_waited_for(make: Make, takes_any_mix: bool) -> None:
    pool, _ = make(3, takes_any_mix=takes_any_mix)
    busy, _ = lend(pool, LONG)
    for _ in range(4):
        assert pool.lend(LONG, 210) is None
        busy.cache.advance(50)
    assert lend(pool, LONG)[1] == 199


def test_nobody_waits_for_less_than_a_chunk_or_for_a_prompt_that_is_there(make: Make) -> None:
    pool, _ = make(4)
    lend(pool, LONG[:63])
    assert lend(pool, LONG)[1] == 0
    pool, _ = make(2)
    kept = []
    for end in (B, C):
        kept.append(lend(pool, [*LONG[:150], *end])[0])
        kept[-1].cache.advance(190 - kept[-1].cache.length)
    for slot in kept:
        pool.give_back(slot, LONG[:150])
    assert [lend(pool, LONG)[1] for _ in range(2)] == [150, 150]  # 49 are still to come


def test_nobody_waits_where_nothing_may_be_kept(make: Make) -> None:
    pool, _ = make(3, keep_prompts=False)
    busy, _ = lend(pool, LONG)
    assert lend(pool, LONG)[1] == 0
    busy.cache.advance(199)
    assert lend(pool, LONG)[1] == 0


def test_one_that_is_gone_is_not_waited_for(make: Make) -> None:
    pool, _ = make(2)
    busy, _ = lend(pool, LONG)
    busy.cache.advance(50)
    assert pool.lend(LONG, 210) is None
    pool.give_back(busy, LONG)
    assert lend(pool, LONG) == (busy, 50)


# ---- the prefix ----


@pytest.mark.parametrize(
    ("prompt", "cached"),
    [
        ([*PREFIX_IDS, 99, 98], 40),
        (list(PREFIX_IDS), 39),
        (list(PREFIX_IDS[:7]), 6),
        ([*PREFIX_IDS[:10], 99, *PREFIX_IDS[11:]], 10),
        ([99, *PREFIX_IDS], 0),
        ([20], 0),
        ([99], 0),
    ],
    ids=["begins-with-it", "is-it", "shorter", "leaves-it", "another", "first-token", "one-other"],
)
@any_session
def test_what_is_common_with_the_prefix_is_there(
    make: Make, prefix: Prefix, prompt: list[int], cached: int, takes_any_mix: bool
) -> None:
    pool, _ = make(prefix=prefix, takes_any_mix=takes_any_mix)
    assert lend(pool, prompt)[1] == cached


def test_slots_of_one_memory_borrow_the_prefix(make: Make, prefix: Prefix) -> None:
    pool, session = make(3, prefix=prefix)
    slots = [lend(pool, [*PREFIX_IDS, *rest])[0] for rest in (A, B, C)]
    arena = slots[0].arena
    assert session.slots == 4
    for slot in slots:
        assert slot.arena is arena
        base = arena.slots[arena.base_slots[slot.number]]
        assert base not in slots
        assert arena.base_lengths[slot.number] == len(PREFIX_IDS)
        assert (base.cache.positions(len(PREFIX_IDS)) == prefix.positions).all()
        assert not slot.cache.positions(len(PREFIX_IDS)).any()  # nothing was copied


def test_other_slots_have_a_copy_of_the_prefix(make: Make, prefix: Prefix) -> None:
    pool, session = make(2, prefix=prefix, takes_any_mix=False)
    for rest in (A, B):
        slot, _ = lend(pool, [*PREFIX_IDS, *rest])
        assert (slot.cache.positions(len(PREFIX_IDS)) == prefix.positions).all()
    assert session.slots == 2


def test_slots_of_paged_memory_have_a_copy_of_the_prefix_each(make: Make, prefix: Prefix) -> None:
    pool, session = make(2, prefix=prefix, is_paged=True)
    slots = [lend(pool, [*PREFIX_IDS, *rest])[0] for rest in (A, B)]
    for slot in slots:
        assert (slot.cache.positions(len(PREFIX_IDS)) == prefix.positions).all()
    assert slots[0].arena is slots[1].arena
    assert session.slots == 2


def test_a_kept_prompt_that_leaves_the_prefix_borrows_no_more_than_is_common(make: Make, prefix: Prefix) -> None:
    pool, _ = make(1, prefix=prefix)
    use(pool, [*PREFIX_IDS, *A])
    slot, cached = use(pool, [*PREFIX_IDS[:10], 250, *B])
    assert cached == 10
    assert slot.arena.base_lengths[slot.number] == 10
    assert use(pool, [*PREFIX_IDS[:10], 250, *B])[1] == 10 + len(B)
    assert use(pool, [*PREFIX_IDS, *A])[1] == len(PREFIX_IDS)
    assert slot.arena.base_lengths[slot.number] == len(PREFIX_IDS)


# ---- how many ----


@any_session
def test_no_more_are_lent_than_may_be(make: Make, takes_any_mix: bool) -> None:
    pool, session = make(3, takes_any_mix=takes_any_mix)
    slots = [lend(pool, A)[0] for _ in range(3)]
    assert len(set(slots)) == 3
    assert pool.lend(A, 50) is None
    pool.give_back(slots[1], A)
    assert lend(pool, A)[0] is slots[1]
    assert session.slots == (4 if takes_any_mix else 3)


@pytest.mark.parametrize(("memory", "total"), [(None, 4 * 2048), (1000, 1000)], ids=["by-itself", "limited"])
def test_paged_memory_has_room_for_what_all_may_hold(make: Make, memory: int | None, total: int) -> None:
    pool, session = make(4, is_paged=True, positions=memory)
    slot, _ = lend(pool, A)
    assert session.total_positions == total
    assert pool.room == min(CONTEXT, total)
    assert slot.cache.capacity == CONTEXT


def test_nothing_is_allocated_before_the_first(make: Make) -> None:
    assert make()[1].slots == 0


def test_slots_of_one_memory_are_made_once_with_room_for_the_context(make: Make) -> None:
    pool, session = make(2)
    for _ in range(5):
        slot, _ = use(pool, A)
    assert slot.cache.capacity == CONTEXT
    assert session.slots == 3


def test_a_slot_that_is_too_small_is_replaced(make: Make) -> None:
    pool, session = make(1, takes_any_mix=False)
    small, _ = use(pool, A)
    large, _ = lend(pool, A, new_tokens=1000)
    pool.give_back(large, A)
    assert large is not small
    assert use(pool, A)[0] is large
    assert session.slots == 2


def test_slots_of_their_own_are_as_large_as_is_asked_for(make: Make) -> None:
    pool, _ = make(2, takes_any_mix=False)
    assert lend(pool, A)[0].cache.capacity < CONTEXT
    assert lend(pool, A, new_tokens=CONTEXT - len(A))[0].cache.capacity == CONTEXT


@any_session
def test_a_slot_that_could_not_be_made_or_restored_is_not_lost(
    make: Make, prefix: Prefix, monkeypatch: pytest.MonkeyPatch, takes_any_mix: bool
) -> None:
    pool, session = make(2, prefix=prefix, takes_any_mix=takes_any_mix)

    def fail(*_: Any) -> Any:
        raise RuntimeFailed("no memory")

    for target, name in ((type(session), "new_slots"), (Slot, "restore"), (Slot, "borrow")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fail)
            for _ in range(5):
                try:
                    pool.lend([*PREFIX_IDS, *A], 100)
                except RuntimeFailed:
                    continue
                assert target is Slot  # the other one of the two is used
                break
    pool, session = make(2, prefix=prefix, takes_any_mix=takes_any_mix)
    use(pool, [*PREFIX_IDS, *A])
    with monkeypatch.context() as patch:
        patch.setattr(Slot, "borrow" if takes_any_mix else "restore", fail)
        for _ in range(5):
            with pytest.raises(RuntimeFailed):
                pool.lend([*PREFIX_IDS, *B], 100)
    assert len({lend(pool, [*PREFIX_IDS, *B])[0] for _ in range(2)}) == 2


def test_a_cleared_pool_forgets_all_that_is_not_lent(make: Make) -> None:
    pool, _ = make(1)
    use(pool, A)
    pool.clear()
    assert lend(pool, A)[1] == 0


# ---- memory ----


@any_session
def test_who_does_not_fit_beside_others_waits(make: Make, takes_any_mix: bool) -> None:
    pool, _ = make(3, positions=100, takes_any_mix=takes_any_mix)
    assert pool.room == 100
    slot, _ = lend(pool, A, 20)  # 60 of 100
    assert pool.lend(B, 41) is None
    small = pool.lend(B[:10], 40)
    assert small is not None
    pool.give_back(small[0], B[:10])
    assert pool.lend(B, 41) is None
    pool.give_back(slot, A)
    assert pool.lend(B, 100) is not None
    assert pool.lend(B[:1], 2) is None


@any_session
def test_what_is_only_kept_gives_way_the_oldest_first(make: Make, takes_any_mix: bool) -> None:
    pool, _ = make(3, positions=130, takes_any_mix=takes_any_mix)
    slots = [lend(pool, prompt, 1)[0] for prompt in (A, B, C)]
    for slot, prompt in zip(slots, (A, B, C), strict=True):
        slot.cache.advance(len(prompt))
        pool.give_back(slot, prompt)
    assert lend(pool, [250] * 30, 25)[0] is slots[0]  # takes the place of A; 80 are kept: B gives way too
    assert slots[1] not in pool._touched
    assert pool._touched[slots[2]] == 40
    assert lend(pool, C, 0) == (slots[2], 39)


def test_without_a_limit_of_memory_there_is_room_for_all_contexts(make: Make) -> None:
    pool, _ = make(2)
    assert pool.room == CONTEXT
    assert all(pool.lend(A, CONTEXT) for _ in range(2))


def test_forgotten_positions_of_one_memory_are_zero_again(make: Make) -> None:
    """Their pages go back to the system."""
    pool, _ = make(2, positions=100)
    slot, _ = lend(pool, A)
    slot.cache.buffer.array[..., : len(A), :] = 1  # type: ignore[union-attr]
    slot.cache.advance(len(A))
    pool.give_back(slot, A)
    assert pool.lend(B, 100) is not None
    assert not slot.cache.positions(len(A)).any()


@dataclass
class Run:
    """A pool under random use, beside what a test knows of it."""

    pool: SlotPool
    model: ModelFacts
    memory: int
    lent: list[tuple[Slot, list[int], int]] = field(default_factory=list)
    # Positions of each slot that were ever written since its memory was last given back.
    written: dict[Slot, int] = field(default_factory=dict)

    def lend(self, prompt: list[int], new_tokens: int) -> None:
        size = min(len(prompt) + new_tokens, self.pool.room)
        lent = self.pool.lend(prompt, size)
        if lent is None:
            assert self.lent, "somebody waits though nobody runs"
            return
        slot, cached = lent
        assert slot not in [each for each, _, _ in self.lent]
        assert slot.cache.length == cached < len(prompt)
        assert slot.cache.capacity >= size
        self.lent.append((slot, prompt, size))

    def give_back(self, place: int, part: float) -> None:
        slot, prompt, size = self.lent.pop(place % len(self.lent))
        tokens = [*prompt, *range(5, 5 + size - len(prompt))]
        slot.cache.advance(max(0, round(part * size) - slot.cache.length))
        self.pool.give_back(slot, tokens)

    def check(self) -> None:
        promised = {slot: size for slot, _, size in self.lent}
        touched = self.pool._touched
        held = sum(max(touched.get(slot, 0), promised.get(slot, 0)) for slot in {*touched, *promised})
        assert held <= self.memory
        assert set(self.pool._lent) == set(promised)
        assert len(self.pool._lent) <= self.pool._count
        assert not {*self.pool._free} & set(promised)
        for slot, tokens in self.pool._free.items():
            assert len(tokens) <= slot.cache.length


prompts = st.tuples(st.integers(0, 40), st.integers(1, 3), st.integers(1, 30)).map(
    lambda parts: [*PREFIX_IDS[: parts[0]], *[200 + parts[1]] * parts[2]]
)
steps = st.one_of(
    st.tuples(st.just("lend"), prompts, st.integers(1, 60)),
    st.tuples(st.just("give_back"), st.integers(0, 7), st.floats(0, 1)),
)


@settings(max_examples=150)
@given(
    count=st.integers(1, 5),
    memory=st.integers(100, 400),
    takes_any_mix=st.booleans(),
    with_prefix=st.booleans(),
    keep_prompts=st.booleans(),
    moves=st.lists(steps, max_size=60),
)
def test_memory_and_slots_are_never_exceeded(
    new_session: NewSession,
    model: ModelFacts,
    prefix: Prefix,
    count: int,
    memory: int,
    takes_any_mix: bool,
    with_prefix: bool,
    keep_prompts: bool,
    moves: list[Any],
) -> None:
    """Whatever is lent, computed in part and given back, in any order."""
    session = new_session(takes_any_mix=takes_any_mix)
    found = limits(model, memory, max_concurrency=count, keep_prompts=keep_prompts)
    run = Run(SlotPool(session, model, prefix if with_prefix else None, found), model, memory)
    for name, *arguments in moves:
        if name == "lend":
            run.lend(*arguments)
        elif run.lent:
            run.give_back(*arguments)
        run.check()
    while run.lent:
        run.give_back(0, 1.0)
        run.check()
    run.lend(A, 10)
    assert run.lent
