"""The columns that a batch writes beside the input's own. They are the same in every file, whatever fails."""

from __future__ import annotations

import pyarrow as pa

ID = "id"
# What is wrong with a row: "" where nothing is, never null, so that no reader has to tell two kinds of nothing apart.
ERROR_CODE = "error_code"
ERROR_MESSAGE = "error_message"
# The row as it stands, where it could not be read into columns.
INPUT_LINE = "input_line"
RETRYABLE = "retryable"
RENAMED = "input_{}"

_FAULTS = [(ERROR_CODE, pa.string()), (ERROR_MESSAGE, pa.string()), (INPUT_LINE, pa.string())]
# Null where there is no answer: an empty text would look like one.
ANSWER = pa.schema(
    [
        ("rubric", pa.string()),
        ("rubric_json", pa.string()),
        ("finish_reason", pa.string()),
        ("num_criteria", pa.int64()),
        ("num_issues", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("cached_prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("seed", pa.int64()),
    ]
)
# Null where there is no verdict; the row then has the error UNSCORED beside its rubric.
VERDICT = pa.schema(
    [
        ("winner", pa.string()),
        ("votes_for_a", pa.int64()),
        ("votes_for_b", pa.int64()),
        ("no_vote", pa.int64()),
        ("consistent", pa.bool_()),
        ("reward", pa.float64()),
    ]
)
UNSCORED = "UNSCORED"
_OWN = {ID, RETRYABLE, *ANSWER.names, *VERDICT.names, *(name for name, _ in _FAULTS)}


def staged_schema(columns: pa.Schema) -> tuple[pa.Schema, dict[str, str]]:
    """Return the columns of staged rows for those of an input, and the new names of those whose name is ours."""
    renamed = {name: RENAMED.format(name) for name in columns.names if name in _OWN}
    kept = [entry.with_name(renamed.get(entry.name, entry.name)) for entry in columns]
    return pa.schema([(ID, pa.string()), *kept, *_FAULTS]), renamed


def written_schema(staged: pa.Schema, *, is_judged: bool = False) -> pa.Schema:
    """Return the columns of the output for those of staged rows, and of verdicts where they are asked for."""
    verdicts = VERDICT if is_judged else pa.schema([])
    faults = [name for name, _ in _FAULTS]
    kept = [entry for entry in staged if entry.name not in faults]
    return pa.schema([*kept, *ANSWER, *verdicts, *(staged.field(name) for name in faults), (RETRYABLE, pa.bool_())])
