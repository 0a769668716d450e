"""Trains the demo judge on synthetic cases and writes it as a Hugging Face checkpoint, as `../demo/train.py` does.

python train_judge.py tokenizer RUN
python train_judge.py train RUN --steps 1000
python train_judge.py train RUN --steps 1000 --decay-steps 1000 --resume RUN/state.pt --seed 2
python train_judge.py export RUN CHECKPOINT
"""

import itertools
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3ForCausalLM

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "demo"))

from chat import train_tokenizer  # noqa: E402 (the demo model's scripts are no package)
from judge_corpus import Case, cases, hold_out_words  # noqa: E402
from train import Task, arguments, run  # noqa: E402

TEMPLATE = (HERE / "judge_template.txt").read_text("utf-8")
# Words, signs and spaces are entries of their own, so that a word has the same ids in quotes, in a sentence and at the
# beginning of a line: what is copied and looked up is equal.
PIECES = r"\p{L}+|\p{N}|[\r\n]+|\s|[^\s\p{L}\p{N}]"
SHAPE = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 352,
}
SINGLE_SHARE = 0.3
NUM_TOKENIZER_CASES = 20_000
TOKENIZER_SEED = 100


def message(case: Case) -> str:
    """The judge's prompt."""
    fields = {
        "{instruction}": case.instruction,
        "{rubric}": case.rubric,
        "{response_a}": case.response_a,
        "{response_b}": case.response_b,
    }
    text, rest = "", TEMPLATE
    for placeholder, value in fields.items():
        before, _, rest = rest.partition(placeholder)
        text += before + value
    return text + rest


def judgment_pairs(seed: int) -> Iterator[tuple[str, str]]:
    """Prompts of the judge, and the judgments; many are about one rule and one answer."""
    hold_out_words()
    rng = random.Random(seed)
    for case in cases(seed):
        if rng.random() < SINGLE_SHARE:
            yield single(case)
        else:
            yield message(case), case.judgment()


def single(case: Case) -> tuple[str, str]:
    """One rule and one answer of a case: a short text, from which copying and looking up are learned first."""
    number, rule = next((number, rule) for number, rule in enumerate(case.rules(), 1) if rule is not None)
    criterion = case.rubric.splitlines()[number - 1]
    text = f"Rubric:\n{criterion}\n\nResponse A:\n{case.response_a}"
    return text, f"- Criterion {number}: {rule.justification(case.response_a)}"


class MuonAndAdamW:
    """Muon for the matrices within the layers, AdamW for all else: with AdamW alone copying was learned later."""

    def __init__(self, model: Qwen3ForCausalLM) -> None:
        matrices = [p for p in model.model.layers.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
        self._both: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        )
        self.param_groups = [group for one in self._both for group in one.param_groups]

    def step(self) -> None:
        """Changes the weights."""
        for one in self._both:
            one.step()

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for one in self._both:
            one.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {str(index): one.state_dict() for index, one in enumerate(self._both)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        for index, one in enumerate(self._both):
            one.load_state_dict(state[str(index)])
        self.param_groups = [group for one in self._both for group in one.param_groups]


def write_tokenizer(out: Path) -> None:
    """Trains the tokenizer on cases of a seed that training does not use."""
    texts = ["user\nassistant\n"] * 2000
    for pair in itertools.islice(judgment_pairs(TOKENIZER_SEED), NUM_TOKENIZER_CASES):
        texts += pair
    tokenizer = train_tokenizer(texts, SHAPE["vocab_size"], PIECES)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    print(f"{tokenizer.get_vocab_size()} entries")


if __name__ == "__main__":
    run(arguments(__doc__), Task(SHAPE, judgment_pairs, MuonAndAdamW), write_tokenizer)
