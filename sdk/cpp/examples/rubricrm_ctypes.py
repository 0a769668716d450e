"""librubricrm from Python, by ctypes: how any language with a foreign-function interface calls the C API.

The package `rubricrm` is the way to use RubricRM from Python. This file is an example, and what the tests of parity
call the library with.

    python rubricrm_ctypes.py librubricrm.so BUNDLE "Write a haiku about rain."
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_double, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rubricrm_structs import (
    Error,
    Event,
    Field,
    GenerationOptions,
    Ids,
    Message,
    ModelOptions,
    OutcomeView,
    ParseOptions,
    Rubric,
    Text,
)

ON, OFF = 1, 2
STREAM_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p, c_void_p)
OUTCOME_CALLBACK = STREAM_CALLBACK


def generation_options(**keywords: Any) -> GenerationOptions:
    """Return options from the keywords of `RubricModel.generate`."""
    values = {name: value for name, value in keywords.items() if value is not None}
    for flag in ("constrain", "stop_on_repetition"):
        if flag in values:
            values[flag] = ON if values[flag] else OFF
    if "seed" in values:
        values["has_seed"] = ON
    if "logprobs" in values:
        values |= {"logprobs": ON, "num_top_logprobs": values["logprobs"]}
    if stop := [text.encode() for text in values.pop("stop", ())]:
        values |= {"stop": (c_char_p * len(stop))(*stop), "num_stop": len(stop)}
    return GenerationOptions(**values)


def fields_of(fields: Mapping[str, str]) -> ctypes.Array[Field]:
    """Return the values of a prompt's fields."""
    texts = [(name.encode(), value.encode()) for name, value in fields.items()]
    return (Field * len(texts))(*(Field(name, value, len(value)) for name, value in texts))


class RubricrmError(Exception):
    """What a call failed with: `CODE: message`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Outcome:
    """What became of one of many requests: the JSON of its result, or an error."""

    index: int
    result: str | None
    error: RubricrmError | None


class Library:
    """The functions of librubricrm."""

    def __init__(self, path: Path | str) -> None:
        self._library = ctypes.CDLL(str(path))
        for name in ("rubricrm_version", "rubricrm_code_name", "rubricrm_rubric_json", "rubricrm_result_json"):
            getattr(self._library, name).restype = c_char_p
        for name in ("rubricrm_rubric_json", "rubricrm_result_json", "rubricrm_rubric_free", "rubricrm_result_free"):
            getattr(self._library, name).argtypes = [c_void_p]
        self._library.rubricrm_model_prompt.restype = c_void_p

    @property
    def version(self) -> str:
        """The library's version."""
        return str(self._library.rubricrm_version().decode())

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that takes a `rubricrm_error` last.

        Raises:
            RubricrmError: It failed.
        """
        error = Error()
        if getattr(self._library, name)(*arguments, byref(error)):
            raise self.error_of(error)

    def error_of(self, error: Error) -> RubricrmError:
        """Return what a call failed with."""
        return RubricrmError(self._library.rubricrm_code_name(error.code).decode(), error.message.decode())

    def free(self, name: str, handle: c_void_p) -> None:
        """Call a function that frees."""
        getattr(self._library, name)(handle)

    def parse(self, text: bytes, **options: int) -> dict[str, Any]:
        """Return the dictionary of the rubric in a text."""
        with self._parsed(text, **options) as rubric:
            return dict(json.loads(self._library.rubricrm_rubric_json(rubric)))

    def render(self, text: bytes) -> str:
        """Return the canonical text of the rubric in a text."""
        with self._parsed(text) as rubric:
            return self._text("rubricrm_rubric_render", rubric)

    def weights(self, text: bytes, hard_rule: float, principle: float) -> list[float]:
        """Return the weight of each criterion of the rubric in a text."""
        with self._parsed(text) as rubric:
            count = Rubric.from_address(rubric.value or 0).num_criteria
            weights = (c_double * count)()
            kinds = (c_double(hard_rule), c_double(principle))
            self.call("rubricrm_rubric_weights", rubric, *kinds, weights, c_size_t(count))
        return list(weights)

    def form_regex(self, max_items: int = 0) -> str:
        """Return the expression that a rubric of at most so many items matches."""
        return self._text("rubricrm_form_regex", c_uint32(max_items))

    def form_gbnf(self, max_items: int = 0) -> str:
        """Return the grammar of llama.cpp for a rubric of at most so many items."""
        return self._text("rubricrm_form_gbnf", c_uint32(max_items))

    @contextmanager
    def _parsed(self, text: bytes, **options: int) -> Iterator[c_void_p]:
        rubric = c_void_p()
        self.call("rubricrm_parse", text, c_size_t(len(text)), byref(ParseOptions(**options)), byref(rubric))
        try:
            yield rubric
        finally:
            self.free("rubricrm_rubric_free", rubric)

    def _text(self, name: str, *arguments: Any) -> str:
        text = c_void_p()
        self.call(name, *arguments, byref(text))
        try:
            return str(Text.from_address(text.value or 0))
        finally:
            self.free("rubricrm_text_free", text)

    def take_result(self, result: c_void_p) -> str:
        """Return the JSON of a result, and free it."""
        try:
            return str(self._library.rubricrm_result_json(result).decode())
        finally:
            self.free("rubricrm_result_free", result)

    def prompt_of(self, model: c_void_p) -> c_void_p:
        """Return a model's texts."""
        return c_void_p(self._library.rubricrm_model_prompt(model))


