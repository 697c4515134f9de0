"""Words, made-up names and values. Each made-up one belongs to exactly one split.

belongs(text, split) is a pure function of the text: one in ten strings is held out, by a hash that is the same on every
machine. Real words are shared: each is a token, and a token that was never learnt is one that a small model cannot copy.
Everything random takes a random.Random, so equal seeds give equal corpora.
"""
from __future__ import annotations

import hashlib
import random
from typing import Callable, Sequence, TypeVar

from corpus.conversation import Split

Item = TypeVar("Item")

HELD_OUT_SHARE = 10  # one in ten


def belongs(text: str, split: Split) -> bool:
    held_out = hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_SHARE == 0
    return held_out == (split is Split.HELD_OUT)


def draw(make: Callable[[], Item], split: Split, key: Callable[[Item], str] = str) -> Item:
    """Calls make until its result belongs to the split."""
    for _ in range(10_000):
        item = make()
        if belongs(key(item), split):
            return item
    raise ValueError(f"nothing of {split} in 10000 draws, for example {item!r}")


_ONSETS = "b d f g h j k l m n p r s t v w z br dr fl gr kr pl sh st th tr".split()
_VOWELS = "a e i o u ai ea oo".split()
_CODAS = ["", "", "", "l", "n", "r", "s", "m", "x", "k", "nd", "rt"]


_FREQUENT_ONSETS = "b d f g k l m n p r s t v z st".split()
_FREQUENT_VOWELS = "a e i o u".split()
_FREQUENT_CODAS = ["", "l", "n", "r", "x"]


def made_up_word(rng: random.Random, split: Split, rare: bool = False) -> str:
    """A lower-case word that exists nowhere, of two or three syllables.

    rare: of any of 2,400 syllables; otherwise of 375 frequent ones, each a token or two that training meets often enough
    to copy without fault.
    """
    parts = (_ONSETS, _VOWELS, _CODAS) if rare else (
        _FREQUENT_ONSETS, _FREQUENT_VOWELS, _FREQUENT_CODAS)

    def word() -> str:
        return "".join("".join([rng.choice(part) for part in parts]) for _ in range(rng.choice((2, 2, 3))))

    return draw(word, split)


PEOPLE = """Ada Alan Alice Amir Anna Arthur Bea Ben Boris Carla Chen Clara Dana David Diego Dora Eli Emma Eric Eva Felix
Fiona Grace Hana Hugo Ida Igor Iris Ivan Jack Jana Jonas Julia Kai Karim Kira Lara Leo Lena Liam Lucas Luna Maria Marco
Maya Mei Mila Nadia Nico Nina Noah Nora Olga Omar Oscar Paul Petra Rita Robin Rosa Ruth Sam Sara Simon Sofia Theo Tina
Tom Uma Vera Victor Yara Yusuf Zoe""".split()

NOUNS = """lamp door fan heater camera speaker kettle oven fridge garden gate pump valve motor engine battery sensor robot
drone car bike bus train ship boat plane ticket hotel table seat menu recipe meal cake bread coffee tea book page note
letter mail message call meeting calendar event task project report invoice order parcel basket shop price budget
account card loan bill tax salary song album playlist movie photo video map route city street bridge river lake
mountain forest farm field flower tree seed bird cat dog horse fish clock alarm timer weather rain snow wind storm
temperature light colour paint wall window roof floor room house school class lesson exam grade student teacher doctor
nurse patient pill bed ticket game score team match player goal ball race prize server worker router cluster node queue
cache disk file folder backup log metric alert job build test branch commit user group role key token password session
model expert layer batch request slice epoch replica shard image sound story poem word number list graph chart cell row
column record index query filter""".split()
NOUNS = sorted(set(NOUNS))

VERBS = """get set find open close start stop create delete update add remove send read write check list move copy show
hide play pause book cancel count rename share lock unlock load save print scan sort reset paint clean fill build test
order track rate sell buy""".split()

PARAMETERS = """colour size name title speed level mode city country date time day hour minute price amount total limit
count width height depth weight length angle volume language unit priority status owner author target source text body
subject label tag tags reason comment color format style shape brand kind type category place street floor room seat
path host port region zone version branch user email phone code key value items names numbers points ids steps options
loud urgent public hidden active enabled dry force recursive verbose""".split()
PARAMETERS = sorted(set(PARAMETERS))

TEXT_WORDS = """the a my your our new old big small red blue green warm cold early late next last first good fresh quick quiet
we you they it is was will can see meet call bring find keep need want like at on in to for with from by and or of
noon night today tomorrow Monday Friday home office station garden market school team plan list news tea bread milk
apples shoes keys door window train hello thanks please sorry welcome happy ready soon now again later""".split()


def phrase(rng: random.Random, low: int = 2, high: int = 6) -> str:
    """A few words in a row, as the text of a note or a title."""
    return " ".join(rng.choice(TEXT_WORDS) for _ in range(rng.randint(low, high)))


def code(rng: random.Random, split: Split) -> str:
    """An identifier such as AX-4421, kz_07, b7f3 or 2031-04-17."""
    letters = "abcdefghijklmnopqrstuvwxyz"

    def make() -> str:
        form = rng.randrange(5)
        some = "".join(rng.choice(letters) for _ in range(rng.randint(1, 3)))
        digits = "".join(str(rng.randrange(10)) for _ in range(rng.randint(2, 4)))
        if form == 0:
            return f"{some.upper()}-{digits}"
        if form == 1:
            return f"{some}_{digits}"
        if form == 2:
            return f"{some}{digits}"
        if form == 3:
            return f"{rng.randint(1990, 2049)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        return f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"

    return draw(make, split)


def join_words(items: Sequence[str], last: str = "and") -> str:
    """"a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + f" {last} " + items[-1]
