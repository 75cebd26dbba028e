"""Write the sample data sets: invented reviews in English, Chinese and German, the same bytes on every machine."""

import argparse
import csv
import io
import json
import random
import re
from functools import partial
from pathlib import Path

import world

GOOD, BAD, UNDECIDED = 0, 1, None
# how often a clause reverses the polarity of its words, on its own and inside a frame that may reverse it once more
TURNED, TURNED_INSIDE = 0.3, 0.0
# how many clauses on one aspect compare, how many clauses are on the whole
COMPARED, CONCLUDED = 0.1, 0.45
LABELS = {GOOD: "positive", BAD: "negative", UNDECIDED: "neutral"}
ROWS = {
    "sentiment": {"train": 8000, "validation": 500, "test": 1000},
    "sentiment_three_classes": {"train": 1500, "validation": 200, "test": 400},
    "sentiment_imbalanced": {"train": 1500, "validation": 200, "test": 400},
    "translation_en_de": {"train": 1500, "validation": 150, "test": 150},
    "translation_en_zh": {"train": 1500, "validation": 150, "test": 150},
    "summarization_en": {"train": 800, "validation": 100, "test": 100},
    "summarization_zh": {"train": 800, "validation": 100, "test": 100},
    "text": {"train": 300, "validation": 30},
    "corpus": {"train": 375, "validation": 20},
}


def pick(rng, items):
    """Return one item; only `random()` is used because its results are the same in every Python version."""
    return items[int(rng.random() * len(items))]


def shuffled(rng, items):
    """Return the items in random order."""
    return [item for _, _, item in sorted((rng.random(), position, item) for position, item in enumerate(items))]