class Model:
    """An open model."""

    def __init__(self, library: Library, bundle: Path | str, **options: Any) -> None:
        self._library = library
        self._handle = c_void_p()
        library.call("rubricrm_model_open", str(bundle).encode(), byref(ModelOptions(**options)), byref(self._handle))

    def generate(self, request: str, **keywords: Any) -> str:
        """Return the JSON of the result."""
        data, result = request.encode(), c_void_p()
        options = generation_options(**keywords)
        arguments = (self._handle, data, c_size_t(len(data)), byref(options), byref(result))
        self._library.call("rubricrm_generate", *arguments)
        return self._library.take_result(result)

    def generate_messages(self, messages: Sequence[Mapping[str, str]], **keywords: Any) -> str:
        """Return the JSON of the answer's result."""
        texts = [(message["role"].encode(), message["content"].encode()) for message in messages]
        given = (Message * len(texts))(*(Message(role, content, len(content)) for role, content in texts))
        result, options = c_void_p(), generation_options(**keywords)
        arguments = (self._handle, given, c_size_t(len(texts)), byref(options), byref(result))
        self._library.call("rubricrm_generate_messages", *arguments)
        return self._library.take_result(result)

    def stream(self, request: str, on_event: Callable[[Event], bool], **keywords: Any) -> str:
        """Call a function for each event, as long as it returns True; return the JSON of the result."""
        data, result, options = request.encode(), c_void_p(), generation_options(**keywords)

        def call(event: int, _: object) -> int:
            return 0 if on_event(Event.from_address(event)) else 1

        callback = STREAM_CALLBACK(call)
        arguments = (self._handle, data, c_size_t(len(data)), byref(options), callback, None, byref(result))
        self._library.call("rubricrm_stream", *arguments)
        return self._library.take_result(result)

    def generate_many(
        self,
        requests: Sequence[str],
        on_outcome: Callable[[Outcome], bool],
        *,
        max_concurrency: int = 0,
        **keywords: Any,
    ) -> None:
        """Call a function for the outcome of each request as it ends, as long as it returns True."""
        data = [request.encode("utf-8", "surrogatepass") for request in requests]
        texts = (Text * len(data))(*(Text(ctypes.cast(text, c_void_p), len(text)) for text in data))

        def call(address: int, _: object) -> int:
            view = OutcomeView.from_address(address)
            result = None if view.result is None else self._library.take_result(c_void_p(view.result))
            error = self._library.error_of(view.error.contents) if view.error else None
            return 0 if on_outcome(Outcome(view.index, result, error)) else 1

        callback, options = OUTCOME_CALLBACK(call), generation_options(**keywords)
        arguments = (self._handle, texts, c_size_t(len(texts)), byref(options), c_uint32(max_concurrency))
        self._library.call("rubricrm_generate_many", *arguments, callback, None)

    def generate_fields(self, prompt: str, fields: Mapping[str, str], **keywords: Any) -> str:
        """Return the JSON of the answer to one of the bundle's prompts."""
        given, result, options = fields_of(fields), c_void_p(), generation_options(**keywords)
        arguments = (self._handle, prompt.encode(), given, c_size_t(len(given)), byref(options), byref(result))
        self._library.call("rubricrm_generate_fields", *arguments)
        return self._library.take_result(result)

    def encode(self, request: str) -> list[int]:
        """Return the ids of a request's prompt."""
        data = request.encode()
        return self._encode("rubricrm_encode_request", data, c_size_t(len(data)))

    def encode_fields(self, prompt: str, fields: Mapping[str, str]) -> list[int]:
        """Return the ids of one of the bundle's prompts."""
        given = fields_of(fields)
        return self._encode("rubricrm_encode_fields", prompt.encode(), given, c_size_t(len(given)))

    def _encode(self, name: str, *arguments: Any) -> list[int]:
        ids = POINTER(Ids)()
        self._library.call(name, self._library.prompt_of(self._handle), *arguments, byref(ids))
        try:
            return list(ids.contents.data[: ids.contents.size])
        finally:
            self._library.free("rubricrm_ids_free", ctypes.cast(ids, c_void_p))

    def close(self) -> None:
        """Free the model."""
        self._library.free("rubricrm_model_free", self._handle)
        self._handle = c_void_p()


def main() -> None:
    """Print the rubric of a request while it is written."""
    library, bundle, request = sys.argv[1:]
    model = Model(Library(library), bundle)

    def show(event: Event) -> bool:
        sys.stdout.write(str(event.text))
        sys.stdout.flush()
        return True

    model.stream(request, show)
    sys.stdout.write("\n")
    model.close()


if __name__ == "__main__":
    main()
