"""The words and the grammar of the invented world.

It has five kinds of places and products, and three languages. Every judgement comes in pairs.
`straight` templates keep the polarity of the word that is put into them. `turned` templates reverse
it. So neither the words nor the templates alone give the verdict away.
"""

# key: {language: (good word, bad word)}
QUALITIES = {
    "taste": {
        "en": ("delicious", "disgusting"),
        "de": ("köstlich", "widerlich"),
        "zh": ("好吃", "难吃"),
    },
    "manners": {"en": ("friendly", "rude"), "de": ("freundlich", "grob"), "zh": ("热情", "粗鲁")},
    "speed": {"en": ("quick", "slow"), "de": ("schnell", "langsam"), "zh": ("快", "慢")},
    "clean": {"en": ("clean", "dirty"), "de": ("sauber", "schmutzig"), "zh": ("干净", "脏")},
    "quiet": {"en": ("quiet", "noisy"), "de": ("ruhig", "laut"), "zh": ("安静", "吵")},
    "sharp": {"en": ("clear", "blurred"), "de": ("klar", "unscharf"), "zh": ("清晰", "模糊")},
    "solid": {"en": ("sturdy", "flimsy"), "de": ("stabil", "wackelig"), "zh": ("结实", "单薄")},
    "thrill": {
        "en": ("gripping", "boring"),
        "de": ("spannend", "langweilig"),
        "zh": ("精彩", "无聊"),
    },
    "general": {"en": ("good", "bad"), "de": ("gut", "schlecht"), "zh": ("好", "差")},
    "great": {
        "en": ("excellent", "dreadful"),
        "de": ("ausgezeichnet", "furchtbar"),
        "zh": ("出色", "糟糕"),
    },
}

# domain: the things that people review, and the aspects that they judge.
# An aspect ends with the qualities that suit it.
DOMAINS = {
    "restaurant": {
        "things": [
            {"en": "restaurant", "de": "das Restaurant", "zh": "这家餐厅"},
            {"en": "pizzeria", "de": "die Pizzeria", "zh": "这家披萨店"},
            {"en": "noodle bar", "de": "das Nudelhaus", "zh": "这家面馆"},
        ],
        "aspects": [
            ({"en": "soup", "de": "die Suppe", "zh": "汤"}, "taste"),
            ({"en": "steak", "de": "das Steak", "zh": "牛排"}, "taste"),
            ({"en": "dessert", "de": "der Nachtisch", "zh": "甜点"}, "taste"),
            ({"en": "waiter", "de": "der Kellner", "zh": "服务员"}, "manners"),
            ({"en": "terrace", "de": "die Terrasse", "zh": "露台"}, "quiet clean"),
            ({"en": "kitchen", "de": "die Küche", "zh": "厨房"}, "clean speed"),
        ],
    },
    "hotel": {
        "things": [
            {"en": "hotel", "de": "das Hotel", "zh": "这家酒店"},
            {"en": "guesthouse", "de": "die Pension", "zh": "这家旅馆"},
            {"en": "hostel", "de": "die Herberge", "zh": "这家青年旅社"},
        ],
        "aspects": [
            ({"en": "room", "de": "das Zimmer", "zh": "房间"}, "clean quiet"),
            ({"en": "bathroom", "de": "das Bad", "zh": "浴室"}, "clean"),
            ({"en": "breakfast", "de": "das Frühstück", "zh": "早餐"}, "taste"),
            ({"en": "pool", "de": "der Pool", "zh": "泳池"}, "clean quiet"),
            ({"en": "receptionist", "de": "die Empfangsdame", "zh": "前台"}, "manners"),
            ({"en": "lift", "de": "der Aufzug", "zh": "电梯"}, "speed clean"),
        ],
    },
    "shop": {
        "things": [
            {"en": "shop", "de": "das Geschäft", "zh": "这家商店"},
            {"en": "bookshop", "de": "die Buchhandlung", "zh": "这家书店"},
            {"en": "market", "de": "der Markt", "zh": "这个市场"},
        ],
        "aspects": [
            ({"en": "cashier", "de": "die Kassiererin", "zh": "收银员"}, "manners speed"),
            ({"en": "salesman", "de": "der Verkäufer", "zh": "店员"}, "manners"),
            ({"en": "delivery", "de": "die Lieferung", "zh": "送货"}, "speed"),
            ({"en": "parcel", "de": "das Paket", "zh": "包裹"}, "solid clean"),
            ({"en": "fitting room", "de": "die Umkleide", "zh": "试衣间"}, "clean quiet"),
            ({"en": "website", "de": "die Webseite", "zh": "网站"}, "sharp"),
        ],
    },
    "gadget": {
        "things": [
            {"en": "phone", "de": "das Handy", "zh": "这部手机"},
            {"en": "laptop", "de": "der Laptop", "zh": "这台电脑"},
            {"en": "watch", "de": "die Uhr", "zh": "这块手表"},
        ],
        "aspects": [
            ({"en": "screen", "de": "der Bildschirm", "zh": "屏幕"}, "sharp"),
            ({"en": "keyboard", "de": "die Tastatur", "zh": "键盘"}, "quiet solid"),
            ({"en": "camera", "de": "die Kamera", "zh": "相机"}, "sharp speed"),
            ({"en": "menu", "de": "das Menü", "zh": "菜单"}, "sharp"),
            ({"en": "case", "de": "das Gehäuse", "zh": "外壳"}, "solid"),
            ({"en": "charger", "de": "das Ladegerät", "zh": "充电器"}, "speed solid"),
        ],
    },
    "film": {
        "things": [
            {"en": "film", "de": "der Film", "zh": "这部电影"},
            {"en": "series", "de": "die Serie", "zh": "这部剧"},
            {"en": "comedy", "de": "die Komödie", "zh": "这部喜剧"},
        ],
        "aspects": [
            ({"en": "plot", "de": "die Handlung", "zh": "剧情"}, "thrill"),
            ({"en": "ending", "de": "das Ende", "zh": "结局"}, "thrill"),
            ({"en": "soundtrack", "de": "die Musik", "zh": "配乐"}, ""),
            ({"en": "dialogue", "de": "der Dialog", "zh": "对白"}, ""),
            ({"en": "picture", "de": "das Bild", "zh": "画面"}, "sharp"),
            ({"en": "chase", "de": "die Verfolgungsjagd", "zh": "追逐戏"}, "thrill"),
        ],
    },
}