def sentence(text):
    """Return the text with a capital letter at the start of each of its sentences."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)


class Reviewer:
    """Writes sentences in one language whose polarity follows from their structure."""

    def __init__(self, language, rng):
        self.language = language
        self.rng = rng

    def visit(self):
        """Choose the place or product that the next sentences are about and return the reviewer."""
        domain = world.DOMAINS[pick(self.rng, sorted(world.DOMAINS))]
        self.aspects = domain["aspects"]
        self.names = pick(self.rng, domain["things"])
        self.thing = self.names[self.language]
        return self

    def say(self, table):
        """Return one entry of a table of the world in this language."""
        return pick(self.rng, table[self.language])

    def turn(self, tables, verdict, share=TURNED):
        """Return a template and the polarity of the words that give the wanted verdict in it."""
        turned = int(self.rng.random() < share)
        return pick(self.rng, tables[self.language][turned]), verdict ^ turned

    def aspect(self, other_than=None):
        """Return an aspect of the current place: its noun and its pairs of adjectives."""
        noun, quality = pick(self.rng, [aspect for aspect in self.aspects if aspect[0] is not other_than])
        return noun, [world.QUALITIES[name] for name in [quality, "general", "great"]]

    def two_aspects(self):
        """Return two different aspects of the current place."""
        first = self.aspect()
        return first, self.aspect(other_than=first[0])

    def subject(self, noun):
        """Return the noun as the subject of a clause."""
        return {"en": "the " + noun["en"], "zh": noun["zh"]}[self.language]

    def judge(self, verdict, aspect=None, share=TURNED):
        """Return a clause that judges one aspect."""
        noun, qualities = aspect or self.aspect()
        template, polarity = self.turn(world.JUDGEMENTS, verdict, share)
        return template.format(subject=self.subject(noun), word=pick(self.rng, qualities)[self.language][polarity])

    def compare(self, verdict, aspect):
        """Return a clause that compares one aspect with another time or place."""
        template, polarity = self.turn(world.COMPARISONS, verdict)
        word = world.COMPARATIVES[self.language][polarity]
        noun = aspect[0]
        return template.format(subject=self.subject(noun), noun=noun[self.language], thing=self.thing, word=word)

    def conclude(self, verdict):
        """Return a clause on the whole."""
        turned = int(self.rng.random() < TURNED)
        return self.say(world.VERDICTS)[turned][verdict ^ turned].format(thing=self.thing)

    def detail(self, verdict, aspect):
        """Return a clause on one aspect."""
        return (self.compare if self.rng.random() < COMPARED else self.judge)(verdict, aspect)

    def clause(self, verdict, aspect):
        """Return a clause on one aspect or on the whole."""
        return self.conclude(verdict) if self.rng.random() < CONCLUDED else self.detail(verdict, aspect)

    def plain(self, verdict):
        """Return a sentence whose clauses all say the same."""
        first, second = self.two_aspects()
        clauses = {"clause": self.clause(verdict, first), "other": self.detail(verdict, second)}
        return self.say(world.PLAIN).format(**clauses)

    def contrast(self, verdict):
        """Return a sentence of two opposite clauses of which one decides."""
        first, second = self.two_aspects()
        clauses = {"major": self.clause(verdict, first), "minor": self.detail(1 - verdict, second)}
        return self.say(world.CONTRASTS).format(**clauses)

    def report(self, verdict):
        """Return a sentence that confirms or disputes a clause."""
        template, polarity = self.turn(world.REPORTS, verdict)
        return template.format(clause=self.judge(polarity, share=TURNED_INSIDE))

    def rumour(self, verdict):
        """Return what was said beforehand and whether it came true."""
        heard, *outcomes = world.RUMOURS[self.language]
        turned = int(self.rng.random() < TURNED)
        clause = self.judge(verdict ^ turned, share=TURNED_INSIDE)
        return pick(self.rng, heard).format(clause=clause) + pick(self.rng, outcomes[turned])

    def priority(self, verdict):
        """Return two opposite judgements and which of the two counts."""
        first, second = self.two_aspects()
        template, counting = self.turn(world.PRIORITIES, verdict, share=0.5)
        return template.format(
            first=self.judge(counting, first, TURNED_INSIDE), second=self.judge(1 - counting, second, TURNED_INSIDE)
        )

    def sarcasm(self, verdict):
        """Return an exclamation, meant or not, about an event that came or stayed away."""
        exclamations, *templates = world.SARCASM[self.language]
        turned = int(self.rng.random() < 0.5)
        event = pick(self.rng, world.EVENTS[self.language][verdict ^ turned])
        exclamation = pick(self.rng, exclamations)
        return pick(self.rng, templates[turned]).format(exclamation=exclamation, event=event)

    def neutral(self):
        """Return a sentence in which the writer does not decide."""
        first, second = self.two_aspects()
        better, worse = pick(self.rng, first[1])[self.language]
        words = {"good": self.detail(GOOD, first), "bad": self.detail(BAD, second), "better": better, "worse": worse}
        return self.say(world.NEUTRAL).format(subject=self.subject(first[0]), **words)

    def review(self, verdict):
        """Return a sentence of the given verdict: GOOD, BAD or UNDECIDED."""
        if verdict is UNDECIDED:
            return sentence(self.neutral())
        kinds = [self.plain] * 20 + [self.contrast] * 19 + [self.priority]
        kinds += [self.report, self.rumour, self.sarcasm] * 2
        return sentence(pick(self.rng, kinds)(verdict))

    def article(self):
        """Return a review article and the one sentence that sums it up."""
        self.visit()
        texts = world.ARTICLES[self.language]
        first, second = (pick(self.rng, part) for part in world.NAMES[self.language])
        verdict, returns = int(self.rng.random() < 0.5), self.rng.random() < 0.5
        decisive, qualities = self.aspect()
        facts = {
            "name": f"{first} {second}" if self.language == "en" else first + second,
            "subject": self.subject(decisive),
            "word": pick(self.rng, qualities)[self.language][verdict],
            "thing": self.thing,
        }
        parts = ["name", "decisive", "again" if returns else "never"]
        body = [pick(self.rng, texts[part]).format(friend=pick(self.rng, texts["friend"]), **facts) for part in parts]
        body += [self.filler(decisive) for _ in range(1 + int(self.rng.random() * 3))]
        opening = [
            text.format(day=pick(self.rng, texts["day"]), friend=pick(self.rng, texts["friend"]))
            for text in shuffled(self.rng, texts["opening"])[: 1 + int(self.rng.random() * 2)]
        ]
        document = sentence(self.space().join(opening + shuffled(self.rng, body)))
        return {"document": document, "summary": texts["summary"][verdict][1 - returns].format(**facts)}

    def filler(self, decisive):
        """Return a sentence on an aspect that does not decide."""
        noun, qualities = self.aspect(other_than=decisive)
        word = pick(self.rng, qualities)[self.language][int(self.rng.random() < 0.5)]
        return pick(self.rng, world.ARTICLES[self.language]["filler"]).format(subject=self.subject(noun), word=word)

    def space(self):
        """Return what stands between two sentences."""
        return {"en": " ", "zh": ""}[self.language]

    def paragraph(self, verdict, length, taken):
        """Return sentences of one verdict, each with what follows from it."""
        sentences = []
        while len(sentences) < 2 * length:
            text = self.review(verdict)
            if text not in taken:
                sentences += [text, pick(self.rng, world.CONSEQUENCES[self.language][verdict])]
        return self.space().join(sentences)

    def document(self, taken):
        """Return a long review that keeps one verdict through all its paragraphs."""
        verdict = int(self.rng.random() < 0.5)
        lengths = [3 + int(self.rng.random() * 3) for _ in range(3 + int(self.rng.random() * 3))]
        return "\n".join(self.paragraph(verdict, length, taken) for length in lengths)


def german_forms(noun, word, mark):
    """Return the forms of a German noun and adjective that the parallel sentences ask for."""
    article, name = noun.split(" ")
    stem = word.removesuffix("e")
    forms = {"a" + mark: word}
    for case, (form, ending) in world.ENDINGS[article].items():
        forms[case + mark] = f"{form} {name}"
        forms[case + "_a" + mark] = f"{form} {stem}{ending} {name}"
    return forms


def forms_of(language, thing, aspects):
    """Return everything that the parallel sentences of one language may ask for."""
    forms = {"thing": thing[language]}
    if language == "de":
        article, name = thing["de"].split(" ")
        forms.update({case: f"{form} {name}" for case, form in world.DEMONSTRATIVES[article].items()})
    for mark, (noun, word) in zip(["", "2"], aspects, strict=True):
        if language == "de":
            forms.update(german_forms(noun["de"], word["de"], mark))
        else:
            forms.update({"s" + mark: noun[language], "a" + mark: word[language]})
    if language == "en":
        forms["article_a"] = ("an " if forms["a"][0] in "aeiou" else "a ") + forms["a"]
    return forms


def translation(rng, language):
    """Return one sentence in English and in another language."""
    reviewer = Reviewer("en", rng).visit()
    polarity = int(rng.random() < 0.5)
    aspects = []
    for noun, qualities in reviewer.two_aspects():
        aspects.append((noun, {name: words[polarity] for name, words in pick(rng, qualities).items()}))
        # "although" and "but" make sense between opposites only
        polarity = 1 - polarity
    templates = dict(zip(["en", "de", "zh"], pick(rng, world.TRANSLATIONS), strict=True))
    pair = {
        name: sentence(templates[name].format(**forms_of(name, reviewer.names, aspects))) for name in ["en", language]
    }
    return {"translation": pair}


def distinct(draw, count, taken):
    """Return this many rows that were never drawn before and remember them."""
    rows = []
    while len(rows) < count:
        row = draw()
        key = json.dumps(row, ensure_ascii=False, sort_keys=True)
        if key not in taken:
            taken.add(key)
            rows.append(row)
    return rows


def reviewers(rng):
    """Return a function that gives an English reviewer in 55 % of the calls and a Chinese one otherwise."""
    both = [Reviewer("en", rng), Reviewer("zh", rng)]
    return lambda: both[int(rng.random() >= 0.55)]


def labelled(rng, verdicts):
    """Return a function that draws a text with its label; each verdict comes as often as it is listed."""
    someone = reviewers(rng)
    waiting = []

    def draw():
        # a shuffled deck, because independent draws would miss the stated shares in the small splits
        if not waiting:
            waiting.extend(shuffled(rng, verdicts * 5))
        verdict = waiting.pop()
        return {"text": someone().visit().review(verdict), "label": LABELS[verdict]}

    return draw


def splits(name, draw, suffix, dump):
    """Return the files of one data set by path; no row occurs twice in them."""
    taken = set()
    return {f"{name}/{split}.{suffix}": dump(distinct(draw, count, taken)) for split, count in ROWS[name].items()}


def json_lines(rows):
    """Return the rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows, delimiter):
    """Return the rows as a table with a header."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def plain_text(rows):
    """Return the rows as the lines of a text."""
    return "".join(row + "\n" for row in rows)


def raw_text_files(held_out):
    """Return the plain text and the corpus by path; sentences held out for evaluation do not occur in them."""
    rng = random.Random("text")
    someone = reviewers(rng)
    files = splits("text", lambda: someone().visit().paragraph(int(rng.random() < 0.5), 4, held_out), "txt", plain_text)
    rng = random.Random("corpus")
    writers = reviewers(rng)
    return files | splits("corpus", lambda: {"text": writers().visit().document(held_out)}, "jsonl", json_lines)


def all_files():
    """Return the text of every file by its path."""
    rng = {name: random.Random(name) for name in ROWS}
    comma, tab = (lambda rows: table(rows, ",")), (lambda rows: table(rows, "\t"))
    files = splits("sentiment", labelled(rng["sentiment"], [GOOD, BAD]), "csv", comma)
    held_out = {
        row["text"]
        for split in ("validation", "test")
        for row in csv.DictReader(io.StringIO(files[f"sentiment/{split}.csv"]))
    }
    name = "sentiment_three_classes"
    files |= splits(name, labelled(rng[name], [GOOD, BAD, UNDECIDED]), "jsonl", json_lines)
    name = "sentiment_imbalanced"
    files |= splits(name, labelled(rng[name], [GOOD] * 9 + [BAD]), "tsv", tab)
    for language in ("de", "zh"):
        name = f"translation_en_{language}"
        files |= splits(name, partial(translation, rng[name], language), "jsonl", json_lines)
    for language in ("en", "zh"):
        name = f"summarization_{language}"
        files |= splits(name, Reviewer(language, rng[name]).article, "jsonl", json_lines)
    return files | raw_text_files(held_out)


def main():
    """Write every file below the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).resolve().parent)
    output_dir = parser.parse_args().output_dir
    for path, text in sorted(all_files().items()):
        target = output_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode("utf-8"))


if __name__ == "__main__":
    main()
