"""An open bundle, and its answers to messages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import ClassVar, Self, Unpack

from rubricrm.errors import OptionInvalid, RequestInvalid
from rubricrm.generation.backend import Backend
from rubricrm.generation.capabilities import Capabilities
from rubricrm.generation.closing import Closing
from rubricrm.generation.engine_options import EngineKeywords, EngineOptions
from rubricrm.generation.grammar import Grammar
from rubricrm.generation.local_backend import LocalBackend
from rubricrm.generation.options import GenerationOptions, OptionKeywords, merge
from rubricrm.generation.result import TextResult
from rubricrm.generation.text_stream import TextStream
from rubricrm.remote.connect_options import ConnectKeywords, ConnectOptions
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.manifest import RUBRIC
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.prompt_directory import open_prompt_directory

DEMO_BUNDLE = Path(__file__).parent / "demo_bundle"
DEMO_JUDGE_BUNDLE = Path(__file__).parent / "demo_judge_bundle"
# Of a description, what tells one open model from another.
_SHOWN = ("weights", "device", "server", "dialect")


class TextModel(Closing):
    """An open model that answers messages: what `RubricModel` is built on, and holds all that is opened.

    Attributes:
        prompt_name: Which prompt of its bundle it is for.
        demo_bundle: The bundle that `demo` opens.
        bundle: What it was opened from.
        description: Name, weights, device, kernels and manifest hash, as results have them in `model`; of a model on a
            server its name there, server, dialect and manifest hash.
        device: Where it runs.
        context_length: Most tokens that prompt and answer have together.
        max_concurrency: Most requests that are computed together.
    """

    prompt_name: ClassVar[str] = RUBRIC
    demo_bundle: ClassVar[Path] = DEMO_BUNDLE

    def __init__(
        self,
        bundle: Bundle,
        *,
        backend: Backend | None = None,
        device: str | None = None,
        threads: int | None = None,
        **engine: Unpack[EngineKeywords],
    ) -> None:
        """Open a bundle, or take what computes its answers.

        Args:
            bundle: What is opened; with a backend, its prompt and tokenizer alone are used.
            backend: What computes; None: an engine in this process, which the other arguments describe.
            device: As in `open`.
            threads: As in `open`.
            **engine: As in `open`.
        """
        if not isinstance(bundle, Bundle):
            raise OptionInvalid(
                f"{type(self).__name__}: got {bundle!r:.80}, expected an opened Bundle. Open a directory with "
                "RubricModel.open(path), or the demo model with RubricModel.demo()."
            )
        self.bundle = bundle
        self._facts = bundle.manifest.prompt_of(self.prompt_name)
        self._backend: Backend = backend or LocalBackend(
            bundle, EngineOptions(**engine), prompt_name=self.prompt_name, device=device, threads=threads
        )
        self._prompt = self._backend.prompt
        self.description = self._backend.description
        self.device = self._backend.device
        self.context_length = self._backend.context_length
        self.max_concurrency = self._backend.max_concurrency

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
        """Open a bundle, or what `rubricrm export tensorrt` wrote for vLLM or TensorRT-LLM.

        The latter's own package then computes in this process (docs/SERVING.md); of the options it takes `verify`,
        `max_concurrency` and `max_waiting`.

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
            RuntimeFailed: ONNX Runtime refused the graph, or another engine its directory.
            DependencyMissing: The package of the engine that a directory is for is not installed.
        """
        from rubricrm.engines.engine_directory import EngineDirectory

        directory = EngineDirectory.find(path, verify=verify)
        if directory is None:
            return cls(Bundle.open(path, verify=verify), device=device, threads=threads, **engine)
        from rubricrm.engines.engine_backend import EngineBackend

        options = {"device": device, "threads": threads, **engine}
        backend = EngineBackend.open(directory, prompt_name=cls.prompt_name, options=options)
        return cls(backend.bundle, backend=backend)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        prompt: Path | str,
        **options: Unpack[ConnectKeywords],
    ) -> Self:
        """Use a model on a server: vLLM, SGLang, TensorRT-LLM, llama.cpp, ours, or any with OpenAI's completions.

        Prompts are encoded here and sent as ids, so that they are the same as in this process, and no text of a user
        becomes a control token. Every sampling value is sent. The server is looked at first: its models, the ids that
        it makes of a text with hostile characters, and whether it holds a text to a form (`capabilities`). That costs
        the prefill of two prompts and some tokens, and what the server takes to compile a grammar.

        A request that cannot be started is tried again; once its text has begun nothing is. Whatever ends a text
        without a reason to end is an error, with the text so far in its `partial_text`.

        Args:
            url: Such as http://127.0.0.1:8000, with or without /v1.
            prompt: The model's prompt directory, which `write_prompt_directory` writes; or a bundle, or what
                `rubricrm export tensorrt` wrote.
            **options: Which model, and how it is asked:

                - model (str): its name there; if not given, the only one.
                - api_key (str): the server's key. No key of the environment is sent.
                - dialect (str): "vllm", "sglang", "tensorrt-llm", "llama.cpp", "rubricrm" or "openai"; if not given,
                  as the server says of itself.
                - constrain (bool): whether the server is to hold rubrics to their form; True if not given. False where
                  it cannot; a rubric that is not in the form then has the issue `unconstrained`.
                - max_concurrency (int): most requests that the server gets at a time, 1 to 1000; 64 if not given.
                - max_waiting (int): most that wait here beside them, 1000 if not given; one more gets EngineBusy.
                - max_retries (int): how often a request that could not be started is tried again, 0 to 10; 2 if not
                  given.

        Raises:
            DependencyMissing: The extra `remote` is not installed.
            BundleNotFound: There is neither a prompt directory nor a bundle; BundleInvalid: it is not whole.
            OptionInvalid: An option is out of range, or model or dialect must be named.
            ServerUnreachable: There is no connection; ServerBusy: no room, or the model is being loaded.
            ServerRefused: The key is wrong, the model is not there, it has another tokenizer, or the server does not
                hold a text to a form.
            ServerFailed: It met an error; StreamBroken: the connection broke off.

        Example:
            model = RubricModel.connect("http://127.0.0.1:8000", prompt="rubricrm-4b-prompt")
            result = model.generate("Write a haiku about rain.")
        """
        from rubricrm.remote.server_backend import ServerBackend

        bundle = open_prompt_directory(prompt)
        backend = ServerBackend.connect(url, bundle, ConnectOptions(**options), prompt_name=cls.prompt_name)
        return cls(bundle, backend=backend)

    @classmethod
    def demo(cls, *, threads: int | None = None, **engine: Unpack[EngineKeywords]) -> Self:
        """Open the demo model that comes with the package: small, quick, and no measure of RubricRM's quality."""
        return cls.open(cls.demo_bundle, threads=threads, **engine)

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
        is_rubric: bool = False,
        options: GenerationOptions | None = None,
        cancel: Event | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> TextStream:
        """Return what follows a prompt of token ids, without any template, while it is written.

        Args:
            prompt_ids: The whole prompt, control tokens included.
            is_rubric: Whether they are the prompt of a rubric: what follows is then held to the form as in `stream`.
            options: As in `generate`.
            cancel: As in `generate`.
            **keywords: As in `generate`.

        Raises:
            RequestInvalid: There is no id, or one is no token of the model.
            RubricrmError: As `generate`.
        """
        started = time.perf_counter()
        checked = merge(options, keywords)
        return self._start(self._checked_ids(prompt_ids), checked, cancel, started, is_rubric=is_rubric)

    def compile_grammar(self, pattern: str) -> Grammar:
        """Compile a regular expression that a whole answer must match, for the option `grammar` of any call.

        It takes a second at Qwen3's vocabulary, and needs the extra `grammar`. An expression from somebody you do not
        trust may take minutes: optional parts behind repetitions double its states. A server gets the expression, if
        its dialect takes one, and reads it by rules of its own: what it writes is compared with the grammar.

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
        return Grammar.compile(pattern, self._prompt.tokenizer, self._facts.stop_ids)

    @property
    def has_form(self) -> bool:
        """Whether rubrics are held to their form, unless a call says `constrain=False`."""
        return self._backend.has_form

    @property
    def capabilities(self) -> Capabilities | None:
        """What the server turned out to do when the model was connected; None: it runs in this process."""
        return self._backend.capabilities

    def close(self) -> None:
        """Free the model and unmap its files, and save phrases if that was asked for. Closing twice is fine.

        Raises:
            WriteFailed: Phrases cannot be saved; the model is closed all the same.
        """
        self._backend.close()

    def __repr__(self) -> str:
        facts = {key: fact for key, fact in self.description.items() if key in _SHOWN}
        shown = ", ".join(f"{key} {fact}" for key, fact in facts.items())
        return f"{type(self).__name__}({self.description['name']!r}, {shown}, context {self.context_length} tokens)"

    @property
    def prompt(self) -> Prompt:
        """Texts to ids and back: requests and conversations become whole prompts, and there is its tokenizer."""
        return self._prompt

    def _checked_ids(self, prompt_ids: Sequence[int]) -> list[int]:
        if not prompt_ids:
            raise RequestInvalid("prompt: holds no token ids, expected at least one.")
        most = self._prompt.tokenizer.num_tokens
        for index, token_id in enumerate(prompt_ids):
            if type(token_id) is not int or not 0 <= token_id < most:
                raise RequestInvalid(
                    f"prompt[{index}]: got {token_id!r:.40}, expected a token id from 0 to {most - 1}."
                )
        return list(prompt_ids)

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
        generation = self._backend.start(prompt_ids, options, is_rubric=is_rubric, cancel=cancel, started=started)
        return TextStream(generation, tokenized)