COMPARATIVES = {"en": ("better", "worse"), "zh": ("好", "差")}

# things one is glad to meet, things one is not
EVENTS = {
    "en": (
        ["smile", "discount", "free sample", "kind word"],
        ["stain", "delay", "hidden fee", "lame excuse"],
    ),
    "zh": (["个微笑", "张优惠券", "份赠品", "句好话"], ["处污渍", "次延误", "笔乱收费", "句借口"]),
}

# (straight, turned) templates that make a clause of a subject and one of its adjectives.
# The first is the shortest.
JUDGEMENTS = {
    "en": (
        ["{subject} was {word}", "{subject} was truly {word}", "{subject} was nothing but {word}"],
        [
            "{subject} was not {word}",
            "{subject} was not at all {word}",
            "{subject} was anything but {word}",
        ],
    ),
    "zh": (
        ["{subject}很{word}", "{subject}确实很{word}", "{subject}不是一般的{word}"],
        ["{subject}并不是很{word}", "{subject}一点也不{word}", "{subject}谈不上{word}"],
    ),
}

# (straight, turned) templates around a comparative
COMPARISONS = {
    "en": (
        ["{subject} could not have been {word}", "{subject} was {word} this time than last time"],
        ["{subject} could have been {word}", "{subject} was {word} last time than this time"],
    ),
    "zh": (
        ["{subject}不能再{word}了", "{subject}这次比上次{word}"],
        ["{subject}还能再{word}点", "{subject}上次比这次{word}"],
    ),
}

# (good word straight, bad word straight), (good word turned, bad word turned)
VERDICTS = {
    "en": [
        (
            ("we were happy", "we were angry"),
            ("we were not at all happy", "we were not at all angry"),
        ),
        (
            ("I liked this {thing}", "I hated this {thing}"),
            ("I never liked this {thing}", "I never hated this {thing}"),
        ),
        (
            ("it earned our praise", "it earned our complaints"),
            ("it never earned our praise", "it never earned our complaints"),
        ),
    ],
    "zh": [
        (("我很满意", "我很失望"), ("我并不是很满意", "我并不是很失望")),
        (("{thing}值得夸", "{thing}值得骂"), ("{thing}不值得夸", "{thing}不值得骂")),
        (("我们很高兴", "我们很生气"), ("我们一点也不高兴", "我们一点也不生气")),
    ],
}

