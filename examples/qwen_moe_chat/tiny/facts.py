"""Fact tables of the text generator: common knowledge in our own words."""
from __future__ import annotations


def _pairs(text: str) -> dict[str, str]:
    """"a:b, c:d" as a dictionary."""
    return dict(p.strip().split(":") for p in text.replace("\n", " ").split(",") if p.strip())


CAPITALS = _pairs("""France:Paris, Germany:Berlin, Italy:Rome, Spain:Madrid, Portugal:Lisbon, England:London, Ireland:Dublin, Austria:Vienna,
Greece:Athens, Poland:Warsaw, Sweden:Stockholm, Norway:Oslo, Denmark:Copenhagen, Finland:Helsinki, Hungary:Budapest, Belgium:Brussels,
the Netherlands:Amsterdam, Russia:Moscow, Turkey:Ankara, Egypt:Cairo, Kenya:Nairobi, Japan:Tokyo, China:Beijing, India:New Delhi,
Thailand:Bangkok, Canada:Ottawa, Mexico:Mexico City, Cuba:Havana, Brazil:Brasilia, Argentina:Buenos Aires, Peru:Lima, Chile:Santiago,
Australia:Canberra, South Korea:Seoul, the United States:Washington, Scotland:Edinburgh, Wales:Cardiff, Romania:Bucharest,
Bulgaria:Sofia, Croatia:Zagreb, Iceland:Reykjavik, Switzerland:Bern, the Czech Republic:Prague, Morocco:Rabat, Vietnam:Hanoi,
New Zealand:Wellington, Colombia:Bogota, Nepal:Kathmandu, Ukraine:Kyiv, Serbia:Belgrade, Iran:Tehran""")

CONTINENTS = {
    "Europe": """France Germany Italy Spain Portugal England Ireland Austria Greece Poland Sweden Norway Denmark Finland Hungary Belgium
Romania Bulgaria Croatia Iceland Switzerland Ukraine Serbia""".split(),
    "Asia": "Japan China India Thailand Vietnam Nepal Iran".split(),
    "Africa": "Egypt Kenya Morocco".split(),
    "North America": "Canada Mexico Cuba".split(),
    "South America": "Brazil Argentina Peru Chile Colombia".split(),
}

LANGUAGES = _pairs("""France:French, Germany:German, Italy:Italian, Spain:Spanish, Portugal:Portuguese, England:English, Austria:German,
Greece:Greek, Poland:Polish, Sweden:Swedish, Norway:Norwegian, Denmark:Danish, Finland:Finnish, Hungary:Hungarian, Japan:Japanese,
China:Chinese, Mexico:Spanish, Brazil:Portuguese, Argentina:Spanish, Chile:Spanish, Peru:Spanish, Turkey:Turkish, Egypt:Arabic,
Russia:Russian, Australia:English, Iceland:Icelandic""")

PLURALS = _pairs("""mouse:mice, child:children, man:men, woman:women, foot:feet, tooth:teeth, goose:geese, sheep:sheep, fish:fish, wolf:wolves,
leaf:leaves, knife:knives, city:cities, baby:babies, box:boxes, fox:foxes, cat:cats, dog:dogs, house:houses, book:books, tree:trees, car:cars,
story:stories, bus:buses, shelf:shelves, potato:potatoes, person:people, day:days, key:keys, berry:berries""")

PASTS = _pairs("""go:went, see:saw, eat:ate, run:ran, sing:sang, write:wrote, give:gave, take:took, come:came, find:found, think:thought, buy:bought,
swim:swam, drink:drank, sleep:slept, fly:flew, speak:spoke, walk:walked, play:played, ask:asked, make:made, say:said, know:knew, begin:began""")

OPPOSITES = _pairs("""hot:cold, big:small, up:down, day:night, left:right, open:closed, happy:sad, fast:slow, old:young, new:old, light:dark,
hard:soft, wet:dry, high:low, full:empty, early:late, good:bad, rich:poor, strong:weak, long:short, loud:quiet, clean:dirty, thick:thin,
wide:narrow, deep:shallow, near:far, easy:difficult, first:last, inside:outside, black:white, true:false, love:hate, win:lose, start:stop,
buy:sell, push:pull, give:take, come:go, sweet:sour, heavy:light, warm:cool, begin:end, always:never, yes:no, cheap:expensive,
brave:afraid, summer:winter, north:south, east:west, top:bottom, tall:short,
large:small, smooth:rough, remember:forget, ugly:beautiful, alive:dead, laugh:cry, before:after, lost:found, smart:stupid, tired:awake""")

