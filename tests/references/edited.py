"""What the cases of tests/cases change in a document: a value set, or a key removed."""

import copy
from typing import Any


def edited(document: dict[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a changed copy. A change names a place by `at`; without `value` what is there is removed."""
    document = copy.deepcopy(document)
    for change in changes:
        *path, last = change["at"]
        node: Any = document
        for part in path:
            node = node[part]
        if "value" in change:
            node[last] = change["value"]
        else:
            del node[last]
    return document
