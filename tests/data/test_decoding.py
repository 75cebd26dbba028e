"""Bytes -> text: as the file itself says, as --encoding says, or refused with what the bytes are."""

import gzip
import json
import random
import re

import pytest
from conftest import load_recipe
from typer.testing import CliRunner

import cli
from recipes.common.data import decoding, readers
from recipes.common.runtime.errors import Refusal

# What people's files hold, and the encodings in which their programs write it.
TEXTS = {
    "simplified Chinese": ("味道很好，服务员态度也不错", ["gb18030", "gbk", "gb2312"]),
    "traditional Chinese": ("味道很好，服務員態度也不錯", ["big5", "gb18030"]),
    "Japanese": ("とても美味しかったです。また行きたい", ["cp932", "euc_jp"]),
    "Korean": ("정말 맛있어요 다시 오고 싶어요", ["cp949", "euc_kr"]),
    "French": ("Très bon café, rien à redire", ["cp1252", "latin-1"]),
    "German": ("Das Zimmer war schön groß, für uns genau richtig", ["cp1252", "iso8859-15"]),
    "English quotes": ("It wasn’t good – “never” again", ["cp1252"]),
    "Russian": ("Очень вкусно и недорого, придём ещё", ["cp1251"]),
}
CASES = [(text, encoding) for text, encodings in TEXTS.values() for encoding in encodings]
# Of several encodings in which a text decodes to the same, one is named.
NAMES = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "euc_kr": "cp949",
    "latin-1": "cp1252",
    "iso8859-15": "cp1252",
}
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]


def rows_of(path, encoding=""):
    return [row["text"] for _, row in readers.read(path, readers.Options(encoding))]


def refused(path, encoding=""):
    with pytest.raises(Refusal) as caught:
        rows_of(path, encoding)
    assert len(str(caught.value).splitlines()) == 3
    return caught.value


def test_there_are_texts_in_many_encodings():
    assert len(CASES) >= 12


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", *WIDE])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_mark_says_how_a_file_is_read(encoding, end, tmp_path):
    """FF FE 00 00 marks UTF-32, although FF FE alone marks UTF-16."""
    mark = "\ufeff" if encoding in WIDE else ""
    (tmp_path / "x.txt").write_bytes((mark + end.join(["好", "naïve", "😀"])).encode(encoding))
    assert rows_of(tmp_path / "x.txt") == ["好", "naïve", "😀"]


@pytest.mark.parametrize(("text", "encoding"), CASES)
@pytest.mark.parametrize("name", ["x.txt", "x.csv", "x.tsv", "x.jsonl", "x.json", "x.txt.gz"])
def test_every_format_is_read_in_the_encoding_that_is_told(name, text, encoding, tmp_path):
    rows = [text, "plain", text]
    content = {
        "txt": "\n".join(rows),
        "json": json.dumps([{"text": row} for row in rows], ensure_ascii=False),
    }
    content |= {"jsonl": "\n".join(json.dumps({"text": row}, ensure_ascii=False) for row in rows)}
    content |= {
        "csv": "text\n" + "\n".join(f'"{row}"' for row in rows),
        "tsv": "text\n" + "\n".join(rows),
    }
    data = content[name.split(".")[1]].encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert rows_of(tmp_path / name, encoding) == rows


@pytest.mark.parametrize(("text", "encoding"), CASES)
def test_the_advice_names_an_encoding_that_gives_the_text_back(text, encoding, tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"text,label\nplain,1\n" + f'"{text}",1\n"{text[::-1]}",0\n'.encode(encoding))
    refusal = refused(path)
    assert refusal.where == f"{path}:3"
    named = re.findall(r"--encoding (\S+) if", refusal.fix)
    assert NAMES.get(encoding, encoding) in named
    assert any(word.strip(",")[:8] in refusal.fix for word in text.split() if not word.isascii())
    assert text in rows_of(path, NAMES.get(encoding, encoding))


@pytest.mark.parametrize(
    "broken", ["味道".encode("gb18030"), b"caf\xe9", b"\xff", b"half \xe5\x91"]
)
@pytest.mark.parametrize(
    "text", ["味道很好，服务员态度也不错", "Très bon café, rien à redire, naïve"]
)
def test_a_file_that_is_utf_8_but_for_some_bytes_is_said_to_be_that(text, broken, tmp_path):
    """To convert it, as if it were all gb18030, would train on other characters than those that stand there."""
    (tmp_path / "x.txt").write_bytes((text + "\n").encode() * 20 + broken + b"\n")
    refusal = refused(tmp_path / "x.txt")
    assert (
        "is UTF-8" in refusal.fix
        and "iconv -c -f utf-8" in refusal.fix
        and "gb18030" not in refusal.fix
    )
    assert refusal.where.endswith("x.txt:21")


