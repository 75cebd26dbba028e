"""Every architecture that can be built tiny is trained, evaluated and asked, or refused in three lines."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

# Ordinary ones, which must be trained.
TRAINED = {
    "mlm_pretrain": "albert bart bert camembert deberta deberta-v2 distilbert electra esm flaubert ibert luke"
}
TRAINED["mlm_pretrain"] += (
    " mbart modernbert mpnet mvp roberta roberta-prelayernorm xlm xlm-roberta xlm-roberta-xl"
)
TRAINED["clm_pretrain"] = (
    "bloom deepseek_v3 falcon gemma gemma2 gpt2 gpt_neox gptj llama mamba mistral mixtral olmo opt"
)
TRAINED["clm_pretrain"] += (
    " phi phi3 qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next smollm3 stablelm starcoder2"
)
TRAINED["translation"] = (
    "bart blenderbot fsmt led longt5 m2m_100 marian mbart mt5 mvp nllb-moe pegasus pegasus_x plbart"
)
TRAINED["translation"] += " switch_transformers t5 umt5"
TRAINED["sentiment"] = (
    "albert bart bert canine deberta-v2 distilbert electra gemma gpt2 llama longformer luke mistral"
)
TRAINED["sentiment"] += " modernbert mpnet opt qwen2 qwen3 roberta t5 xlm xlnet xlm-roberta"
TRAINED["token_classification"] = (
    "albert bert deberta-v2 distilbert electra gpt2 llama modernbert mpnet qwen2 roberta t5 xlnet"
)
REFUSED = {
    "clm_pretrain": "bert electra roberta xlm xlnet camembert rembert",
    "translation": "prophetnet",
}


@pytest.mark.slow
def test_every_architecture_is_trained_and_asked_or_refused_with_its_reason():
    harness = [sys.executable, str(ROOT / "tests/architectures.py")]
    done = subprocess.run(
        harness,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    table = dict(re.findall(r"^(\w+ \| \S+) \| [\d.]+ s \| (.*)$", done.stdout, re.MULTILINE))
    print(done.stdout)
    assert len(table) > 350
    for expected, said in ((TRAINED, "trained"), (REFUSED, "refused")):
        for task, listed in expected.items():
            for name in listed.split():
                assert table[f"{task} | {name}"].startswith(said), (
                    f"{task} {name}: {table[f'{task} | {name}']}"
                )
    wrong = {
        case: outcome
        for case, outcome in table.items()
        if outcome.startswith(("exit code", "refused in"))
    }
    assert wrong == {}, done.stdout
    assert done.returncode == 0
