"""The harness of Hugging Face's own tests: what it takes from their files. All of it: `python tests/huggingface.py`."""

import huggingface

THEIRS = '''
class ExamplesTests:
    def test_run_ner(self):
        tmp_dir = self.get_auto_remove_tmp_dir()
        testargs = f"""
            run_ner.py
            --model_name_or_path google-bert/bert-base-uncased
            --output_dir {tmp_dir}
            --num_train_epochs={epochs}
        """.split()

    def test_run_swag(self):
        testargs = f"""
            run_swag.py
            --output_dir {tmp_dir}
        """.split()
'''


def test_their_command_lines_are_taken_word_by_word_where_there_is_a_recipe():
    assert list(huggingface.command_lines(THEIRS)) == [
        [
            "run_ner",
            *"--model_name_or_path google-bert/bert-base-uncased --output_dir {tmp_dir}".split(),
            "--num_train_epochs={epochs}",
        ]
    ]


def test_the_models_of_a_command_line_are_found():
    flags = "--tokenizer_name openai-community/gpt2 --seed 1 --model_name_or_path a/t5".split()
    assert huggingface.model_names(flags) == ["openai-community/gpt2", "a/t5"]


def test_a_test_that_differs_on_purpose_has_its_reason():
    name = "tests/trainer/test_trainer_checkpointing.py::A::test_b"
    assert huggingface.why(name) == huggingface.DIFFERENT["test_trainer_checkpointing"]
    assert huggingface.why("tests/trainer/test_trainer.py::A::test_b") == ""