@pytest.mark.parametrize(
    "told", ["gb18030", "cp1252", "latin-1", "big5", "cp932", "cp1251", "utf-16", "GBK"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_that_is_utf_8_is_read_so_whatever_is_told(mark, told, tmp_path, capsys):
    decoding.begin_to_speak()
    (tmp_path / "x.txt").write_bytes(mark + "味道很好，服务员态度也不错\nTrès bon\n".encode())
    assert rows_of(tmp_path / "x.txt", told) == ["味道很好，服务员态度也不错", "Très bon"]
    assert f"x.txt is UTF-8: it is not read as {told}" in capsys.readouterr().err


def test_what_is_told_is_said_with_the_first_line_that_it_matters_for(tmp_path, capsys):
    decoding.begin_to_speak()
    (tmp_path / "x.txt").write_bytes("plain\nTrès bon\n".encode("cp1252"))
    for _ in range(2):
        assert rows_of(tmp_path / "x.txt", "cp1252") == ["plain", "Très bon"]
    assert capsys.readouterr().err.count("is read as cp1252: 'Très bon'") == 1


@pytest.mark.parametrize("told", ["gb18030", "cp1252", "cp949"])
def test_a_file_that_is_utf_8_but_for_some_bytes_is_never_read_as_told(told, tmp_path):
    """iconv -f gb18030 of such a corpus is what its users were advised to do, and it trains without a word."""
    (tmp_path / "x.txt").write_bytes(
        "味道很好，服务员态度也不错\n".encode() * 9 + "味道\n".encode("gb18030")
    )
    refusal = refused(tmp_path / "x.txt", told)
    assert refusal.where.endswith("x.txt:10") and "is UTF-8" in refusal.fix


@pytest.mark.parametrize(
    ("told", "text"), [("gb18030", "味道很好，服务员态度"), ("cp1252", "déjà vu, très bon")]
)
def test_a_line_of_utf_8_among_others_is_refused(told, text, tmp_path):
    """Also far behind a beginning without any such character."""
    lines = [b"plain\n"] * 10 + [f"{text}\n".encode(told)] * 5 + [f"{text}\n".encode()]
    (tmp_path / "x.txt").write_bytes(b"".join(lines))
    refusal = refused(tmp_path / "x.txt", told)
    assert (refusal.what, refusal.where) == (
        f"this line is UTF-8, the lines before are {told}",
        f"{tmp_path}/x.txt:16",
    )


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", ["good soup\nbad soup\n", "味道很好 不错\n服务员\n"])
def test_wide_characters_without_a_mark_are_refused_by_their_name(text, encoding, tmp_path):
    (tmp_path / "x.txt").write_bytes(text.encode(encoding))
    refusal = refused(tmp_path / "x.txt")
    assert f"--encoding {encoding}" in refusal.fix
    assert rows_of(tmp_path / "x.txt", encoding) == text.splitlines()


ALPHABETS = [
    bytes(range(256)),
    b'ab,\n\r\t "',
    "好é\n".encode(),
    "好吃\n".encode("gb18030"),
    b"\xff\xfe\0a",
]


@pytest.mark.parametrize(
    "encoding", ["", "gb18030", "cp1252", "utf-16", "utf-16-le", "utf-32", "ascii", "utf-7", "hz"]
)
def test_bytes_of_any_kind_are_read_or_refused(encoding, tmp_path):
    """300 files of random bytes, some of them one line of more than what is guessed by."""
    draw, refusals = random.Random(encoding), 0
    for number in range(300):
        alphabet = draw.choice(ALPHABETS)
        data = bytes(
            draw.choices(alphabet, k=draw.choice([1, 7, 100, 20_000 if number % 50 == 0 else 50]))
        )
        path = tmp_path / f"{number}.{draw.choice(['txt', 'csv', 'tsv', 'jsonl', 'json'])}"
        path.write_bytes(data)
        try:
            list(readers.read(path, readers.Options(encoding)))
        except Refusal as refusal:
            refusals += 1
            assert len(str(refusal).splitlines()) == 3
    assert refusals > 50


@pytest.mark.parametrize("name", ["nope", "base64", "rot13", "utf-9"])
def test_a_name_that_is_no_encoding_s_is_refused(name):
    with pytest.raises(Refusal, match="no encoding is called"):
        decoding.check(name)


@pytest.mark.parametrize(
    ("name", "meant"), [("ANSI", "cp1252"), ("utf-8-bom", "utf-8-sig"), ("Unicode", "utf-16")]
)
def test_a_name_that_windows_uses_is_refused_with_the_one_that_python_has(name, meant):
    with pytest.raises(Refusal) as caught:
        decoding.check(name)
    assert caught.value.fix == f"say --encoding {meant}"


@pytest.mark.parametrize("wrong", ["gb18030", "cp949", "utf-8", "ascii"])
def test_a_wrong_encoding_is_refused_by_line_where_it_does_not_decode(wrong, tmp_path):
    (tmp_path / "x.txt").write_bytes("plain\nTrès bon, très\nà deux\n".encode("cp1252"))
    refusal = refused(tmp_path / "x.txt", wrong)
    assert "x.txt:2" in refusal.where or wrong != "utf-8"
    assert "--encoding cp1252 if" in refusal.fix


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\0\0\0", "zip archive (Excel's .xlsx"),
        (b"\x1f\x8b\x08\0\0", "packed by gzip"),
        (b"PAR1\0\0\0", "parquet"),
        (b"%PDF-1.4\0", "PDF"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
            "pointer of Git LFS",
        ),
    ],
)
def test_what_is_no_text_is_called_what_it_is(content, words, tmp_path):
    (tmp_path / "x.csv").write_bytes(content)
    assert words in refused(tmp_path / "x.csv").what


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl", "x.tsv"])
def test_a_web_page_is_no_file_of_rows(name, tmp_path):
    (tmp_path / name).write_text("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n")
    refusal = refused(tmp_path / name)
    assert "web page" in refusal.what and "Raw" in refusal.fix


def test_carriage_returns_alone_end_lines_in_every_format(tmp_path):
    for name, content in {
        "x.txt": "a\rb\r",
        "x.csv": 'text,label\r"a",1\rb,2\r',
        "x.tsv": "text\ta\ra\t1\rb\t2",
    }.items():
        (tmp_path / name).write_text(content, newline="")
        assert rows_of(tmp_path / name) == ["a", "b"]
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\r{"text": "b"}\r', newline="")
    assert rows_of(tmp_path / "x.jsonl") == ["a", "b"]


def test_training_reads_what_is_told_and_run_yaml_repeats_it(sentiment, in_tmp_path):
    from conftest import SCRATCH, SHORT

    lines = [
        f"très {('bon', 'mauvais')[n % 2]} café n° {n},{('oui', 'non')[n % 2]}" for n in range(40)
    ]
    (in_tmp_path / "fr.csv").write_bytes(
        ("text,label\n" + "\n".join(lines) + "\n").encode("cp1252")
    )
    flags = [*SCRATCH, *SHORT, "--train_file", "fr.csv"]
    with pytest.raises(Refusal, match="is not UTF-8"):
        sentiment.main([*flags, "--output_dir", "out"])
    sentiment.main([*flags, "--output_dir", "told", "--encoding", "cp1252"])
    assert "encoding: cp1252" in (in_tmp_path / "told/run.yaml").read_text()
    rows = [
        json.loads(line)["text"]
        for line in (in_tmp_path / "told/predictions.jsonl").open(encoding="utf-8")
    ]
    assert rows and all(row.startswith("très ") for row in rows)
    answers(["predict", "told", "--file", "fr.csv"], "fr.csv:2")
    shown = answers(["predict", "told", "--file", "fr.csv", "--encoding", "cp1252"], "")
    assert "très bon café n° 0" in shown


def answers(words, refusal):
    found = CliRunner().invoke(cli.app, words)
    if not refusal:
        assert found.exit_code == 0, found.exception
        return found.output
    assert isinstance(found.exception, Refusal) and refusal in found.exception.where
    return ""


def test_generate_and_tokenizer_read_what_is_told(in_tmp_path):
    from test_clm_pretrain import TINY

    (in_tmp_path / "fr.txt").write_bytes(("très bon café\n" * 60).encode("cp1252"))
    flags = (
        "--max_steps 1 --eval_strategy no --save_strategy no --load_best_model_at_end false"
    ).split()
    told = ["--encoding", "cp1252"]
    load_recipe("clm_pretrain").main(
        [*TINY, *flags, *told, "--train_file", "fr.txt", "--output_dir", "out"]
    )
    (in_tmp_path / "prompts.csv").write_bytes("prompt\ntrès bon\n".encode("cp1252"))
    answers(["generate", "out", "--file", "prompts.csv"], "prompts.csv:2")
    options = ["--max_new_tokens", "1", "--output", "written.jsonl"]
    answers(["generate", "out", "--file", "prompts.csv", *told, *options], "")
    assert (
        json.loads((in_tmp_path / "written.jsonl").read_text(encoding="utf-8"))["prompt"]
        == "très bon"
    )
    answers(["tokenizer", "train", "fr.txt", "--output_dir", "t"], "fr.txt:1")
    shown = answers(
        ["tokenizer", "train", "fr.txt", "--output_dir", "t", "--vocab_size", "300", *told], ""
    )
    assert "vocabulary" in shown


@pytest.mark.parametrize("told", ["UTF-8", "utf8", "U8", "utf_8", "Utf-8"])
def test_utf_8_may_be_spelt_in_any_way(told, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("süß\nschön\n", encoding="utf-8")
    assert list(decoding.lines(path, told)) == ["süß\n", "schön\n"]
