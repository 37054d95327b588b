#!/usr/bin/env python3
"""Seeded generator of the training text: short chats and stories in plain English, one JSON document on each line.

A document is {"messages": [{"role", "content"}, ...]} or {"text": "..."}. The same seed gives the same text. Number pairs, hero
and place of a story, and words to spell are divided by a checksum: one tenth occurs only in the held-out split.
"""
from __future__ import annotations

import argparse
import json
import sys
import zlib
from typing import Callable, Iterator

from exercises import Exercises, Turns
from facts import BOYS, CAPITALS, GIRLS, NAMES, WORDS
from stories import ADJ, ENDINGS, HE, HEROES, OPENINGS, PLACES, PLOTS, SHE, SPOTS, STORY_LEADS, STORY_WITHOUT_HERO, THINGS
from talk import CANNOT, DISHES, GARBAGE, LIBRARY, SMALL_TALK, TOPICS, UNKNOWN
from wording import article, up

SYSTEM = ["You are a helpful assistant.", "You are a friendly assistant.", "Answer briefly.", "You are a small language model.", "Be helpful and polite.", "You are a helpful AI."]
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouy"


def is_held(*key: object) -> bool:
    """True for the tenth that only the held-out split uses."""
    return zlib.crc32(" ".join(map(str, key)).encode()) % 10 == 0


