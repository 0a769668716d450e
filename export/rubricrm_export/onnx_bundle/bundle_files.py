"""The files of a bundle, written into a directory that nobody sees yet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx_ir as ir
from rubricrm.generation.grammar_compiler import compile_grammar
from rubricrm.rubric.form import regex
from rubricrm.rubric.thought import closing_mark, until_closing
from rubricrm.runtime.bundle import MANIFEST_NAME, Bundle, describe_file
from rubricrm.runtime.machine import usable_cores
from rubricrm.runtime.manifest import Manifest
from rubricrm.runtime.prefix import compute_prefix, prefix_file
from rubricrm.runtime.prompt import Prompt
from rubricrm.runtime.published_directory import (
    check_space,
    describe_files,
    scratch_directory,
    write_files,
    write_manifest,
)
from rubricrm.runtime.session import Session
from rubricrm.runtime.tokenizer import Tokenizer

from rubricrm_export.checkpoint.chat_template import CHAT_TEMPLATE_FILE
from rubricrm_export.checkpoint.checkpoint import Checkpoint
from rubricrm_export.checkpoint.files import TOKENIZER, TOKENIZER_CONFIG, read_tokenizer_config
from rubricrm_export.checkpoint.hub import ResolvedCheckpoint
from rubricrm_export.graph.kv_storage import KVStorage
from rubricrm_export.graph.rounded_weights import RoundedWeights, WeightSource
from rubricrm_export.graph.writer import GRAPH_FILE, write_graph, write_step_graph
from rubricrm_export.onnx_bundle.genai_config import genai_config
from rubricrm_export.onnx_bundle.options import OnnxExport
from rubricrm_export.onnx_bundle.plan import ExportPlan, Templates, make_plan
from rubricrm_export.system.progress_bar import Progress

GENAI_CONFIG_FILE = "genai_config.json"


def write_bundle_files(
    plan: ExportPlan,
    checkpoint: Checkpoint,
    weights: WeightSource,
    kv: KVStorage,
    chat_template: Path | None,
    directory: Path,
    on_progress: Callable[[int, int], None],
) -> Bundle:
    """Write a bundle with model.onnx alone: without its prefix, and without the checkpoint's hashes.

    Args:
        plan: Its manifest and scheme.
        checkpoint: What it is made of.
        weights: As `write_graph`.
        kv: As `write_graph`.
        chat_template: Replaces the checkpoint's own.
        directory: Where the files go.
        on_progress: Gets the bytes of weights written so far, and their number.
    """

    def report(done: int) -> None:
        on_progress(min(done, plan.weight_bytes), plan.weight_bytes)

    report(0)
    write_graph(checkpoint, plan.scheme, weights, kv, directory, report)
    report(plan.weight_bytes)
    write_companions(checkpoint.path, chat_template, plan.manifest, directory)
    measured = replace(plan.manifest, graphs=plan.manifest.graphs[-1:])
    return write_manifest(directory, replace(measured, files=describe_files(directory)))


def add_step_graph(
    bundle: Bundle,
    plan: ExportPlan,
    checkpoint: Checkpoint,
    weights: WeightSource,
    kv: KVStorage,
    on_progress: Callable[[int, int], None],
) -> Bundle:
    """Add the graph of steps as the best one, once model.onnx is what it will be."""
    manifest, directory = bundle.manifest, bundle.path
    write_step_graph(checkpoint, plan.scheme, weights, kv, directory, on_progress)
    # Hashes of what did not change are known: only the new files are read.
    present = {path.name for path in directory.iterdir()} - {MANIFEST_NAME}
    files = {name: facts for name, facts in manifest.files.items() if name in present}
    files |= {name: describe_file(directory / name) for name in present - files.keys()}
    return write_manifest(directory, replace(manifest, graphs=plan.manifest.graphs, files=files))


def write_companions(checkpoint: Path, chat_template: Path | None, manifest: Manifest, directory: Path) -> None:
    """Write the files beside the graph that follow from a checkpoint's directory."""
    tokenizer_config = _tokenizer_config(checkpoint, chat_template)
    files = {
        TOKENIZER: (checkpoint / TOKENIZER).read_bytes(),
        TOKENIZER_CONFIG: (json.dumps(tokenizer_config, ensure_ascii=False, indent=2) + "\n").encode(),
    }
    if any(graph.kv_update == "shared" for graph in manifest.graphs):  # it runs no other graph of ours
        files[GENAI_CONFIG_FILE] = genai_config(manifest).encode()
    write_files(directory, files)
    if manifest.prompt.grammar is not None:
        write_grammar(manifest, Tokenizer.from_file(directory / TOKENIZER), directory / manifest.prompt.grammar)


