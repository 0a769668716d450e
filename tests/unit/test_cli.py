"""The command line: outputs, exit codes, and never a traceback."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import rubricrm
from click.testing import CliRunner, Result
from rubricrm import RubricModel, RubricResult, parse
from rubricrm.cli import cli
from rubricrm.runtime.kernels import Kernels
from rubricrm.text_file import decode_text

EditManifest = Callable[[Callable[[dict[str, Any]], object]], Path]

REQUEST = "Write a haiku."
RUBRIC = "1. The response is a haiku. [Hard Rule]\n2. The response evokes “rain”. [Principle]\n3. The response"


def invoke(*arguments: str | Path, **options: Any) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="rubricrm", **options)
    # Anything but an exit code would be a traceback for the user.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "rubricrm", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False, **options)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


# ---- generate ----


def test_generate_prints_what_the_model_wrote(tiny_bundle: Path, tiny_model: RubricModel) -> None:
    text = tiny_model.generate(REQUEST, max_new_tokens=12).text
    for arguments in ((), ("--no-stream",)):
        result = invoke("generate", REQUEST, "-m", tiny_bundle, "--max-new-tokens", "12", *arguments)
        assert result.exit_code == 3
        assert result.stdout == text + "\n"
        assert result.stderr.endswith(
            "The rubric is incomplete: it reached the limit of 12 tokens. Raise --max-new-tokens.\n"
        )


def test_the_device_is_the_bundles_unless_given(bundle_copy: Path, edit_manifest: EditManifest) -> None:
    for arguments in ((), ("--device", "cpu")):
        result = invoke("generate", REQUEST, "-m", bundle_copy, "--json", "--max-new-tokens", "2", *arguments)
        assert json.loads(result.stdout)["model"]["device"] == "cpu"
    result = invoke("generate", REQUEST, "-m", bundle_copy, "--device", "cuda")
    assert result.exit_code == 2
    assert "was exported for cpu, cannot run on cuda. Export with --target cuda." in result.stderr
    edit_manifest(lambda document: document["graphs"][0].update(target="cuda"))
    result = invoke("generate", REQUEST, "-m", bundle_copy)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: RUNTIME_MISSING: device cuda cannot be used: ")
    assert invoke("generate", REQUEST, "-m", bundle_copy, "--device", "tpu").exit_code == 2


def test_generate_lists_issues_beside_the_text(tiny_bundle: Path) -> None:
    result = invoke("generate", REQUEST, "-m", tiny_bundle, "--max-new-tokens", "3")
    assert "line 1: no_criteria:" in result.stderr
    assert "no_criteria" not in result.stdout


def test_generate_json_has_exactly_the_documented_keys_in_order(tiny_bundle: Path, tiny_model: RubricModel) -> None:
    result = invoke("generate", REQUEST, "-m", tiny_bundle, "--json", "--max-new-tokens", "12")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    printed = json.loads(result.stdout)
    assert list(printed) == [
        *("schema_version", "request", "text", "rubric", "finish_reason", "usage", "timings_ms", "seed", "logprobs"),
        "grammar_overrules",
        "model",
    ]
    assert list(printed["rubric"]) == ["schema_version", "criteria", "issues"]
    assert {tuple(issue) for issue in printed["rubric"]["issues"]} == {("code", "line", "message")}
    assert list(printed["usage"]) == [
        *("prompt_tokens", "cached_prompt_tokens", "completion_tokens", "drafted_tokens", "accepted_tokens")
    ]
    expected = tiny_model.generate(REQUEST, max_new_tokens=12).to_dict()
    assert printed["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]
    differing = {"timings_ms": None, "seed": None}
    differing["usage"] = None  # how much of a prompt is there depends on the requests before
    assert {**printed, **differing} == {**expected, **differing}
    assert RubricResult.from_json(result.stdout).to_dict() == printed


def test_generate_takes_the_model_from_the_environment(tiny_bundle: Path) -> None:
    result = invoke("generate", REQUEST, "--max-new-tokens", "1", env={"RUBRICRM_MODEL": str(tiny_bundle)})
    assert result.exit_code == 3
    assert "demo" not in result.stderr


def test_generate_samples_with_all_options(tiny_bundle: Path, tiny_model: RubricModel) -> None:
    options = {"max-new-tokens": 30, "temperature": 1.5, "top-k": 50, "top-p": 0.9, "min-p": 0.01, "seed": 3}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    more = ("--stop", "a", "--stop", "bc", "--timeout", "100", "--threads", "1", "--verify")
    result = invoke("generate", REQUEST, "-m", tiny_bundle, "--json", *arguments, *more)
    keywords: dict[str, Any] = {name.replace("-", "_"): value for name, value in options.items()}
    expected = tiny_model.generate(REQUEST, stop=["a", "bc"], timeout_s=100, **keywords)
    assert json.loads(result.stdout)["text"] == expected.text
    assert json.loads(result.stdout)["finish_reason"] == expected.finish_reason


def test_generate_reads_the_request_from_standard_input(tiny_bundle: Path) -> None:
    request = "  Écris un haïku.\n\nEn français. "
    result = invoke("generate", "-", "-m", tiny_bundle, "--json", "--max-new-tokens", "1", input=request.encode())
    assert json.loads(result.stdout)["request"] == request


FILE_FORMS = {
    "as-it-is": lambda text: text.encode(),
    "final-break": lambda text: f"{text}\n".encode(),
    "blank-lines": lambda text: f"{text}\n\n\r\n".encode(),
    "windows": lambda text: f"{text}\n".replace("\n", "\r\n").encode(),
    "mark": lambda text: f"\ufeff{text}\n".encode(),
    "utf-16": lambda text: f"{text}\r\n".encode("utf-16"),
    "utf-16-le": lambda text: f"\ufeff{text}\n".encode("utf-16-le"),
    "utf-16-be": lambda text: f"\ufeff{text}\n".encode("utf-16-be"),
    "utf-16-le-without-mark": lambda text: f"{text}\n".encode("utf-16-le"),
    "utf-16-be-without-mark": lambda text: f"{text}\n".encode("utf-16-be"),
    "utf-32": lambda text: f"{text}\n".encode("utf-32"),
}


@pytest.mark.parametrize("form", FILE_FORMS)
def test_the_request_of_a_file_is_the_request_of_the_argument(tiny_bundle: Path, form: str) -> None:
    text = " Écris un haïku 🌧.\n- “court” "
    options = ("-m", tiny_bundle, "--json", "--max-new-tokens", "3")
    argument = json.loads(invoke("generate", text, *options).stdout)
    piped = json.loads(invoke("generate", "-", *options, input=FILE_FORMS[form](text)).stdout)
    assert piped["request"] == text
    assert (piped["text"], piped["usage"]) == (argument["text"], argument["usage"])


def test_an_argument_that_was_a_windows_file_is_the_same_request(tiny_bundle: Path) -> None:
    # $(cat FILE) takes off the line feed at the end, and leaves the carriage returns.
    result = invoke("generate", "Two\r\nlines\r", "-m", tiny_bundle, "--json", "--max-new-tokens", "1")
    assert json.loads(result.stdout)["request"] == "Two\nlines"


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"caf\xe9 au lait", "REQUEST_INVALID: standard input: not UTF-8 at byte 3"),
        (b"\xef\xbb\xbfcaf\xe9 au lait", "REQUEST_INVALID: standard input: not UTF-8 at byte 6"),
        (b"\xff\xfea\0b", "REQUEST_INVALID: standard input: not UTF-16-LE at byte 4"),
        (b"\xfe\xff\xd8\x00\0a", "REQUEST_INVALID: standard input: not UTF-16-BE at byte 2"),
        (b"\xef\xbb\xbf\r\n", "REQUEST_INVALID: request: is empty or only whitespace"),
        (b"", "REQUEST_INVALID: request: is empty or only whitespace"),
        (b" \n\t", "REQUEST_INVALID: request: is empty or only whitespace"),
        (b"a\0b", "REQUEST_INVALID: request: holds NUL at character 1"),
        (b"word " * 1000, "PROMPT_TOO_LONG: the prompt has"),
    ],
    ids=["latin-1", "mark-latin-1", "half-utf-16", "lone-surrogate", "mark-only", "empty", "blank", "nul", "too-long"],
)
def test_generate_refuses_what_is_no_request(tiny_bundle: Path, contents: bytes, words: str) -> None:
    result = invoke("generate", "-", "-m", tiny_bundle, input=contents)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {words}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give a REQUEST, or - to read it from standard input"),
        (("x", "--max-new-tokens", "0"), "OPTION_INVALID: max_new_tokens must be at least 1, got 0"),
        (("x", "--max-new-tokens", "many"), "'many' is not a valid integer"),
        (("x", "--temperature", "-1"), "OPTION_INVALID: temperature must be"),
        (("x", "--temperature", "nan"), "OPTION_INVALID: temperature must be a finite number, got nan"),
        (("x", "--top-k", "-1"), "OPTION_INVALID: top_k must be"),
        (("x", "--top-p", "0"), "OPTION_INVALID: top_p must be"),
        (("x", "--min-p", "2"), "OPTION_INVALID: min_p must be"),
        (("x", "--seed", "-1"), "OPTION_INVALID: seed must be"),
        (("x", "--seed", "9" * 400), "OPTION_INVALID: seed must be"),
        (("x", "--seed", "9" * 5000), "is not a valid integer"),
        (("x", "--stop", ""), "OPTION_INVALID: stop must be"),
        (("x", "--timeout", "0"), "OPTION_INVALID: timeout_s must be"),
        (("x", "--threads", "0"), "OPTION_INVALID: threads must be"),
        (("x", "--threads", "1000000000000"), "OPTION_INVALID: threads must be"),
        (("x", "y"), "unexpected extra argument"),
        (("x", "--colour"), "No such option"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_generate_refuses_options_out_of_range(tiny_bundle: Path, arguments: Sequence[str], words: str) -> None:
    result = invoke("generate", "-m", tiny_bundle, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr


def test_generate_without_a_bundle_is_bad_input(tmp_path: Path) -> None:
    result = invoke("generate", REQUEST, "-m", tmp_path / "none")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: BUNDLE_NOT_FOUND: ")


def test_generate_verifies_when_asked(bundle_copy: Path) -> None:
    contents = bytearray((bundle_copy / "genai_config.json").read_bytes())
    contents[-2] ^= 1
    (bundle_copy / "genai_config.json").write_bytes(contents)
    assert invoke("generate", REQUEST, "-m", bundle_copy, "--max-new-tokens", "1").exit_code == 3
    result = invoke("generate", REQUEST, "-m", bundle_copy, "--max-new-tokens", "1", "--verify")
    assert result.exit_code == 2
    assert "SHA-256" in result.stderr


def test_generate_ends_in_time(tiny_bundle: Path) -> None:
    result = invoke("generate", REQUEST, "-m", tiny_bundle, "--json", "--timeout", "1e-9")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["finish_reason"] == "timeout"
    assert result.stderr == "The rubric is incomplete: the time was over after 0 tokens. Raise --timeout.\n"


# Options, exit code, and words of the line on standard error.
ENDS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "repetition": (("--max-new-tokens", "1900"), 3, "the text goes in circles. Reword the request, or sample with"),
    "context": (("--max-new-tokens", "1900", "--no-stop-on-repetition"), 3, "context of 2048 tokens is full. Shorten"),
    "stop": (("--stop", "t"), 0, ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_only_a_complete_rubric_exits_with_0(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    arguments, exit_code, words = ENDS[end]
    # The token of the letter t, again and again.
    monkeypatch.setattr("rubricrm.generation.decision.choose", lambda *_: 5 + ord("t"))
    result = invoke(
        "generate", REQUEST * (20 if end == "context" else 1), "-m", tiny_bundle, "--json", "--no-constrain", *arguments
    )
    assert result.exit_code == exit_code
    assert result.stderr.count("\n") == (exit_code != 0)
    assert words in result.stderr
    assert json.loads(result.stdout)["finish_reason"] == ("length" if end == "context" else end)


# ---- as a process ----


def test_the_module_is_the_command_and_its_output_utf8_in_any_locale(tiny_bundle: Path) -> None:
    request = "Écris “un” haïku 🌧."
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    arguments = ("generate", "-", "-m", tiny_bundle, "--json", "--max-new-tokens", "5")
    done = run(*arguments, input=request.encode(), env=environment)
    assert done.returncode == 3
    assert json.loads(done.stdout.decode("utf-8"))["request"] == request


def test_an_argument_that_is_not_utf8_is_refused(tiny_bundle: Path) -> None:
    command = [sys.executable.encode(), b"-m", b"rubricrm", b"generate", b"caf\xe9", b"-m", str(tiny_bundle).encode()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"lone surrogate U+DCE9 at character 3" in done.stderr


@pytest.mark.parametrize("command", ["generate", "parse"])
def test_a_closed_standard_input_is_bad_usage(tiny_bundle: Path, command: str) -> None:
    arguments = ("-", "-m", tiny_bundle) if command == "generate" else ("-",)
    done = run(command, *arguments, preexec_fn=lambda: os.close(0))
    assert done.returncode == 2
    assert b"Standard input is closed" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the platform has no device that is always full")
def test_a_full_disk_is_an_error(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "rubricrm", "inspect", str(tiny_bundle)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "Error: [Errno 28] No space left on device\n"


def test_a_reader_that_goes_away_ends_the_output(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "rubricrm", "generate", REQUEST, "-m", str(tiny_bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(120) == 1
    assert b"Traceback" not in stderr


def restore_interrupt() -> None:
    # A test run in the background of a shell ignores the signal, and its children would too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_keeps_what_was_written(tiny_bundle: Path, tiny_model: RubricModel) -> None:
    arguments = ["generate", REQUEST, "-m", str(tiny_bundle), "--max-new-tokens", "1900", "--no-stop-on-repetition"]
    arguments.append("--no-constrain")
    whole = tiny_model.generate(REQUEST, max_new_tokens=1900, stop_on_repetition=False, constrain=False)
    assert whole.finish_reason == "length"
    process = subprocess.Popen(
        [sys.executable, "-m", "rubricrm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        preexec_fn=restore_interrupt,
    )
    assert process.stdout is not None
    first = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert whole.text.startswith((first + rest).decode("utf-8").removesuffix("\n"))
    assert b"The rubric is incomplete: it was interrupted after " in stderr
    assert b"Traceback" not in stderr


# Ctrl-C where nothing is written that a test could wait for: with the given token.
INTERRUPT = """
import os, signal, sys
from rubricrm.generation import decision
from rubricrm.cli import main
choose = decision.choose

