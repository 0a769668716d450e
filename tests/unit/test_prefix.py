"""The prompt's fixed part: computed once on a machine, then restored; a damaged cache costs time, never an answer."""

import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from own_kernels import KV_TYPE
from rubricrm import RubricModel
from rubricrm.errors import BundleInvalid, OutputInvalid
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.prefix import Prefix, compute_prefix, kept_prefix, open_prefix
from rubricrm.runtime.session import Session
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

PREFIX = "prefix.rubric.float32.safetensors"
EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]

TOKEN_IDS = list(range(5, 45))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory of this test's own."""
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(bundle_without_prefix: Path) -> Bundle:
    return Bundle.open(bundle_without_prefix)


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    session = Session(bundle, threads=1)
    yield session
    session.close()


@pytest.fixture
def runs(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each run of the session took."""
    counts: list[int] = []
    run = session.run

    def counted(slot: Any, token_ids: list[int], rows: int = 1) -> Any:
        counts.append(len(token_ids))
        return run(slot, token_ids, rows)

    monkeypatch.setattr(session, "run", counted)
    return counts


def opened(bundle: Bundle, session: Session, token_ids: list[int]) -> Prefix:
    return open_prefix(bundle, session, token_ids, kept_prefix(bundle, session))


def kept_file(cache: Path, bundle: Bundle) -> Path:
    (directory,) = (cache / bundle.manifest_sha256).iterdir()
    return directory / f"prefix.rubric.{bundle.manifest.graph.kv_type}.safetensors"


def test_a_prefix_is_computed_once_and_then_restored(
    bundle: Bundle, session: Session, runs: list[int], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    computed = opened(bundle, session, TOKEN_IDS)
    assert sum(runs) == len(TOKEN_IDS)
    restored = opened(bundle, session, TOKEN_IDS)
    assert sum(runs) == len(TOKEN_IDS)
    assert computed.token_ids == restored.token_ids == tuple(TOKEN_IDS)
    assert computed.positions.shape == (2, 2, 1, 2, len(TOKEN_IDS), 32)
    assert (computed.positions == restored.positions).all()
    assert [path.name for path in kept_file(cache, bundle).parent.iterdir()] == [PREFIX]
    assert not caplog.records


def test_the_kept_file_is_one_tensor_that_is_mapped(bundle: Bundle, session: Session, cache: Path) -> None:
    prefix = opened(bundle, session, TOKEN_IDS)
    tensors = load_file(kept_file(cache, bundle))
    assert list(tensors) == ["positions"]
    assert (tensors["positions"] == prefix.positions).all()
    assert isinstance(opened(bundle, session, TOKEN_IDS).positions.base, np.memmap)
    digest = hashlib.sha256(prefix.positions.tobytes()).hexdigest()
    assert metadata(kept_file(cache, bundle)) == {"token_ids": ",".join(map(str, TOKEN_IDS)), "sha256": digest}


def test_a_long_prefix_is_computed_in_chunks(session: Session, runs: list[int]) -> None:
    ids = [5 + n % 200 for n in range(300)]
    whole = compute_prefix(session, ids)
    assert runs == [256, 44]
    session.max_rows = 64
    chunked = compute_prefix(session, ids)
    np.testing.assert_allclose(chunked.positions, whole.positions, atol=1e-4)


def test_a_bundles_own_prefix_is_neither_computed_nor_cached(tiny_bundle: Path, cache: Path) -> None:
    with RubricModel.open(tiny_bundle, threads=1) as model:
        assert model.generate("Hi", max_new_tokens=1).usage.cached_prompt_tokens == 128
    assert not cache.exists()


def test_without_our_kernels_the_prefix_is_that_of_model_onnx(
    tiny_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of float16 is the other graph's: its prefix is neither read nor needed."""
    monkeypatch.setenv("RUBRICRM_KERNELS", "off")
    with RubricModel.open(tiny_bundle, threads=1) as model:
        assert model.generate("Hi", max_new_tokens=1).usage.cached_prompt_tokens == 128
    assert [path.name for path in cache.rglob("prefix.*")] == [PREFIX]


def test_a_bundles_own_prefix_is_what_its_graph_computes(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    ids = [int(n) for n in metadata(tiny_bundle / f"prefix.rubric.{KV_TYPE}.safetensors")["token_ids"].split(",")]
    session = Session(bundle, threads=1)
    stored = opened(bundle, session, ids)
    np.testing.assert_allclose(stored.positions, compute_prefix(session, ids).positions, atol=1e-4)
    session.close()


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return dict(file.metadata())


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def other_tokens(path: Path) -> None:
    ids = metadata(path)["token_ids"].split(",")
    save_file(load_file(path), path, metadata=metadata(path) | {"token_ids": ",".join([*ids[:-1], "7"])})


def fewer_tokens(path: Path) -> None:
    save_file(load_file(path), path, metadata={"token_ids": "1,2,3"})


def no_tokens(path: Path) -> None:
    save_file(load_file(path), path)


def other_name(path: Path) -> None:
    save_file({"keys": load_file(path)["positions"]}, path, metadata=metadata(path))


def another_tensor(path: Path) -> None:
    save_file(load_file(path) | {"more": np.ones(3, np.float32)}, path, metadata=metadata(path))


def other_shape(path: Path) -> None:
    save_file({"positions": load_file(path)["positions"][:, :, :, :, :-1].copy()}, path, metadata=metadata(path))


def no_numbers(path: Path) -> None:
    save_file(load_file(path), path, metadata={"token_ids": "a,b"})


def other_type(path: Path) -> None:
    save_file({name: t.astype(np.float16) for name, t in load_file(path).items()}, path, metadata=metadata(path))


def rubbish(path: Path) -> None:
    path.write_bytes(b"rubbish" * 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flipped_bit(path: Path) -> None:
    contents = bytearray(path.read_bytes())
    contents[-1000] ^= 1
    path.write_bytes(contents)


def no_digest(path: Path) -> None:
    save_file(load_file(path), path, metadata={"token_ids": metadata(path)["token_ids"]})


DAMAGES = [shorten, other_tokens, fewer_tokens, no_tokens, no_numbers, other_name, another_tensor, other_shape]
DAMAGES += [other_type, rubbish, empty]


# The manifest has the hash of a bundle's own file; whoever wants it compared opens with verify=True.
@pytest.mark.parametrize("damage", [*DAMAGES, flipped_bit, no_digest], ids=lambda damage: damage.__name__)
def test_a_damaged_cache_is_computed_anew_with_a_warning(
    bundle: Bundle,
    session: Session,
    runs: list[int],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    first = opened(bundle, session, TOKEN_IDS)
    damage(kept_file(cache, bundle))
    again = opened(bundle, session, TOKEN_IDS)
    assert sum(runs) == 2 * len(TOKEN_IDS)
    assert (again.positions == first.positions).all()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "computing the prefix again" in record.getMessage()
    assert str(kept_file(cache, bundle)) in record.getMessage()
    opened(bundle, session, TOKEN_IDS)
    assert sum(runs) == 2 * len(TOKEN_IDS)


def test_a_directory_in_place_of_the_kept_file_costs_a_warning(
    bundle: Bundle, session: Session, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(bundle, session, TOKEN_IDS)
    directory(kept_file(cache, bundle))
    assert (opened(bundle, session, TOKEN_IDS).positions == first.positions).all()
    assert "could not be kept" in caplog.text
    assert [path.name for path in kept_file(cache, bundle).parent.iterdir()] == [PREFIX]


@pytest.mark.parametrize("cache_name", ["file", "file/below", "x" * 300], ids=["file", "below-a-file", "too-long"])
def test_a_cache_that_cannot_be_written_costs_a_warning(
    bundle: Bundle,
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    cache_name: str,
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / cache_name))
    prefix = opened(bundle, session, TOKEN_IDS)
    assert prefix.token_ids == tuple(TOKEN_IDS)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "nothing is kept between runs" in record.getMessage()


def test_a_full_disk_leaves_no_file_behind(
    bundle: Bundle, session: Session, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    opened(bundle, session, TOKEN_IDS)
    assert "No space left on device" in caplog.text
    assert "writing" not in caplog.text
    assert list(kept_file(cache, bundle).parent.iterdir()) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_of_the_bundle_itself_is_an_error(
    bundle_copy: Path, edit_manifest: EditManifest, damage: Callable[[Path], None]
) -> None:
    path = bundle_copy / PREFIX
    damage(path)
    edit_manifest(lambda document: document["files"][PREFIX].update(size=path.stat().st_size))
    with pytest.raises(BundleInvalid, match=rf"{PREFIX}: .*Export the bundle again"):
        RubricModel.open(bundle_copy, threads=1)


def test_several_may_open_a_bundle_for_the_first_time_at_once(
    bundle: Bundle, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def open_and_generate(_: int) -> str:
        with RubricModel.open(bundle.path, threads=1) as model:
            return model.generate("Write a haiku.", max_new_tokens=8).text

    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(open_and_generate, range(8)))
    assert len(texts) == 1
    assert not caplog.records
    assert [path.name for path in kept_file(cache, bundle).parent.iterdir()] == [PREFIX]


def test_texts_with_a_kept_a_computed_and_a_bundled_prefix_are_equal(
    bundle: Bundle, tiny_bundle: Path, cache: Path
) -> None:
    texts = []
    for path in (bundle.path, bundle.path, tiny_bundle):
        with RubricModel.open(path, threads=1) as model:
            result = model.generate("Write a haiku.", max_new_tokens=12)
            texts.append(result.text)
            assert result.usage.cached_prompt_tokens == 128
    assert len(set(texts)) == 1
    assert kept_file(cache, bundle).exists()


def test_a_prefix_of_int8_is_kept_in_int8(int8_bundle: Path, cache: Path) -> None:
    bundle = Bundle.open(int8_bundle)
    session = Session(bundle, threads=1)
    computed, restored = (opened(bundle, session, TOKEN_IDS) for _ in range(2))
    session.close()
    assert {tensor.dtype for tensor in load_file(kept_file(cache, bundle)).values()} == {np.dtype(np.int8)}
    assert computed.positions.dtype == restored.positions.dtype == np.int8
    assert (computed.positions == restored.positions).all()
    assert len(np.unique(computed.positions)) > 50


def test_a_bundle_of_int8_may_bring_its_prefix(int8_bundle: Path, edit_manifest: EditManifest, cache: Path) -> None:
    with RubricModel.open(int8_bundle, threads=1) as model:
        expected = model.generate("Write a haiku.", max_new_tokens=12).text
    (kept,) = cache.rglob("prefix.rubric.int8.safetensors")
    own = Path(shutil.copy(kept, int8_bundle / kept.name))
    facts = {"size": own.stat().st_size, "sha256": hashlib.sha256(own.read_bytes()).hexdigest()}

    def bring(document: dict[str, Any]) -> None:
        document["prompts"]["rubric"]["prefix"]["files"]["int8"] = own.name
        document["files"][own.name] = facts

    edit_manifest(bring)
    shutil.rmtree(cache)
    with RubricModel.open(int8_bundle, threads=1, verify=True) as model:
        assert model.generate("Write a haiku.", max_new_tokens=12).text == expected
    assert not cache.exists()


def test_another_bundle_has_another_place_in_the_cache(
    bundle: Bundle, session: Session, cache: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(bundle.path, tmp_path / "other"))
    manifest = json.loads((other / "rubricrm.json").read_text("utf-8"))
    manifest["model"]["name"] = "another"
    (other / "rubricrm.json").write_text(json.dumps(manifest))
    opened(bundle, session, TOKEN_IDS)
    opened(Bundle.open(other), session, TOKEN_IDS)
    assert len(list(cache.iterdir())) == 2


def test_the_place_in_the_cache_names_device_runtime_and_type(
    bundle: Bundle, session: Session, int8_bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another device, version or type of the KV cache computed is another's."""
    opened(bundle, session, TOKEN_IDS)
    assert kept_file(cache, bundle).parent.name == (
        f"cpu-model.onnx-float32-onnxruntime-{onnxruntime.__version__}-{platform.machine()}"
    )
    monkeypatch.setattr(onnxruntime, "__version__", "9.9.9")
    other = Session(bundle, threads=1)
    assert other.cache_key.startswith("cpu-model.onnx-float32-onnxruntime-9.9.9-")
    other.close()
    narrow = Session(Bundle.open(int8_bundle), threads=1)
    assert narrow.cache_key.startswith("cpu-model.onnx-int8-")
    narrow.close()


# ---- numbers that are none ----


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_a_prefix_that_is_not_finite_is_not_kept(
    request: pytest.FixtureRequest, poison: Callable[[Path, str], None], cache: Path, kind: str
) -> None:
    path = request.getfixturevalue("int8_bundle" if kind == "int8" else "bundle_without_prefix")
    poison(path, "model.layers.0.mlp.down_proj.weight" if kind == "int8" else "model.layers.0.self_attn.v_proj.weight")
    with pytest.raises(OutputInvalid, match="not finite"):
        RubricModel.open(path, threads=1)
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_the_last_layers_keys_are_looked_at_too(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """One NaN anywhere, though all logits were numbers."""
    new_slot = session.new_slot

    def poisoned(num_positions: int) -> Any:
        slot = new_slot(num_positions)
        positions = slot.cache.positions

        def with_nan(length: int) -> Any:
            found = positions(length)
            found[1, 1, 0, 1, 3, 7] = np.nan
            return found

        monkeypatch.setattr(slot.cache, "positions", with_nan)
        return slot

    monkeypatch.setattr(session, "new_slot", poisoned)
    with pytest.raises(OutputInvalid, match="the prefix: 1 of 10240 keys and values are not finite"):
        compute_prefix(session, TOKEN_IDS)


def test_a_bundles_own_prefix_must_be_finite(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    path = bundle_copy / PREFIX
    tensors = load_file(path)
    tensors["positions"][1, 1, 0, 1, 5, 3] = np.inf
    save_file(tensors, path, metadata=metadata(path))
    edit_manifest(lambda document: document["files"][PREFIX].update(size=path.stat().st_size))
    with pytest.raises(BundleInvalid, match=rf"{PREFIX}: 1 of its keys and values are not finite"):
        RubricModel.open(bundle_copy, threads=1)


def test_a_prefix_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = Prefix((1, 2), np.ones((1, 2, 1, 1, 2, 4), np.float32))

    def interrupt(*_: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prefix.save(tmp_path / PREFIX)
    assert list(tmp_path.iterdir()) == []
