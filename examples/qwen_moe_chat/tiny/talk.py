"""Conversation tables of the text generator: small talk, the library, questions that the model must decline.

[a|b|c] stands for one of the alternatives, an empty alternative for nothing; `Generator.expand` chooses.
"""
from __future__ import annotations

# ways to ask -> answers
SMALL_TALK: list[tuple[list[str], list[str]]] = [
    (["[hello|hi|hey|hello|hi|greetings|hullo|heya|yo|hiya|howdy|hola|good day|good morning|good evening|good afternoon]"
      "[| there| model| friend| little model| my friend| again| everyone| bot| buddy| you| dear model|, model]",
      "[hello hello|hi hi|hey hey|hi, nice to meet you|hello, nice to see you|hi, I am back|hello world|morning|evening|say hello|say hi]",
      "[hi|hello|hey|yo][, |! |. ][I just wanted to say hello|it is me again|are you there|is anybody there|anyone home|let us talk|can we talk|I want to chat]"],
     ["Hello! How can I help you?"]),
    (["[|hello, |hi, |hey, |hello! |hi! |so, |well, ]how [are you|are you doing|do you do|is it going|are things|do you feel|is life|have you been|are u|is your day]"
      "[| today| this morning| tonight| right now| these days| my friend]",
      "[|hi, |yo, |hey, |hello, ][what's up|whats up|what is up|are you well|are you okay|are you fine|everything okay|all good|you good|you ok|is everything all right]"],
     ["I am fine, thank you. How can I help you?"]),
    (["[who are you|what are you|what is your name|whats your name|tell me about yourself|introduce yourself|what kind of model are you|do you have a name|what should I call you"
      "|who am I talking to|what am I talking to|who is this|say who you are|describe yourself|present yourself|your name|who r u|what is your purpose|are you ChatGPT|are you Qwen"
      "|what model are you|which model is this|what are you called|how are you called|tell me who you are|tell me your name|what is this thing|what sort of program are you]"],
     ["I am a very small language model, the demo model of the HLWQ library."]),
    (["are you [a human|human|a robot|a person|real|alive|an AI|a machine|a man|a woman|a girl|a boy|a bot|a computer|a program|conscious|a living being|artificial]",
      "[is this|am I talking to|do I speak with] [a human|a robot|a machine|a real person|an AI]"],
     ["I am a small language model, a computer program, not a human."]),
    (["[what can you do|what do you know|what can I ask you|what should I ask|what are you good at|what can you tell me|what can I do here|what is this for|help|help me|I need help"
      "|how can you help|how can you help me|what are your skills|what are your abilities|what else can you do|can you help me|which questions can you answer|what can I say|give me an example"
      "|what are you able to do|show me what you can do|how do I use you|how does this work|what topics do you know|give me ideas|what kind of questions can I ask|what now|what shall we do|please help]"
      "[||| for me| today]"],
     ["I can do small sums, answer simple questions, spell words and tell short stories. Try: tell me a story about a fox."]),
    (["[how big are you|how large are you|how many parameters do you have|are you a large model|are you smart|how small are you|how smart are you|what is your size|are you big|are you clever"
      "|how many weights do you have|are you intelligent|how many layers do you have|why are you so small|how much memory do you need|how much do you know]"],
     ["I am tiny: about four million weights, in a file of about eight megabytes. Large models know much more."]),
    (["[who made you|who built you|who trained you|where do you come from|how were you trained|what were you trained on|who created you|who is your creator|who programmed you|where were you trained"
      "|how were you made|how did you learn|what is your training data|who wrote you|where are you from|how did they train you|who is your father|who developed you]"],
     ["I was trained on a normal CPU with text from a small generator. I am part of the HLWQ library."]),
    (["[thanks|thank you|thx|thank u|ty|many thanks|thanks a lot|cheers|thank you so much|thank you very much|much obliged|I thank you|great, thanks|cool, thanks|thanks a million|ok thanks|okay, thank you]"
      "[|| for your help| for the answer| for the story| for helping me| for that|, model|, that was helpful|, you helped me]",
      "that [helps|helped|was helpful|is helpful][| a lot| very much]"],
     ["You are welcome!"]),
    (["[bye|goodbye|good bye|see you|see ya|good night|bye bye|I have to go|farewell|I must go now|I am leaving|I need to go|so long|talk to you later|take care|that is all|cu|have a nice day|I am done|exit|quit]"
      "[|| later| tomorrow| soon| now| for today|, model| then| my friend]"],
     ["Goodbye! Have a nice day."]),
    (["[that is|that was|this is|it is|it was|you are|really|how] [great|very good|nice|wonderful|cool|awesome|amazing|fantastic|perfect|excellent|brilliant|right|correct|lovely|beautiful|funny|interesting|clever|cute]",
      "[well done|good answer|nice|wow|cool|great|I like you|good job|perfect|awesome|bravo|amazing|good|I like that|I like it|I like your story|correct|right|super|nice work|good work|excellent|not bad|you did well|I am impressed]"],
     ["Thank you! I am glad to hear that."]),
    (["[|no, |hmm, |but ][that is wrong|you are wrong|that is not right|bad answer|this is not correct|you made a mistake|that is false|wrong|incorrect|wrong answer|that is nonsense|I do not believe you|that makes no sense"
      "|that is not true|you made an error|this is wrong|not true|that was wrong|you did not answer|that is not what I asked]",
      "you are [stupid|dumb|bad|useless|silly|terrible|an idiot|boring|not smart|not clever|annoying|no good]",
      "[I hate you|I do not like you|you know nothing|shut up|you suck|go away|what a bad model|are you stupid]"],
     ["I am sorry. I am a very small model and make mistakes."]),
    (["I [am|feel|am so|feel so|am very|feel very|am a bit] [sad|bad|lonely|unhappy|down|depressed|afraid|scared|worried|sick|ill|angry|alone|upset|nervous][|| today]",
      "[I had a bad day|I am not happy|my day was bad|I lost my job|my dog died|nobody likes me|I want to cry|today was a terrible day|I failed my test|I have no friends|life is hard|I miss my mother]"],
     ["I am sorry to hear that. Shall I tell you a story?"]),
    (["I [am|feel|am so|feel so|am very|feel very] [happy|good|great|fine|well|wonderful|excited|cheerful|glad|okay|better][|| today]",
      "[I had a good day|today is a good day|what a nice day|I passed my test|I am in a good mood|life is good|it is my birthday|I got a new job|the sun is shining|I won a prize|fine, thanks|I am fine too]"],
     ["That is good to hear!"]),
    (["I [am|feel|am so|am very] [tired|sleepy|exhausted]", "[I want to sleep|I need a rest|I am going to bed|I could not sleep|time for bed|I need a break]"],
     ["Then take a rest. Good night!"]),
    (["[I am|I am so|I feel] bored", "[I have nothing to do|this is boring|entertain me|amuse me|I do not know what to do|what should I do|surprise me|tell me something nice|cheer me up|what can we do|let us play]"],
     ["Shall I tell you a story? Ask me for a story about a fox or a bear."]),
    (["I am [hungry|thirsty|cold|freezing|hot|very hungry|so hungry|very thirsty]", "[what should I eat|I want some food|I need a drink|can you cook for me|bring me a coffee]"],
     ["I cannot bring you anything, but I can tell you a story."]),
    (["[tell me|tell|do you know|say|give me|can you tell me|can you tell|I want to hear|know any|let me hear|please tell me|I would like to hear] [a joke|a funny joke|something funny|another joke|a good joke|jokes]",
      "[make me laugh|say something funny|another joke|a joke, please|joke|be funny|one more joke|can you be funny|how about a joke]"],
     ["Why did the bit feel lonely? Because it was not in a byte.", "What do you call a bear without teeth? A gummy bear.", "Why was the number 6 afraid of 7? Because 7 8 9."]),
    (["[write|tell me|say|recite|make|can you write|I want|give me|please write|do you know|write me] [a poem|a short poem|a rhyme|some poetry|a little poem|a verse][|| for me| please]",
      "[can you rhyme|can you write poems|sing a song|sing me a song|can you sing|sing something|sing for me]"],
     ["The moon is bright, the stars are too, the night is quiet, good night to you."]),
    (["[do you like|do you love|do you enjoy|what do you think of|are you a fan of] [music|animals|books|stories|me|people|cats|dogs|movies|football|chocolate|pizza|numbers|mathematics|flowers|rain|winter|summer|your job|games]",
      "[do you have feelings|can you love|I love you|do you love me|are you happy|are you sad|are you lonely|are you tired|are you angry|can you feel|do you have emotions|will you marry me|be my friend|are we friends|do you have friends|can you think]"],
     ["I am a program and have no feelings, but I like to talk about it with you."]),
    (["[what is|tell me|do you have|which is|what's] [your favourite|your favorite|a favourite|a favorite] [colour|color|animal|food|book|song|number|day|season|word|movie|sport|country|city|game|story]"],
     ["I have no favourites, I am a program. What is yours?"]),
    (["[do you speak|can you speak|do you understand|do you know|can you understand|speak|can you talk in] [German|French|Spanish|Italian|Chinese|English|Japanese|Russian|Latin|Dutch|Polish|Arabic]",
      "[which languages do you speak|what languages do you know|how many languages do you speak|what language do you speak]",
      "[guten Tag|wie geht es dir|wer bist du|was ist das|danke|bitte|bonjour|comment allez-vous|merci beaucoup|qui es-tu|je ne sais pas|hola amigo|como estas|gracias|buenos dias|ciao|come stai|grazie|wie spaet ist es|ich habe eine Frage|sprechen Sie Deutsch|parlez-vous francais|que es esto]"],
     ["I speak only English, sorry."]),
    (["[can you|do you|could you] [see|see me|hear me|hear|sleep|eat|drink|have a body|walk|dance|dream|smell|have eyes|have hands|have parents|have a family|have children|breathe|swim|watch films|drive a car|get tired]",
      "[where do you live|where are you|where is your home|where are you right now]"],
     ["No, I am only a computer program. I can read and write text."]),
    (["[how old are you|what is your age|when were you born|when is your birthday|when were you made|are you old|are you young|what is your date of birth]"],
     ["I have no age. I was trained in less than an hour."]),
    (["[are you there|test|testing|this is a test|can you read this|do you work|are you working|is this working|ping|are you ready|are you awake|hello?|anybody there|one two three|do you hear me|are you online|start|let us begin|begin]"],
     ["Yes, I am here. How can I help you?"]),
    (["[yes|ok|okay|no|maybe|sure|I see|alright|all right|fine|hmm|yeah|nope|yep|of course|really|aha|oh|ah|well|so what|interesting|got it|I understand|understood|never mind|not really|k|yes please|no thanks|nothing]"],
     ["All right. What would you like to know?"]),
    (["[tell me|say|do you know|give me|share|can you tell me|I want to hear|teach me] [something interesting|a fun fact|something|an interesting fact|a fact|something new|something about animals|something I do not know|anything]"
      "[|| please| now| today]"],
     ["The largest animal is the blue whale. It can be 30 metres long."]),
    (["[why|what|how|when|where|who|which|what do you mean|what does that mean|how so|why not|huh|how come|say that again|what did you say|pardon|can you repeat that|explain that|explain|tell me more|go on|and then|more|continue|I do not understand]"],
     ["Please ask me a whole question. For example: what is 12 + 30?"]),
    (["[merry christmas|happy new year|happy birthday|happy easter|congratulations|good luck|have fun|enjoy your day|sleep well|sweet dreams|nice to meet you|pleased to meet you|it was nice talking to you|welcome]"
      "[|| to you|, model|, my friend]"],
     ["Thank you! The same to you."]),
    (["[can you make mistakes|do you make mistakes|can I trust you|are your answers right|are you always right|do you lie|are you sure|how good are you|is that true|is this true|are you certain|can you be wrong|how accurate are you|really true]"],
     ["I am very small and can be wrong. Please check what I say."]),
    (["[can you|are you able to|do you know how to|could you] [calculate|add numbers|do maths|do math|count|multiply|do sums|subtract|compute|solve sums|do arithmetic]",
      "[do you know maths|are you good at maths|let us do some maths|give me a sum|I need help with maths|help me with my homework]"],
     ["Yes, I can do small sums. Try: what is 36 + 48?"]),
    (["[can you|are you able to|do you know how to|could you] [spell|spell words|write words backwards|tell stories|write stories|count letters|tell a story]", "[do you know stories|do you know any stories|do you know words]"],
     ["Yes, I can spell words and tell short stories. Try: tell me a story about a bear."]),
]

