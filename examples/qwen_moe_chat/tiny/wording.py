"""How people type: frames around a question, patterns with alternatives, number words, slips of the keyboard."""
from __future__ import annotations

import random
import re

LEADS = [
    "[please|now|and|so|well|ok|okay|hmm|also|next], ",
    "[tell me|I have a question|a question|one question|quick question|my question is|let me ask|next question|question|please answer|answer me|help me|I want to know]: ",
    "[hello|hi|hey|good morning|good evening|hello model|hi there|hey you|excuse me|sorry|okay|great|dear model|thank you|listen][, |! |. ]",
    "[can you tell me|could you tell me|could you please tell me|do you know|do you happen to know|I would like to know|I want to know|I wonder|please tell me|tell me|can you say|do u know|pls tell me][: |, | |... ]",
]
TAILS = ["[, please| please|, thanks| thanks| pls| plz|, thank you|, model|, my friend|, do you know|, can you tell me|, tell me| exactly|, quickly|, any idea| again| for me]"]
NOUN_FRAMES = [
    "[what is|what's|what is|whats|what was|so what is|and what is] {np}", "[what is|what's] {np}", "what is {np}",
    "[|please |can you |could you |would you |can you please |could you please |kindly ][tell me|say|name|give me|find|look up|state|write|tell us|mention] {np}",
    "[do you know|do you happen to know|I want to know|I would like to know|I'd like to know|I need to know|I wonder about|I am looking for|I need|I forgot|remind me of|I am searching for|do you remember] {np}",
    "[tell me what|do you know what|can you tell me what|I want to know what|I wonder what|please tell me what|I'd like to know what|can you say what] {np} is",
    "[what would be|what might be|any idea what is|what exactly is|please tell me: what is|what do you think is|what was again] {np}", "{np}", "{np}[ is| is what|: what is it|, which one is it|, what is it]",
]
ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()


def article(word: str) -> str:
    """The noun with its indefinite article."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def up(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def number_word(n: int) -> str:
    """English name of 0 to 99."""
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")


class Wording:
    """Random choices of words, reproducible from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, *items: str) -> str:
        return self.random.choice(items)

    def expand(self, pattern: str) -> str:
        """Choose one of every [a|b]; brackets do not nest."""
        return re.sub(r"\[([^\]]*)\]", lambda m: self.random.choice(m[1].split("|")), pattern)

    def any_of(self, *patterns: str) -> str:
        """One of the patterns, chosen in proportion to the square root of its number of alternatives, expanded."""
        weights = []
        for p in patterns:
            count = 1
            for group in re.findall(r"\[([^\]]*)\]", p):
                count *= group.count("|") + 1
            weights.append(min(count, 400) ** 0.5)
        return self.expand(self.random.choices(patterns, weights)[0])

    def ask(self, *patterns: str, mark: str = "?", lead: bool = True) -> str:
        """A question or request as people type it."""
        text, r = self.any_of(*patterns), self.random.random()
        if lead and r < 0.13:
            text = self.expand(self.random.choice(LEADS)) + text
        elif lead and r < 0.19:
            text += self.expand(self.random.choice(TAILS))
        r = self.random.random()
        if r < 0.62:
            text = up(text)
        elif r < 0.64:
            text = text.upper()
        elif r < 0.82:
            text = text.lower()
        r = self.random.random()
        return text + (mark if r < 0.72 else "" if r < 0.93 else self.pick("??", "!", ".", " ?", "...", "?!"))

    def ask_for(self, noun_phrase: str) -> str:
        """Ask for a noun phrase such as "the capital of France"."""
        return self.ask(self.random.choice(NOUN_FRAMES).replace("{np}", noun_phrase))

    def number(self, n: int) -> str:
        """Digits, now and then a word."""
        return number_word(n) if n < 100 and self.chance(0.06) else str(n)

    def misspell(self, text: str) -> str:
        """One or two slips in words of four small letters or more."""
        words = text.split(" ")
        candidates = [i for i, w in enumerate(words) if len(w) >= 4 and w.isascii() and w.isalpha() and w[1:].islower()]
        for i in self.random.sample(candidates, min(len(candidates), self.random.choice((1, 1, 2)))):
            w, kind = words[i], self.random.randrange(4)
            at = self.random.randrange(1, len(w) - 1)
            words[i] = (w[:at] + w[at + 1:] if kind == 0 else w[:at] + w[at] + w[at:] if kind == 1 else
                        w[:at] + w[at + 1] + w[at] + w[at + 2:] if kind == 2 else w[:at] + self.random.choice("aeiourstnl") + w[at + 1:])
        return " ".join(words)
