"""What `sheaf inspect` and `sheaf serve` each say of a checkpoint, in one form that can be compared.

Both must end by themselves with status 0 or 1, or become ready: a signal, a hang or a second line is an AssertionError.
"""
from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sheaf_server import BINARY, wait_for

DEADLINE_SECONDS = 60.0
_WARNING = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} W \[\d+\] (.*)$")


@dataclass(frozen=True)
class Verdict:
    status: int  # 0: it is served
    refusal: str  # without "sheaf: "
    remarks: tuple[str, ...]


def one_line(text: str) -> str:
    """As the program writes texts out of files."""
    return "".join("\\n" if c == "\n" else "\\t" if c == "\t" else f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 else c
                   for c in text)


def _lines(text: str) -> list[str]:
    """Not splitlines(): names out of files may hold what Python takes for the end of a line."""
    return text.rstrip("\n").split("\n") if text else []


def inspect_verdict(folder: Path) -> Verdict:
    result = subprocess.run([BINARY, "inspect", str(folder), "--json"], capture_output=True, timeout=DEADLINE_SECONDS,
                            check=False)
    stderr = result.stderr.decode(errors="replace")
    assert result.returncode in (0, 1), (result.returncode, stderr)
    report = json.loads(result.stdout)
    lines = _lines(stderr)
    assert len(lines) == result.returncode, stderr
    assert report["servable"] == (result.returncode == 0)
    refusal = ""
    if lines:
        assert lines[0].startswith("sheaf: "), stderr
        refusal = lines[0].removeprefix("sheaf: ")
        assert refusal == one_line(report["refusal"])
    return Verdict(result.returncode, refusal, tuple(one_line(remark) for remark in report["remarks"]))


def serve_verdict(folder: Path, *flags: str) -> Verdict:
    """Starts it with its experts in process, and stops it once it is ready."""
    with tempfile.TemporaryDirectory(prefix="sheaf-verdict-") as scratch:
        ready, log = Path(scratch) / "ready.json", Path(scratch) / "log"
        command = [BINARY, "serve", str(folder), "--workers", "0", "--port", "0", "--grpc-port", "0", "--threads", "1",
                   "--ready-file", str(ready), *flags]
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            wait_for(lambda: ready.exists() or process.poll() is not None, DEADLINE_SECONDS, "ready, or an end")
            became_ready = ready.exists()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            status = process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()
            process.wait()
        lines = _lines(log.read_text(errors="replace"))
        assert status in (0, 1), (status, lines)
        assert (status == 0) == became_ready, lines
        assert not ready.exists(), lines
        said = [line for line in lines if line.startswith("sheaf: ")]
        assert len(said) == status, lines
        assert status == 0 or lines[-1] == said[0], lines
        warnings = tuple(match[1] for match in map(_WARNING.match, lines) if match)
        return Verdict(status, said[0].removeprefix("sheaf: ") if said else "", warnings)