# (straight, turned) frames around a clause
REPORTS = {
    "en": (
        ["Nobody could deny that {clause}.", "It is no lie that {clause}."],
        ["Nobody could say that {clause}.", "It is a lie that {clause}."],
    ),
    "zh": (
        ["没有人否认{clause}。", "说{clause}，那不是骗人。"],
        ["没有人觉得{clause}。", "说{clause}，那是骗人。"],
    ),
}

# something was said beforehand, and what follows (straight, turned) settles it
RUMOURS = {
    "en": (
        [
            "I had been told that {clause}",
            "Online they say that {clause}",
            "A friend swore that {clause}",
        ],
        [", and they were not wrong.", ". They did not lie."],
        [", and they were wrong.", ". They lied."],
    ),
    "zh": (
        ["听说{clause}", "网上说{clause}", "早就听说{clause}"],
        ["，果然如此。", "，说得不错。"],
        ["，其实不然。", "，说得不对。"],
    ),
}

# the clause in {major} decides, the one in {minor} does not
CONTRASTS = {
    "en": [
        "Although {minor}, {major}.",
        "{major}, although {minor}.",
        "{minor}, but {major}.",
        "Never mind that {minor}, {major}.",
        "{major}, never mind that {minor}.",
    ],
    "zh": [
        "虽然{minor}，但是{major}。",
        "{major}，虽然{minor}。",
        "{minor}，但是{major}。",
        "别管{minor}，{major}。",
        "{major}，别管{minor}。",
    ],
}

# sentences whose clauses all say the same
PLAIN = {
    "en": ["{clause}.", "Honestly, {clause}.", "{clause}, and {other}."],
    "zh": ["{clause}。", "说实话，{clause}。", "{clause}，而且{other}。"],
}

# An exclamation that may be meant or not, then an event that came (straight) or did not come
# (turned).
SARCASM = {
    "en": (
        ["Oh wonderful", "Oh dear", "How lovely", "How awful"],
        ["{exclamation}, yet another {event}."],
        ["{exclamation}, not a single {event}."],
    ),
    "zh": (
        ["太好了", "太惨了", "真幸运", "真倒霉"],
        ["{exclamation}，又来一{event}。"],
        ["{exclamation}，没有一{event}。"],
    ),
}

# {good} and {bad} are clauses, {thing} and {subject} as above; the writer does not decide
NEUTRAL = {
    "en": [
        "{good}, {bad}, and the two cancel out.",
        "{bad}, {good}, and both matter the same to me.",
        "{good} and {bad}; I cannot say which counts for more.",
        "{bad} while {good}, so I stay undecided.",
        "{subject} was neither {better} nor {worse}.",
        "Some say that {good}, others that {bad}; I have no opinion.",
        "I had been told that {good}; I cannot judge that yet.",
        "I had been told that {bad}; I cannot judge that yet.",
        "{subject} was not {better}, but it was not {worse} either.",
        "Neither did we find that {bad}, nor that {good}.",
    ],
    "zh": [
        "{good}，{bad}，算是扯平了。",
        "{bad}，{good}，两样对我一样重要。",
        "{good}，可是{bad}，说不清哪个更要紧。",
        "{bad}，不过{good}，我还没想好。",
        "{subject}既不{better}，也不{worse}。",
        "有人说{good}，有人说{bad}，我没有意见。",
        "听说{good}，我还没法判断。",
        "听说{bad}，我还没法判断。",
        "{subject}谈不上{better}，也谈不上{worse}。",
    ],
}