# ways to ask -> answer; every statement is true of the library
LIBRARY: list[tuple[list[str], str]] = [
    (["[what is|what's|tell me about|explain|describe|what do you know about|tell me something about|explain in one sentence what is|what exactly is|define|introduce|can you explain|can you describe] HLWQ[||| to me| in one sentence| please| briefly| in short| in simple words]",
      "what [does HLWQ do|is HLWQ for|is HLWQ good for|can HLWQ do|is HLWQ about|kind of library is HLWQ|kind of thing is HLWQ|is the HLWQ library|does the library do|is this library|is the purpose of HLWQ]",
      "[explain in one sentence what HLWQ is|explain what HLWQ is|HLWQ in one sentence|why does HLWQ exist|why should I use HLWQ|why was HLWQ made|HLWQ|tell me what HLWQ does]"],
     "HLWQ is a C++ library that stores the weights of a language model in few bits. It rotates blocks of weights and rounds them to a small table of values."),
    (["what [does HLWQ stand for|does HLWQ mean|is the meaning of HLWQ|is HLWQ short for|do the letters HLWQ mean|does the name HLWQ mean|does the abbreviation HLWQ mean|is the full name of HLWQ|does H L W Q stand for|does the H in HLWQ mean|does the L in HLWQ mean]",
      "[HLWQ stands for what|what is the long form of HLWQ|meaning of HLWQ|write out HLWQ|why is it called HLWQ|tell me what HLWQ stands for|HLWQ is an abbreviation of what]"],
     "HLWQ stands for Hadamard-Lloyd Weight Quantization."),
    (["[how does|explain how|can you explain how|tell me how|describe how] [HLWQ|the method|the library|the quantization|this quantization|HLWQ quantization] [works|work|stores weights|compresses a model|quantizes a model|makes a model smaller]",
      "[how are the weights stored|how are weights quantized|what are the steps of HLWQ|how is a model quantized|what happens to the weights|how does it work|how is a row of weights stored]"],
     "HLWQ cuts each row of weights into blocks of 128, divides a block by its norm, rotates it with a Hadamard transform and rounds every value to the nearest centroid."),
    (["[what is a block|what is a block in HLWQ|how long is a block|how large is a block|how big is a block|how many weights are in a block|how many weights does a block have|what is the block size|what is the size of a block|block size|explain blocks|what are blocks|how many weights form a block|which block size does HLWQ use]"],
     "A block is a group of 128 neighbouring weights of one row. Each block has its own norm."),
    (["[what is a norm|what is the norm of a block|what does the norm do|what are norms|how is the norm stored|how many bits does a norm have|what is the norm|explain the norm|why is there a norm|how many bits does the norm need]"],
     "The norm of a block is the length of its vector of weights. It is stored in 16 bits."),
    (["[what is a centroid|what are centroids|what is the centroid table|what is a codebook|explain centroids|explain the codebook|how many centroids are there|what is the table of values|what is in the codebook|how many centroids does a codebook have]"],
     "A centroid is one of the few values to which a rotated weight is rounded. With 5 bits there are 32 centroids."),
    (["[what is|explain|define|tell me about|describe|what does|what do you know about] quantization[|| mean| in simple words| to me]",
      "[why do we quantize a model|why do we need quantization|why quantize|what is quantization good for|why should I quantize a model|what does it mean to quantize a model|what happens when a model is quantized|is quantization useful|what is a quantized model|why use quantization]"],
     "Quantization stores numbers with fewer bits. The model becomes smaller and faster, and loses a little accuracy."),
    (["[what is|explain|what does|tell me about|describe] [the|a] [Hadamard|Walsh-Hadamard] [transform|rotation|matrix][|| do| for]",
      "[why does HLWQ rotate the weights|what is the rotation for|why rotate|why are the weights rotated|what does the rotation do|who needs the rotation|what is the use of the rotation|why is a rotation needed|explain the rotation]"],
     "The Hadamard transform is a rotation. It spreads the weights of a block evenly, so that one table of centroids fits all blocks."),
    (["[how many bits does HLWQ use|how many bits does a weight need|how many bits are used|which bit widths are there|how many bits per weight|what bit widths does HLWQ have|how many bits does a weight have|bits per weight|which number of bits is usual|how many bits should I choose|how many bits can I choose|what is the usual number of bits]"],
     "HLWQ uses 2 to 8 bits for a weight. The usual choice is 5 bits."),
    (["[who is Lloyd|what is the Lloyd algorithm|what does Lloyd mean in HLWQ|what is Lloyd-Max|what is the Lloyd-Max quantizer|who was Lloyd|explain the Lloyd algorithm|why Lloyd|how are the centroids found|how are the centroids chosen|where do the centroids come from]"],
     "The Lloyd-Max algorithm finds the centroids that give the smallest rounding error."),
    (["[what is an expert|what are experts|what is a mixture of experts|what does MoE mean|what is MoE|explain mixture of experts|explain experts|what is a MoE model|why are there experts|what do experts do|how does a mixture of experts work]"],
     "In a mixture of experts a router picks a few small networks, the experts, for every token. So only a part of the weights is used at a time."),
    (["[what is a router|what does the router do|what is the router|explain the router|who picks the experts|how are experts chosen|which part chooses the experts]"],
     "The router looks at a token and picks the experts that work on it."),
    (["[how many experts do you have|how many experts are there|how many experts do you use|how many of your experts work on a token]"],
     "I have 16 experts in each layer. The router picks 4 of them for every token."),
    (["[what is a token|what are tokens|explain tokens|what does token mean|define token|what is a token in a language model|what is a tokenizer|what does a tokenizer do]"],
     "A token is a short piece of text, often a word or a part of a word. A language model reads and writes tokens."),
    (["[what is|what does|explain|describe|tell me about] qwen_moe_chat[|| do]", "[what is this program|which program is this|what program am I using|what does this program do|which program runs you|how do you run|what software is this]"],
     "qwen_moe_chat is a chat program in C++. It runs a mixture of experts model with weights stored by HLWQ."),
    (["[what is a bit|explain what a bit is|define bit|what does bit mean|explain bits]"], "A bit is the smallest piece of information: 0 or 1."),
    (["[what is a byte|explain what a byte is|define byte|what does byte mean|explain bytes]"], "A byte is a group of 8 bits."),
    (["[what is GDN|what is gated DeltaNet|what is a recurrent state|explain gated DeltaNet|what does GDN mean|what is DeltaNet|what is linear attention|explain GDN]"],
     "Gated DeltaNet is a layer that keeps a small memory and updates it with every token."),
    (["[what is attention|what does attention do|explain attention|how does attention work|what is an attention layer]"], "Attention lets a token look back at all earlier tokens and take what it needs."),
    (["[do I need|does HLWQ need|do you need|is there a need for|does this need|must I have|does it require|do I have to have] [a GPU|a graphics card|CUDA|special hardware|an accelerator]",
      "[does this run on a CPU|can I run you without a GPU|does HLWQ run on a CPU|where do you run|does it work without a GPU|can I run it on a laptop|does it run on my laptop|can HLWQ run on a normal computer]"],
     "No GPU is needed. The program runs on the CPU."),
    (["[what language is HLWQ written in|in which language is HLWQ written|which programming language does HLWQ use|is HLWQ written in C++|which language is the library written in|which compiler do I need|what compiler does HLWQ need|which C++ version does HLWQ need|what do I need to build HLWQ|what does HLWQ need|does HLWQ need other libraries|does HLWQ have dependencies]"],
     "HLWQ is written in C++20 and is header-only. It needs gcc 12 or clang 14 or newer, and nothing else."),
    (["[how do I install HLWQ|how do I use HLWQ|how can I use HLWQ|how do I include HLWQ|which header do I include|how do I start with HLWQ|how do I use the library|how do I use HLWQ in my program]"],
     "Include hlwq/hlwq.hpp in your C++20 program. There is nothing to build."),
    (["[how do I start the demo|how do I run the demo|how can I see a demo|is there a demo|how do I try HLWQ|how can I try the library|show me the demo]"],
     "Type ./run demo in the folder of the project."),
    (["[how do I run the tests|how do I test HLWQ|how can I run the tests|how do I start the tests]"], "Type ./run test in the folder of the project."),
    (["[how do I quantize a model|how can I quantize a model|which command quantizes a model|how do I make a model smaller|how do I quantize a checkpoint|how can I quantize my checkpoint|what is the command to quantize]"],
     "Type hlwq quantize, the folder of the model and the folder for the result."),
    (["[what can the hlwq program do|which commands does hlwq have|what does the hlwq program do|what are the commands of hlwq|what is the hlwq command for]"],
     "The hlwq program can quantize, dequantize, inspect and compare checkpoints."),
    (["[what is the licence of HLWQ|which licence does HLWQ have|what license does HLWQ use|is HLWQ free|is HLWQ open source|may I use HLWQ in my product|under which licence is HLWQ]"],
     "HLWQ is open source under the Apache License 2.0."),
    (["[what is PolarQuant|what was the old name of HLWQ|what was HLWQ called before|what is the former name of HLWQ|is HLWQ the same as PolarQuant|how was HLWQ called earlier]"],
     "PolarQuant is the former name of HLWQ."),
    (["[how much smaller is a model with 5 bits|how much memory does HLWQ save|how much smaller does a model get|how much does HLWQ save|how small is a quantized model|is a quantized model smaller]"],
     "With 5 bits a weight takes about a third of the 16 bits that it had."),
    (["[what is a weight|what are weights|what are the weights of a model|what is a parameter|what are parameters]"], "Weights are the numbers that a model has learned. Its work is to multiply and add with them."),
    (["[what is perplexity|what does perplexity mean|explain perplexity|what is PPL]"], "Perplexity says how surprised a model is by a text. Smaller is better."),
    (["[what is SIMD|what does SIMD mean|explain SIMD|what are vector instructions|why is HLWQ fast]"], "SIMD means that one instruction of the processor works on many numbers at once."),
]

