"""The text of rubricrm.json to a `Manifest`: each error names the key by its whole path."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from rubricrm.errors import BundleInvalid, BundleVersionUnsupported
from rubricrm.runtime.manifest import FORMAT, FORMAT_VERSION, Extensions, Manifest
from rubricrm.runtime.manifest_rules import check


def read_manifest(text: str, where: str) -> Manifest:
    """Read and check a manifest.

    Args:
        text: Contents of rubricrm.json.
        where: The file's path, for messages.

    Raises:
        BundleInvalid: Not JSON, a key missing, unknown, of the wrong type, out of range or in contradiction.
        BundleVersionUnsupported: Another format version.
    """
    manifest: Manifest = _read(_parse(text, where), Manifest, where, "")
    check(manifest, where)
    return manifest


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise BundleInvalid(f"{where}: not JSON ({error}). Export the bundle again.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleInvalid(f'{where}: "format" is not "{FORMAT}": this is no manifest of a rubricrm bundle.')
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "Upgrade rubricrm." if newer else "Export the bundle again with this version."
        raise BundleVersionUnsupported(
            f'{where}: "format_version" is {version!r}, this rubricrm reads {FORMAT_VERSION}. {remedy}'
        )
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _without_repetition(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise ValueError(f'the key "{name}" stands twice')
        found[name] = value
    return found


def _read(value: Any, kind: Any, where: str, key: str) -> Any:
    """Turn parsed JSON into `kind`, one of the types that the dataclasses use."""
    if dataclasses.is_dataclass(kind):
        return _read_object(value, kind, where, key)
    if kind == Extensions:  # an object of anything: it means something to those who wrote it
        return _expect(value, dict, where, key)
    if get_origin(kind) is tuple:
        items = _expect(value, list, where, key)
        return tuple(_read(item, get_args(kind)[0], where, f"{key}[{n}]") for n, item in enumerate(items))
    if get_origin(kind) is Mapping:
        items = _expect(value, dict, where, key)
        return {name: _read(item, get_args(kind)[1], where, f"{key}.{name}") for name, item in items.items()}
    if type(None) in get_args(kind):
        return None if value is None else _read(value, get_args(kind)[0], where, key)
    if kind is float and type(value) is int and abs(value) <= 2**53:  # beyond, a float is another number
        return float(value)
    return _expect(value, kind, where, key)


def _read_object(value: Any, kind: Any, where: str, key: str) -> Any:
    members = _expect(value, dict, where, key)
    types = get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in types:
        if name not in members:
            raise BundleInvalid(f'{where}: "{prefix}{name}" is missing. Export the bundle again.')
    for name in members:
        if name not in types:
            place = '; keys of your own belong under "extensions"' if "extensions" in types else ""
            raise BundleInvalid(f'{where}: "{prefix}{name}" is not a key of format {FORMAT_VERSION}{place}. Remove it.')
    return kind(**{name: _read(members[name], types[name], where, prefix + name) for name in types})


def _expect(value: Any, kind: type, where: str, key: str) -> Any:
    # type() and not isinstance(): JSON's true is not the number 1.
    if type(value) is not kind:
        raise BundleInvalid(f'{where}: "{key}" is {value!r:.60}, expected {kind.__name__}. Export the bundle again.')
    return value
