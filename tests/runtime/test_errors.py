"""What a stopped run prints, and the exit code that it leaves."""

import errno

import pytest
import torch
import tqdm

from recipes.common.runtime import disk_errors, guard, messages, signals
from recipes.common.runtime.errors import Refusal, Stop, TrainingFailed


@pytest.fixture(autouse=True)
def _not_alone(monkeypatch):
    """The tests' process does not end with what is guarded in it."""
    monkeypatch.setattr(signals, "_ends_with_run", False)


def ends(main):
    """The exit code of a guarded `main`; None where it came back."""
    try:
        guard.run_and_exit(main)
    except SystemExit as ended:
        return ended.code
    return None


def raiser(error):
    def main():
        raise error

    return main


def test_a_message_has_one_line_each_for_what_where_and_fix():
    assert str(Refusal("no file", "--train_file", "name one")).splitlines() == [
        "error: no file",
        "  where: --train_file",
        "  fix: name one",
    ]


def test_a_message_without_place_or_fix_has_no_empty_lines():
    assert str(Stop("stopped")) == "error: stopped"
    assert str(Stop("stopped", fix="go on")).splitlines() == ["error: stopped", "  fix: go on"]


def test_a_message_with_line_breaks_in_the_data_still_has_three_lines():
    message = str(Refusal("label 'a\nb\r\nc'", "data\n.csv:1", "rename\n\n\nit"))
    assert len(message.splitlines()) == 3
    assert r"a\nb\r\nc" in message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("味道很好", "味道很好"),
        ("a\tb", r"a\tb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("left\u202eright", r"left\u202eright"),
        ("\ud83d", r"\ud83d"),
    ],
)
def test_control_characters_become_visible_and_letters_stay(text, shown):
    assert messages.visible(text) == shown


def test_a_long_text_is_cut_to_the_limit():
    assert messages.visible("x" * 300) == "x" * 300
    assert messages.visible("x" * 301) == "x" * 299 + "…"
    assert messages.visible("abcdef", limit=4) == "abc…"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Stop("x"), 1),
        (TrainingFailed("x"), 1),
        (Refusal("x"), 2),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "model.safetensors"), 74),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 74),
        (OSError(errno.ENOENT, "No such file", "x"), 70),
        (ZeroDivisionError("division by zero"), 70),
    ],
)
def test_each_end_of_a_run_has_its_exit_code(error, code):
    assert ends(raiser(error)) == code


def test_a_run_that_ends_well_comes_back_without_an_exit():
    assert ends(lambda: {"accuracy": 1.0}) is None


@pytest.mark.parametrize("code", [0, 143])
def test_an_exit_on_the_way_keeps_its_code(code):
    assert ends(raiser(SystemExit(code))) == code


@pytest.mark.parametrize(
    "error", [Refusal("no rows", "x.csv", "add one"), TrainingFailed("loss is nan")]
)
def test_a_stop_prints_its_message_and_no_traceback(error, capsys):
    ends(raiser(error))
    printed = capsys.readouterr()
    assert printed.err == f"{error}\n"
    assert printed.out == ""


def test_only_an_internal_error_shows_a_traceback(capsys):
    ends(raiser(ZeroDivisionError("division by zero")))
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "ZeroDivisionError: division by zero" in printed
    assert "a bug in the recipe" in printed.splitlines()[-1]


def test_a_package_that_is_missing_is_refused_in_the_words_of_who_needs_it(capsys):
    assert (
        ends(
            raiser(ImportError("You need liger-kernel. Install it with `pip install liger-kernel`"))
        )
        == 2
    )
    found = capsys.readouterr().err
    assert found.startswith(
        "error: You need liger-kernel. Install it with `pip install liger-kernel`\n"
    )
    assert "Traceback" not in found


def test_too_little_memory_of_a_gpu_is_no_bug_of_the_recipe(capsys):
    assert (
        ends(raiser(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))) == 1
    )
    printed = capsys.readouterr().err
    assert "the GPU has too little memory" in printed
    assert "--per_device_train_batch_size" in printed
    assert len(printed.splitlines()) == 3


def test_a_full_disk_names_the_file(capsys):
    ends(raiser(OSError(errno.ENOSPC, "No space left on device", "model.safetensors")))
    printed = capsys.readouterr().err
    assert printed.splitlines()[:2] == [
        "error: No space left on device",
        "  where: model.safetensors",
    ]
    assert len(printed.splitlines()) == 3


@pytest.mark.parametrize(
    ("word", "known", "close"),
    [
        ("trian.csv", ["train.csv", "test.csv"], "train.csv"),
        ("learning-rat", ["learning_rate", "seed"], "learning_rate"),
        ("LEARNING_RATE", ["learning_rate"], "learning_rate"),
        ("Label", ["LABEL", "text"], "LABEL"),
        ("xyz", ["learning_rate"], ""),
        ("x", [], ""),
    ],
)
def test_the_nearest_known_word_is_found(word, known, close):
    assert messages.nearest(word, iter(known)) == close


def test_a_note_and_a_warning_are_one_line_on_standard_error(capsys):
    messages.note("first\nsecond")
    messages.warn("third")
    printed = capsys.readouterr()
    assert printed.err == "note: first\\nsecond\nwarning: third\n"
    assert printed.out == ""


def test_only_the_main_process_prints(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    messages.note("x")
    messages.warn("x")
    assert capsys.readouterr().err == ""
    assert not messages.is_main_process()
    monkeypatch.setenv("RANK", "0")
    assert messages.is_main_process()


FULL = [
    "PytorchStreamWriter failed writing file data/0",
    "basic_ios::clear: iostream error",
    "(os error 28)",
]


@pytest.mark.parametrize("words", FULL)
def test_a_full_disk_is_known_by_what_libraries_say_of_it(words):
    assert disk_errors.disk_error(RuntimeError(words)) == "No space left on device"


def test_other_errors_are_not_the_disk_s():
    assert disk_errors.disk_error(RuntimeError("stream of errors")) == ""


def test_a_message_does_not_stand_behind_a_bar(capsys):
    def main():
        bar = tqdm.tqdm(total=3)
        bar.update()
        raise Refusal("no file")

    assert ends(main) == 2
    assert "error: no file" in capsys.readouterr().err.splitlines()


def test_a_table_that_is_too_small_for_the_texts_is_no_bug(capsys):
    def main():
        torch.nn.functional.embedding(torch.tensor([5]), torch.zeros(3, 2))

    import torch

    with pytest.raises(SystemExit) as ended:
        guard.run_and_exit(main)
    assert ended.value.code == 2
    assert "an id or a position is beyond one of the model's tables" in capsys.readouterr().err