# Parallel sentences. English {a} is an adjective, {article_a} the same with "a" or "an".
# German {der}, {den}, {dem} is the noun with its definite article in that case,
# {der_a}, {den_a}, {dem_a} the same with the adjective in between,
# {einen_a} the accusative after "ein",
# {dieser} and {diesem} the place or product after "dieser".
# A second aspect and a second adjective carry a 2.
TRANSLATIONS = [
    ("the {s} was very {a}.", "{der} war sehr {a}.", "{s}非常{a}。"),
    ("the {s} was not {a}.", "{der} war nicht {a}.", "{s}不{a}。"),
    ("the {s} was not {a} at all.", "{der} war überhaupt nicht {a}.", "{s}一点也不{a}。"),
    ("yesterday the {s} was {a} again.", "gestern war {der} wieder {a}.", "昨天{s}又很{a}。"),
    ("was the {s} really {a}?", "war {der} wirklich {a}?", "{s}真的很{a}吗？"),
    ("we think that the {s} is {a}.", "wir finden, dass {der} {a} ist.", "我们觉得{s}很{a}。"),
    (
        "nobody said that the {s} was {a}.",
        "niemand hat gesagt, dass {der} {a} war.",
        "没有人说{s}很{a}。",
    ),
    (
        "we are writing this because the {s} was {a}.",
        "wir schreiben das, weil {der} {a} war.",
        "我们写这些，是因为{s}很{a}。",
    ),
    (
        "if the {s} is {a} again, we will write another review.",
        "wenn {der} wieder {a} ist, schreiben wir noch eine Bewertung.",
        "如果{s}还是很{a}，我们就再写一篇评论。",
    ),
    (
        "we do not know whether the {s} will stay {a}.",
        "wir wissen nicht, ob {der} {a} bleibt.",
        "我们不知道{s}会不会一直这么{a}。",
    ),
    ("this {thing} has {article_a} {s}.", "{dieser} hat {einen_a}.", "{thing}的{s}很{a}。"),
    (
        "I still remember the {a} {s}.",
        "ich erinnere mich noch an {den_a}.",
        "我还记得那么{a}的{s}。",
    ),
    (
        "without the {a} {s} we would not have written.",
        "ohne {den_a} hätten wir nicht geschrieben.",
        "要不是那么{a}的{s}，我们不会写评论。",
    ),
    (
        "my sister often thinks of the {a} {s}.",
        "meine Schwester denkt oft an {den_a}.",
        "我姐姐常常想起那么{a}的{s}。",
    ),
    (
        "everyone talked about the {a} {s}.",
        "alle sprachen von {dem_a}.",
        "大家都在谈论那么{a}的{s}。",
    ),
    ("the {a} {s} surprised us.", "{der_a} hat uns überrascht.", "那么{a}的{s}让我们吃惊。"),
    (
        "we were very satisfied with the {s}.",
        "mit {dem} waren wir sehr zufrieden.",
        "我们对{s}非常满意。",
    ),
    (
        "the {s} of this {thing} is more important to me.",
        "{der} ist mir bei {diesem} wichtiger.",
        "对我来说，{thing}的{s}更重要。",
    ),
    (
        "my friends asked about this {thing} because the {s} is {a}.",
        "meine Freunde fragten nach {diesem}, weil {der} {a} ist.",
        "我的朋友打听了{thing}，因为{s}很{a}。",
    ),
    (
        "the {s} was just as {a} as last year.",
        "{der} war genauso {a} wie letztes Jahr.",
        "{s}和去年一样{a}。",
    ),
    ("the {s} was better than the {s2}.", "{der} war besser als {der2}.", "{s}比{s2}好。"),
    (
        "although the {s} was {a}, the {s2} was {a2}.",
        "obwohl {der} {a} war, war {der2} {a2}.",
        "虽然{s}很{a}，但是{s2}很{a2}。",
    ),
    (
        "the {s} was {a}, but the {s2} was {a2}.",
        "{der} war {a}, aber {der2} war {a2}.",
        "{s}很{a}，不过{s2}很{a2}。",
    ),
    (
        "the {s} was {a} and the {s2} was {a2}.",
        "{der} war {a} und {der2} war {a2}.",
        "{s}很{a}，{s2}很{a2}。",
    ),
    (
        "first the {s} was {a}, then the {s2} was {a2}.",
        "erst war {der} {a}, dann war {der2} {a2}.",
        "先是{s}很{a}，后来{s2}很{a2}。",
    ),
    (
        "because the {s} was {a}, we forgot the {a2} {s2}.",
        "weil {der} {a} war, vergaßen wir {den_a2}.",
        "因为{s}很{a}，我们忘了那么{a2}的{s2}。",
    ),
    (
        "we compared the {a} {s} with the {a2} {s2}.",
        "wir verglichen {den_a} mit {dem_a2}.",
        "我们拿{a}的{s}和{a2}的{s2}作比较。",
    ),
]

