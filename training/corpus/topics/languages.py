"""French and Chinese: greetings, capitals, colours and numbers, and words to translate."""
from __future__ import annotations

import random

from corpus import words
from corpus.conversation import Conversation, Split, assistant, user

TOPIC = "languages"

_FRENCH = (
    (("Bonjour !", "Bonjour", "Salut !"), "Bonjour ! Comment puis-je vous aider ?"),
    (("Comment allez-vous ?", "Ça va ?", "Comment ça va ?"), "Je vais bien, merci. Et vous ?"),
    (("Qui êtes-vous ?", "Qui es-tu ?", "Comment vous appelez-vous ?"), "Je suis sheaf-nano, un petit modèle de langue."),
    (("Merci !", "Merci beaucoup."), "Je vous en prie !"),
    (("Au revoir !", "À bientôt !"), "Au revoir et à bientôt !"),
    (("Parlez-vous français ?", "Tu parles français ?"), "Oui, je parle un peu français."),
    (("Quelle est la couleur du ciel ?",), "Le ciel est bleu."),
    (("Combien de jours a une semaine ?",), "Une semaine a sept jours."),
    (("Qu'est-ce que Sheaf ?",), "Sheaf sert des modèles à mélange d'experts."),
)
_CHINESE = (
    (("你好", "你好！", "您好"), "你好！我能帮你什么？"),
    (("你好吗？", "你今天怎么样？"), "我很好，谢谢。你呢？"),
    (("你是谁？", "你叫什么名字？"), "我是 sheaf-nano，一个小语言模型。"),
    (("谢谢", "谢谢你！"), "不客气！"),
    (("再见", "再见！"), "再见！"),
    (("你会说中文吗？", "你会中文吗？"), "会，我会说一点中文。"),
    (("天空是什么颜色？",), "天空是蓝色的。"),
    (("一个星期有几天？",), "一个星期有七天。"),
    (("Sheaf 是什么？",), "Sheaf 是一个混合专家模型的服务系统。"),
)
_COUNTRIES = (  # English, French with its article, its capital in French, Chinese, its capital in Chinese
    ("France", "la France", "Paris", "法国", "巴黎"), ("Spain", "l'Espagne", "Madrid", "西班牙", "马德里"),
    ("Italy", "l'Italie", "Rome", "意大利", "罗马"), ("Germany", "l'Allemagne", "Berlin", "德国", "柏林"),
    ("England", "l'Angleterre", "Londres", "英国", "伦敦"), ("China", "la Chine", "Pékin", "中国", "北京"),
    ("Japan", "le Japon", "Tokyo", "日本", "东京"), ("Russia", "la Russie", "Moscou", "俄罗斯", "莫斯科"),
    ("Egypt", "l'Égypte", "Le Caire", "埃及", "开罗"), ("Greece", "la Grèce", "Athènes", "希腊", "雅典"),
    ("Austria", "l'Autriche", "Vienne", "奥地利", "维也纳"), ("Cuba", "Cuba", "La Havane", "古巴", "哈瓦那"),
)
_WORDS = (  # English, French, Chinese
    ("red", "rouge", "红色"), ("blue", "bleu", "蓝色"), ("green", "vert", "绿色"), ("white", "blanc", "白色"), ("black", "noir", "黑色"),
    ("one", "un", "一"), ("two", "deux", "二"), ("three", "trois", "三"), ("four", "quatre", "四"), ("five", "cinq", "五"),
    ("dog", "chien", "狗"), ("cat", "chat", "猫"), ("bread", "pain", "面包"), ("water", "eau", "水"), ("tea", "thé", "茶"),
    ("house", "maison", "房子"), ("book", "livre", "书"), ("day", "jour", "天"), ("friend", "ami", "朋友"), ("moon", "lune", "月亮"),
    ("sun", "soleil", "太阳"), ("school", "école", "学校"), ("flower", "fleur", "花"), ("fish", "poisson", "鱼"), ("sea", "mer", "海"),
    ("summer", "été", "夏天"), ("winter", "hiver", "冬天"), ("mother", "mère", "母亲"), ("city", "ville", "城市"), ("snow", "neige", "雪"),
)


def _de(country: str) -> str:
    """"de" before a French name with its article."""
    return "du " + country[3:] if country.startswith("le ") else "de " + country


def _question(rng: random.Random, split: Split) -> tuple[str, str]:
    form = rng.random()
    if form < 0.2:
        wordings, answer = rng.choice(_FRENCH)
        return rng.choice(wordings), answer
    if form < 0.4:
        wordings, answer = rng.choice(_CHINESE)
        return rng.choice(wordings), answer
    if form < 0.5:
        _, country, city, _, _ = rng.choice(_COUNTRIES)
        return (rng.choice(("Quelle est la capitale {} ?", "Dites-moi la capitale {}.")).format(_de(country)),
                f"La capitale {_de(country)} est {city}.")
    if form < 0.6:
        _, _, _, country, city = rng.choice(_COUNTRIES)
        return rng.choice(("{}的首都是哪里？", "{}的首都是什么？", "请问{}的首都在哪里？")).format(country), f"{country}的首都是{city}。"
    if form < 0.7:
        name = words.made_up_word(rng, split).capitalize()
        return ((f"Je m'appelle {name}.", f"Bonjour {name} ! Comment puis-je vous aider ?") if rng.random() < 0.5 else
                (f"我叫 {name}。", f"你好，{name}！"))
    english, french, chinese = rng.choice(_WORDS)
    language, word = rng.choice((("French", french), ("Chinese", chinese)))
    if rng.random() < 0.6:
        return (rng.choice(("What is \"{0}\" in {1}?", "Translate \"{0}\" into {1}.", "How do you say \"{0}\" in {1}?"))
                .format(english, language), f"\"{english}\" is \"{word}\" in {language}.")
    return f"What does \"{word}\" mean?", f"\"{word}\" means \"{english}\"."


def make(rng: random.Random, split: Split) -> Conversation:
    messages = []
    for _ in range(rng.choice((1, 2, 2, 3))):
        question, answer = _question(rng, split)
        messages += [user(question), assistant(answer)]
    return Conversation(TOPIC, messages, thinking=rng.random() < 0.7)
