"""Questions with one right answer, from small tables: capitals, units, colours, months, opposites and the like.

A fact is seen in training under nine of ten wordings; the held-out wordings of the same facts are what accuracy is
measured on. Answers are one short sentence that depends on the fact alone, never on the wording.
"""
from __future__ import annotations

import random
from dataclasses import dataclass

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user

TOPIC = "facts"

CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Germany": "Berlin", "Portugal": "Lisbon", "Austria": "Vienna",
    "Poland": "Warsaw", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Ireland": "Dublin", "Belgium": "Brussels", "Hungary": "Budapest", "Croatia": "Zagreb",
    "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "Russia": "Moscow", "Egypt": "Cairo", "Kenya": "Nairobi",
    "Canada": "Ottawa", "Mexico": "Mexico City", "Peru": "Lima", "Chile": "Santiago", "Cuba": "Havana",
    "Argentina": "Buenos Aires", "Turkey": "Ankara", "Iran": "Tehran", "Iraq": "Baghdad", "Vietnam": "Hanoi",
    "Thailand": "Bangkok", "Ukraine": "Kyiv", "Romania": "Bucharest", "Bulgaria": "Sofia", "Switzerland": "Bern",
    "Australia": "Canberra", "Colombia": "Bogota", "Indonesia": "Jakarta", "Morocco": "Rabat", "Senegal": "Dakar",
    "Iceland": "Reykjavik", "Estonia": "Tallinn", "Latvia": "Riga", "Serbia": "Belgrade", "Nepal": "Kathmandu",
    "Mongolia": "Ulaanbaatar",
}
LANGUAGES = {"France": "French", "Spain": "Spanish", "Italy": "Italian", "Germany": "German", "Portugal": "Portuguese",
             "Japan": "Japanese", "China": "Chinese", "Russia": "Russian", "Poland": "Polish", "Greece": "Greek",
             "Sweden": "Swedish", "Norway": "Norwegian", "Turkey": "Turkish", "Vietnam": "Vietnamese"}
CONTINENTS = {"France": "Europe", "Spain": "Europe", "Italy": "Europe", "Germany": "Europe", "Poland": "Europe",
              "Japan": "Asia", "China": "Asia", "India": "Asia", "Vietnam": "Asia", "Nepal": "Asia", "Egypt": "Africa",
              "Kenya": "Africa", "Morocco": "Africa", "Senegal": "Africa", "Peru": "South America",
              "Chile": "South America", "Argentina": "South America", "Canada": "North America",
              "Mexico": "North America"}
COLOURS = {"grass": "green", "snow": "white", "the sky": "blue", "blood": "red", "coal": "black", "a lemon": "yellow",
           "a tomato": "red", "milk": "white", "a banana": "yellow", "chocolate": "brown", "a carrot": "orange",
           "a frog": "green", "the sea": "blue", "a strawberry": "red", "salt": "white", "a crow": "black",
           "a pumpkin": "orange", "a plum": "purple", "a leaf": "green", "a polar bear": "white"}
UNITS = {("seconds", "a minute"): 60, ("minutes", "an hour"): 60, ("hours", "a day"): 24, ("days", "a week"): 7,
         ("months", "a year"): 12, ("days", "a year"): 365, ("metres", "a kilometre"): 1000,
         ("centimetres", "a metre"): 100, ("millimetres", "a centimetre"): 10, ("grams", "a kilogram"): 1000,
         ("millilitres", "a litre"): 1000, ("bits", "a byte"): 8, ("bytes", "a kibibyte"): 1024,
         ("years", "a century"): 100, ("years", "a decade"): 10, ("weeks", "a year"): 52, ("items", "a dozen"): 12,
         ("cents", "a euro"): 100, ("seconds", "an hour"): 3600, ("milliseconds", "a second"): 1000}
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
OPPOSITES = {"hot": "cold", "big": "small", "fast": "slow", "day": "night", "up": "down", "left": "right", "old": "young",
             "rich": "poor", "hard": "soft", "wet": "dry", "full": "empty", "open": "closed", "light": "dark",
             "high": "low", "long": "short", "early": "late", "true": "false", "good": "bad", "strong": "weak",
             "loud": "quiet", "sweet": "sour", "clean": "dirty", "near": "far", "first": "last", "happy": "sad"}
LEGS = {"a dog": 4, "a cat": 4, "a horse": 4, "a spider": 8, "an ant": 6, "a bird": 2, "a bee": 6, "a cow": 4,
        "a snake": 0, "a fish": 0, "a crab": 10, "a human": 2}
SOUNDS = {"a dog": "barks", "a cat": "meows", "a cow": "moos", "a lion": "roars", "a duck": "quacks", "a horse": "neighs",
          "a sheep": "bleats", "a frog": "croaks", "a bee": "buzzes", "a wolf": "howls"}
YOUNG = {"a dog": "a puppy", "a cat": "a kitten", "a cow": "a calf", "a horse": "a foal", "a sheep": "a lamb",
         "a duck": "a duckling", "a bear": "a cub", "a frog": "a tadpole", "a goat": "a kid", "a hen": "a chick"}
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
SYMBOLS = {"hydrogen": "H", "oxygen": "O", "carbon": "C", "iron": "Fe", "gold": "Au", "silver": "Ag", "copper": "Cu",
           "sodium": "Na", "helium": "He", "nitrogen": "N", "lead": "Pb", "tin": "Sn", "calcium": "Ca", "zinc": "Zn"}
