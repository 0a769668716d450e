#!/usr/bin/env python3
"""Pack what `check.py` needs on a GPU machine without network, in pieces that a small channel can carry.

    pack.py OUT [--python 3.12] [--piece-mib 40] [--with-cuda]

OUT gets `piece-00`, `piece-01`, ... (together one tar archive), `pieces.sha256`, and `run.sh`. On the GPU machine they
lie in one folder, and `bash run.sh RESULTS` joins, compares the hashes, installs into a folder of its own, and runs
the check. CUDA 13 and cuDNN 9 must be there, as PyTorch's packages bring them; `--with-cuda` packs NVIDIA's own
(gigabytes). Needs the package registry, and an environment with the extra `dev`.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "captured_steps.py",
    "check.py",
    "gpu_recipes.py",
    "gpu_table.py",
    "many_sequences.py",
    "random_checkpoint.py",
)
# Newer machines run wheels for older C libraries: all of these fit Ubuntu 22.04 and later.
PLATFORMS = ("manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 27, 28, 31, 34)))
RUN = """#!/usr/bin/env bash
# Joins the pieces beside it, installs them into a folder of its own, and runs the check: run.sh RESULTS [OPTIONS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$here"
sha256sum --quiet -c pieces.sha256
cat piece-* | tar x
python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target site wheels/*.whl
export PYTHONPATH="$here/site" RUBRICRM_CACHE="$here/cache"
# ONNX Runtime looks for NVIDIA's packages beside itself only.
nvidia=$(python3 -c 'import glob, sys; print(*(f for p in sys.path for f in glob.glob(p + "/nvidia/*/lib")), sep=":")')
export LD_LIBRARY_PATH="$nvidia${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec python3 check.py "$results" "$@"
"""


def download_wheels(wheels: Path, python: str, *, with_cuda: bool) -> None:
    """Build this project's wheel and download what it needs on the GPU machine."""
    wheels.mkdir()
    # The kernels are for CPUs, and would bind the wheel to this machine's C library.
    build = [sys.executable, "-m", "build", "--wheel", "-Cwheel.cmake=false", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    own = next(wheels.glob("rubricrm-*.whl"))
    runtime = "onnxruntime-gpu[cuda,cudnn]>=1.31,<1.33" if with_cuda else "onnxruntime-gpu>=1.31,<1.33"
    where = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    where += [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", *where]
    subprocess.run([*command, "--dest", str(wheels), f"{own}[export]", runtime], check=True)


def write_pieces(folder: Path, output: Path, piece_bytes: int) -> int:
    """Write a folder as one tar archive in pieces, and their hashes; return how many there are."""
    archive = output / "archive.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    hashes = []
    with archive.open("rb") as whole:
        while data := whole.read(piece_bytes):
            name = f"piece-{len(hashes):02}"
            (output / name).write_bytes(data)
            hashes.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    archive.unlink()
    (output / "pieces.sha256").write_text("".join(hashes))
    return len(hashes)


def main() -> None:
    """Pack."""
    parser = argparse.ArgumentParser(description="Pack what a GPU machine without network needs.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--python", default="3.12", help="of the GPU machine")
    parser.add_argument("--piece-mib", type=int, default=40)
    parser.add_argument("--with-cuda", action="store_true", help="NVIDIA's CUDA and cuDNN packages too")
    options = parser.parse_args()
    if options.output.exists() and any(options.output.iterdir()):
        parser.error(f"{options.output}: is not empty. Choose another folder, or remove it.")
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pack"
        folder.mkdir()
        download_wheels(folder / "wheels", options.python, with_cuda=options.with_cuda)
        shutil.copytree(ROOT / "models/demo/checkpoint", folder / "checkpoint")
        for name in SCRIPTS:
            shutil.copyfile(Path(__file__).with_name(name), folder / name)
        pieces = write_pieces(folder, options.output, options.piece_mib << 20)
    (options.output / "run.sh").write_text(RUN)
    print(f"{options.output}: {pieces} pieces of at most {options.piece_mib} MiB, and run.sh")


if __name__ == "__main__":
    main()
