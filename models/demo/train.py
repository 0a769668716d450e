"""Trains the demo model on synthetic pairs and writes it as a Hugging Face checkpoint.

python train.py tokenizer RUN
python train.py train RUN --steps 2000
python train.py train RUN --steps 1000 --decay-steps 1000 --resume RUN/state.pt --seed 2
python train.py export RUN CHECKPOINT

A run may also begin with the tokenizer and the weights of a checkpoint, with a fresh optimizer:

python train.py begin RUN CHECKPOINT
python train.py train RUN --steps 1000 --decay-steps 1000 --resume RUN/state.pt --seed 3

Under `torchrun --nproc-per-node 2` each process draws pairs of its own and the gradients are averaged; on a busy
machine this is faster than two threads, which wait for each other at every operation.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from chat import ADDED_TOKENS, CHAT_TEMPLATE, RUBRIC_PROMPT_TEMPLATE, ChatEncoder, train_tokenizer
from corpus import pairs
from safetensors.torch import save_file
from torch import distributed
from torch.nn import functional
from training_log import Log
from transformers import Qwen3Config, Qwen3ForCausalLM

VOCAB_SIZE = 2048
NUM_TOKENIZER_PAIRS = 40_000
TOKENIZER_SEED = 100
LENGTH_STEP = 32
LOGITS_STEP = 1024
MAX_LENGTH = 576
IGNORED = -100

CONFIG_KEYS = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "rope_theta", "rope_scaling", "attention_bias"),
    *("attention_dropout", "initializer_range", "max_position_embeddings", "tie_word_embeddings", "use_cache"),
    *("use_sliding_window", "sliding_window", "bos_token_id", "eos_token_id", "pad_token_id"),
)

Batch = tuple[torch.Tensor, torch.Tensor]
EncodedPair = tuple[list[int], list[int]]


# 4.21 million parameters.
SHAPE = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 256,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 704,
}


class Optimizer(Protocol):
    """What training asks of an optimizer, as torch's have it."""

    param_groups: list[dict[str, Any]]

    def step(self) -> None:
        """Changes the weights."""

    def zero_grad(self) -> None:
        """Forgets the gradients."""

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""


@dataclass(frozen=True)
class Task:
    """What a model is trained for.

    Attributes:
        shape: Of the model: values of its configuration.
        pairs: From a seed to endless pairs of a user's message and its answer.
        optimizer: Makes the optimizer of a model.
    """

    shape: Mapping[str, int]
    pairs: Callable[[int], Iterator[tuple[str, str]]]
    optimizer: Callable[[Qwen3ForCausalLM], Optimizer]


def configuration(shape: Mapping[str, int], encoder: ChatEncoder) -> Qwen3Config:
    """The configuration of a Qwen3 model."""
    return Qwen3Config(  # type: ignore[no-untyped-call]
        **shape,
        tie_word_embeddings=True,
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        max_position_embeddings=2048,
        bos_token_id=encoder.pad_id,
        eos_token_id=encoder.end_id,
        pad_token_id=encoder.pad_id,
    )


def write_tokenizer(run: Path) -> None:
    """Trains the tokenizer on pairs of a seed that training does not use."""
    texts = [RUBRIC_PROMPT_TEMPLATE, "user\nassistant\n"] * 2000
    for pair in itertools.islice(pairs(TOKENIZER_SEED), NUM_TOKENIZER_PAIRS):
        texts += [pair.request, pair.rubric]
    tokenizer = train_tokenizer(texts, VOCAB_SIZE)
    run.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(run / "tokenizer.json"), pretty=False)
    print(f"{tokenizer.get_vocab_size()} entries")


def rubric_pairs(seed: int) -> Iterator[tuple[str, str]]:
    """Messages that ask for a rubric, and the rubrics."""
    for pair in pairs(seed):
        yield RUBRIC_PROMPT_TEMPLATE.replace("{prompt}", pair.request), pair.rubric