COLOURS = _pairs("""the sky:blue, grass:green, the sun:yellow, snow:white, a tomato:red, a banana:yellow, coal:black, a carrot:orange,
a lemon:yellow, blood:red, milk:white, a leaf:green, chocolate:brown, the sea:blue, an orange:orange, a strawberry:red, a frog:green,
a crow:black, a flamingo:pink, an elephant:grey, a polar bear:white, a plum:purple, a pig:pink, wood:brown, a cucumber:green,
a fire engine:red, a cherry:red, salt:white, the night:black, a swan:white""")

SOUNDS = _pairs("""dog:woof, cat:meow, cow:moo, sheep:baa, duck:quack, horse:neigh, pig:oink, lion:roar, owl:hoot, bee:buzz, snake:hiss,
frog:ribbit, mouse:squeak, wolf:howl, hen:cluck, donkey:hee-haw""")

LEGS = _pairs("""dog:4, cat:4, horse:4, cow:4, spider:8, ant:6, bee:6, bird:2, duck:2, fish:0, snake:0, fox:4, hen:2, butterfly:6, elephant:4,
chair:4, person:2, worm:0, lion:4, owl:2""")

YOUNG = _pairs("""dog:puppy, cat:kitten, cow:calf, horse:foal, sheep:lamb, pig:piglet, duck:duckling, hen:chick, bear:cub, goat:kid,
frog:tadpole, kangaroo:joey, deer:fawn, goose:gosling, swan:cygnet, lion:cub""")

FOOD = _pairs("""cow:grass, rabbit:carrots, bear:honey and fish, squirrel:nuts, cat:mice and fish, lion:meat, panda:bamboo, bird:seeds, bee:nectar,
monkey:bananas, horse:hay, owl:mice, penguin:fish, sheep:grass, spider:flies""")

HOMES = _pairs("""bird:nest, bee:hive, dog:kennel, spider:web, fox:den, horse:stable, rabbit:burrow, pig:sty, lion:den, fish:water, camel:desert,
penguin:cold south, monkey:trees, bear:cave, king:castle""")

KINDS = {
    "animal": "dog cat horse cow fox bear lion tiger rabbit mouse owl duck frog snake wolf sheep pig goat bee monkey".split(),
    "fruit": "apple banana pear plum cherry lemon peach grape mango strawberry".split(),
    "vegetable": "carrot potato onion cabbage cucumber pea bean leek".split(),
    "colour": "red blue green yellow orange purple pink brown black white grey".split(),
    "tool": "hammer saw screwdriver spade drill rake axe wrench".split(),
    "vehicle": "car bus train bicycle ship truck tram boat plane".split(),
    "instrument": "piano violin guitar drum flute trumpet cello harp".split(),
    "piece of clothing": "shirt hat coat sock shoe scarf glove jacket".split(),
    "piece of furniture": "table chair bed sofa shelf desk cupboard".split(),
}

ABLE = {
    "swim": ("fish duck frog penguin dolphin swan", "stone hen key"),
    "fly": ("bird bee owl butterfly plane crow", "dog fish pig stone table snake"),
    "talk": ("person teacher child", "stone table tree spoon"),
    "run": ("dog horse fox wolf child lion", "tree stone house snake"),
    "climb trees": ("cat monkey squirrel bear", "fish cow horse"),
}

SHAPES = _pairs("triangle:3, square:4, rectangle:4, pentagon:5, hexagon:6, octagon:8, cube:6")

MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
SEASONS = {"spring": "flowers bloom", "summer": "it is hot", "autumn": "the leaves fall", "winter": "it is cold"}