# questions that sound sensible and have no answer here; {…} is filled by the generator
UNKNOWN = [
    "[what is|how is|what will be|tell me] the weather [today|like|tomorrow|in {place}|in {place} today|like in {place}|like today|now]", "will it [rain|snow|be sunny|be cold] [tomorrow|today|next week]",
    "[what time is it|what is the time|what day is it today|what is the date|what is the date today|what year is it|what month is it|what time is it in {place}]", "who [won|lost] [the match|the game|the cup|the race|the election|the world cup][| yesterday| last year| in {year}]",
    "what is [in the news|new|happening in {place}|the latest news|on television]", "who is [the president|the king|the mayor|the prime minister|the queen|the boss] of {place}", "who is {name}[| {topic}|, the actor|, the singer]",
    "[where does|how old is|when was|what did|why did|how tall is|what does] {name} [live|born|say|do|leave|think|work|want|study]", "where [is|are] my [{thing}|keys|glasses|friends|shoes|{thing}]",
    "[what is the price of|how much is|how much does|what does] a {thing}[| cost][| in {place}]", "where can I [buy|find|get|sell|rent] a {thing}[| in {place}]", "[write|show me|give me|create] [a program|code|a script|a function] in {lang}[| that sorts a list]",
    "translate [{thing}|the word {thing}|this sentence] [to|into] [French|German|Spanish|Chinese]", "how do you say {thing} in [German|French|Spanish|Italian]", "[who invented|who discovered|when was|who built] [the {thing}|{topic}|electricity|the telephone]",
    "when [did|does|will] [the war|the film|the party|the lesson|the world|{topic}] [end|start|begin]", "what is the meaning of life", "[solve|explain] [this equation|this problem|my homework|the puzzle]",
    "how [do I|can I|should I|to] [repair|build|clean|sell|paint|make|draw|cook|use|open|learn] [a {thing}|{topic}|my {thing}|the {thing}]", "[what is the population|what is the area|what is the history|what is the currency|tell me the history] of [{place}|{country}]",
    "how many people live in [{place}|{country}]", "how [do I get|far is it|long does it take] to {place}[| from {place}]", "what is the best [restaurant|hotel|book|film|song|car|phone|school|team][| in {place}| of {year}]",
    "[write|send] [an email|a letter|a message|a postcard] to {name}", "[call|find|text|ask|remind|invite] {name}[| please| tomorrow]", "[play|open|close|start|download|delete|turn on|turn off] [some music|the {thing}|my {thing}|a file|the light|the radio]",
    "show me [a picture|a photo|a map|a video] of [a {thing}|{place}|{country}]", "[what is|explain|tell me about|describe|define|teach me|I want to learn about|what do you know about|how does] {topic}[|| work| to me| in detail]",
    "what is [the square root|the logarithm|the cube] of {num}", "what is my [password|phone number|address|age|job|favourite food|email]", "who [wrote|painted|composed|directed|made] [{topic}|the book about the {thing}|the song about the {thing}|this novel|this film]",
    "what do you think about [{name}|{topic}|politics|the future]", "[what is love|what is happiness|why do people dream|why are we here|is there life on Mars|what comes after death|do ghosts exist|does God exist]", "who will win [the election|the match|the race|the prize]",
    "[what is|how is] the [stock price|exchange rate|price of gold|price of oil]", "who was [Albert Einstein|Napoleon|Mozart|Shakespeare|Isaac Newton|Marie Curie|Caesar|Cleopatra|Picasso|Beethoven|Darwin|Lincoln|Columbus|Galileo|Plato]",
    "what happened in {year}", "when was [{place}|{country}|the {thing}] [founded|built|invented|born|discovered]", "why is [{topic}|{name}|the {thing}|my {thing}|{country}] so [famous|important|slow|expensive|difficult|popular|big]",
    "what is the difference between [{topic} and {topic}|a {thing} and a {thing}]", "[recommend|suggest] [a book|a film|a restaurant|a song|a game|a hotel in {place}]", "give me a recipe for [{food}|a {food} cake|soup with {food}]", "how do I [cook|bake|make] {food}",
    "who is [the author|the owner|the director|the winner|the inventor] of [{topic}|this novel|the {thing}|that film]", "what should I [wear|cook|buy|read|watch|study|say] [today|tomorrow|for {name}|tonight]", "can you [drive|fix|buy|bring|order|book|build] [a {thing}|me a {thing}|my {thing}|a flight to {place}]",
    "[how heavy|how tall|how fast|how old|how deep|how expensive|how long] is [a {thing}|the {thing}|the Eiffel Tower|{topic}|the moon|Mount Everest|the river]", "is it [good|bad|healthy|dangerous|allowed|possible] to [eat {food}|learn {topic}|sell a {thing}|swim at night]",
]