MADE_OF = {"bread": "flour", "glass": "sand", "paper": "wood", "cheese": "milk", "wine": "grapes", "a tyre": "rubber",
           "butter": "milk", "chips": "potatoes", "steel": "iron", "honey": "nectar"}


@dataclass(frozen=True)
class Fact:
    """wordings: every question that asks for it. answer: the whole reply. short: the part that counts, for lists."""

    name: str
    wordings: tuple[str, ...]
    answer: str
    short: str


def _variants(*questions: str) -> tuple[str, ...]:
    """Each question plain, with a polite start and with a short start."""
    forms = []
    for question in questions:
        lower = question[0].lower() + question[1:]
        forms += [question, f"Tell me: {lower}", f"Please tell me, {lower}", f"I have a question: {lower}", f"Quick: {lower}",
                  f"Do you know {lower.rstrip('?')}?" if lower.startswith(("what", "how", "which")) else question + " Please."]
    return tuple(forms)


def _build() -> list[Fact]:
    facts: list[Fact] = []

    def add(name: str, answer: str, short: str, *questions: str) -> None:
        facts.append(Fact(name, _variants(*questions), answer, short))

    for country, city in CAPITALS.items():
        add(f"capital {country}", f"The capital of {country} is {city}.", city, f"What is the capital of {country}?",
            f"Which city is the capital of {country}?", f"Name the capital of {country}.", f"What is {country}'s capital?")
        add(f"country {city}", f"{city} is the capital of {country}.", country,
            f"{city} is the capital of which country?", f"Which country has the capital {city}?")
    for country, language in LANGUAGES.items():
        add(f"language {country}", f"In {country} people speak {language}.", language,
            f"Which language do people speak in {country}?", f"What language is spoken in {country}?")
    for country, continent in CONTINENTS.items():
        add(f"continent {country}", f"{country} is in {continent}.", continent, f"On which continent is {country}?",
            f"Which continent is {country} in?")
    for thing, colour in COLOURS.items():
        add(f"colour {thing}", f"{thing[0].upper() + thing[1:]} is {colour}.", colour, f"What colour is {thing}?",
            f"Which colour does {thing} have?", f"Name the colour of {thing}.")
    for (small, large), count in UNITS.items():
        add(f"unit {small} {large}", f"There are {count} {small} in {large}.", str(count),
            f"How many {small} are in {large}?", f"How many {small} does {large} have?",
            f"{large[0].upper() + large[1:]} has how many {small}?")
    for kind, names in (("month", MONTHS), ("day", DAYS)):
        for index, name in enumerate(names):
            after, before = names[(index + 1) % len(names)], names[index - 1]
            add(f"after {name}", f"{after} comes after {name}.", after, f"Which {kind} comes after {name}?",
                f"What {kind} follows {name}?")
            add(f"before {name}", f"{before} comes before {name}.", before, f"Which {kind} comes before {name}?",
                f"What {kind} is just before {name}?")
    for index, name in enumerate(MONTHS):
        add(f"month number {index}", f"The {ORDINALS[index]} month is {name}.", name,
            f"What is the {ORDINALS[index]} month of the year?", f"Which month is the {ORDINALS[index]}?")
    for index, name in enumerate(PLANETS):
        add(f"planet {index}", f"The {ORDINALS[index]} planet is {name}.", name,
            f"Which planet is the {ORDINALS[index]} from the sun?", f"What is the {ORDINALS[index]} planet?")
    for one, other in OPPOSITES.items():
        for word, opposite in ((one, other), (other, one)):
            add(f"opposite {word}", f"The opposite of {word} is {opposite}.", opposite,
                f"What is the opposite of {word}?", f"Give me the opposite of {word}.", f"Which word is the opposite of {word}?")
    for animal, count in LEGS.items():
        add(f"legs {animal}", f"{animal[0].upper() + animal[1:]} has {count} legs.", str(count),
            f"How many legs does {animal} have?", f"{animal[0].upper() + animal[1:]} has how many legs?")
    for animal, sound in SOUNDS.items():
        add(f"sound {animal}", f"{animal[0].upper() + animal[1:]} {sound}.", sound, f"What sound does {animal} make?",
            f"Which sound does {animal} make?")
    for animal, child in YOUNG.items():
        add(f"young {animal}", f"A young {animal.split(' ')[1]} is called {child}.", child,
            f"What is a young {animal.split(' ')[1]} called?", f"What do you call a young {animal.split(' ')[1]}?")
    for element, symbol in SYMBOLS.items():
        add(f"symbol {element}", f"The symbol of {element} is {symbol}.", symbol,
            f"What is the chemical symbol of {element}?", f"Which symbol does {element} have?")
    for thing, source in MADE_OF.items():
        add(f"made of {thing}", f"{thing[0].upper() + thing[1:]} is made from {source}.", source,
            f"What is {thing} made from?", f"From what is {thing} made?")
    return facts


FACTS = _build()


def pick(rng: random.Random, split: Split) -> tuple[str, Fact]:
    """(a wording of the split, the fact)."""
    return words.draw(lambda: (lambda fact: (rng.choice(fact.wordings), fact))(rng.choice(FACTS)), split,
                      key=lambda drawn: drawn[0])


def one_question(rng: random.Random, split: Split) -> Conversation:
    question, fact = pick(rng, split)
    return Conversation(TOPIC, [user(question), assistant(fact.answer)], thinking=rng.random() < 0.7)


def make(rng: random.Random, split: Split) -> Conversation:
    """One question or a few in a row."""
    messages = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        question, fact = pick(rng, split)
        messages += [user(question), assistant(fact.answer)]
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)