def choose_and_interrupt(logits, options, seed, index):
    if index == 25:
        os.kill(os.getpid(), signal.SIGINT)
    return choose(logits, options, seed, index)

decision.choose = choose_and_interrupt
main()
"""


@pytest.mark.parametrize("mode", ["--json", "--no-stream"])
def test_ctrl_c_prints_what_was_generated(tiny_bundle: Path, tiny_model: RubricModel, mode: str) -> None:
    command = [sys.executable, "-c", INTERRUPT, "generate", REQUEST, "-m", str(tiny_bundle), mode, "--no-constrain"]
    done = subprocess.run(command, capture_output=True, timeout=120, preexec_fn=restore_interrupt, check=False)
    least, whole = (tiny_model.generate(REQUEST, max_new_tokens=count, constrain=False).text for count in (25, 1024))
    assert done.returncode == 130
    assert b"Traceback" not in done.stderr
    if mode == "--json":
        printed = json.loads(done.stdout)
        assert printed["finish_reason"] == "cancelled"
        text = printed["text"]
        assert printed["rubric"] == parse(text, truncated=True).to_dict()
    else:
        text = done.stdout.decode("utf-8").removesuffix("\n")
    assert text.startswith(least)  # and what a step brought before the signal was heard
    assert whole.startswith(text)


def test_ctrl_c_while_opening_is_said_in_one_line(tiny_bundle: Path) -> None:
    script = """
