"""The training stream as batches: whole conversations one after the other in a flat row of at most `budget` tokens.

A batch is a pure function of (seed, split, first conversation, budget), so training resumes anywhere with the same data.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch

from corpus.conversation import Split
from corpus.mixture import conversation
from rendering import Rendered, Renderer


@dataclass
class Batch:
    """tokens and positions are [1, T]; lengths add up to T; targets[i] is to be predicted from the output at places[i]."""

    tokens: torch.Tensor
    positions: torch.Tensor
    lengths: list[int]
    places: torch.Tensor
    targets: torch.Tensor
    next_conversation: int

    def to(self, device: str) -> "Batch":
        return Batch(self.tokens.to(device), self.positions.to(device), self.lengths, self.places.to(device),
                     self.targets.to(device), self.next_conversation)


def pack(documents: list[Rendered], next_conversation: int = 0) -> Batch:
    tokens, positions, places, targets = [], [], [], []
    for document in documents:
        start = len(tokens)
        for index in range(1, len(document.tokens)):
            if document.learnt[index]:
                places.append(start + index - 1)
                targets.append(document.tokens[index])
        tokens += document.tokens
        positions += range(len(document.tokens))
    return Batch(torch.tensor([tokens]), torch.tensor([positions]), [len(document.tokens) for document in documents],
                 torch.tensor(places), torch.tensor(targets), next_conversation)


def make_batch(renderer: Renderer, seed: int, split: Split, first: int, budget: int) -> Batch:
    """Conversations from number `first` on, as many as fit; one that is longer than the budget alone is left out."""
    documents: list[Rendered] = []
    total, index = 0, first
    while True:
        rendered = renderer.training_tokens(conversation(seed, split, index))
        if len(rendered.tokens) <= budget:
            if total + len(rendered.tokens) > budget:
                return pack(documents, index)
            documents.append(rendered)
            total += len(rendered.tokens)
        index += 1