# noun phrase of the question -> sentence of the answer
GENERAL = {
    "the largest planet": "The largest planet of our solar system is Jupiter.",
    "the smallest planet": "The smallest planet of our solar system is Mercury.",
    "the red planet": "The red planet is Mars.",
    "the hottest planet": "The hottest planet is Venus.",
    "the largest animal": "The largest animal is the blue whale.",
    "the fastest land animal": "The fastest land animal is the cheetah.",
    "the tallest animal": "The tallest animal is the giraffe.",
    "the largest ocean": "The largest ocean is the Pacific Ocean.",
    "the highest mountain": "The highest mountain on Earth is Mount Everest.",
    "the largest country": "The largest country by area is Russia.",
    "the longest month": "There is no single longest month: seven months have 31 days.",
    "the shortest month": "The shortest month is February.",
    "the first month of the year": "The first month of the year is January.",
    "the last month of the year": "The last month of the year is December.",
    "the chemical formula of water": "The chemical formula of water is H2O.",
    "the king of the animals": "The lion is called the king of the animals.",
    "the first letter of the alphabet": "The first letter of the alphabet is A.",
    "the last letter of the alphabet": "The last letter of the alphabet is Z.",
    "the moon": "The moon is a ball of rock that goes around the Earth.",
    "the sun": "The sun is a star. It gives us light and warmth.",
    "a star": "A star is a huge ball of hot gas that shines.",
    "a planet": "A planet is a large round body that goes around a star.",
    "a rainbow": "A rainbow is an arc of colours that appears when the sun shines on rain.",
    "the coldest season": "The coldest season is winter.",
    "the hottest season": "The hottest season is summer.",
    "the largest bird": "The largest bird is the ostrich.",
    "the longest river": "The Nile and the Amazon are the longest rivers.",
    "the largest desert": "The largest hot desert is the Sahara.",
    "the smallest continent": "The smallest continent is Australia.",
    "the largest continent": "The largest continent is Asia.",
    "the closest star to the Earth": "The closest star to the Earth is the sun.",
    "the freezing point of water": "Water freezes at 0 degrees Celsius.",
    "the boiling point of water": "Water boils at 100 degrees Celsius.",
    "the smallest prime number": "The smallest prime number is 2.",
    "the third month of the year": "The third month of the year is March.",
    "the first day of the week": "In many countries the first day of the week is Monday.",
    "the Earth": "The Earth is the planet on which we live.",
    "water": "Water is a clear liquid that all living things need.",
    "fire": "Fire is burning gas that gives heat and light.",
    "a tree": "A tree is a tall plant with a trunk of wood, branches and leaves.",
    "a volcano": "A volcano is a mountain that can throw out hot melted rock.",
    "an island": "An island is land with water all around it.",
    "a desert": "A desert is a dry land with very little rain.",
    "an ocean": "An ocean is a very large area of salt water.",
    "a river": "A river is water that flows through the land to the sea.",
    "a library": "A library is a place with many books. In programming it is code that other programs use.",
    "a school": "A school is a place where children learn.",
    "music": "Music is sound made to be beautiful, with melody and rhythm.",
    "time": "Time is what a clock measures.",
    "gravity": "Gravity is the force that pulls things to the ground.",
    "an algorithm": "An algorithm is a list of steps that solves a problem.",
    "a compiler": "A compiler is a program that turns source code into machine code.",
    "ice": "Ice is frozen water.",
    "steam": "Steam is water that has become a gas.",
    "snow": "Snow is frozen water that falls from the clouds.",
    "rain": "Rain is water that falls from the clouds in drops.",
    "a cloud": "A cloud is made of very small drops of water.",
    "wind": "Wind is moving air.",
    "honey": "Honey is a sweet food that bees make from nectar.",
    "bread made of": "Bread is made of flour, water, salt and yeast.",
    "cheese made of": "Cheese is made of milk.",
    "glass made of": "Glass is made of sand.",
    "paper made of": "Paper is made of wood.",
    "butter made of": "Butter is made of cream.",
    "a computer": "A computer is a machine that follows instructions and works with numbers.",
    "a book": "A book is a set of pages with text that you can read.",
    "a triangle": "A triangle is a shape with 3 sides.",
    "a square": "A square is a shape with 4 equal sides.",
    "a circle": "A circle is a round shape without corners.",
    "an even number": "An even number can be divided by 2 without a rest.",
    "an odd number": "An odd number cannot be divided by 2 without a rest.",
    "a prime number": "A prime number can be divided only by 1 and by itself.",
    "half of 10": "Half of 10 is 5.",
    "a dozen": "A dozen is 12.",
    "a century": "A century is 100 years.",
    "a decade": "A decade is 10 years.",
    "a leap year": "A leap year has 366 days.",
    "a neural network": "A neural network is a program that learns from examples. It is made of many numbers called weights.",
    "a language model": "A language model is a program that predicts the next piece of a text.",
}

WHY = {
    "is the sky blue": "The air scatters the blue part of the sunlight more than the red part, so the sky looks blue.",
    "is grass green": "Grass is green because of chlorophyll, which catches sunlight.",
    "does it rain": "It rains when the drops in the clouds become too heavy to float.",
    "do birds sing": "Birds sing to find a partner and to defend their home.",
    "do leaves fall in autumn": "Trees drop their leaves in autumn to save water in the winter.",
    "is the sea salty": "Rivers carry salt from the rocks into the sea.",
    "do we sleep": "People sleep so that the body and the brain can rest.",
    "do we need water": "The body needs water to live.",
    "does ice float": "Ice floats because it is lighter than water.",
    "is it dark at night": "At night our side of the Earth is turned away from the sun.",
    "do bees make honey": "Bees make honey as food for the winter.",
    "do cats purr": "Cats mostly purr when they feel well.",
    "is the sun hot": "Deep in the sun hydrogen turns into helium, which gives very much heat.",
    "do we have seasons": "We have seasons because the axis of the Earth is tilted.",
    "do people laugh": "People laugh when something is funny or makes them happy.",
}

