"""Story tables of the text generator. [a|b] stands for one of the alternatives, {slot} is filled in by `Generator.story`."""
from __future__ import annotations

HEROES = """fox bear wolf lion tiger rabbit mouse owl duck frog cat dog horse cow sheep goat pig bee snail turtle squirrel hedgehog crow monkey
elephant penguin whale deer dragon robot king queen prince princess girl boy farmer sailor teacher baker wizard giant knight""".split()
SHE, HE = set("queen princess girl".split()), set("king prince boy farmer sailor baker wizard knight".split())
PLACES = """in a deep forest|near a blue lake|in a small village|on a high mountain|by the sea|in an old castle|on a quiet farm|in a big city|
under an old oak tree|on a green hill|in a warm valley|on a small island|beside a river|at the edge of a desert|in a little house""".replace("\n", "").split("|")
ADJ = "little brave clever kind shy young old happy lonely curious tired friendly quiet small funny hungry".split()
THINGS = "key ring hat ball book lamp map bell drum kite boat cup scarf shoe stone box flute coat".split()
SPOTS = "under a stone|behind a tree|in the tall grass|next to the old well|under a pile of leaves|inside a hollow tree|by the gate|near the bridge".split("|")
STORY_LEADS = [
    "[|please |can you |could you |could you please |would you |will you |kindly |now ][tell|tell me|write|write me|make up|invent|read me|give me|create|compose] [a|a short|a nice|a little|a bedtime|one] [story|tale|fairy tale|story] about ",
    "[|hey, |okay, |so, ][I want|I would like|I'd like|I would love|I'd love|I wish|my child wants|we want|my son wants|my daughter would like|let me|let us] [to hear|to read] [a|a short|another|a good] [story|tale] about ",
    "[I want|I would like|I need|how about|what about|give us|let us hear|do you know|do you have|have you got|is there|we need|may I have] [a|a short|a nice] [story|tale] about ",
    "[a|a short|one|another|a little] [story|tale|bedtime story] about ", "[story|tale|stories|story time:] about ",
    "[I would love to hear|tell me|tell us|I want to hear|I would like to hear|let us hear|write|talk] about ", "[tell me something|say something|write something|tell me more] about ",
    "[what happened to|tell me the adventures of|tell me what happened to|tell me something about the adventures of] ",
]
STORY_WITHOUT_HERO = [
    "[|please |can you |could you |would you |will you ][tell|tell me|write|write me|make up|invent|read me|give me] [a|a short|a nice|a bedtime|another|some|any|one more] [story|tale|fairy tale]",
    "[I want|I would like|I'd like|I would love|I need] [to hear a|a|another] [story|tale|bedtime story]", "[story|a story|a story please|story time|once upon a time|another story|tell me another one|do you know a story|how about a story|one more story|any story]",
    "my [son|daughter|child|baby] [cannot sleep|wants a story|wants to hear a story|needs a bedtime story]",
]
ENDINGS = """From that day on they were best friends.|They lived happily ever after.|{Name} went home and slept well that night.|
{Name} was very happy and never forgot that day.|And everybody agreed that it was a good day.|{Name} learned that it is good to have friends.|
{Name} smiled all the way home.|Since then they meet every evening {place}.""".replace("\n", "").split("|")
PLOTS = [
    "{Name} had a [map|secret map] that showed where a treasure lay. A {adj2} {helper} came along, and they walked for [two days|a week|three nights]. {spot_up} they found a chest. Inside was only a {thing}, but they laughed and were happy.",
    "One [day|evening] {name} heard somebody cry {spot}. It was a {adj2} {helper} who had lost the way home. {Name} took a [lamp|lantern] and brought the {helper} home.",
    "{Name} wanted to bake [bread|a cake|an apple pie], but there was no [flour|sugar|butter] in the kitchen. A {adj2} {helper} brought some, and in the evening they ate it together.",
    "All the others said that {name} was too [small|slow|young|weak]. But one day a {adj2} {helper} got stuck {spot}, and only {name} could [help|reach that place]. After that nobody laughed at {obj} again.",
    "{Name} could not sleep because the night was so [dark|quiet|cold]. A {adj2} {helper} sat down next to {obj} and told {obj} about the stars. Soon {name} fell asleep.",
    "{Name} found an old {thing} {spot} and [repaired|cleaned|painted] it. A {adj2} {helper} liked it very much, so {name} gave it away as a present.",
    "One [day|morning|evening] {Name} lost {poss} {thing}. {Pro} looked everywhere but could not find it. [A {adj2} {helper} came by and offered to help.|Then a {adj2} {helper} said: \"I will help you.\"] Together they found the {thing} {spot}.",
    "One [night|evening] there was a [big|terrible|loud] storm, and {name} was afraid. A {adj2} {helper} knocked at the door and asked for shelter. {Name} let the {helper} in and they [drank warm tea|told each other stories|sang songs] until the storm was over.",
    "{Name} was very hungry, but there was no food at home. On the road {pro} met a {adj2} {helper} who had [some bread|a basket of apples|a pot of soup|a big cake]. The {helper} shared it, and soon nobody was hungry any more.",
    "{Name} had no friends and felt [alone|sad|lonely]. One [day|morning] {pro} met a {adj2} {helper} {spot}. They played [with a {thing}|hide and seek|in the sun] until the sun went down.",
    "One day {name} found a {thing} {spot}. It belonged to a {adj2} {helper} who had looked for it for [days|weeks|a long time]. {Name} gave the {thing} back, and the {helper} said: \"Thank you, you are very kind.\"",
    "{Name} wanted to cross the river, but the water was [too deep|too cold|too fast]. A {adj2} {helper} built a small bridge of wood. {Name} thanked the {helper} and crossed the river safely.",
    "One [day|summer|morning] {name} and a {adj2} {helper} ran a race. The {helper} was [faster|very fast], but fell {spot}. {Name} stopped and helped the {helper} up, and they reached the end together.",
    "{Name} wanted to learn to [sing|dance|swim|read|paint]. At first it was hard and {pro} made many mistakes. A {adj2} {helper} showed {obj} how to do it, and after a [week|month|few days] {pro} could do it very well.",
    "In the winter it was very cold, and {name} had no [coat|blanket|warm bed]. A {adj2} {helper} saw this and made one from [wool|soft grass|old cloth]. Now {name} was warm and [happy|thankful].",
    "One night {name} looked at the [moon|stars] and made a wish: {pro} wanted a {thing}. The next morning the {thing} lay {spot}. A {adj2} {helper} had put it there as a surprise.",
    "{Name} planted a small seed {spot}. Every day {pro} gave it water, and a {adj2} {helper} sang for it. In the [spring|summer] there was a [big red flower|tall sunflower|tree full of apples].",
    "One day {name} fell into a deep hole and could not get out. {Pro} called for help until a {adj2} {helper} heard it. The {helper} [let down a rope|brought a long branch|called all the neighbours] and pulled {obj} out.",
    "It was the birthday of {name}, but nobody seemed to remember it. {Pro} went for a walk and felt sad. When {pro} came back, a {adj2} {helper} was waiting with a cake and a new {thing}.",
]
OPENINGS = [
    "Once upon a time there was {a_hero} named {Name} who lived {place}.", "Once there was {a_hero} named {Name}. {Pro} lived {place}.",
    "{place_up} lived {a_hero} named {Name}.", "Long ago, {a_hero} named {Name} lived {place}.", "There was once {a_hero} {place}. {Poss} name was {Name}.",
]
