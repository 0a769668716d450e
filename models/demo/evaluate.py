"""Writes the rubrics of requests by greedy decoding and counts the well-formed ones.

python evaluate.py CHECKPOINT REQUESTS.jsonl --out RUBRICS.jsonl
python evaluate.py CHECKPOINT --synthetic 200

Each line of REQUESTS.jsonl is an object with a `request`. Synthetic requests come from a seed that training does not
use, and their hard rules and principles are compared with the expected ones.
"""

import argparse
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from chat import ChatEncoder
from corpus import pairs
from transformers import AutoModelForCausalLM, PreTrainedModel

ITEM = re.compile(r"(\d+)\. (The response\b.+?)\s+\[(Hard Rule|Principle)\]")
HELD_OUT_SEED = 999
MAX_NEW_TOKENS = 512
BATCH_SIZE = 16


@dataclass(frozen=True)
class Completion:
    """What the model wrote, and whether it ended by itself."""

    text: str
    is_finished: bool

    def items(self) -> list[tuple[str, str]] | None:
        """The (text, tag) of each item, or None when the rubric is malformed."""
        found = []
        for number, line in enumerate(self.text.split("\n"), 1):
            match = ITEM.fullmatch(line)
            if match is None or int(match[1]) != number:
                return None
            found.append((match[2], match[3]))
        return found if self.is_finished else None


class Generator:
    """The model with its tokenizer."""

    def __init__(self, checkpoint: Path) -> None:
        self.encoder = ChatEncoder(checkpoint / "tokenizer.json")
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        self.model.eval()  # type: ignore[no-untyped-call]

    def complete(self, requests: list[str]) -> list[Completion]:
        """The greedy rubrics of requests."""
        completions = []
        for start in range(0, len(requests), BATCH_SIZE):
            completions += self._complete_batch([self.encoder.prompt(r) for r in requests[start : start + BATCH_SIZE]])
        return completions

    def _complete_batch(self, prompts: list[list[int]]) -> list[Completion]:
        length = max(map(len, prompts))
        ids = torch.tensor([[self.encoder.pad_id] * (length - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            output = self.model.generate(  # type: ignore[operator]
                ids, attention_mask=mask, max_new_tokens=MAX_NEW_TOKENS, do_sample=False
            )
        return [self._completion(row) for row in output[:, length:].tolist()]

    def _completion(self, ids: list[int]) -> Completion:
        is_finished = self.encoder.end_id in ids
        return Completion(
            self.encoder.decode(ids[: ids.index(self.encoder.end_id)] if is_finished else ids), is_finished
        )


def evaluate_file(generator: Generator, requests: Path, out: Path | None) -> None:
    """Writes one rubric per request, and prints how many are well formed."""
    rows = [json.loads(line) for line in requests.read_text(encoding="utf-8").splitlines()]
    num_well_formed = 0
    completions = generator.complete([row["request"] for row in rows])
    for row, completion in zip(rows, completions, strict=True):
        row |= {"rubric": completion.text, "is_well_formed": completion.items() is not None}
        num_well_formed += row["is_well_formed"]
    print(f"well formed: {num_well_formed} of {len(rows)}")
    if out is not None:
        out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def evaluate_synthetic(generator: Generator, number: int) -> None:
    """Prints how much of the expected rubrics of unseen synthetic requests the model reproduces."""
    num_well_formed = num_exact = 0
    hits = {"Hard Rule": 0, "Principle": 0}
    written, expected = hits.copy(), hits.copy()
    unseen = list(itertools.islice(pairs(HELD_OUT_SEED), number))
    completions = generator.complete([pair.request for pair in unseen])
    for pair, completion in zip(unseen, completions, strict=True):
        items = completion.items()
        wanted = Completion(pair.rubric, is_finished=True).items() or []
        num_well_formed += items is not None
        num_exact += items == wanted
        for tag in hits:
            found = [text for text, kind in items or [] if kind == tag]
            target = [text for text, kind in wanted if kind == tag]
            hits[tag] += len(set(found) & set(target))
            written[tag] += len(found)
            expected[tag] += len(target)
    print(f"well formed: {num_well_formed} of {number}, identical: {num_exact}")
    for tag, hit in hits.items():
        print(
            f"{tag}: {hit} of {expected[tag]} expected ones found, "
            f"{written[tag] - hit} of {written[tag]} written were not expected"
        )


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("requests", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--synthetic", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = Generator(args.checkpoint)
    if args.requests is not None:
        evaluate_file(generator, args.requests, args.out)
    if args.synthetic:
        evaluate_synthetic(generator, args.synthetic)


if __name__ == "__main__":
    main()