# the endings of an adjective: after the definite article, then after "ein" in the accusative
ENDINGS = {
    "der": {
        "der": ("der", "e"),
        "den": ("den", "en"),
        "dem": ("dem", "en"),
        "einen": ("einen", "en"),
    },
    "die": {"der": ("die", "e"), "den": ("die", "e"), "dem": ("der", "en"), "einen": ("eine", "e")},
    "das": {"der": ("das", "e"), "den": ("das", "e"), "dem": ("dem", "en"), "einen": ("ein", "es")},
}
DEMONSTRATIVES = {
    "der": {"dieser": "dieser", "diesem": "diesem"},
    "die": {"dieser": "diese", "diesem": "dieser"},
    "das": {"dieser": "dieses", "diesem": "diesem"},
}

# the 60 names of the places and products in the articles
NAMES = {
    "en": (
        [
            "Blue",
            "Golden",
            "Silent",
            "Northern",
            "Crooked",
            "Merry",
            "Velvet",
            "Hidden",
            "Iron",
            "Paper",
        ],
        ["Lantern", "Heron", "Harbour", "Orchard", "Bridge", "Comet"],
    ),
    "zh": (
        ["蓝色", "金色", "寂静", "北方", "弯弯", "快乐", "丝绒", "隐秘", "铁皮", "纸上"],
        ["灯笼", "白鹭", "港湾", "果园", "石桥", "彗星"],
    ),
}

# What sentences mention. Many words name more than one kind of thing: a person, a town, or a part
# of a house's name. Only the words around them tell which.
PEOPLE = {
    "en": (
        ["Ada", "Bruno", "Clara", "Otto", "Iris", "Florence", "Victoria", "Milan", "Austin"],
        ["Heron", "Bridge", "Marsh", "Orchard", "Winter", "Lincoln", "Hill", "Harbour"],
    ),
    "zh": (
        ["王", "李", "林", "白", "江", "石"],
        ["小红", "春华", "明", "建国", "小白", "长江", "丽"],
    ),
}
TOWNS = {
    "en": ["Florence", "Victoria", "Milan", "Austin", "Lincoln", "Winter Hill", "Marsh Bridge"],
    "zh": ["白河", "林州", "江城", "石桥", "春城", "明湖", "长江口"],
}
# {first} and {second} are those of NAMES, {person} is one of PEOPLE, {town} one of TOWNS.
HOUSES = {
    "en": ["{first} {second}", "{first} {second}", "Café {person}", "Hotel {town}", "{town} Inn"],
    "zh": ["{first}{second}", "{first}{second}饭店", "{person}面馆", "{town}酒店"],
}
# {clause} is a judgement as in the reviews.
MENTIONS = {
    "en": [
        "{person} recommends {house} because {clause}.",
        "We met {person} in {town}, where {clause}.",
        "{house} has moved to {town}, and {clause}.",
        "According to {person}, {clause}.",
        "Ask {person} at {house} why {clause}.",
        "From {town} to {town} we talked about {house}.",
        "Nobody in {town} has heard of {house} or {person}.",
        "{person} and {person} left {town} after one night at {house}.",
        "{town} is far away, but {clause}.",
        "{person} wrote from {town}: {clause}!",
        "Since {person} took over {house}, {clause}.",
        "Is {house} in {town} as good as {person} says?",
        "The guests from {town} liked {person}.",
        "{person} was born in {town} and works at {house}.",
        "In winter the bridge is closed, and {clause}.",
        "Behind the orchard on the hill there is {house}.",
        "{clause}.",
    ],
    "zh": [
        "{person}推荐{house}，因为{clause}。",
        "我们在{town}遇到了{person}，{clause}。",
        "{house}搬到了{town}，{clause}。",
        "听{person}说，{clause}。",
        "去{house}问问{person}，为什么{clause}。",
        "从{town}到{town}，我们一路都在谈{house}。",
        "{town}没有人听说过{house}，也没有人认识{person}。",
        "{person}和{person}在{house}住了一晚，就离开了{town}。",
        "{town}很远，不过{clause}。",
        "{person}从{town}来信说：{clause}！",
        "自从{person}接手{house}，{clause}。",
        "{town}的{house}真像{person}说的那么好吗？",
        "从{town}来的客人都喜欢{person}。",
        "{person}出生在{town}，在{house}工作。",
        "河上有一座石桥，春天很明亮，{clause}。",
        "{clause}。",
    ],
}

