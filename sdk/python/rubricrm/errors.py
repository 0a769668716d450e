"""The vocabulary of failures. One message form: what failed, where, got, expected, what to do."""

from __future__ import annotations

from typing import ClassVar


class RubricrmError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        code: Stable upper-case name; the text begins with it, so that a log line can be searched.
        exit_code: What the command line exits with: 2 for bad input, 1 for work that failed.
        retryable: Whether the same call may succeed later.
    """

    code: ClassVar[str] = "ERROR"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


class BundleNotFound(RubricrmError):
    """No directory, or no manifest in it."""

    code = "BUNDLE_NOT_FOUND"
    exit_code = 2


class BundleInvalid(RubricrmError):
    """A file or key of the bundle is missing, of the wrong size, type or hash, or in contradiction with another."""

    code = "BUNDLE_INVALID"
    exit_code = 2


class BundleVersionUnsupported(RubricrmError):
    """The bundle's format is newer or older than this package reads."""

    code = "BUNDLE_VERSION_UNSUPPORTED"
    exit_code = 2


class GraphUnusable(RubricrmError):
    """A bundle has no graph, or none that this version of the package knows how to run."""

    code = "GRAPH_UNUSABLE"
    exit_code = 2


class RequestInvalid(RubricrmError):
    """The request is empty, or holds characters that no UTF-8 text can hold."""

    code = "REQUEST_INVALID"
    exit_code = 2


class PromptTooLong(RubricrmError):
    """The prompt leaves no room for a new token in the model's context."""

    code = "PROMPT_TOO_LONG"
    exit_code = 2


class OptionInvalid(RubricrmError):
    """An option is out of range or contradicts another."""

    code = "OPTION_INVALID"
    exit_code = 2


class OptionUnknown(OptionInvalid, TypeError):
    """A keyword is no option. It is a TypeError too, as Python raises it for a keyword that a function lacks."""

    code = "OPTION_UNKNOWN"
    exit_code = 2


class StreamBusy(RubricrmError):
    """A stream was asked for its next piece while the same thread was computing it: in a signal's handler, say."""

    code = "STREAM_BUSY"
    exit_code = 1


class EngineBusy(RubricrmError):
    """As many requests wait already as may."""

    code = "ENGINE_BUSY"
    exit_code = 1
    retryable = True


class ResultInvalid(RubricrmError):
    """A stored result is not what `to_dict` or `to_json` writes, or of another schema version."""

    code = "RESULT_INVALID"
    exit_code = 2


class RubricMalformed(RubricrmError):
    """A rubric has no canonical form: an item without text, tag or opening words."""

    code = "RUBRIC_MALFORMED"
    exit_code = 1


class AnswersInvalid(RubricrmError):
    """A file of answers is not in the form of the program that should have written it."""

    code = "ANSWERS_INVALID"
    exit_code = 2


class RuntimeMissing(RubricrmError):
    """No ONNX Runtime is installed, or not the one that the device needs."""

    code = "RUNTIME_MISSING"
    exit_code = 1


class RuntimeFailed(RubricrmError):
    """ONNX Runtime, or another engine of this process, refused or failed; its message is appended."""

    code = "RUNTIME_FAILED"
    exit_code = 1


class OutputInvalid(RubricrmError):
    """The model computed NaN or infinity where numbers were expected: there is no answer in it."""

    code = "OUTPUT_INVALID"
    exit_code = 1


class ModelClosed(RubricrmError):
    """The model was closed, or belongs to the process that this one was forked from."""

    code = "MODEL_CLOSED"
    exit_code = 1


class OutputExists(RubricrmError):
    """What a command would write exists already."""

    code = "OUTPUT_EXISTS"
    exit_code = 2


class WriteFailed(RubricrmError):
    """What a command writes could not be written; nothing was left at the output."""

    code = "WRITE_FAILED"
    exit_code = 1


class GrammarUnusable(RubricrmError):
    """A grammar is no regular expression, is too large, or cannot be spelled to its end by the tokenizer's tokens."""

    code = "GRAMMAR_UNUSABLE"
    exit_code = 2


class DependencyMissing(RubricrmError):
    """An optional dependency is needed for what was asked."""

    code = "DEPENDENCY_MISSING"
    exit_code = 1


class ServerError(RubricrmError):
    """A server gave no answer. The kinds say why; `except ServerError` is for all of them.

    Attributes:
        status: The status of its answer, or the one that an error in the stream names; None: there was none.
        attempts: How often it was asked.
        partial_text: What it had written before.
    """

    code = "SERVER_ERROR"
    exit_code = 1

    def __init__(self, *args: object, status: int | None = None, attempts: int = 1, partial_text: str = "") -> None:
        super().__init__(*args)
        self.status = status
        self.attempts = attempts
        self.partial_text = partial_text


class ServerUnreachable(ServerError):
    """No connection to the server, or none that lasted until it answered."""

    code = "SERVER_UNREACHABLE"
    exit_code = 1
    retryable = True


class ServerBusy(ServerError):
    """The server has no room now: status 408, 429 or 503."""

    code = "SERVER_BUSY"
    exit_code = 1
    retryable = True


class ServerRefused(ServerError):
    """The server does not do what it is asked: any other status from 400 to 499, or it serves something else."""

    code = "SERVER_REFUSED"
    exit_code = 2


class ServerFailed(ServerError):
    """The server met an error: a status from 500 on, an error in its stream, or a text that it aborted."""

    code = "SERVER_FAILED"
    exit_code = 1
    retryable = True


class StreamBroken(ServerError):
    """The server's stream ended before it said why the text ends: what came is no answer."""

    code = "STREAM_BROKEN"
    exit_code = 1
    retryable = True
