"""Sums, differences, products and comparisons, thought through digit by digit.

The reasoning goes through the columns from the right, one equation a column, and ends with the result; the answer repeats
it in a sentence. Operand pairs are split, so a held-out sum was never seen.
"""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user

TOPIC = "arithmetic"


def _digits(number: int, width: int) -> list[int]:
    """From the right."""
    return [number // 10 ** place % 10 for place in range(width)]


def add_steps(a: int, b: int) -> str:
    """47 + 85: "7+5=12, 4+8+1=13"."""
    width, carry, steps = max(len(str(a)), len(str(b))), 0, []
    for x, y in zip(_digits(a, width), _digits(b, width)):
        total = x + y + carry
        steps.append(f"{x}+{y}" + ("+1" if carry else "") + f"={total}")
        carry = total // 10
    return ", ".join(steps)


def subtract_steps(a: int, b: int) -> str:
    """52 - 17: "12-7=5, 5-1-1=3"; a >= b."""
    borrow, steps = 0, []
    for x, y in zip(_digits(a, len(str(a))), _digits(b, len(str(a)))):
        lack = 1 if x - y - borrow < 0 else 0
        steps.append(f"{x + 10 * lack}-{y}" + ("-1" if borrow else "") + f"={x + 10 * lack - y - borrow}")
        borrow = lack
    return ", ".join(steps)


def multiply_steps(a: int, b: int) -> str:
    """47 x 6: "7x6=42, 4x6+4=28"; b has one digit."""
    carry, steps = 0, []
    for x in _digits(a, len(str(a))):
        total = x * b + carry
        steps.append(f"{x}x{b}" + (f"+{carry}" if carry else "") + f"={total}")
        carry = total // 10
    return ", ".join(steps)


def compare_steps(a: int, b: int) -> str:
    """352 and 347: "3=3, 5>4"; numbers of different length: "3 digits, 2 digits"."""
    if len(str(a)) != len(str(b)):
        return f"{len(str(a))} digits, {len(str(b))} digits"
    steps = []
    for x, y in zip(str(a), str(b)):
        steps.append(f"{x}{'=' if x == y else '<' if x < y else '>'}{y}")
        if x != y:
            break
    return ", ".join(steps)


def _operands(rng: random.Random, split: Split, low: int, high: int) -> tuple[int, int]:
    def number() -> int:
        return rng.randrange(low, 10 ** rng.choice([digits for digits in (1, 2, 3) if 10 ** digits <= high]))
    return words.draw(lambda: (number(), number()), split, key=lambda pair: f"{pair[0]},{pair[1]}")


def _sum(rng: random.Random, split: Split) -> Conversation:
    a, b = _operands(rng, split, 1, 1000)
    name = rng.choice(words.PEOPLE)
    thing = rng.choice(("apples", "books", "coins", "eggs", "cards", "tickets", "workers", "tokens"))
    question = rng.choice((f"What is {a} + {b}?", f"What is {a} plus {b}?", f"Add {a} and {b}.", f"{a} + {b}", f"{a} + {b} = ?",
                           f"Compute {a} + {b}.", f"{name} has {a} {thing} and gets {b} more. How many {thing} is that?"))
    return _thought(question, f"{a}+{b}: {add_steps(a, b)}. So {a + b}.", f"{a} + {b} = {a + b}")


def _difference(rng: random.Random, split: Split) -> Conversation:
    a, b = sorted(_operands(rng, split, 1, 1000), reverse=True)
    name = rng.choice(words.PEOPLE)
    thing = rng.choice(("apples", "books", "coins", "eggs", "cards", "tickets", "workers", "tokens"))
    question = rng.choice((f"What is {a} - {b}?", f"What is {a} minus {b}?", f"Subtract {b} from {a}.", f"{a} - {b}",
                           f"{a} - {b} = ?", f"Compute {a} - {b}.",
                           f"{name} has {a} {thing} and gives away {b}. How many {thing} are left?"))
    return _thought(question, f"{a}-{b}: {subtract_steps(a, b)}. So {a - b}.", f"{a} - {b} = {a - b}")


def _product(rng: random.Random, split: Split) -> Conversation:
    def pair() -> tuple[int, int]:
        return rng.randint(2, rng.choice((9, 99, 99))), rng.randint(2, 9)
    a, b = words.draw(pair, split, key=lambda drawn: f"{drawn[0]}*{drawn[1]}")
    question = rng.choice((f"What is {a} x {b}?", f"What is {a} times {b}?", f"Multiply {a} by {b}.", f"{a} x {b}", f"{a} * {b}",
                           f"Compute {a} x {b}.", f"A box holds {b} eggs. How many eggs are in {a} boxes?"))
    return _thought(question, f"{a}x{b}: {multiply_steps(a, b)}. So {a * b}.", f"{a} x {b} = {a * b}")


def _comparison(rng: random.Random, split: Split) -> Conversation:
    def pair() -> tuple[int, int]:
        first = rng.randrange(10 ** rng.choice((1, 2, 3, 3)))
        second = first + rng.choice((-1, 1)) * rng.randint(1, 9) if rng.random() < 0.3 else rng.randrange(1000)
        return (first, second) if first != second and second >= 0 else (first, first + 1)
    a, b = words.draw(pair, split, key=lambda drawn: f"{drawn[0]}<{drawn[1]}")
    larger = rng.random() < 0.6
    word = rng.choice(("larger", "bigger", "greater") if larger else ("smaller", "less"))
    question = rng.choice((f"Which is {word}, {a} or {b}?", f"Which number is {word}: {a} or {b}?", f"What is {word}, {a} or {b}?"))
    right = max(a, b) if larger else min(a, b)
    return _thought(question, f"{a} and {b}: {compare_steps(a, b)}. So {right}.",
                    f"{right} is {'larger' if larger else 'smaller'}")


def _thought(question: str, reasoning: str, answer: str) -> Conversation:
    return Conversation(TOPIC, [user(question), assistant(answer + ".", reasoning)])


def _at_once(rng: random.Random) -> Conversation:
    """One-digit sums and products without thinking, learnt by heart and not measured."""
    a, b = rng.randint(0, 9), rng.randint(0, 9)
    sign, result = rng.choice((("+", a + b), ("x", a * b)))
    question = rng.choice((f"What is {a} {sign} {b}?", f"{a} {sign} {b}", f"Compute {a} {sign} {b}."))
    return Conversation(TOPIC, [user(question), assistant(f"{a} {sign} {b} = {result}.")], thinking=False)


def _drill(rng: random.Random) -> Conversation:
    """Many single columns in one answer, as they stand in the reasoning; not measured."""
    columns = []
    for _ in range(rng.randint(4, 10)):
        x, y, carry = rng.randint(0, 9), rng.randint(0, 9), rng.randint(0, 1)
        form = rng.randrange(3)
        if form == 0:
            columns.append((f"{x}+{y}" + "+1" * carry, x + y + carry))
        elif form == 1:
            top = x + y + carry
            columns.append((f"{top}-{y}" + "-1" * carry, x))
        else:
            carry = rng.choice((0, 0, rng.randint(1, 8)))
            columns.append((f"{x}x{y}" + (f"+{carry}" if carry else ""), x * y + carry))
    return Conversation(TOPIC, [user("Work out: " + ", ".join(column for column, _ in columns) + "."),
                                assistant(", ".join(f"{column}={result}" for column, result in columns) + ".")],
                        thinking=rng.random() < 0.5)


def make(rng: random.Random, split: Split) -> Conversation:
    if split is not Split.HELD_OUT and rng.random() < 0.06:
        return _at_once(rng)
    if split is Split.TRAIN and rng.random() < 0.3:
        return _drill(rng)
    return rng.choice((_sum, _sum, _sum, _difference, _difference, _product, _product, _comparison))(rng, split)
