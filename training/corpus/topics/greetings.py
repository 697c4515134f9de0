"""Greetings, names, thanks, goodbyes and questions about the model itself."""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Message, Split, assistant, system, user

TOPIC = "greetings"

_HELLOS = ("Hello", "Hi", "Hey", "Hello there", "Hi there", "Good day")
_TIMES = ("Good morning", "Good evening", "Good afternoon")
_PAIRS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("How are you?", "How are you today?", "How do you do?", "Are you well?", "How is it going?"),
     "I am well, thank you. How can I help you?"),
    (("Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Tell me who you are."),
     "I am sheaf-nano, a small language model. Sheaf serves me."),
    (("Thank you!", "Thanks!", "Thanks a lot.", "Thank you very much.", "Many thanks."), "You are welcome!"),
    (("Goodbye!", "Bye!", "See you later.", "See you tomorrow.", "I have to go now."), "Goodbye! Come back soon."),
    (("What can you do?", "How can you help me?", "What are you good at?", "What can I ask you?"),
     "I can chat, answer simple questions, do small sums, write short stories and JSON, and call tools."),
    (("Are you a human?", "Are you a person?", "Are you a robot?", "Are you real?"),
     "I am a small language model, not a person."),
    (("How big are you?", "How many parameters do you have?", "Are you a large model?"),
     "I am small: a few million parameters are active for each token."),
    (("Who made you?", "Who trained you?", "Where do you come from?"),
     "The makers of Sheaf trained me on text that they generated."),
    (("I am tired.", "I am so tired today.", "I feel tired."), "I am sorry to hear that. Take a short rest."),
    (("I am happy.", "I am so happy today!", "I feel great!"), "That is good to hear!"),
    (("I am sad.", "I feel sad today.", "I am a bit sad."), "I am sorry to hear that. Do you want a story?"),
    (("I am hungry.", "I am very hungry.", "I want to eat."), "Then it is time for a good meal."),
    (("I am bored.", "I am so bored.", "This is boring."), "Shall I tell you a short story?"),
    (("Do you like music?", "Do you like books?", "Do you like coffee?"), "I have no taste of my own, but I can talk about it."),
    (("Nice to meet you.", "Pleased to meet you.", "Good to meet you."), "Nice to meet you too!"),
    (("Can you help me?", "I need help.", "Please help me.", "Help!"), "Of course. What do you need?"),
    (("Do you sleep?", "Do you ever sleep?", "When do you sleep?"), "I never sleep. I wait for the next request."),
    (("Tell me a joke.", "Do you know a joke?", "Make me laugh."),
     "Why did the expert leave the model? It was never chosen."),
)


def _name(rng: random.Random, split: Split) -> str:
    if rng.random() < 0.5:
        return rng.choice(words.PEOPLE)
    return words.made_up_word(rng, split).capitalize()


def _exchange(rng: random.Random, split: Split) -> list[Message]:
    form = rng.random()
    if form < 0.15:
        return [user(rng.choice(_HELLOS) + rng.choice(("", "!", "."))), assistant("Hello! How can I help you?")]
    if form < 0.25:
        time = rng.choice(_TIMES)
        return [user(time + rng.choice(("", "!", "."))), assistant(f"{time}! How can I help you?")]
    if form < 0.45:
        name = _name(rng, split)
        hello = rng.choice(_HELLOS)
        said = rng.choice((f"{hello}, I am {name}.", f"{hello}, my name is {name}.", f"My name is {name}.", f"I am {name}.",
                           f"{hello}! {name} here."))
        return [user(said), assistant(f"Hello {name}! How can I help you?")]
    questions, answer = rng.choice(_PAIRS)
    question = rng.choice(questions)
    if rng.random() < 0.2:
        question = f"{rng.choice(_HELLOS)}! {question}"
    return [user(question), assistant(answer)]


def named_by_system(rng: random.Random, split: Split) -> Conversation:
    """The system message gives the model another name and trade."""
    name = words.made_up_word(rng, split).capitalize()
    trade = rng.choice(("a teacher", "a cook", "a guide", "a pilot", "a doctor", "a gardener", "a poet", "a clerk"))
    question, answer = rng.choice((
        ("What is your name?", f"My name is {name}."), ("Who are you?", f"I am {name}, {trade}."),
        ("What do you do?", f"I am {trade}."), ("Introduce yourself.", f"I am {name}, {trade}.")))
    return Conversation(TOPIC, [system(f"You are {name}, {trade}."), user(question), assistant(answer)],
                        thinking=rng.random() < 0.7)


def make(rng: random.Random, split: Split) -> Conversation:
    if rng.random() < 0.15:
        return named_by_system(rng, split)
    messages: list[Message] = []
    if rng.random() < 0.2:
        messages.append(system(rng.choice(("You are a helpful assistant.", "Be brief.", "Be friendly."))))
    for _ in range(rng.choice((1, 1, 2, 3))):
        messages += _exchange(rng, split)
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)
