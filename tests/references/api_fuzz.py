"""schemathesis against the server's own OpenAPI document: `api_fuzz.py SCHEMATHESIS SECONDS`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rubricrm import RubricModel
from served import serving

CONFIG = Path(__file__).resolve().parents[1] / "serve" / "schemathesis.toml"


def main() -> int:
    """Fuzz for so many seconds; return the exit code of schemathesis."""
    schemathesis, seconds = sys.argv[1:]
    with RubricModel.demo() as model, serving(model) as served:
        command = [schemathesis, "--config-file", str(CONFIG), "run", f"{served.url}/openapi.json"]
        command += ["--max-time", seconds, "--max-examples", "1000000", "--continue-on-failure"]
        return subprocess.run([*command, "--request-timeout", "60"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