HOW_MANY = {
    "days are in a week": "A week has 7 days.", "days does a week have": "A week has 7 days.",
    "months are in a year": "A year has 12 months.", "days are in a year": "A year has 365 days, a leap year 366.",
    "hours are in a day": "A day has 24 hours.", "minutes are in an hour": "An hour has 60 minutes.",
    "seconds are in a minute": "A minute has 60 seconds.", "weeks are in a year": "A year has 52 weeks.",
    "seasons are there": "There are 4 seasons: spring, summer, autumn and winter.",
    "letters are in the alphabet": "The alphabet has 26 letters.", "fingers does a hand have": "A hand has 5 fingers.",
    "fingers do people have": "People have 10 fingers.", "eyes does a person have": "A person has 2 eyes.",
    "wheels does a bicycle have": "A bicycle has 2 wheels.", "wheels does a car have": "A car has 4 wheels.",
    "centimetres are in a metre": "A metre has 100 centimetres.", "metres are in a kilometre": "A kilometre has 1000 metres.",
    "planets are there": "There are 8 planets in our solar system.", "colours does a rainbow have": "A rainbow has 7 colours.",
    "bits are in a byte": "A byte has 8 bits.", "eggs are in a dozen": "A dozen is 12 eggs.",
    "continents are there": "There are 7 continents.", "strings does a violin have": "A violin has 4 strings.",
    "ears does a dog have": "A dog has 2 ears.", "wings does a bird have": "A bird has 2 wings.", "arms does an octopus have": "An octopus has 8 arms.",
    "strings does a guitar have": "A guitar has 6 strings.", "grams are in a kilogram": "A kilogram has 1000 grams.",
    "moons does the Earth have": "The Earth has 1 moon.", "players are in a football team": "A football team has 11 players.",
    "toes does a foot have": "A foot has 5 toes.", "teeth does an adult have": "An adult has 32 teeth.",
    "corners does a square have": "A square has 4 corners.", "vowels are in the alphabet": "There are 5 vowels: a, e, i, o and u.",
    "days are in a leap year": "A leap year has 366 days.", "days are in a weekend": "A weekend has 2 days: Saturday and Sunday.",
    "years are in a century": "A century has 100 years.", "years are in a decade": "A decade has 10 years.",
    "quarters are in a year": "A year has 4 quarters.", "seconds are in an hour": "An hour has 3600 seconds.",
    "minutes are in a day": "A day has 1440 minutes.", "hours are in a week": "A week has 168 hours.",
}

GIRLS = "Anna Clara Emma Grace Ida Kate Mia Olga Rosa Tina Wendy Lily Nora Julia Lucy Eva Maria Alice Ella Sophie".split()
BOYS = "Ben David Felix Henry Jack Leo Noah Paul Sam Victor Max Tom Oscar Peter Adam Simon Hugo Robert Martin Daniel".split()
NAMES = GIRLS + BOYS

WORDS = """cat dog sun moon star tree bird fish book door hand foot milk rain snow wind fire rock sand lake hill road ship boat car bus house mouse
horse apple bread chair table plant water river stone cloud grass green brown white black happy smile light night day week month year king queen
castle garden window flower school pencil paper letter number animal summer winter spring autumn orange yellow purple silver golden little big
small tall short long fast slow hot cold warm cool open close start stop sing song dance play game ball bear wolf lion tiger zebra sheep goat duck
goose frog toad snake bee ant spider cow pig hen egg nut pear plum grape lemon peach melon carrot onion potato bean pea rice soup salt sugar honey
cake candy spoon fork knife plate cup glass bottle lamp bed room wall roof floor key lock box bag hat coat shoe sock shirt ring clock watch phone
radio music piano drum train plane truck wheel bridge tower street market bank park farm field forest ocean beach island desert mountain valley
breakfast dinner morning evening night kitchen doctor teacher farmer brother sister mother father friend family people child baby finger shoulder
heart brain blood tooth tongue stomach elephant giraffe monkey dolphin penguin turtle squirrel rabbit hedgehog butterfly kangaroo crocodile
banana cherry strawberry tomato pepper garlic cabbage cheese butter chocolate coffee water juice kettle basket blanket pillow mirror candle
ladder hammer needle thread button pocket wallet ticket camera computer keyboard screen printer language library science history
geography question answer problem example sentence story secret promise present birthday holiday weekend monday friday sunday january october
thunder lightning shadow forest branch flower petal meadow volcano planet rocket engine bicycle airport station hospital factory museum theatre
yesterday tomorrow always never beautiful difficult important different together between without because through thought strength rhythm
quick lazy jump climb swim walk run eat drink sleep laugh cry help find lose build break carry bring catch throw follow answer
block weight bits code model token expert router learn think speak write read count spell word hello world""".split()
WORDS = list(dict.fromkeys(WORDS))
