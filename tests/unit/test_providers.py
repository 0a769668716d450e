"""What the devices lack: every case has its own words and its own remedy. No test needs a GPU."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rubricrm.runtime import installation
from rubricrm.runtime.bundle import Bundle
from rubricrm.runtime.providers import DEVICES, cuda_problem, provider_options


def runtime(*providers: str, **attributes: Any) -> SimpleNamespace:
    """Stands in for the module onnxruntime."""
    return SimpleNamespace(
        __version__="1.31.1",
        __file__="/site-packages/onnxruntime/__init__.py",
        get_available_providers=lambda: [*providers, "CPUExecutionProvider"],
        **attributes,
    )


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that says which distributions are installed."""

    def install(**versions: str) -> None:
        installed = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(installation, "_installed", lambda: installed)
        monkeypatch.setattr(installation, "_find_distribution", lambda: None)
        monkeypatch.setattr(installation, "_checkout", lambda *_: None)

    return install


class Driver:
    """Stands in for libcuda.so.1."""

    def __init__(self, version: int = 13000, status: int = 0, count: int = 1) -> None:
        self._version, self._status, self._count = version, status, count

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802 - the name is the driver's
        version._obj.value = self._version
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        assert flags == 0
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._count
        return 0


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What loading a library gives, by its name: an object, or a message to raise. All is well at first."""
    loadable: dict[str, Any] = {"libonnxruntime_providers_cuda.so": object(), "libcuda.so.1": Driver()}

    def load(path: str) -> Any:
        found = loadable[path.rpartition("/")[2]]
        if isinstance(found, str):
            raise OSError(f"{found}: cannot open shared object file: No such file or directory")
        return found

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr("sys.platform", "linux")
    return loadable


# ---- packages ----


def test_the_package_for_cpus_is_to_be_replaced(install: Callable[..., None]) -> None:
    install(onnxruntime="1.32.0")
    problem = cuda_problem(runtime())
    assert problem == (
        "onnxruntime 1.32.0 is the package for CPUs. Replace it: pip uninstall onnxruntime, "
        "then pip install 'rubricrm[gpu]'."
    )


def test_two_packages_hide_each_other(install: Callable[..., None]) -> None:
    install(onnxruntime="1.32.0", onnxruntime_gpu="1.31.1")
    problem = cuda_problem(runtime()) or ""
    assert problem == (
        "the onnxruntime in use (1.31.1) has no CUDAExecutionProvider: onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 "
        "are all the module onnxruntime and overwrite each other's files, expected one of them. Remove them (pip "
        "uninstall onnxruntime onnxruntime-gpu), then pip install 'rubricrm[gpu]'."
    )


@pytest.mark.parametrize("versions", [{"onnxruntime_gpu": "1.31.1"}, {}], ids=["gpu", "unknown"])
def test_a_package_without_the_provider_is_named(install: Callable[..., None], versions: dict[str, str]) -> None:
    install(**versions)
    problem = cuda_problem(runtime()) or ""
    assert problem.startswith("onnxruntime-gpu 1.31.1 has no" if versions else "onnxruntime 1.31.1 has no")
    assert "CUDAExecutionProvider" in problem


def test_two_packages_are_well_where_the_one_for_gpus_is_in_use(
    install: Callable[..., None], libraries: dict[str, Any]
) -> None:
    install(onnxruntime="1.31.1", onnxruntime_gpu="1.31.1")
    assert libraries
    assert cuda_problem(runtime("CUDAExecutionProvider")) is None


# ---- libraries, driver and GPU ----


@pytest.mark.parametrize("built_for", ["13.0", "12.8", ""])
def test_nothing_is_missing_where_all_is_there(libraries: dict[str, Any], built_for: str) -> None:
    assert libraries
    assert cuda_problem(runtime("CUDAExecutionProvider", cuda_version=built_for)) is None


def test_a_missing_library_is_named_with_its_remedy(libraries: dict[str, Any]) -> None:
    libraries["libonnxruntime_providers_cuda.so"] = "libcublasLt.so.13"
    problem = cuda_problem(runtime("CUDAExecutionProvider")) or ""
    assert problem.startswith("a library of CUDA cannot be loaded (libcublasLt.so.13: cannot open shared object file")
    assert "Install what is missing: " in problem
    assert problem.endswith("[gpu]'.")


def test_a_missing_driver_is_no_library_to_install_by_pip(libraries: dict[str, Any]) -> None:
    libraries["libonnxruntime_providers_cuda.so"] = libraries["libcuda.so.1"] = "libcuda.so.1"
    problem = cuda_problem(runtime("CUDAExecutionProvider")) or ""
    assert problem.startswith("no NVIDIA driver was found (libcuda.so.1: cannot open")
    assert "--gpus all" in problem
    assert "pip install" not in problem


def test_a_driver_and_a_library_may_both_be_missing(libraries: dict[str, Any]) -> None:
    libraries["libonnxruntime_providers_cuda.so"] = "libcurand.so.10"
    libraries["libcuda.so.1"] = "libcuda.so.1"
    problem = cuda_problem(runtime("CUDAExecutionProvider")) or ""
    assert "libcurand.so.10" in problem
    assert " And no NVIDIA driver was found" in problem


def test_a_driver_that_is_too_old_is_to_be_upgraded(libraries: dict[str, Any]) -> None:
    libraries["libcuda.so.1"] = Driver(version=12040)
    problem = cuda_problem(runtime("CUDAExecutionProvider", cuda_version="13.0"))
    assert problem == (
        "the NVIDIA driver is too old: it runs CUDA 12, onnxruntime was built for CUDA 13.0. Upgrade the driver."
    )
    assert cuda_problem(runtime("CUDAExecutionProvider", cuda_version="12.8")) is None


@pytest.mark.parametrize(("status", "count"), [(100, 0), (0, 0), (803, 0)])
def test_a_machine_without_a_gpu_says_so(libraries: dict[str, Any], status: int, count: int) -> None:
    libraries["libcuda.so.1"] = Driver(status=status, count=count)
    problem = cuda_problem(runtime("CUDAExecutionProvider")) or ""
    assert problem.startswith(f"no GPU that CUDA can use (the driver's status is {status}, it counts {count})")
    assert "CUDA_VISIBLE_DEVICES" in problem


def test_libraries_of_pip_packages_are_loaded_first_and_in_silence(
    libraries: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def preload() -> None:
        print("Failed to load libcublas.so.13")
        libraries["libonnxruntime_providers_cuda.so"] = object()

    libraries["libonnxruntime_providers_cuda.so"] = "libcublasLt.so.13"
    assert cuda_problem(runtime("CUDAExecutionProvider", preload_dlls=preload)) is None
    assert capsys.readouterr().out == ""


def test_elsewhere_than_on_linux_onnx_runtime_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert cuda_problem(runtime("CUDAExecutionProvider")) is None


# ---- TensorRT ----


@pytest.mark.parametrize("device", ["tensorrt", "tensorrt-rtx"])
def test_a_provider_that_the_package_lacks_is_named(device: str) -> None:
    problem = DEVICES[device].problem(runtime()) or ""
    assert DEVICES[device].provider in problem
    assert problem.startswith("onnxruntime 1.31.1 has no ")


def test_tensorrt_needs_what_cuda_needs(libraries: dict[str, Any]) -> None:
    libraries["libcuda.so.1"] = "libcuda.so.1"
    found = runtime("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert (DEVICES["tensorrt"].problem(found) or "").startswith("no NVIDIA driver was found")


@pytest.mark.parametrize("device", ["tensorrt", "tensorrt-rtx"])
def test_engines_are_kept_where_only_we_may_write(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
) -> None:
    bundle = Bundle.open(tiny_bundle)
    monkeypatch.setenv("RUBRICRM_CACHE", str(tmp_path / "cache"))
    kept = provider_options(device, bundle, 256, "key")
    engines = tmp_path / "cache" / bundle.manifest_sha256 / "key" / "engines"
    assert engines.stat().st_mode & 0o777 == 0o700
    assert str(engines) in kept.values()
    assert not caplog.records
    # An engine is a program: one that others may have written is not loaded.
    (tmp_path / "cache").chmod(0o777)
    options = provider_options(device, bundle, 256, "key")
    assert "may be written by other users" in caplog.text
    assert options.keys() == {name for name in kept if name.endswith("shapes")}
    assert provider_options("cpu", bundle, 256, "key") == {}