def batches(encoder: ChatEncoder, messages: Iterator[tuple[str, str]], tokens_per_batch: int) -> Iterator[Batch]:
    """Batches of (ids, targets), both [pairs, length]; only the answers have targets.

    Pairs of similar length wait for each other, so that few shapes occur: each new one costs the CPU kernels a
    compilation.
    """
    waiting: dict[int, list[EncodedPair]] = {}
    for message, answer in messages:
        encoded = encoder.message(message), encoder.answer(answer)
        length = -(-sum(map(len, encoded)) // LENGTH_STEP) * LENGTH_STEP
        if length > MAX_LENGTH:
            continue
        group = waiting.setdefault(length, [])
        group.append(encoded)
        if len(group) == tokens_per_batch // length:
            yield collated(waiting.pop(length), length, encoder.pad_id)


def collated(group: list[EncodedPair], length: int, pad_id: int) -> Batch:
    """The pairs padded on the right, where a causal model cannot see the padding."""
    ids = torch.full((len(group), length), pad_id)
    targets = torch.full((len(group), length), IGNORED)
    for row, (prompt, answer) in enumerate(group):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        targets[row, len(prompt) - 1 : end - 1] = torch.tensor(answer)
    return ids, targets


def answer_loss(model: Qwen3ForCausalLM, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean loss over the tokens of the answers; few logits of the messages are computed."""
    flat = targets.flatten()
    wanted = (flat != IGNORED).nonzero().squeeze(1)
    # The first position belongs to a prompt and has no target: it fills up to a shape that occurs again.
    wanted = functional.pad(wanted, (0, -len(wanted) % LOGITS_STEP))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[wanted])
    return functional.cross_entropy(logits.float(), flat[wanted], ignore_index=IGNORED)


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, the peak, then a linear decay to 3 % of it over the last `decay_steps`."""
    warm = min(1.0, (step + 1) / max(1, args.warmup))
    left = min(1.0, (args.steps - step) / max(1, args.decay_steps))
    return float(args.learning_rate * warm * (0.03 + 0.97 * left))


def train(args: argparse.Namespace, task: Task) -> None:
    """Trains for a number of steps or seconds, logs to `log.jsonl` and saves `state.pt` now and then."""
    rank, num_workers = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if num_workers > 1:
        distributed.init_process_group("gloo")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    encoder = ChatEncoder(args.run / "tokenizer.json")
    model, optimizer = opened(args, task, encoder)
    source = batches(encoder, task.pairs(args.seed * 1000 + rank), args.tokens_per_batch // num_workers)
    log = Log(args.run / "log.jsonl", args.log_every) if rank == 0 else None
    started = time.monotonic()
    for step in range(args.steps):
        ids, targets = next(source)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        loss = take_step(model, optimizer, ids, targets, num_workers)
        is_last = step + 1 == args.steps or time.monotonic() - started > args.seconds
        if log is not None:
            log.add(loss, ids.numel() * num_workers, len(ids) * num_workers)
            if is_last or (step + 1) % args.save_every == 0:
                save_state(model, optimizer, args.run / "state.pt")
        if is_last:
            break


def opened(args: argparse.Namespace, task: Task, encoder: ChatEncoder) -> tuple[Qwen3ForCausalLM, Optimizer]:
    """A new model, or that of an earlier run, with its optimizer."""
    model = Qwen3ForCausalLM(configuration(task.shape, encoder))  # type: ignore[no-untyped-call]
    optimizer = task.optimizer(model)
    if args.resume:
        saved = torch.load(args.resume, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    model.train()
    return model, optimizer


def take_step(
    model: Qwen3ForCausalLM, optimizer: Optimizer, ids: torch.Tensor, targets: torch.Tensor, num_workers: int
) -> float:
    """Changes the weights by a batch, and returns its loss."""
    loss = answer_loss(model, ids, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    if num_workers > 1:
        average_gradients(model)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def begin(args: argparse.Namespace, task: Task) -> None:
    """Lays out a run that goes on from the weights of a checkpoint; the state of its optimizer is not kept in one."""
    args.run.mkdir(parents=True, exist_ok=True)
    (args.run / "tokenizer.json").write_bytes((args.checkpoint / "tokenizer.json").read_bytes())
    model = Qwen3ForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32)
    save_state(model, task.optimizer(model), args.run / "state.pt")


def new_optimizer(model: Qwen3ForCausalLM) -> Optimizer:
    """AdamW, with weight decay on the matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def average_gradients(model: Qwen3ForCausalLM) -> None:
    """Averages the gradients over the processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def save_state(model: Qwen3ForCausalLM, optimizer: Optimizer, path: Path) -> None:
    """Saves what a later stage needs to go on; a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, partial)
    partial.replace(path)


def export(args: argparse.Namespace, task: Task) -> None:
    """Writes weights in BF16, configuration and tokenizer; the model card is written by hand."""
    run, out = args.run, args.checkpoint
    out.mkdir(parents=True, exist_ok=True)
    encoder = ChatEncoder(run / "tokenizer.json")
    state = torch.load(run / "state.pt", weights_only=True)["model"]
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state.items() if name != "lm_head.weight"
    }
    config = configuration(task.shape, encoder).to_dict()
    config = {name: config[name] for name in CONFIG_KEYS}
    config |= {"architectures": ["Qwen3ForCausalLM"], "torch_dtype": "bfloat16"}
    generation = {
        "bos_token_id": encoder.pad_id,
        "do_sample": False,
        "eos_token_id": [encoder.end_id, encoder.pad_id],
        "pad_token_id": encoder.pad_id,
    }
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(ADDED_TOKENS[1:3]),
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    save_file(tensors, out / "model.safetensors.partial", metadata={"format": "pt"})
    (out / "model.safetensors.partial").chmod(0o644)  # safetensors lets nobody else read its files
    (out / "model.safetensors.partial").replace(out / "model.safetensors")
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", generation)
    write_json(out / "tokenizer_config.json", tokenizer)
    (out / "tokenizer.json").write_bytes((run / "tokenizer.json").read_bytes())


def write_json(path: Path, value: object) -> None:
    """Writes readable JSON with a final line break."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def arguments(description: str | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tokenizer").add_argument("run", type=Path)
    trainer = commands.add_parser("train")
    trainer.add_argument("run", type=Path)
    trainer.add_argument("--steps", type=int, required=True)
    trainer.add_argument("--tokens-per-batch", type=int, default=6144)
    trainer.add_argument("--learning-rate", type=float, default=1.5e-3)
    trainer.add_argument("--decay-steps", type=int, default=0)
    trainer.add_argument("--warmup", type=int, default=100)
    trainer.add_argument("--seed", type=int, default=1)
    trainer.add_argument("--threads", type=int, default=2)
    trainer.add_argument("--resume", type=Path, help="weights to continue from")
    trainer.add_argument("--log-every", type=int, default=25)
    trainer.add_argument("--save-every", type=int, default=100)
    trainer.add_argument("--seconds", type=float, default=float("inf"), help="end after this time")
    for name in ("begin", "export"):
        command = commands.add_parser(name)
        command.add_argument("run", type=Path)
        command.add_argument("checkpoint", type=Path)
    return parser.parse_args()


def run(args: argparse.Namespace, task: Task, write_tokenizer: Callable[[Path], None]) -> None:
    """Runs a command."""
    if args.command == "tokenizer":
        write_tokenizer(args.run)
    else:
        {"begin": begin, "train": train, "export": export}[args.command](args, task)


if __name__ == "__main__":
    run(arguments(__doc__), Task(SHAPE, rubric_pairs, new_optimizer), write_tokenizer)
