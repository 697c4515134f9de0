"""Fixtures shared by the oracle's own tests."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


@pytest.fixture
def seed() -> int:
    """A fresh seed each run; SHEAF_TEST_SEED repeats one. pytest shows the line on failure."""
    value = int(os.environ.get("SHEAF_TEST_SEED") or secrets.randbelow(2**32))
    print(f"SHEAF_TEST_SEED={value}")
    return value


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of published reference vectors, which is not part of the repository."""
    default = HERE.parents[1].parent / "shared" / "reference" / "data"
    folder = Path(os.environ.get("SHEAF_REFERENCE_DATA") or default)
    if not folder.is_dir():
        pytest.skip(f"no reference data in {folder}; set SHEAF_REFERENCE_DATA")
    return folder