def write_grammar(manifest: Manifest, tokenizer: Tokenizer, path: Path) -> None:
    """Compile the form of a rubric for a bundle's tokenizer; where the prompt opens a thought, after its end.

    Raises:
        GrammarUnusable: No tokens of this tokenizer spell a rubric.
    """
    pattern, thought_ends = regex(), None
    if manifest.chat.starts_in_thought:
        thought_ends = closing_mark(manifest.chat.generation)
        pattern = until_closing(str(thought_ends)) + pattern
    thought_ids = [i for token, i in tokenizer.added_tokens.items() if token == thought_ends]
    compile_grammar(pattern, tokenizer, manifest.prompt.stop_ids, thought_ids).save(path)


def _tokenizer_config(path: Path, chat_template: Path | None) -> Mapping[str, object]:
    """Return tokenizer_config.json with the chat template inside, where other runtimes look for it."""
    template = chat_template or path / CHAT_TEMPLATE_FILE
    # onnxruntime-genai reads no chat template where no class is named; this is the one of a bare tokenizer.json.
    config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config |= read_tokenizer_config(path)
    if template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    return config


@contextmanager
def copy_of(
    checkpoint: Checkpoint,
    weights: str | None,
    templates: Templates,
    output: Path,
    name: str,
    on_progress: Progress,
) -> Iterator[Bundle]:
    """Make another bundle of a checkpoint for the CPU, for as long as the block runs.

    Args:
        checkpoint: What it is made of.
        weights: As in `OnnxExport`.
        templates: Replace the checkpoint's own.
        output: The bundle beside which it lies.
        name: What it is for, one word.
        on_progress: Gets how much of it is written.
    """
    with scratch_directory(output, name) as directory:
        copy = OnnxExport(
            str(checkpoint.path),
            directory,
            weights=weights,
            prompt=templates.prompt,
            prompt_template=templates.prompt_template,
            chat_template=templates.chat_template,
        )
        resolved = ResolvedCheckpoint(checkpoint.path, None, None)
        plan = make_plan(copy, resolved, checkpoint)
        check_space(directory, plan.weight_bytes)
        directory.mkdir()
        rounded = RoundedWeights(checkpoint, plan.scheme, ir.DataType.FLOAT, usable_cores())
        report = partial(on_progress, f"Making a {name}")
        kv = KVStorage(ir.DataType.FLOAT)
        yield write_bundle_files(plan, checkpoint, rounded, kv, templates.chat_template, directory, report)


def add_prefix(bundle: Bundle, plan: ExportPlan) -> None:
    """Add the prefix of a small model."""
    manifest = bundle.manifest
    if not plan.is_small or manifest.prompt.prefix.num_tokens == 0:
        return
    name = manifest.prompt_name
    prompt = Prompt(manifest.prompt, manifest.chat, Tokenizer.from_file(bundle.file(TOKENIZER)), name)
    session = Session(bundle)
    kv_type = session.facts.kv_type  # the best graph's, or where its kernels are missing that of the one that runs
    file = prefix_file(name, kv_type)
    path = bundle.path / file
    compute_prefix(session, prompt.fixed_prefix()).save(path)
    session.close()
    # It was written as a temporary file, which only its owner may read; a bundle is for everybody that the rest is for.
    shutil.copymode(bundle.path / GRAPH_FILE, path)
    files = {**manifest.files, file: describe_file(path)}
    facts = replace(manifest.prompt, prefix=replace(manifest.prompt.prefix, files={kv_type: file}))
    write_manifest(bundle.path, replace(manifest, prompts={**manifest.prompts, name: facts}, files=files))
