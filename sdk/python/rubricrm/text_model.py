"""An open bundle, and its answers to messages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Self, Unpack

from rubricrm.errors import OptionInvalid, RequestInvalid, WriteFailed
from rubricrm.generation.closing import Closing
from rubricrm.generation.completion import Completion
from rubricrm.generation.draft_desk import DraftDesk
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineKeywords, EngineOptions
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.generation.phrase_table import PhraseTable, saved_table
from rubricrm.generation.result import TextResult
from rubricrm.generation.step_cost import open_step_cost, step_runner
from rubricrm.generation.text_stream import TextStream
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph_choice import running_kernels
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.prefix import Prefix, kept_prefix, open_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.read_ahead import reading_ahead
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

DEMO_BUNDLE = Path(__file__).parent / "demo_bundle"


class TextModel(Closing):
    """An open model that answers messages: what `RubricModel` is built on, and holds all that is opened.

    Attributes:
        bundle: What it was opened from.
        device: Where it runs.
        context_length: Most tokens that prompt and answer have together.
        max_concurrency: Most requests that are computed together.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        threads: int | None = None,
        **engine: Unpack[EngineKeywords],
    ) -> None:
        if not isinstance(bundle, Bundle):
            raise OptionInvalid(
                f"{type(self).__name__}: got {bundle!r:.80}, expected an opened Bundle. Open a directory with "
                "RubricModel.open(path), or the demo model with RubricModel.demo()."
            )
        self._engine_options = EngineOptions(**engine)
        self.bundle = bundle
        session = Session(bundle, device=device, threads=threads)
        with reading_ahead(session.mapped_file), ThreadPoolExecutor(1) as beside:
            kept = beside.submit(kept_prefix, bundle, session)
            grammar = beside.submit(self._open_grammar)
            self._tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
            self._prompt = Prompt(bundle.manifest.prompt, bundle.manifest.chat, self._tokenizer)
            token_ids = self._prompt.fixed_prefix()
            prefix = open_prefix(bundle, session, token_ids, kept.result()) if token_ids else None
        is_drafting = self._engine_options.draft and session.is_exact
        self._drafts = self._open_drafts(session, prefix) if is_drafting else None
        self._engine = Engine(
            session, bundle.manifest, prefix, self._engine_options, grammar=grammar.result(), drafts=self._drafts
        )
        self.device = session.device
        self.context_length = bundle.manifest.model.context_length
        self.max_concurrency = self._engine_options.max_concurrency
        self._description = {
            "name": bundle.manifest.model.name,
            "weights": bundle.manifest.quantization.weights,
            "device": session.device,
            "kernels": running_kernels(session.facts, bundle.manifest.graphs, find_kernels()),
            "manifest_sha256": bundle.manifest_sha256,
        }

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: str | None = None,
        threads: int | None = None,
        verify: bool = False,
        **engine: Unpack[EngineKeywords],
    ) -> Self:
        """Open a bundle.

        The first opening of a large model on a machine also computes the keys and values of the prompt's fixed part
        (one prefill of it) and keeps them in the cache directory. So it does with the weights, where the bundle holds
        them in another layout than the kernels read (seconds for a 4B model).

        Args:
            path: Its directory.
            device: "cpu", "cuda", "tensorrt" or "tensorrt-rtx"; None takes the device
                that the bundle was exported for. It runs there or not at all: nothing falls back to the CPU.
            threads: Threads to compute with; None takes the cores that this process may really use.
            verify: Also compare every file's hash with the manifest.
            **engine: What the model takes on at once, and how:

                - max_concurrency (int): most requests that are computed together, 8 if not given.
                - max_waiting (int): most that wait beside them, 1000 if not given; one more gets EngineBusy.
                - max_memory (int): most bytes of keys and values; if not given, as many as the requests need; on a GPU
                  see `EngineOptions`.
                - keep_prompts (bool): keep keys and values of a prompt for the next one that begins alike; True if not
                  given. No result depends on it, but times do.
                - draft (bool): verify drafted tokens where that is quicker; True if not given. No result depends on it,
                  but times do: from the text, and from phrases of earlier rubrics of this open model.
                - keep_phrases (bool): draft from phrases of earlier rubrics of this open model too; True if not given.
                  No result depends on it, but times do.
                - phrases (path or bool): read these phrases from a file, and save them there at `close`; True: the
                  bundle's own in the cache directory. False, the default, saves nothing.

        Raises:
            BundleNotFound: No bundle there.
            BundleInvalid: A file is missing, damaged or foreign.
            BundleVersionUnsupported: Another format version.
            OptionInvalid: An option out of range, or a device that the bundle was not exported for.
            RuntimeMissing: No ONNX Runtime is installed, or not what the device needs.
            RuntimeFailed: ONNX Runtime refused the graph.
        """
        return cls(Bundle.open(path, verify=verify), device=device, threads=threads, **engine)

    @classmethod
    def demo(cls, *, threads: int | None = None, **engine: Unpack[EngineKeywords]) -> Self:
        """Open the demo model that comes with the package: small, quick, and no measure of RubricRM's quality."""
        return cls.open(DEMO_BUNDLE, threads=threads, **engine)

    def generate_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> TextResult:
        """Return the model's answer to a message, without the rubric template.

        Args:
            prompt: A user's message, or a conversation of objects with `role` and `content`, the user's last.
            options: As in `generate`.
            cancel: As in `generate`.
            **keywords: As in `generate`.

        Raises:
            RubricrmError: As `generate`.
        """
        stream = self.stream_text(prompt, options=options, cancel=cancel, **keywords)
        stream.wait()
        return stream.result()

    def stream_text(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> TextStream:
        """Return the answer while it is written. Arguments and errors as `generate_text`, reading as `stream`."""
        started = time.perf_counter()
        checked = merge(options, keywords)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return self._start(self._prompt.encode_messages(messages), checked, cancel, started)

    def stream_ids(
        self,
        prompt_ids: Sequence[int],
        *,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> TextStream:
        """Return what follows a prompt of token ids, without any template, while it is written.

        Args:
            prompt_ids: The whole prompt, control tokens included.
            options: As in `generate`.
            cancel: As in `generate`.
            **keywords: As in `generate`.

        Raises:
            RequestInvalid: There is no id, or one is no token of the model.
            RubricrmError: As `generate`.
        """
        started = time.perf_counter()
        checked = merge(options, keywords)
        return self._start(self._checked_ids(prompt_ids), checked, cancel, started)

    def compile_grammar(self, pattern: str) -> Grammar:
        """Compile a regular expression that a whole answer must match, for the option `grammar` of any call.

        It takes a second at Qwen3's vocabulary, and needs the extra `grammar`. An expression from somebody you do not
        trust may take minutes: optional parts behind repetitions double its states.

        Args:
            pattern: In the syntax of Rust's `regex`, without anchors and look-around.

        Raises:
            DependencyMissing: outlines-core is not installed.
            GrammarUnusable: It is no such expression, or too large, or no tokens of the model spell a whole text.

        Example:
            >>> model = RubricModel.demo()
            >>> yes_or_no = model.compile_grammar("Yes|No")
            >>> model.generate_text("Is snow white?", grammar=yes_or_no).text in ("Yes", "No")
            True
        """
        return Grammar.compile(pattern, self._tokenizer, self.bundle.manifest.prompt.stop_ids)

    def close(self) -> None:
        """Free the model and unmap its files, and save phrases if that was asked for. Closing twice is fine.

        Raises:
            WriteFailed: Phrases cannot be saved; the model is closed all the same.
        """
        self._engine.close()
        self._save_phrases()

    def __repr__(self) -> str:
        facts = self._description
        return (
            f"{type(self).__name__}({facts['name']!r}, weights {facts['weights']}, device {facts['device']}, "
            f"context {self.context_length} tokens)"
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back."""
        return self._tokenizer

    @property
    def prompt(self) -> Prompt:
        """Requests and conversations to the ids of whole prompts."""
        return self._prompt

    @property
    def description(self) -> Mapping[str, str]:
        """Name, weights, device, kernels and manifest hash, as in every `RubricResult`."""
        return self._description

    def _checked_ids(self, prompt_ids: Sequence[int]) -> list[int]:
        if not prompt_ids:
            raise RequestInvalid("prompt: holds no token ids, expected at least one.")
        most = self._tokenizer.num_tokens
        for index, token_id in enumerate(prompt_ids):
            if type(token_id) is not int or not 0 <= token_id < most:
                raise RequestInvalid(
                    f"prompt[{index}]: got {token_id!r:.40}, expected a token id from 0 to {most - 1}."
                )
        return list(prompt_ids)

    def _open_grammar(self) -> Grammar | None:
        facts = self.bundle.manifest
        if facts.prompt.grammar is None:
            return None
        return Grammar.load(self.bundle.file(facts.prompt.grammar), facts.tokenizer.num_tokens, facts.prompt.stop_ids)

    def _open_drafts(self, session: Session, prefix: Prefix | None) -> DraftDesk:
        """Measure, once on a machine, what rows cost: drafts are worth it where a row costs less than a step."""
        conditions = f"{session.threads}-threads-{session.kernels.instruction_set if session.kernels else 'none'}"
        cost = open_step_cost(self.bundle.manifest_sha256, session.cache_key, conditions, step_runner(session, prefix))
        numbers = ItemNumbers(self._tokenizer)
        path = self._phrases_file()
        if not self._engine_options.keep_phrases:
            return DraftDesk(cost, numbers, None)
        phrases = PhraseTable(numbers) if path is None else PhraseTable.load(path, numbers, self._tokenizer_sha256)
        return DraftDesk(cost, numbers, phrases)

    def _phrases_file(self) -> Path | None:
        phrases = self._engine_options.phrases
        if isinstance(phrases, bool):
            return saved_table(self.bundle.manifest_sha256) if phrases else None
        return Path(phrases)

    @property
    def _tokenizer_sha256(self) -> str:
        return self.bundle.manifest.files[self.bundle.manifest.tokenizer.file].sha256

    def _save_phrases(self) -> None:
        path = self._phrases_file()
        if path is None or self._drafts is None or self._drafts.phrases is None:
            return
        try:
            self._drafts.phrases.save(path, self._tokenizer_sha256)
        except OSError as error:
            raise WriteFailed(f"{path}: the phrases cannot be saved ({error}).") from error

    def _start(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        cancel: Event | None,
        started: float,
        *,
        is_rubric: bool = False,
    ) -> TextStream:
        tokenized = time.perf_counter()
        completion = Completion(self._tokenizer, options)
        sequence = self._engine.submit(
            prompt_ids, options, is_rubric=is_rubric, completion=completion, cancel=cancel, started=started
        )
        return TextStream(sequence, tokenized)
