"""Short stories: a hero, a place, a wish, something that goes wrong, a helper, an end. Every part varies."""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user

TOPIC = "stories"

_HEROES = "fox cat dog bear mouse rabbit bird frog robot girl boy farmer sailor king queen turtle duck horse".split()
_PLACES = ("a green forest", "a small village", "an old castle", "a quiet lake", "a big city", "a high mountain",
           "a warm island", "a little house", "a wide field")
_WISHES = (("a red ball", "it"), ("a warm coat", "it"), ("a good friend", "one"), ("a golden key", "it"), ("a sweet cake", "it"),
           ("a small boat", "it"), ("a bright star", "it"), ("an old book", "it"), ("a quiet bed", "it"))
_TROUBLES = ("it began to rain", "the road was lost in the snow", "night fell", "a strong wind came", "the bridge was broken",
             "a deep river was in the way", "the door was locked", "everyone was asleep")
_HELPS = ("showed the way", "brought a light", "had a good idea", "shared some bread", "carried {hero} home", "sang a brave song",
          "opened the door", "built a bridge")
_ENDS = ("They laughed and went home together.", "From that day on they were friends.",
         "That night everyone slept well.", "And they told the story for many years.", "In the end all was well.")


def tell(rng: random.Random, hero: str, name: str, split: Split) -> str:
    """The story of name, a hero; one paragraph."""
    place, (wish, _) = rng.choice(_PLACES), rng.choice(_WISHES)
    helper_kind = rng.choice([kind for kind in _HEROES if kind != hero])
    helper = words.made_up_word(rng, split).capitalize() if rng.random() < 0.5 else rng.choice(words.PEOPLE)
    article = "an" if helper_kind[0] in "aeiou" else "a"
    return (f"Once there was a {hero} named {name} who lived in {place}. {name} wanted {wish}. "
            f"One day {name} went out to find it, but {rng.choice(_TROUBLES)}. "
            f"Then {name} met {article} {helper_kind} named {helper}. {helper} {rng.choice(_HELPS).format(hero=name)}, "
            f"and soon {name} had {wish}. {rng.choice(_ENDS)}")


def make(rng: random.Random, split: Split) -> Conversation:
    hero = rng.choice(_HEROES)
    name = rng.choice(words.PEOPLE) if rng.random() < 0.4 else words.made_up_word(rng, split).capitalize()
    request = rng.choice((f"Tell me a short story about a {hero} named {name}.", f"Write a story about a {hero} called {name}.",
                          f"Tell me a story. The hero is a {hero} named {name}.",
                          f"Please tell a short story about {name}, a {hero}.", f"I want a story about a {hero} named {name}.",
                          f"Tell me a short story about a {hero}.", "Tell me a story.", "Tell me a short story."))
    messages = [user(request), assistant(tell(rng, hero, name, split))]
    if rng.random() < 0.3:
        question, answer = rng.choice((("What was the hero's name?", f"The hero's name was {name}."),
                                       ("Who was the story about?", f"It was about a {hero} named {name}."),
                                       (f"What was {name}?", f"{name} was a {hero}.")))
        messages += [user(question), assistant(answer)]
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)
