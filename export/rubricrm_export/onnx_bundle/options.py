"""What to export and how: the options of `rubricrm export onnx`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rubricrm.errors import OptionInvalid
from rubricrm.generation.options import GenerationOptions
from rubricrm.runtime.manifest import PROMPT_FIELDS, RUBRIC, TARGETS
from rubricrm.runtime.path_text import printable_path

from rubricrm_export.calibrate.token_text import SELF
from rubricrm_export.measure.verdict import LossLimits, MaxKl
from rubricrm_export.quantize.scheme import Scheme

_TENSORRT_CONTEXT = 2048
JUDGE_TEMPERATURE = 0.7  # OpenRubrics v3, table 8; Rubric-ARM's judges have 1.0


@dataclass(frozen=True)
class OnnxExport:
    """The options of an export to ONNX.

    Attributes:
        source: A checkpoint's directory, or the name of a repository on the Hugging Face hub.
        output: The bundle to write.
        weights: "fp32" ... "int4", or None for the float type that the checkpoint stores.
        target: Where it will run: "cpu", "cuda" or "tensorrt".
        activations, kv, method, block_size, symmetric, head, head_block_size: See `Scheme.of`.
        calibration: "self": the model writes the text that calibration runs on; or a file's path.
        eval_text: The text that the loss is measured on; None: held-out requests with rubrics.
        rubrics: Let a small model and its bundle write rubrics, to compare these too.
        max_kl: Refuse a bundle that loses more, nats per token; "none": never; None: the default of its recipe, see
            `measure.verdict.LIMITS`.
        min_top1: Refuse a bundle that agrees less, 0 to 1.
        resume: Continue an export that was interrupted.
        force: Replace an existing bundle; forget an interrupted export.
        prompt: What the model is for: "rubric", or "judge-pairwise" for a judge.
        temperature: What a judge samples with where its caller says nothing.
        context_length: For "tensorrt": length of the buffers of keys and values; None: 2048, or the model's context.
    """

    source: str
    output: Path
    weights: str | None = None
    target: str = "cpu"
    activations: str = "none"
    kv: str | None = None
    method: str | None = None
    block_size: str | None = None
    symmetric: bool | None = None
    head: str | None = None
    head_block_size: str | None = None
    calibration: str = SELF
    eval_text: Path | None = None
    rubrics: bool = True
    max_kl: MaxKl = None
    min_top1: float | None = None
    prompt: str = RUBRIC
    temperature: float | None = None
    prompt_template: Path | None = None
    chat_template: Path | None = None
    revision: str | None = None
    resume: bool = False
    force: bool = False
    context_length: int | None = None

    def __post_init__(self) -> None:
        """Check what needs no checkpoint: the options together, whatever float type it stores."""
        if self.target not in TARGETS:
            raise OptionInvalid(f"target must be one of {', '.join(TARGETS)}, got {self.target!r}.")
        scheme = self.scheme("bf16")
        if self.prompt not in PROMPT_FIELDS:
            raise OptionInvalid(f"prompt must be one of {', '.join(PROMPT_FIELDS)}, got {self.prompt!r}.")
        if self.prompt == RUBRIC:
            if self.temperature is not None:
                raise OptionInvalid(
                    "--temperature has no meaning with --prompt rubric: rubrics are written greedily. Leave it out."
                )
        else:
            self._check_judge(scheme)
        LossLimits(None if self.max_kl == "none" else self.max_kl, self.min_top1)
        if self.context_length is not None:
            if self.target != "tensorrt":
                raise OptionInvalid(
                    f"--context-length has no meaning with --target {self.target}, whose buffers are as long as "
                    "requests need. Leave it out, or pass --target tensorrt."
                )
            if self.context_length < 1:
                raise OptionInvalid(f"context-length must be at least 1, got {self.context_length}.")

    def _check_judge(self, scheme: Scheme) -> None:
        """Refuse what only models have that write rubrics: the built-in texts are theirs."""
        GenerationOptions(temperature=JUDGE_TEMPERATURE if self.temperature is None else self.temperature)
        if scheme.is_quantized and self.eval_text is None:
            raise OptionInvalid(
                f"--prompt {self.prompt}: what a quantized judge loses is measured on judgments, and none are built "
                "in. Pass --eval-text FILE."
            )
        if scheme.needs_calibration and self.calibration == SELF:
            raise OptionInvalid(
                f"--prompt {self.prompt}: --calibration self has a model write rubrics. Pass --calibration FILE."
            )

    def scheme(self, float_weights: str) -> Scheme:
        """Return the quantization for a checkpoint that stores `float_weights`; errors as `Scheme.of`."""
        return Scheme.of(
            self.target,
            float_weights,
            weights=self.weights,
            activations=self.activations,
            kv=self.kv,
            method=self.method,
            block_size=self.block_size,
            symmetric=self.symmetric,
            head=self.head,
            head_block_size=self.head_block_size,
        )

    @property
    def most_positions(self) -> int | None:
        """Positions of the model's context to use; None: all."""
        # Each step of such a graph reads the whole buffer: at the 4B shape 0.3 GB of 2,048 positions, beside 2.3 GB of
        # INT4 weights. A rubric is about 200 tokens after a prompt of 330.
        return self.context_length or (_TENSORRT_CONTEXT if self.target == "tensorrt" else None)

    @property
    def command(self) -> str:
        """The command line without its paths, for the provenance."""
        words = ["rubricrm export onnx", Path(self.source).name, f"--target {self.target}"]
        options = {
            "weights": self.weights,
            "activations": None if self.activations == "none" else self.activations,
            "kv": self.kv,
            "method": self.method,
            "block-size": self.block_size,
            "head": self.head,
            "head-block-size": self.head_block_size,
            "calibration": None if self.calibration == SELF else Path(self.calibration).name,
            "eval-text": self.eval_text and self.eval_text.name,
            "max-kl": self.max_kl,
            "min-top1": self.min_top1,
            "prompt": None if self.prompt == RUBRIC else self.prompt,
            "temperature": self.temperature,
            "prompt-template": self.prompt_template and self.prompt_template.name,
            "chat-template": self.chat_template and self.chat_template.name,
            "revision": self.revision,
            "context-length": self.context_length,
        }
        words += [f"--{name} {value}" for name, value in options.items() if value is not None]
        if self.symmetric is not None:
            words.append("--symmetric" if self.symmetric else "--asymmetric")
        return printable_path(" ".join(words))
