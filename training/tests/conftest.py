"""Puts training/ on the path and makes one tokenizer for all tests, of a small corpus."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import tokenizer as nano_tokenizer  # noqa: E402
from rendering import Renderer  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return nano_tokenizer.build(seed=1, conversations=2000)


@pytest.fixture(scope="session")
def renderer(tokenizer):
    return Renderer(tokenizer)


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    nano_tokenizer.save(tokenizer, folder, 4096)
    return folder
