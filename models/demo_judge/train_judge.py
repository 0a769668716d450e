"""Trains the demo judge on synthetic cases and writes it as a Hugging Face checkpoint, as `../demo/train.py` does.

python train_judge.py tokenizer RUN
python train_judge.py train RUN --steps 1000
python train_judge.py train RUN --steps 1000 --decay-steps 1000 --resume RUN/state.pt --seed 2
python train_judge.py export RUN CHECKPOINT
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

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
    """Prompts of the judge, and the judgments."""
    hold_out_words()
    for case in cases(seed):
        yield message(case), case.judgment()


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
    run(arguments(__doc__), Task(SHAPE, judgment_pairs), write_tokenizer)