import os, signal
from rubricrm.cli import main
from rubricrm.generation import local_backend
local_backend.open_prefix = lambda *_: os.kill(os.getpid(), signal.SIGINT)
main()
"""
    command = [sys.executable, "-c", script, "generate", REQUEST, "-m", str(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, timeout=120, preexec_fn=restore_interrupt, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"Interrupted.\n")


# ---- parse ----


def test_parse_prints_criteria_and_issues(tmp_path: Path) -> None:
    (tmp_path / "rubric.txt").write_text(RUBRIC, encoding="utf-8")
    result = invoke("parse", tmp_path / "rubric.txt")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == RUBRIC.splitlines()[:2]
    assert lines[2] == "3. The response [no tag]"
    assert any(line.startswith("line 3: truncated:") for line in lines)


@pytest.mark.parametrize("source", ["file", "dash", "nothing"])
def test_parse_json_is_the_rubric(tmp_path: Path, source: str) -> None:
    (tmp_path / "rubric.txt").write_text(RUBRIC, encoding="utf-8")
    argument: list[str | Path] = {"file": [tmp_path / "rubric.txt"], "dash": ["-"], "nothing": []}[source]
    result = invoke("parse", "--json", *argument, input=RUBRIC.encode())
    assert result.exit_code == 0
    assert json.loads(result.stdout) == parse(RUBRIC).to_dict()


@pytest.mark.parametrize(
    "contents",
    [b"", b"\0\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", bytes(range(256)) * 50, b"\xff\xfe1", b"\xff\xfe\0\0\1\2\3\4"],
    ids=["empty", "binary", "latin-1", "surrogate", "all-bytes", "half-utf-16", "no-utf-32"],
)
@pytest.mark.parametrize("mode", [(), ("--json",)], ids=["text", "json"])
def test_parse_reads_any_bytes(contents: bytes, mode: tuple[str, ...]) -> None:
    result = invoke("parse", *mode, input=contents)
    assert result.exit_code == 0
    if mode:
        assert json.loads(result.stdout) == parse(decode_text(contents)).to_dict()


@pytest.mark.parametrize("form", FILE_FORMS)
def test_parse_reads_a_file_in_any_form_of_text(tmp_path: Path, form: str) -> None:
    (tmp_path / "rubric.txt").write_bytes(FILE_FORMS[form](RUBRIC))
    assert json.loads(invoke("parse", "--json", tmp_path / "rubric.txt").stdout) == parse(RUBRIC).to_dict()


@pytest.mark.parametrize("form", FILE_FORMS)
def test_parse_reads_answers_in_any_form_of_text(form: str) -> None:
    document = json.dumps({"responses": [{"output_text": RUBRIC}]}, ensure_ascii=False)
    result = invoke("parse", "--answers", "--json", input=FILE_FORMS[form](document))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["answers"][0]["rubric"] == parse(RUBRIC).to_dict()


@pytest.mark.parametrize(
    ("encoding", "is_issue"), [("latin-1", True), ("utf-8", False), ("utf-8-sig", False), ("utf-16", False)]
)
def test_parse_reports_bytes_that_are_no_text(encoding: str, is_issue: bool) -> None:
    contents = "1. The response must name a café. [Hard Rule]\n2. The response is vivid. [Principle]\n".encode(encoding)
    printed = json.loads(invoke("parse", "--json", input=contents).stdout)
    assert [criterion["kind"] for criterion in printed["criteria"]] == ["hard_rule", "principle"]
    assert [(issue["code"], issue["line"]) for issue in printed["issues"]] == [("undecodable", 1)] * is_issue


@pytest.mark.parametrize("name", ["none", "."], ids=["missing", "directory"])
def test_parse_without_a_file_is_bad_usage(tmp_path: Path, name: str) -> None:
    result = invoke("parse", tmp_path / name)
    assert result.exit_code == 2
    assert "Invalid value for '[FILE]'" in result.stderr


# ---- inspect ----


def test_inspect_shows_a_bundle(tiny_bundle: Path) -> None:
    result = invoke("inspect", tiny_bundle)
    assert result.exit_code == 0
    assert "Qwen3ForCausalLM" in result.stdout
    assert "license   apache-2.0" in result.stdout
    assert "hashes    not compared (--verify)" in result.stdout
    assert "hashes    verified" in invoke("inspect", tiny_bundle, "--verify").stdout


@pytest.mark.parametrize("verify", [(), ("--verify",)], ids=["sizes", "hashes"])
def test_inspect_json_holds_the_manifest(tiny_bundle: Path, verify: tuple[str, ...]) -> None:
    result = invoke("inspect", tiny_bundle, "--json", *verify)
    assert result.exit_code == 0
    assert result.stderr == ""
    printed = json.loads(result.stdout)
    assert list(printed) == ["manifest_sha256", "num_bytes", "verified", "manifest"]
    assert printed["manifest"] == json.loads((tiny_bundle / "rubricrm.json").read_text("utf-8"))
    assert printed["verified"] == bool(verify)


def flip_a_bit(bundle: Path) -> None:
    contents = bytearray((bundle / "model.onnx.data").read_bytes())
    contents[1000] ^= 4
    (bundle / "model.onnx.data").write_bytes(contents)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing-file": (lambda bundle: (bundle / "model.onnx").unlink(), "model.onnx: is missing"),
    "extra-file": (lambda bundle: (bundle / "x").touch(), "holds x, which the manifest does not list"),
    "no-manifest": (lambda bundle: (bundle / "rubricrm.json").unlink(), "no rubricrm.json in it"),
    "bad-manifest": (lambda bundle: (bundle / "rubricrm.json").write_text("{"), "not JSON"),
    "flipped-bit": (flip_a_bit, "SHA-256 is"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_inspect_says_what_is_damaged(bundle_copy: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(bundle_copy)
    result = invoke("inspect", bundle_copy, "--verify")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: BUNDLE_")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["none", "x" * 300], ids=["missing", "too-long"])
def test_inspect_without_a_bundle_is_bad_input(tmp_path: Path, name: str) -> None:
    result = invoke("inspect", tmp_path / name)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: BUNDLE_NOT_FOUND")


# ---- doctor ----

FACTS = ["rubricrm", "python", "platform", "runtime", "kernels", "packages", "usable_cores", "memory_bytes", "cache"]


def test_doctor_shows_what_there_is() -> None:
    result = invoke("doctor")
    assert result.exit_code == 0
    rows = [line[:14].strip() for line in result.stdout.splitlines()]
    names = ["rubricrm", "python", "platform", "onnxruntime", "kernels", *["device"] * 4, *["packages"] * 3]
    names += ["usable cores", "memory", "cache"]
    assert [row for row in rows if row != "problem"] == [*names, "result"]
    assert "rubrics can be generated" in result.stdout


def test_doctor_says_of_each_device_on_a_line_whether_it_is_ready() -> None:
    lines = invoke("doctor").stdout.splitlines()
    devices = {line.split()[1]: line[28:] for line in lines if line.startswith("device ")}
    assert list(devices) == ["cpu", "cuda", "tensorrt", "tensorrt-rtx"]
    assert devices["cpu"] == "ready"
    assert all(devices.values())


def test_doctor_says_which_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Kernels(Path("/here/library.so"), "1", "avx2")
    for kernels, text in (
        (found, "rubricrm avx2, operators 1 (/here/library.so)"),
        (Kernels(problem="RUBRICRM_KERNELS is off"), "onnxruntime's own: RUBRICRM_KERNELS is off"),
    ):
        monkeypatch.setattr("rubricrm.doctor.find_kernels", lambda kernels=kernels: kernels)
        assert f"kernels       {text}" in invoke("doctor").stdout.splitlines()
        result = invoke("doctor", "--json")
        assert result.exit_code == 0
        printed = json.loads(result.stdout)["kernels"]
        assert list(printed) == ["library", "operators", "instruction_set", "problem"]
        assert printed["instruction_set"] == kernels.instruction_set
        assert printed["problem"] == kernels.problem


def test_doctor_names_two_packages_that_hide_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for distribution in ("onnxruntime-1.32.0", "onnxruntime_gpu-1.31.1"):
        (tmp_path / f"{distribution}.dist-info").mkdir()
    monkeypatch.setattr("rubricrm.runtime.installation._search_path", lambda: [tmp_path, *map(Path, sys.path)])
    result = invoke("doctor", "--json")
    assert result.exit_code == 0
    problems = json.loads(result.stdout)["problems"]
    assert any(problem.startswith("onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are") for problem in problems)


def test_doctor_json_holds_the_same() -> None:
    result = invoke("doctor", "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert list(printed) == [*FACTS, "problems", "can_generate"]
    assert printed["rubricrm"] == rubricrm.__version__
    assert printed["can_generate"] is True


@pytest.mark.parametrize("mode", [(), ("--json",)], ids=["text", "json"])
def test_doctor_fails_where_rubrics_cannot_be_generated(monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = invoke("doctor", *mode)
    assert result.exit_code == 1
    assert "[cpu]'" in result.stdout
    assert "Install it: " in result.stdout


def test_doctor_says_what_a_gpu_lacks_but_only_minds_where_one_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_wanted in (False, True):
        monkeypatch.setattr("rubricrm.doctor.is_gpu_package_installed", lambda wanted=is_wanted: wanted)
        result = invoke("doctor", "--json")
        printed = json.loads(result.stdout)
        assert result.exit_code == 0
        assert printed["runtime"]["devices"]["cpu"] == "ready"
        assert "[gpu]'" in printed["runtime"]["devices"]["cuda"]
        assert [problem.partition(":")[0] for problem in printed["problems"]] == (
            ["device cuda cannot be used"] if is_wanted else []
        )


def test_doctor_says_that_the_cache_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = invoke("doctor", env={"RUBRICRM_CACHE": str(tmp_path / "file" / "below")})
    assert result.exit_code == 0
    assert "nothing is kept between runs" in result.stdout
    assert "Set RUBRICRM_CACHE" in result.stdout


def test_doctor_says_that_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("rubricrm.runtime.cache_directory.Path.home", no_home)
    result = invoke("doctor", env={"RUBRICRM_CACHE": None, "XDG_CACHE_HOME": None})
    assert result.exit_code == 0, result.output
    assert "nothing is kept between runs: this user has no home directory" in result.stdout


# ---- the command itself ----


def test_the_version_is_printed() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"rubricrm, version {rubricrm.__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("generate",),
        ("parse",),
        ("inspect",),
        ("convert",),
        ("doctor",),
        ("eval",),
        ("export",),
        ("export", "onnx"),
        ("export", "tensorrt"),
        ("build", "tensorrt-llm"),
        ("build", "edge-llm"),
        ("certify",),
        ("bench",),
        ("phrases",),
        ("plan",),
    ],
    ids=str,
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help(command: tuple[str, ...], option: str) -> None:
    result = invoke(*command, option)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(('rubricrm', *command))} ")
    assert result.stderr == ""


def test_all_commands_are_listed() -> None:
    listed = invoke("--help").stdout.split("Commands:")[1]
    assert [line.split()[0] for line in listed.splitlines() if line] == [
        *("batch", "bench", "build", "certify", "convert", "doctor", "eval", "export", "generate", "inspect", "judge"),
        *("parse", "phrases", "plan", "prompt", "serve"),
    ]


def test_an_unknown_command_is_bad_usage() -> None:
    result = invoke("generat")
    assert result.exit_code == 2
    assert "No such command 'generat'" in result.stderr