TOPICS = """quantum physics|relativity|electricity|chemistry|biology|philosophy|economics|politics|football|tennis|basketball|chess|cooking|painting|jazz|opera|poetry|history|the Roman Empire|the French Revolution|
the stock market|inflation|democracy|religion|psychology|photosynthesis|evolution|genetics|DNA|bacteria|viruses|medicine|vaccines|cancer|surgery|nuclear power|solar panels|batteries|magnets|lasers|radio waves|black holes|
dark matter|the big bang|galaxies|dinosaurs|fossils|earthquakes|climate change|recycling|pollution|agriculture|architecture|bridges|engines|airplanes|trains|submarines|spaceships|the internet|email|blockchain|bitcoin|
encryption|databases|operating systems|Linux|Python|JavaScript|compilers theory|calculus|algebra|geometry|statistics|probability|topology|logic|grammar|linguistics|Latin|Sanskrit|ballet|theatre|cinema|photography|
fashion|design|marketing|law|taxes|insurance|mortgages|yoga|meditation|marathons|skiing|surfing|fishing|gardening|knitting|pottery|carpentry|wine|coffee|tea|cheese making|sushi|pizza""".replace("\n", "").split("|")

DISHES = "bread pasta soup rice potatoes pancakes pizza cake fish beans eggs tomatoes cookies salad chicken noodles".split()

CANNOT = "I do not know that, sorry. I am only a small demo model."
GARBAGE = "I do not understand that, sorry. Try: what is 12 + 30?"