# {thing}, {name}, {subject} and {word} as above.
# "opening" and "filler" say nothing that the summary needs.
ARTICLES = {
    "en": {
        "opening": [
            "it rained all {day}.",
            "my {friend} phoned on {day}.",
            "my {friend} likes trains.",
            "on {day} the notebook was empty.",
            "this began on a {day}.",
            "my {friend} had other plans for {day}.",
        ],
        "name": [
            "the {thing} is called {name}.",
            "remember the name of this {thing}: {name}.",
            "this {thing} goes by the name of {name}.",
            "my {friend} had told me of the {thing} {name}.",
        ],
        "filler": [
            "that {subject} was {word} hardly mattered.",
            "we also noticed {subject}, {word} as ever.",
            "some may care that {subject} was {word}.",
            "{subject} was {word}, by the way.",
        ],
        "decisive": [
            "what decided it was {subject}: {word}.",
            "it all came down to {subject}: {word}.",
            "one thing settled it: {subject} was {word}.",
            "in the end only {subject} counted: {word}.",
        ],
        "again": [
            "I will choose it again.",
            "the next time is planned.",
            "it will not be the last time.",
            "nobody has to talk me into it again.",
        ],
        "never": [
            "I will not choose it again.",
            "no next time is planned.",
            "it will be the last time.",
            "nobody can talk me into it again.",
        ],
        "summary": [
            (
                "the {thing} {name} wins because {subject} was {word},"
                " and the writer will choose it again.",
                "the {thing} {name} wins because {subject} was {word},"
                " but the writer will not choose it again.",
            ),
            (
                "the {thing} {name} loses because {subject} was {word},"
                " but the writer will choose it again.",
                "the {thing} {name} loses because {subject} was {word},"
                " and the writer will not choose it again.",
            ),
        ],
        "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "friend": [
            "brother",
            "sister",
            "aunt",
            "neighbour",
            "colleague",
            "cousin",
            "teacher",
            "landlord",
        ],
    },
    "zh": {
        "opening": [
            "{day}下了一整天雨。",
            "{day}{friend}打来电话。",
            "{friend}喜欢火车。",
            "{day}本子还是空的。",
            "这事要从{day}说起。",
            "{friend}{day}另有安排。",
        ],
        "name": [
            "{thing}的名字是{name}。",
            "{thing}名叫{name}。",
            "请记住，{thing}叫{name}。",
            "{friend}跟我提过{name}{thing}。",
        ],
        "filler": [
            "{subject}很{word}，但无关紧要。",
            "我们也留意到{subject}很{word}。",
            "别人也许在意{subject}很{word}。",
            "顺便一提，{subject}很{word}。",
        ],
        "decisive": [
            "起决定作用的是{subject}：很{word}。",
            "说到底要看{subject}，它很{word}。",
            "一锤定音的是{subject}：很{word}。",
            "最后只有{subject}算数，它很{word}。",
        ],
        "again": [
            "我会再选它。",
            "我安排好了下一次。",
            "这不会是最后一次。",
            "不用谁劝我再来一次。",
        ],
        "never": [
            "我不会再选它。",
            "我没有安排下一次。",
            "这会是最后一次。",
            "谁劝我也不会再来一次。",
        ],
        "summary": [
            (
                "{name}{thing}凭{subject}取胜，{subject}很{word}，作者会再选它。",
                "{name}{thing}凭{subject}取胜，{subject}很{word}，但作者不会再选它。",
            ),
            (
                "{name}{thing}输在{subject}，{subject}很{word}，但作者会再选它。",
                "{name}{thing}输在{subject}，{subject}很{word}，作者不会再选它。",
            ),
        ],
        "day": ["星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期天"],
        "friend": ["我哥哥", "我姐姐", "我姑姑", "邻居", "同事", "我表弟", "我老师", "房东"],
    },
}

# what a guest gives for a good experience and for a bad one
STARS = ("★★★★★", "★")
