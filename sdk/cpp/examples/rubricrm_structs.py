"""The structs of rubricrm.h, by ctypes: fields in the header's order."""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, ClassVar


class Text(Structure):
    """`rubricrm_text`."""

    _fields_: ClassVar = [("data", c_void_p), ("size", c_size_t)]

    def __str__(self) -> str:
        return ctypes.string_at(self.data, self.size).decode()


class Error(Structure):
    """`rubricrm_error`."""

    _fields_: ClassVar = [("code", c_int), ("message", c_char * 2040)]


class Criterion(Structure):
    """`rubricrm_criterion`."""

    _fields_: ClassVar = [
        ("number", c_int64),
        ("text", Text),
        ("kind", c_int),
        ("line", c_uint32),
        ("column", c_uint32),
        ("start", c_uint64),
        ("end", c_uint64),
    ]


class Rubric(Structure):
    """`rubricrm_rubric`."""

    _fields_: ClassVar = [
        ("criteria", POINTER(Criterion)),
        ("num_criteria", c_size_t),
        ("issues", c_void_p),
        ("num_issues", c_size_t),
    ]


class Event(Structure):
    """`rubricrm_event`."""

    _fields_: ClassVar = [
        ("text", Text),
        ("criteria", POINTER(Criterion)),
        ("num_criteria", c_size_t),
        ("takes_back", c_int32),
    ]


class OutcomeView(Structure):
    """`rubricrm_outcome`."""

    _fields_: ClassVar = [("index", c_size_t), ("result", c_void_p), ("error", POINTER(Error))]


class Ids(Structure):
    """`rubricrm_ids`."""

    _fields_: ClassVar = [("data", POINTER(c_int32)), ("size", c_size_t)]


class Message(Structure):
    """`rubricrm_message`."""

    _fields_: ClassVar = [("role", c_char_p), ("content", c_char_p), ("content_size", c_size_t)]


class Field(Structure):
    """`rubricrm_field`."""

    _fields_: ClassVar = [("name", c_char_p), ("value", c_char_p), ("value_size", c_size_t)]


class Options(Structure):
    """A struct of options: its size comes first, and what is not set is 0, the default."""

    def __init__(self, **values: Any) -> None:
        super().__init__(ctypes.sizeof(self), **values)


class ParseOptions(Options):
    """`rubricrm_parse_options`."""

    _fields_: ClassVar = [
        ("struct_size", c_size_t),
        ("truncated", c_int32),
        ("starts_in_thought", c_int32),
        ("strict", c_int32),
        ("reserved", c_int32),
    ]


class ModelOptions(Options):
    """`rubricrm_model_options`."""

    _fields_: ClassVar = [
        ("struct_size", c_size_t),
        ("device", c_char_p),
        ("threads", c_uint32),
        ("max_concurrency", c_uint32),
        ("max_waiting", c_uint32),
        ("verify", c_int32),
        ("keep_prompts", c_int32),
        ("draft", c_int32),
        ("save_phrases", c_int32),
        ("reserved", c_int32),
        ("max_memory", c_uint64),
        ("phrases_file", c_char_p),
        ("onnxruntime", c_char_p),
        ("kernels", c_char_p),
        ("on_warning", c_void_p),
        ("warning_user", c_void_p),
        ("cache_directory", c_char_p),
    ]


class GenerationOptions(Options):
    """`rubricrm_generation_options`."""

    _fields_: ClassVar = [
        ("struct_size", c_size_t),
        ("max_new_tokens", c_uint32),
        ("top_k", c_uint32),
        ("temperature", c_double),
        ("top_p", c_double),
        ("min_p", c_double),
        ("timeout_s", c_double),
        ("seed", c_uint64),
        ("has_seed", c_int32),
        ("priority", c_int32),
        ("logprobs", c_int32),
        ("num_top_logprobs", c_uint32),
        ("stop_on_repetition", c_int32),
        ("constrain", c_int32),
        ("stop", POINTER(c_char_p)),
        ("num_stop", c_size_t),
    ]
