"""A bundle's prompt without its weights: what is needed to use the model on a server."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from rubricrm.runtime.bundle import MANIFEST_NAME, Bundle
from rubricrm.runtime.manifest import NO_WEIGHTS, Manifest, QuantizationFacts
from rubricrm.runtime.published_directory import check_output, check_space, whole_directory, write_manifest

# Where a directory for TensorRT has it.
PROMPT_FOLDER = "prompt"
_TOKENIZER_CONFIG = "tokenizer_config.json"


def write_prompt_directory(bundle: Bundle, output: Path | str, *, force: bool = False) -> Bundle:
    """Write the prompt directory of a bundle: manifest, tokenizer and grammar, for `RubricModel.connect(prompt=...)`.

    It is a bundle without graphs (docs/BUNDLE.md), of as many bytes as the tokenizer and the grammar have: 12 MB for
    Qwen3's. It becomes `output` when it is whole.

    Args:
        bundle: An opened bundle, or another prompt directory.
        output: The directory to write.
        force: Replace an older bundle or prompt directory there.

    Raises:
        OutputExists: The output exists and may not be replaced.
        WriteFailed: The disk is full, or the output cannot be written.
        BundleInvalid: A file is damaged.
    """
    output = Path(output)
    manifest = prompt_manifest(bundle.manifest)
    names = {manifest.tokenizer.file, _TOKENIZER_CONFIG, *(prompt.grammar for prompt in manifest.prompts.values())}
    files = {name: facts for name, facts in bundle.manifest.files.items() if name in names}
    check_output(output, force=force)
    check_space(output, sum(facts.size for facts in files.values()))
    with whole_directory(output, force=force) as directory:
        for name in files:
            shutil.copyfile(bundle.file(name), directory / name)
        write_manifest(directory, replace(manifest, files=files)).verify()
    return Bundle.open(output)


def open_prompt_directory(path: Path | str) -> Bundle:
    """Open a prompt directory, a bundle, or the prompt that lies in a directory for TensorRT.

    Raises:
        BundleNotFound: It is none of these.
        BundleInvalid: It is not whole.
    """
    path = Path(path)
    inside = path / PROMPT_FOLDER
    return Bundle.open(inside if _holds_prompt_alone(path, inside) else path)


def prompt_manifest(manifest: Manifest) -> Manifest:
    """Return what the manifest of a prompt directory says: all but the graphs, and what belongs to them."""
    prompts = {
        name: replace(prompt, prefix=replace(prompt.prefix, files={}), phrases=None)
        for name, prompt in manifest.prompts.items()
    }
    stored = QuantizationFacts(weights=NO_WEIGHTS, activations="none", method="none")
    return replace(manifest, graphs=(), quantization=stored, prompts=prompts, quality=None)


def _holds_prompt_alone(path: Path, inside: Path) -> bool:
    try:
        return (inside / MANIFEST_NAME).is_file() and not (path / MANIFEST_NAME).exists()
    except OSError:  # said by `Bundle.open`
        return False
