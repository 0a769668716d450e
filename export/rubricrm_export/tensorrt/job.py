"""What to write for TensorRT and how: the options of `rubricrm export tensorrt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rubricrm.errors import OptionInvalid
from rubricrm.runtime.manifest import RUBRIC
from rubricrm.runtime.path_text import printable_path

from rubricrm_export.calibrate.token_text import SELF
from rubricrm_export.onnx_bundle.options import OnnxExport
from rubricrm_export.tensorrt.support import Choice, choose

NO_CALIBRATION = "none"
_MAX_SEQ_LEN = 4096


@dataclass(frozen=True)
class EngineLimits:
    """What an engine is built for; memory is reserved for it.

    Attributes:
        max_batch_size: Requests at once.
        max_input_len: Tokens of a prompt.
        max_seq_len: Tokens of a prompt and its answer.
    """

    max_batch_size: int
    max_input_len: int
    max_seq_len: int

    def __post_init__(self) -> None:
        """Check that they fit each other."""
        for name in ("max_batch_size", "max_input_len", "max_seq_len"):
            if getattr(self, name) < 1:
                raise OptionInvalid(f"{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}.")
        if self.max_input_len >= self.max_seq_len:
            raise OptionInvalid(
                f"max-seq-len must exceed max-input-len ({self.max_input_len}), got {self.max_seq_len}: the answer "
                "needs room too."
            )

    @classmethod
    def of(
        cls, context_length: int, max_batch_size: int, max_input_len: int | None, max_seq_len: int | None
    ) -> EngineLimits:
        """Fill in what was left out: 4,096 tokens or the model's context, half of it for the prompt.

        Raises:
            OptionInvalid: They exceed the model's context, or do not fit each other.
        """
        if max_seq_len is not None and max_seq_len > context_length:
            raise OptionInvalid(f"max-seq-len is {max_seq_len}, the model's context holds {context_length} tokens.")
        total = max_seq_len or min(_MAX_SEQ_LEN, context_length)
        return cls(max_batch_size, max_input_len or total // 2, total)


@dataclass(frozen=True)
class TensorRTExport:
    """The options of an export for TensorRT.

    Attributes:
        source: A checkpoint's directory, or the name of a repository on the Hugging Face hub.
        output: The directory to write.
        reader: Who will read it: see `option_values.READERS`.
        weights: "fp16", "bf16", "fp8", "int8" or "int4".
        kv: "model", "fp8" or "int8".
        device: The GPU it is for, checked against what it can run; None: any.
        method: How weights are rounded; None for the reader's default.
        head: What the output head is stored in; None: floats.
        calibration: "self": the model writes the text that calibration runs on; a file's path; or "none": scales of
            FP8 inputs are left out, which TensorRT-LLM then computes for each token.
        max_batch_size, max_input_len, max_seq_len: What engines are built for, see `EngineLimits.of`.
        prompt, temperature: As of `OnnxExport`.
        resume: Continue an export that was interrupted.
        force: Replace an existing directory.
    """

    source: str
    output: Path
    reader: str
    weights: str
    kv: str = "model"
    device: str | None = None
    method: str | None = None
    head: str | None = None
    calibration: str = SELF
    max_batch_size: int = 8
    max_input_len: int | None = None
    max_seq_len: int | None = None
    prompt: str = RUBRIC
    temperature: float | None = None
    prompt_template: Path | None = None
    chat_template: Path | None = None
    revision: str | None = None
    resume: bool = False
    force: bool = False

    def choice(self) -> Choice:
        """Return the format; errors as `support.choose`.

        Raises:
            OptionInvalid: Also where a calibration is left out that the reader needs, or a judge cannot have what it
                says.
        """
        choice = choose(self.reader, self.weights, kv=self.kv, device=self.device, method=self.method, head=self.head)
        needs = choice.format.form.activations != "none" or self.kv != "model" or choice.method not in ("none", "rtn")
        may_miss = self.reader == "tensorrt-llm" and self.weights == "fp8" and self.kv == "model"
        if self.calibration == NO_CALIBRATION and needs and not may_miss:
            raise OptionInvalid(
                f"--calibration none: --for {self.reader} --weights {self.weights} --kv {self.kv} needs scales that "
                "calibration measures. Pass a text, or self."
            )
        if self.prompt != RUBRIC:
            self._check_judge(needs and self.calibration != NO_CALIBRATION)
        return choice

    def _check_judge(self, calibrates: bool) -> None:
        """Refuse what only models can have that write rubrics."""
        if self.reader == "edge-llm":
            raise OptionInvalid(
                f"--prompt {self.prompt}: --for edge-llm has no server that takes token ids, by which a judge is "
                "asked. Choose tensorrt-llm or vllm."
            )
        if calibrates and self.calibration == SELF:
            raise OptionInvalid(
                f"--prompt {self.prompt}: --calibration self has a model write rubrics. Pass --calibration FILE."
            )

    def calibrating(self) -> OnnxExport:
        """Return the options of the calibration, which is that of an export to ONNX."""
        return OnnxExport(
            self.source,
            self.output,
            calibration=self.calibration,
            prompt=self.prompt,
            temperature=self.temperature,
            prompt_template=self.prompt_template,
            chat_template=self.chat_template,
            revision=self.revision,
            resume=self.resume,
            force=self.force,
        )

    @property
    def command(self) -> str:
        """The command line without its paths, for the provenance."""
        options = {
            "for": self.reader,
            "weights": self.weights,
            "kv": self.kv,
            "device": self.device,
            "method": self.method,
            "head": self.head,
            "calibration": self.calibration
            if self.calibration in (SELF, NO_CALIBRATION)
            else Path(self.calibration).name,
            "prompt": None if self.prompt == RUBRIC else self.prompt,
            "temperature": self.temperature,
        }
        words = [f"--{name} {value}" for name, value in options.items() if value is not None]
        return printable_path(" ".join(["rubricrm export tensorrt", Path(self.source).name, *words]))
