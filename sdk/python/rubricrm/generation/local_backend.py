"""A bundle that this process runs: session, engine, grammar and drafts, opened together."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from rubricrm.errors import WriteFailed
from rubricrm.generation.completion import Completion
from rubricrm.generation.draft_desk import DraftDesk
from rubricrm.generation.engine import Engine
from rubricrm.generation.engine_options import EngineOptions
from rubricrm.generation.generation import Generation
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.item_number import ItemNumbers
from rubricrm.generation.options import GenerationOptions
from rubricrm.generation.phrase_table import PhraseTable, saved_table
from rubricrm.generation.step_cost import open_step_cost, step_runner
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.graph_choice import running_kernels
from rubricrm.runtime.kernels import find_kernels
from rubricrm.runtime.prefix import Prefix, kept_prefix, open_prefix
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.read_ahead import reading_ahead
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer


class LocalBackend:
    """The backend of a bundle: see `Backend`.

    Attributes:
        engine: Computes the generations.
        drafts: Proposes tokens that may follow; None: nothing is drafted.
    """

    capabilities = None

    def __init__(
        self, bundle: Bundle, options: EngineOptions, *, prompt_name: str, device: str | None, threads: int | None
    ) -> None:
        """Open all that a bundle holds, for one of its prompts; arguments and errors as `RubricModel.open`."""
        self._bundle = bundle
        self._facts = bundle.manifest.prompt_of(prompt_name)
        self._options = options
        session = Session(bundle, device=device, threads=threads)
        with reading_ahead(session.mapped_file), ThreadPoolExecutor(1) as beside:
            kept = beside.submit(kept_prefix, bundle, session, prompt_name)
            grammar = beside.submit(self._open_grammar)
            self._tokenizer = Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer.file))
            self.prompt = Prompt(self._facts, bundle.manifest.chat, self._tokenizer, prompt_name)
            token_ids = self.prompt.fixed_prefix()
            prefix = open_prefix(bundle, session, token_ids, kept.result(), prompt_name) if token_ids else None
        self.drafts = self._open_drafts(session, prefix) if options.draft and session.is_exact else None
        self.engine = Engine(
            session,
            bundle.manifest,
            prefix,
            options,
            prompt=prompt_name,
            grammar=grammar.result(),
            drafts=self.drafts,
        )
        self.has_form = self._facts.grammar is not None
        self.device = session.device
        self.context_length = bundle.manifest.model.context_length
        self.max_concurrency = options.max_concurrency
        self.description: Mapping[str, str] = {
            "name": bundle.manifest.model.name,
            "weights": bundle.manifest.quantization.weights,
            "device": session.device,
            "kernels": running_kernels(session.facts, bundle.manifest.graphs, find_kernels()),
            "manifest_sha256": bundle.manifest_sha256,
        }

    def start(
        self,
        prompt_ids: list[int],
        options: GenerationOptions,
        *,
        is_rubric: bool,
        cancel: Event | None,
        started: float,
    ) -> Generation:
        """As `Backend.start`."""
        completion = Completion(self._tokenizer, options)
        return self.engine.submit(
            prompt_ids, options, is_rubric=is_rubric, completion=completion, cancel=cancel, started=started
        )

    def close(self) -> None:
        """Free the model and unmap its files, and save phrases if that was asked for. Closing twice is fine.

        Raises:
            WriteFailed: Phrases cannot be saved; the model is closed all the same.
        """
        self.engine.close()
        self._save_phrases()

    def _open_grammar(self) -> Grammar | None:
        if self._facts.grammar is None:
            return None
        num_tokens = self._bundle.manifest.tokenizer.num_tokens
        return Grammar.load(self._bundle.file(self._facts.grammar), num_tokens, self._facts.stop_ids)

    def _open_drafts(self, session: Session, prefix: Prefix | None) -> DraftDesk:
        """Measure, once on a machine, what rows cost: drafts are worth it where a row costs less than a step."""
        conditions = f"{session.threads}-threads-{session.kernels.instruction_set if session.kernels else 'none'}"
        digest, runner = self._bundle.manifest_sha256, step_runner(session, prefix)
        cost = open_step_cost(digest, session.cache_key, conditions, runner)
        numbers = ItemNumbers(self._tokenizer)
        path = self._phrases_file()
        if not self._options.keep_phrases:
            return DraftDesk(cost, numbers, None)
        phrases = PhraseTable(numbers) if path is None else PhraseTable.load(path, numbers, self._tokenizer_sha256)
        return DraftDesk(cost, numbers, phrases)

    def _phrases_file(self) -> Path | None:
        phrases = self._options.phrases
        if isinstance(phrases, bool):
            return saved_table(self._bundle.manifest_sha256) if phrases else None
        return Path(phrases)

    @property
    def _tokenizer_sha256(self) -> str:
        return self._bundle.manifest.files[self._bundle.manifest.tokenizer.file].sha256

    def _save_phrases(self) -> None:
        path = self._phrases_file()
        if path is None or self.drafts is None or self.drafts.phrases is None:
            return
        try:
            self.drafts.phrases.save(path, self._tokenizer_sha256)
        except OSError as error:
            raise WriteFailed(f"{path}: the phrases cannot be saved ({error}).") from error