class Generator(Exercises):
    """All topics; `held` chooses the split."""

    def __init__(self, seed: int, held: bool) -> None:
        super().__init__(seed)
        self.held = held
        self.topics: dict[str, float] = {
            "add_sub": 17, "times": 4, "word_sum": 6, "numbers": 7, "fact": 18, "calendar": 5, "yes_no": 7, "library": 9, "small_talk": 11,
            "unknown": 8, "garbage": 3, "spelling": 10, "story_chat": 11, "names": 3, "follow_up": 6, "repeat": 2}

    def draw(self, make: Callable[[], tuple]) -> tuple:
        """Draw until the key belongs to the wanted split."""
        while True:
            key = make()
            if is_held(*key) == self.held:
                return key

    # ---- conversation
    def library(self) -> Turns:
        ways, answer = self.random.choice(LIBRARY)
        return [(self.ask(*ways), answer)]

    def small_talk(self) -> Turns:
        ways, answers = self.random.choice(SMALL_TALK)
        return [(self.ask(*ways, mark=self.pick("", "!", ".", "?"), lead=self.chance(0.3)), self.random.choice(answers))]

    def unknown(self) -> Turns:
        question = self.any_of(*UNKNOWN)
        while "{" in question:
            question = question.format(
                place=self.random.choice(list(CAPITALS.values())), country=self.random.choice(list(CAPITALS)), name=self.random.choice(NAMES),
                thing=self.random.choice(WORDS) if self.chance(0.8) else self.made_up(), topic=self.random.choice(TOPICS), food=self.random.choice(DISHES),
                lang=self.pick("C", "Python", "Java", "Rust", "Perl"), num=self.random.randrange(100, 1000), year=self.random.randrange(1500, 2030))
        if self.chance(0.15):
            word, other = self.made_up(), self.made_up()
            question = self.pick(f"who is {word.title()}", f"what is a {word}", f"what is the capital of {word.title()}", f"what is {word}", f"where is {word.title()}",
                                 f"what is the opposite of {word}", f"what does {word} mean", f"what is the {other} of {word}", f"can you {word} the {other}", f"how many {word}s are in a {other}")
        return [(self.ask(question), CANNOT)]

    def keys(self) -> str:
        """What falls out when somebody hits the keyboard."""
        kind, length = self.random.randrange(4), self.random.randrange(2, 8)
        if kind == 0:
            start = self.random.randrange(0, 6)
            return self.pick("qwertyuiop", "asdfghjkl", "zxcvbnm", "poiuytrewq", "lkjhgfdsa")[start:start + length]
        if kind == 1:
            return "".join(self.random.choices(CONSONANTS, k=length))
        if kind == 2:
            return self.random.choice("abcdefghijklmnopqrstuvwxyz") * length
        return "".join(self.random.choices(CONSONANTS + VOWELS, k=length))

    def garbage(self) -> Turns:
        kind = self.random.randrange(6)
        if kind <= 1:
            text = " ".join(self.keys() for _ in range(self.random.randrange(1, 4)))
        elif kind == 2:
            text = "".join(self.random.choices("!?.,;:-+*/#%&()[]{}<>@$=~_'\"^|\\", k=self.random.randrange(1, 9)))
        elif kind == 3:
            text = " ".join(self.random.choice(WORDS) for _ in range(self.random.randrange(3, 7)))
        elif kind == 4:
            text = "".join(self.random.choices("0123456789", k=self.random.randrange(5, 12))) if self.chance(0.5) else self.made_up() + " " + self.keys()
        else:
            text = " ".join(self.made_up() for _ in range(self.random.randrange(1, 5))) + self.pick("", "?", "!", ".")
        return [(text, GARBAGE)]

    def repeat(self) -> Turns:
        words = " ".join(self.random.choice(WORDS) if self.chance(0.8) else self.made_up() for _ in range(self.random.randrange(1, 5)))
        quoted = self.pick(words, words, f'"{words}"', f"'{words}'")
        return [(self.any_of("[say|repeat|repeat after me:|please say|please repeat|can you say|write|say the words|repeat the words|say this:|echo|print|write down|say after me:] ") + quoted, up(words) + ".")]

    def names(self) -> Turns:
        name = self.random.choice(NAMES)
        first = (self.ask(f"[my name is|I am|I'm|I am called|hello, I am|you can call me|call me|hi, my name is|hello, my name is|people call me|this is|my friends call me|they call me|hey, I'm] {name}",
                          mark=self.pick(".", "!", "")), f"Nice to meet you, {name}!")
        second = (self.ask("[what is my name|who am I|do you know my name|do you remember my name|what's my name|tell me my name|say my name|can you tell me my name|what was my name|do you remember who I am|how am I called|my name?]"), f"Your name is {name}.")
        r = self.random.random()
        if r < 0.15:
            return [(second[0], "You did not tell me your name.")]
        if r < 0.35:
            return [first]
        return [first, *(self.short() if self.chance(0.4) else []), second]

    def short(self) -> Turns:
        return self.random.choice([self.fact, self.add_sub, self.times, self.small_talk, self.calendar, self.yes_no, self.library, self.numbers])()

    def follow_up(self) -> Turns:
        return self.follow_up_exercise() if self.chance(0.6) else [turn for _ in range(self.random.randrange(2, 5)) for turn in self.short()]

    # ---- stories
    def story(self, hero: str, adjective: str, name: str, place: str, thing: str, plot: str) -> str:
        pro, obj, poss = ("she", "her", "her") if hero in SHE else ("he", "him", "his") if hero in HE else ("it", "it", "its")
        helper, spot = self.random.choice([h for h in HEROES if h != hero]), self.random.choice(SPOTS)
        slots = {"a_hero": article(f"{adjective} {hero}".strip()), "name": name, "Name": name, "place": place, "place_up": up(place), "thing": thing,
                 "helper": helper, "adj2": self.random.choice([a for a in ADJ if a[0] not in "aeiou"]), "spot": spot, "spot_up": up(spot),
                 "pro": pro, "Pro": up(pro), "obj": obj, "poss": poss, "Poss": up(poss)}
        return self.expand(" ".join([self.random.choice(OPENINGS), plot, self.random.choice(ENDINGS)])).format(**slots)

    def hero_and_place(self) -> tuple[str, str]:
        return self.draw(lambda: (self.random.choice(HEROES), self.random.choice(PLACES)))

    def name_for(self, hero: str) -> str:
        return self.random.choice(GIRLS if hero in SHE else BOYS if hero in HE else NAMES)

    def story_turn(self, again: bool = False) -> tuple[str, str]:
        hero, place = self.hero_and_place()
        adjective = self.random.choice(ADJ) if self.chance(0.7) else ""
        name, thing, plot = self.name_for(hero), self.random.choice(THINGS), self.random.choice(PLOTS)
        about, r = article(hero), self.random.random()
        if r < 0.25 and adjective:
            about = article(f"{adjective} {hero}")
            if r < 0.08:
                about += f" [named|called] {name}"
        elif r < 0.40:
            about += f" [named|called|with the name|whose name is] {name}"
        elif r < 0.52:
            about += f" [who lives|that lives|living|] {place}"
        elif r < 0.58:
            about, plot = self.pick(f"a lost {thing}", f"a {hero} and a lost {thing}", f"{article(hero)} who lost a {thing}"), next(p for p in PLOTS if " lost {poss} {thing}" in p)
        elif r < 0.63:
            about = self.pick(f"{hero}s", f"the {hero}", hero) if hero not in ("mouse", "wolf", "sheep") else f"the {hero}"
        if again:
            question = "[another one, about|now one about|and one about|now a story about|tell me another one about|and a story about|again, but about|the same with|now about] " + about
        elif r > 0.92:
            question = self.random.choice(STORY_WITHOUT_HERO)
        else:
            question = self.any_of(*STORY_LEADS) + about
        return self.ask(question, mark=self.pick(".", "", "?")), self.story(hero, adjective, name, place, thing, plot)

    def story_chat(self) -> Turns:
        question, story = self.story_turn()
        turns = [(question, story)]
        r = self.random.random()
        if r < 0.12:
            turns.append(self.story_turn(again=True))
        elif r < 0.26:
            words = story.replace(".", " ").replace(",", " ").replace(":", " ").split()
            name, hero = next(w for w in words if w in NAMES), next(w for w in words if w in HEROES)
            turns.append((self.ask(f"[what was the name of the {hero}|what was the {hero} called|who is the story about|what is the name of the {hero}|who was it about|how was the {hero} called|who is the hero|what was its name]"),
                          f"The {hero} was called {name}."))
        return turns

    # ---- documents
    def document(self) -> dict:
        """A chat or, rarely, a story without one."""
        if self.chance(0.02):
            hero, place = self.hero_and_place()
            return {"text": self.story(hero, self.random.choice(ADJ), self.name_for(hero), place, self.random.choice(THINGS), self.random.choice(PLOTS))}
        topic = self.random.choices(list(self.topics), list(self.topics.values()))[0]
        messages = [{"role": "system", "content": self.random.choice(SYSTEM)}] if self.chance(0.08) else []
        for question, answer in getattr(self, topic)():
            if topic not in ("spelling", "garbage", "repeat", "unknown") and self.chance(0.07):
                question = self.misspell(question)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return {"messages": messages}

    def documents(self, count: int) -> Iterator[dict]:
        return (self.document() for _ in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--held-out", action="store_true")
    arguments = parser.parse_args()
    for document in Generator(arguments.seed, arguments.held_out).documents(arguments.count):
        sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
