"""Topics with a right answer: sums, numbers, facts, calendar, yes and no, spelling, follow-up questions."""
from __future__ import annotations

from typing import Callable

from facts import (ABLE, CAPITALS, COLOURS, CONTINENTS, DAYS, FOOD, GENERAL, HOMES, HOW_MANY, KINDS, LANGUAGES, LEGS, MONTHS, NAMES, OPPOSITES, PASTS, PLURALS, SEASONS,
                   SHAPES, SOUNDS, WHY, WORDS, YOUNG)
from wording import ONES, Wording, article, up

Turns = list[tuple[str, str]]
Sum = tuple[int, str, int]

SYLLABLES = "ba be bo da de di fo ga go ha hu ka ki lo la le ma mi mo na ne no pa pi ra re ri ro sa se si so ta te ti to va vi wa zo cr st tr pl br en on er an el us ing ter ver ness ment tion".split()
OBJECTS = "apples books coins eggs pens balls cookies flowers cards stones cars birds pears cups oranges marbles stamps candies shells sweets tickets pencils bananas euros dollars toys".split()
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def result(a: int, op: str, b: int) -> int:
    return a + b if op == "+" else a - b


def worked(a: int, op: str, b: int) -> str:
    """The answer with its way: hundreds, tens, ones."""
    total = result(a, op, b)
    parts = [p for p in (b // 100 * 100, b // 10 % 10 * 10, b % 10) if p]
    if a < 10 or len(parts) < 2:
        return f"{a} {op} {b} = {total}."
    steps, value = [], a
    for part in parts:
        steps.append(f"{value} {op} {part} = {result(value, op, part)}")
        value = result(value, op, part)
    return f"{', '.join(steps[:-1])} and {steps[-1]}, so {a} {op} {b} = {total}."


class Exercises(Wording):
    """Exercises that a subclass divides into splits with `draw`."""

    draw: Callable[[Callable[[], tuple]], tuple]
    short: Callable[[], Turns]

    # ---- numbers
    def pair(self) -> Sum:
        r = self.random.random()
        size = 10 if r < 0.16 else 1000 if r > 0.82 else 100

        def make() -> Sum:
            a, b, op = self.random.randrange(size), self.random.randrange(size if self.chance(0.78) else 10), self.pick("+", "+", "-")
            return (max(a, b), op, min(a, b)) if op == "-" else (a, op, b)
        return self.draw(make)

    def small_pair(self) -> Sum:
        while True:
            a, op, b = self.pair()
            if a < 100 and b < 100:
                return a, op, b

    def sum_question(self, a: int, op: str, b: int) -> str:
        x, y = self.number(a), self.number(b)
        word = self.pick("plus", "plus", "and", "added to") if op == "+" else self.pick("minus", "minus", "less", "take away")
        term = self.pick(f"{a} {op} {b}", f"{a} {op} {b}", f"{a}{op}{b}", f"{x} {word} {y}", f"{x} {word} {y}")
        r = self.random.random()
        if r < 0.5:
            return self.ask(f"[what is|what's|how much is|calculate|compute|what does|can you compute|what is the result of|solve|tell me|work out|please work out|find|whats|evaluate|what do you get for|what makes|how many is|do you know what is|figure out|"
                            f"can you work out|could you calculate|please calculate|the answer to|what is the value of|help me with|can you solve|let us compute|I need|what would be|give me] {term}")
        if r < 0.75:
            return term + self.pick("", "?", " =", " = ?", "=", " equals", " equals?", " is", " makes", "=?", " is what?", " gives", " equals what?", "?", ".")
        if op == "+":
            return self.ask(f"[add|please add|can you add|what do you get when you add|what is the result when I add|sum up|add up|add together|could you add|what happens if you add] {x} [and|to|with|plus] {y}",
                            f"[what is|what's|tell me|give me|compute|calculate|find|] [the sum of|the total of|the sum for|the addition of] {x} and {y}", f"{x} and {y} [together|in total|added|summed up|added up|altogether|combined|make how much|is how much]",
                            f"[increase|raise] {x} by {y}", f"what is {y} more than {x}", f"what number is {y} [more|greater|larger] than {x}", f"put {x} and {y} together")
        return self.ask(f"[subtract|take|take away|deduct|please subtract|can you subtract|could you subtract|remove] {y} from {x}", f"[what is|what's|tell me|compute|] the difference [of|between] {x} and {y}",
                        f"what is left [when you take|if I take|after taking] {y} from {x}", f"[decrease|reduce|lower] {x} by {y}", f"{x} [take away|without|reduced by|decreased by] {y}",
                        f"what is {y} less than {x}", f"how much [is left of|remains of] {x} after taking {y}", f"what number is {y} [less|smaller] than {x}")

    def add_sub(self) -> Turns:
        a, op, b = self.pair()
        return [(self.sum_question(a, op, b), worked(a, op, b))]

    def times(self) -> Turns:
        a, b = self.random.randrange(13), self.random.randrange(13)
        x, y = self.number(a), self.number(b)
        if b and self.chance(0.3):
            x, term = self.number(a * b), self.pick(f"{a * b} / {b}", f"{a * b}/{b}", f"{a * b} : {b}", f"{a * b} divided by {b}", f"{a * b} over {b}")
            return [(self.pick(term, term + "?", term + " =", self.ask(f"[what is|how much is|calculate|what's|compute|tell me|solve] {term}", f"[divide|please divide|can you divide] {x} by {y}", f"[how often|how many times] does {y} go into {x}")),
                     f"{a * b} / {b} = {a}.")]
        term = self.pick(f"{a} * {b}", f"{x} times {y}", f"{a} x {b}", f"{a}*{b}", f"{x} multiplied by {y}", f"{a}x{b}")
        return [(self.pick(term + "?", term, term + " =", term + " equals?", self.ask(f"[what is|what's|how much is|calculate|compute|tell me|solve|work out|what does] {term}"), self.ask(f"[what is|what's|how much is|calculate|compute|tell me|work out] {term}"),
                           self.ask(f"[multiply|please multiply|can you multiply|could you multiply] {x} [by|and|with] {y}", f"[what is|find|the] [the product of|product of] {x} and {y}")), f"{a} * {b} = {a * b}.")]

    def word_sum(self) -> Turns:
        things, name = self.random.choice(OBJECTS), self.random.choice(NAMES)
        a, op, b = self.small_pair()
        total, sum_text = result(a, op, b), worked(a, op, b)
        me = self.chance(0.45)
        who, has = ("I", "have") if me else (name, "has")
        s, their, pro = ("", "my", "I") if me else ("s", "the", self.pick("He", "She", name))
        x, y = self.number(a), self.number(b)
        if op == "+":
            gain = self.expand(f"[get{s}|buy{s}|find{s}|pick{s} up|receive{s}|win{s}|make{s}|collect{s}|take{s}] {y} more")
            passive = self.expand(f"[a friend gives|mother gives|father brings|my sister gives|somebody gives|the teacher gives] {'me' if me else name} {y} more")
        else:
            gain = self.expand(f"[give{s} away|lose{s}|sell{s}|eat{s}|break{s}|drop{s}|throw{s} away|use{s}|spend{s}|give{s} a friend] {y}[| of them]")
            passive = self.expand(f"[a dog takes|somebody takes|a friend takes|a thief steals|the wind takes] {y}[| of them]")
        first = self.expand(f"{who} [{has}|{has}|{has}|own{s}|hold{s}] {x} {things}")
        story = self.pick(f"{first} and {gain}.", f"{first}. {pro} {gain}.", f"{first}. Then {pro[0].lower() + pro[1:] if pro in ('He', 'She') else pro} {gain}.", f"{first}. {up(passive)}.", f"{first}, then {passive}.")
        do = "do I" if me else f"does {name}"
        ask = self.expand(f"[How many {things} {do} have|How many {things} {do} have now|How many {things} {do} have{' left' if op == '-' else ' now'}|How many {do} have"
                          f"|How many are {'left' if op == '-' else 'there now'}|How many {things} are {'left' if op == '-' else 'there'}|How many now|What is the number of {things} now|How many {things} is that]?")
        if self.chance(0.25):
            question = self.pick("If ", "Suppose ", "Imagine ", "When ", "if ") + story[:-1] + ", " + ask[0].lower() + ask[1:]
        else:
            question = f"{story} {ask}"
        if self.chance(0.15):
            question = question.lower()
        return [(question, f"{sum_text} {'You have' if me else name + ' has'} {total} {things}.")]

    def numbers(self) -> Turns:
        kind, top = self.random.randrange(10), 100 if self.chance(0.85) else 1000
        a, b = self.random.randrange(top), self.random.randrange(top)
        if kind <= 1 and a != b:
            big = self.chance(0.5)
            word = self.pick("bigger", "larger", "greater", "higher", "more") if big else self.pick("smaller", "less", "lower")
            most = self.pick("biggest", "largest", "greatest") if big else self.pick("smallest", "lowest", "least")
            high, low = max(a, b), min(a, b)
            if self.chance(0.25):
                yes = (a > b) == big
                return [(self.ask(f"is {a} {word} than {b}", f"[do you think|is it true that] {a} is {word} than {b}"),
                         f"{'Yes' if yes else 'No'}, {a} is {'larger' if a > b else 'smaller'} than {b}.")]
            return [(self.ask(f"[which is|which number is|what is|which one is|what number is|tell me which is|who is] [{word}|the {word} one|the {most}][, |: | - |? ]{a} or {b}", f"{a} or {b}[, |: |? ][which is|what is|which one is] {word}", f"the {most} of {a} and {b}",
                              f"[compare|please compare] {high if big else low} and {low if big else high}"),
                     f"{high} is larger than {low}." if big else f"{low} is smaller than {high}.")]
        if kind == 2:
            return [(self.ask(f"[is|is the number|tell me: is] {a} [even or odd|odd or even|an even number|an odd number|even|odd]", f"{a}[: |, | ][even or odd|odd or even]"), f"{a} is {'odd' if a % 2 else 'even'}.")]
        if kind == 3:
            return [(self.ask(f"[what|which number|what number|which] [comes after|follows|is after|comes next after|comes right after] {a}", f"[what is|tell me|name] [the next number|the number|the successor] [after|following] {a}", f"next number after {a}"), f"After {a} comes {a + 1}.")]
        if kind == 4:
            return [(self.ask(f"[what|which number|what number|which] [comes before|is before|comes right before|precedes] {a + 1}", f"[what is|tell me|name] the [number|number just|previous number] before {a + 1}"), f"Before {a + 1} comes {a}.")]
        if kind == 5:
            low = self.random.randrange(20)
            high = low + self.random.randrange(2, 11)
            return [(self.ask(f"[count|can you count|please count|could you count|now count|list the numbers|write the numbers|say the numbers|give me the numbers|all numbers|numbers] from {low} [to|up to|until] {high}", mark="."), ", ".join(map(str, range(low, high + 1))) + ".")]
        if kind == 6:
            n = self.random.randrange(3, 11)
            if self.chance(0.3):
                return [(self.ask(f"[count|can you count|please count] [down|backwards] from {self.number(n)}[| to 1| to one]", mark="."), ", ".join(map(str, range(n, 0, -1))) + ".")]
            return [(self.ask(f"[count|can you count|please count|could you count|count for me] [to|up to] {self.number(n)}", mark="."), ", ".join(map(str, range(1, n + 1))) + ".")]
        if kind == 7:
            n = self.random.randrange(1, 21)
            if self.chance(0.5):
                return [(self.ask(f"[what is|what's|how much is|tell me|] [double|twice|two times|the double of|twice the number] {self.number(n)}", f"[double|please double|can you double] {n}"), f"2 * {n} = {2 * n}.")]
            return [(self.ask(f"[what is|what's|how much is|tell me|] [half of|half|the half of|one half of] {self.number(2 * n)}", f"[halve|please halve] {2 * n}"), f"Half of {2 * n} is {n}.")]
        n = self.random.randrange(len(ONES))
        if kind == 8:
            return [(self.ask(f"[how do you write|write|spell|say|what is|how do you say|please write] {n} [in words|as a word|in letters|as word]"), f"{n} in words is {ONES[n]}.")]
        return [(self.ask(f"[how do you write|write|what is|please write] {ONES[n]} [in digits|as a number|as a digit|in numbers|as digits]"), f"{up(ONES[n])} is {n}.")]

    # ---- facts
    def fact(self) -> Turns:
        return self.random.choices([self.capital, self.opposite, self.animal, self.other_fact, self.general, self.grammar], [5, 4, 5, 3, 6, 2])[0]()

    def capital(self) -> Turns:
        country, city = self.random.choice(list(CAPITALS.items()))
        kind = self.random.random()
        if kind < 0.16:
            return [(self.ask(f"{city} is the capital of [which|what] country", f"[of which country is|of what country is] {city} the capital", f"[which|what] country has the capital {city}", f"{city} is the capital of [what|which]",
                              f"[which|what] [country's capital is|is the country with the capital|country has its capital in] {city}"), f"{city} is the capital of {country}.")]
        if kind < 0.28 and country in LANGUAGES:
            return [(self.ask(f"[which|what] language [do they speak|is spoken|do people speak] in {country}", f"what do [people|they] speak in {country}", f"the language of {country}", f"[tell me|what is] the language of {country}", f"language in {country}"),
                     f"In {country} people speak {LANGUAGES[country]}.")]
        if kind < 0.38:
            for continent, countries in CONTINENTS.items():
                if country in countries:
                    return [(self.ask(f"[on|in] [which|what] continent is {country}", f"where is {country}", f"[which|what] continent is {country} [in|on|part of]", f"{country} is [on|in] which continent"), f"{up(country)} is in {continent}.")]
        if kind < 0.7:
            return [(self.ask(f"[which|what] city is the capital of {country}", f"[what is|tell me|name] [the capital city|the capital town] of {country}", f"[capital of|capital|capital city of|the capital:] {country}", f"{country} capital", f"[what is|what's] {country}'s capital[| city| called]",
                              f"[what is|tell me] the name of the capital [of|in] {country}", f"{country} has [which|what] capital", f"how is the capital of {country} called", f"{country}'s capital", f"what capital does {country} have", f"which city governs {country}"),
                     f"The capital of {country} is {city}.")]
        return [(self.ask_for(f"the capital of {country}"), f"The capital of {country} is {city}.")]

    def opposite(self) -> Turns:
        a, b = self.random.choice(list(OPPOSITES.items()))
        if a not in OPPOSITES.values() and b not in OPPOSITES and list(OPPOSITES.values()).count(b) == 1 and self.chance(0.5):
            a, b = b, a
        quoted = self.pick(a, a, a, f'"{a}"', f"'{a}'")
        if self.chance(0.4):
            return [(self.ask_for(f"the {self.pick('opposite', 'opposite', 'antonym', 'contrary')} of {quoted}"), f"The opposite of {a} is {b}.")]
        return [(self.ask(f"[what is|what's|which word is|what word is] [opposite to|the opposite to|the opposite of|an antonym of|the antonym of|the contrary of|the reverse of] {quoted}", f"[opposite of|antonym of|antonym for|opposite:|opposite|the contrary of] {quoted}",
                          f"[give me|tell me|name|find|do you know] [the opposite of|an antonym for|a word that means the opposite of|the opposite word of|the contrary of] {quoted}", f"if [something|it] is not {quoted}, [what is it|it is|then it is]", f"{quoted} is the opposite of [what|which word]",
                          f"not {quoted} but"), f"The opposite of {a} is {b}.")]

    def animal(self) -> Turns:
        kind = self.random.randrange(6)
        if kind == 0:
            a, sound = self.random.choice(list(SOUNDS.items()))
            return [(self.ask(f"[what|which] [sound|noise] does [{article(a)}|the {a}] make", f"what does [{article(a)}|the {a}] say", f"how does [{article(a)}|the {a}] sound", f"[the sound of|sound of|what is the sound of|tell me the sound of] [{article(a)}|the {a}]", f"how do {a}s [sound|talk]" if a not in ("mouse", "sheep", "wolf") else f"{a} sound", f"{a} sound",
                              f"make the [sound|noise] of {article(a)}", f"which animal says {sound.split('-')[0]}" if a != "lion" else "what does a lion say"), f"{up(article(a))} says {sound}.")]
        if kind == 1:
            a, legs = self.random.choice(list(LEGS.items()))
            return [(self.ask(f"how many [legs|feet] does [{article(a)}|the {a}] have", f"how many legs [has|are on|are there on] {article(a)}", f"[number of|the number of|count the] legs [of|on] {article(a)}", f"[what is|tell me] the number of legs of {article(a)}", f"{a} legs", f"{article(a)} has how many legs", f"legs of {article(a)}"),
                     f"{up(article(a))} has {'no' if legs == '0' else legs} legs.")]
        if kind == 2:
            a, young = self.random.choice(list(YOUNG.items()))
            return [(self.ask(f"[what is|how is|what do you call|how do you call|what do we call|what is the word for|tell me the name of|what is the name of] a [baby|young|little] {a}[| called]", f"[baby|young] {a}[| is called| name]", f"the [baby|child|young] of {article(a)} is [called|named] [what|how|]",
                              f"what [is|do you call] the [baby|child] of {article(a)}[| called]"), f"A young {a} is called {article(young)}.")]
        if kind == 3:
            a, food = self.random.choice(list(FOOD.items()))
            return [(self.ask(f"what does [{article(a)}|the {a}] [eat|like to eat|feed on|have for dinner]", f"what do {a}s [eat|like to eat|feed on]" if a != "mouse" else "what does a mouse eat", f"[what is|tell me] the food of {article(a)}", f"what is eaten by {article(a)}", f"food of {article(a)}", f"what can I feed {article(a)}"),
                     f"{up(article(a))} eats {food}.")]
        if kind == 4:
            a, home = self.random.choice(list(HOMES.items()))
            return [(self.ask(f"where does [{article(a)}|the {a}] [live|sleep|stay]", f"[what is|tell me] the home of {article(a)}", f"the home of {article(a)}", f"in what does {article(a)} live", f"where can I find {article(a)}"),
                     f"{up(article(a))} lives in {'the' if home in ('water', 'desert', 'cold south', 'trees') else 'a'} {home}.")]
        group = self.random.choice(list(KINDS))
        thing = self.random.choice([k for k in KINDS[group] if k != "orange"])
        named = thing if group == "colour" else article(thing)
        return [(self.ask(f"[what is|what's|what kind of thing is|explain what is|define|tell me what is|what sort of thing is|explain|describe] {named}", f"what [type|kind] of thing is {named}"), f"{up(named)} is {article(group)}.")]

    def other_fact(self) -> Turns:
        kind = self.random.randrange(4)
        if kind <= 1:
            thing, colour = self.random.choice(list(COLOURS.items()))
            word = self.pick("colour", "color")
            return [(self.pick(self.ask(f"[what|which] {word} [is|has] {thing}", f"[what|which] {word} does {thing} have", f"{thing} [is|has] [which|what] {word}", f"[{word} of|the {word} of|what is the {word} of|tell me the {word} of] {thing}", f"what {word} would you paint {thing}",
                                        f"in [which|what] {word} is {thing}", f"how does {thing} look: [red or|green or|blue or] {colour}"), self.ask_for(f"the {word} of {thing}")), f"{up(thing)} is {colour}.")]
        if kind == 2:
            shape, sides = self.random.choice(list(SHAPES.items()))
            return [(self.ask(f"how many [sides|edges] [does|has] {article(shape)}[| have]", f"{article(shape)} has how many sides", f"[number of|count the] sides of {article(shape)}"), f"{up(article(shape))} has {sides} sides.")]
        question, sentence = self.random.choice(list(WHY.items()))
        return [(self.ask("[why|why|why|tell me why|do you know why|can you explain why|explain why|what is the reason that|how come|I wonder why] " + question), sentence)]

    def general(self) -> Turns:
        if self.chance(0.38):
            question, sentence = self.random.choice(list(HOW_MANY.items()))
            noun, _, rest = question.partition(" ")
            if question.count(" are in "):
                noun, _, rest = question.partition(" are in ")
                return [(self.ask(f"[|do you know |tell me |can you tell me |so ]how many {noun} [are in|are there in|has|make|make up] {rest}", f"{rest} has how many {noun}", f"[number of|the number of|what is the number of] {noun} in {rest}", f"how many {noun} does {rest} have"), sentence)]
            return [(self.ask(f"[|do you know |tell me |can you tell me |so |please tell me ]how many {question}"), sentence)]
        noun_phrase, sentence = self.random.choice(list(GENERAL.items()))
        if noun_phrase.endswith("made of"):
            thing = noun_phrase[:-8]
            return [(self.ask(f"[what is|what's|do you know what is|from what is|tell me what is] {thing} made [of|from]", f"[of|from] what is {thing} made", f"what do you need to make {thing}", f"how is {thing} made"), sentence)]
        if noun_phrase.startswith("the "):
            core = noun_phrase[4:]
            return [(self.pick(self.ask_for(noun_phrase), self.ask(f"[which is|which one is|who is|name|tell me|what do you call] the {core}", f"which [one |thing |]is the {core}", core)), sentence)]
        return [(self.pick(self.ask_for(noun_phrase), self.ask(f"[what is|explain|define|describe|what does|tell me about|what's|what are|tell me something about|what do you know about|explain to me|can you explain] {noun_phrase}[| mean| please| to me]")), sentence)]

    def grammar(self) -> Turns:
        if self.chance(0.55):
            one, many = self.random.choice(list(PLURALS.items()))
            return [(self.ask(f"[what is|what's|tell me|give me|form|] the plural [of|for] {one}", f"plural of {one}", f"one {one}, two [what|...]", f"how do you say more than one {one}", f"one {one}, many"), f"The plural of {one} is {many}.")]
        verb, past = self.random.choice(list(PASTS.items()))
        return [(self.ask(f"[what is|what's|tell me|give me|] the past [tense of|of|form of|tense for] {verb}", f"past [tense|form] of {verb}", f"today I {verb}, yesterday I"), f"The past of {verb} is {past}.")]

    # ---- calendar
    def calendar(self) -> Turns:
        names, word = (DAYS, "day") if self.chance(0.55) else (MONTHS, "month")
        i, n, kind = self.random.randrange(len(names)), len(names), self.random.randrange(9)
        name = names[i]
        if kind <= 1:
            if word == "day" and self.chance(0.4):
                return [(self.ask(f"[if today is|today is|when today is|suppose today is] {name}[, |. |; ][what day is tomorrow|what is tomorrow|which day is tomorrow|what day will it be tomorrow|tomorrow is]", f"what day is tomorrow if today is {name}"), f"After {name} comes {names[(i + 1) % n]}.")]
            return [(self.ask(f"[which|what] {word} [comes after|follows|is after|comes next after|is next after] {name}", f"what [comes after|follows|is after] {name}", f"[what is|tell me|name] the [{word}|next {word}] after {name}", f"after {name} comes", f"the {word} after {name}", f"{name} is followed by"),
                     f"After {name} comes {names[(i + 1) % n]}.")]
        if kind == 2:
            if word == "day" and self.chance(0.4):
                return [(self.ask(f"[if today is|today is|when today is] {name}[, |. ][what day was yesterday|which day was yesterday|what was yesterday|yesterday was]", f"what day was yesterday if today is {name}"), f"Before {name} comes {names[i - 1]}.")]
            return [(self.ask(f"[which|what] {word} [comes before|is before|precedes|comes right before] {name}", f"what [comes before|is before] {name}", f"[what is|tell me] the {word} before {name}", f"before {name} comes", f"the {word} before {name}"), f"Before {name} comes {names[i - 1]}.")]
        if kind == 3:
            group = "days of the week" if word == "day" else "months of the year"
            return [(self.pick(self.ask_for("the " + group), self.ask(f"[list|name|name all|what are|tell me all|say|write down|give me|list all|can you list|enumerate|recite|which are] the {group}", f"{group}", f"[list|name] the {word}s")), f"The {group} are " + ", ".join(names[:-1]) + f" and {names[-1]}.")]
        if kind == 4:
            m = self.random.randrange(12)
            return [(self.ask(f"how many days [does {MONTHS[m]} have|are in {MONTHS[m]}|has {MONTHS[m]}|are there in {MONTHS[m]}]", f"how long is {MONTHS[m]}", f"{MONTHS[m]} has how many days", f"[number of|what is the number of] days in {MONTHS[m]}"), f"{MONTHS[m]} has {MONTH_DAYS[m]} days{', in a leap year 29' if m == 1 else ''}.")]
        if kind == 5:
            step, start = self.random.randrange(2, 8), self.random.randrange(7)
            return [(self.ask(f"[if today is|today is|suppose today is] {DAYS[start]}[, |. ][what day is it|which day is it|what day will it be|which day comes] in {self.number(step)} days", f"[what|which] day is {self.number(step)} days after {DAYS[start]}", f"{DAYS[start]} plus {step} days"),
                     f"{step} days after {DAYS[start]} comes {DAYS[(start + step) % 7]}.")]
        if kind == 6:
            m = self.random.randrange(12)
            ordinal = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()[m]
            if self.chance(0.5):
                return [(self.ask(f"[which|what] month is number {m + 1}", f"[what is|which is|name|tell me] the {ordinal} month[| of the year]", f"[month number|month] {m + 1}"), f"Month number {m + 1} is {MONTHS[m]}.")]
            return [(self.ask(f"[which|what] number [has|is] [the month |]{MONTHS[m]}", f"{MONTHS[m]} is [which|what] month", f"[what is|tell me] the number of {MONTHS[m]}"), f"Month number {m + 1} is {MONTHS[m]}.")]
        if kind == 7:
            d = self.random.choice(DAYS)
            weekend = d in ("Saturday", "Sunday")
            return [(self.ask(f"is {d} [a weekend day|on the weekend|a weekday|part of the weekend|a working day|at the weekend]"), f"{d} is {'part of the weekend' if weekend else 'a weekday'}.")]
        season, what = self.random.choice(list(SEASONS.items()))
        if self.chance(0.5):
            return [(self.ask(f"[what comes after|what follows|which season comes after|which season follows|what season is after] {season}"), f"After {season} comes {list(SEASONS)[(list(SEASONS).index(season) + 1) % 4]}.")]
        return [(self.ask(f"[what is|what happens in|tell me about|how is|describe|explain] {season}"), f"{up(season)} is a season. In {season} {what}.")]

    # ---- yes or no
    def yes_no(self) -> Turns:
        kind, yes = self.random.randrange(8), self.chance(0.5)
        if kind <= 2:
            group = self.random.choice(list(KINDS))
            thing = self.random.choice(KINDS[group])
            other = group if yes or thing == "orange" else self.random.choice(list(KINDS))
            named = thing if group == "colour" else article(thing)
            return [(self.ask(f"[would you say that|do you think] {named} is {article(other)}", f"is {named} {article(other)}", f"{named} is {article(other)}, [right|isn't it|true|yes or no]", f"is it true that {named} is {article(other)}"),
                     f"Yes, {named} is {article(group)}." if other == group else f"No, {named} is not {article(other)}. It is {article(group)}.")]
        if kind <= 4:
            verb, (can, cannot) = self.random.choice(list(ABLE.items()))
            thing = article(self.random.choice((can if yes else cannot).split()))
            return [(self.ask(f"[can|could] {thing} {verb}", f"is {thing} able to {verb}", f"is it true that {thing} can {verb}", f"can {thing.split(' ')[1]}s {verb}" if thing.split(" ")[1] not in ("fish", "sheep", "child", "person", "wolf", "fox") else f"can {thing} {verb}", f"does {thing} know how to {verb}", f"{thing} can {verb}, right"),
                     f"Yes, {thing} can {verb}." if yes else f"No, {thing} cannot {verb}.")]
        if kind == 5:
            thing, colour = self.random.choice(list(COLOURS.items()))
            other = colour if yes else self.random.choice(sorted(set(COLOURS.values()) - {colour}))
            return [(self.ask(f"is {thing} {other}", f"is the [colour|color] of {thing} {other}", f"{thing} is {other}, right", f"is it true that {thing} is {other}"), f"Yes, {thing} is {colour}." if yes else f"No, {thing} is not {other}. {up(thing)} is {colour}.")]
        if kind == 6:
            thing, legs = self.random.choice(list(LEGS.items()))
            other = int(legs) if yes else self.random.choice([n for n in (2, 3, 4, 5, 6, 8) if n != int(legs)])
            shown = self.pick(ONES[other], str(other)) if other else "no"
            return [(self.ask(f"does {article(thing)} have {shown} legs", f"do you think that {article(thing)} has {shown} legs", f"has {article(thing)} {shown} legs", f"is it true that {article(thing)} has {shown} legs"), f"{'Yes' if yes else 'No'}, {article(thing)} has {'no' if legs == '0' else legs} legs.")]
        country, city = self.random.choice(list(CAPITALS.items()))
        other = city if yes else self.random.choice(list(CAPITALS.values()))
        return [(self.ask(f"is {other} the capital of {country}", f"is the capital of {country} {other}", f"{other} is the capital of {country}, right", f"is it true that {other} is the capital of {country}"),
                 f"Yes, {city} is the capital of {country}." if other == city else f"No, the capital of {country} is {city}.")]

    # ---- words
    def made_up(self) -> str:
        """A word that does not exist."""
        return "".join(self.random.choices(SYLLABLES, k=self.random.randrange(2, 5)))

    def spelling(self) -> Turns:
        word, = self.draw(lambda: (self.made_up() if self.chance(0.25) else self.random.choice(WORDS),))
        quoted, spelled, kind = self.pick(word, word, f'"{word}"', f"'{word}'", f"the word {word}", f'the word "{word}"'), "-".join(word), self.random.randrange(9)
        if kind <= 2:
            return [(self.ask(f"[spell|how do you spell|can you spell|please spell|could you spell|how do I spell|how would you spell|how to spell|I want to spell|show me how to spell|spell out|help me spell|spelling of|now spell] {quoted}",
                              f"how is {quoted} [spelled|written|spelt]", f"[spell|write] {quoted} [for me|letter by letter|slowly|with dashes]", f"[the letters of|list the letters of|tell me the letters of|what are the letters of|what letters are in|which letters are in|give me the letters of] {quoted}"), f"{spelled}.")]
        if kind <= 4:
            return [(self.ask(f"how many letters [are in|has|are there in|in|contains] {quoted}", f"how many letters does {quoted} [have|contain]", f"[count the letters of|count the letters in|number of letters in|tell me the number of letters in|can you count the letters of] {quoted}", f"how long is {quoted}"),
                     f"{spelled}: {len(word)} letters.")]
        if kind <= 6 and len(word) <= 6:
            return [(self.ask(f"[reverse|turn around|flip|can you reverse|please reverse|invert] {quoted}", f"[spell|write|say|what is|read|can you spell|how do you spell|please write|tell me] {quoted} [backwards|in reverse|backward|from the end|the other way round]", f"{quoted} [backwards|reversed|in reverse]"), f"{spelled} backwards is {'-'.join(word[::-1])}.")]
        if kind == 7:
            return [(self.ask(f"[what is|what's|tell me|name|give me|] the first letter [of|in] {quoted}", f"[which|what] letter does {quoted} [start|begin] with", f"with [which|what] letter does {quoted} [start|begin]", f"{quoted} [starts|begins] with [what|which letter]"), f"The first letter of {word} is {word[0]}.")]
        return [(self.ask(f"[what is|what's|tell me|name|give me|] the last letter [of|in] {quoted}", f"[which|what] letter does {quoted} end with", f"{quoted} ends with [what|which letter]", f"with [which|what] letter does {quoted} end"), f"The last letter of {word} is {word[-1]}.")]

    # ---- questions that need the turn before
    def follow_up_exercise(self) -> Turns:
        kind = self.random.randrange(5)
        if kind <= 1:
            a, op, b = self.small_pair()
            c, value = self.random.randrange(1, 10), result(a, op, b)
            turns = [(self.sum_question(a, op, b), worked(a, op, b))]
            if kind == 0 or c > value:
                return turns + [(self.ask(f"[and plus|now add|add|plus|and add|then add|what if I add|and if you add|+] {c}[| to that| more| to it]"), f"{value} + {c} = {value + c}.")]
            return turns + [(self.ask(f"[and minus|now subtract|subtract|minus|take away|and take away|then subtract|now take] {c}[| from that| from it|]"), f"{value} - {c} = {value - c}.")]
        again = "[and|and of|what about|and for|how about|and what about|now|the same for|and the one of|also for]"
        if kind == 2:
            (a, x), (b, y) = self.random.sample(list(CAPITALS.items()), 2)
            return [(self.ask_for(f"the capital of {a}"), f"The capital of {a} is {x}."), (self.ask(f"{again} {b}"), f"The capital of {b} is {y}.")]
        if kind == 3:
            (a, x), (b, y) = self.random.sample(list(OPPOSITES.items()), 2)
            return [(self.ask_for(f"the opposite of {a}"), f"The opposite of {a} is {x}."), (self.ask(f"{again} {b}"), f"The opposite of {b} is {y}.")]
        table, verb = (SOUNDS, "says") if self.chance(0.5) else (FOOD, "eats")
        (a, x), (b, y) = self.random.sample(list(table.items()), 2)
        return [(self.ask(f"what does {article(a)} {'say' if verb == 'says' else 'eat'}"), f"{up(article(a))} {verb} {x}."), (self.ask(f"[and|what about|how about|and what about] {article(b)}"), f"{up(article(b))} {verb} {y}.")]
