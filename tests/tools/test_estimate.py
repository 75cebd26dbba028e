"""Memory of the model's states, by the sums of the ZeRO paper."""

import pytest
from conftest import ROOT

from recipes.common.launch import LAUNCHERS
from tools import estimate


def test_the_paper_s_own_example():
    """7.5 billion parameters on 64 GPUs: 120 GB, 31.4, 16.6 and 1.9.

    (Rajbhandari et al. 2020, figure 1)
    """
    found = estimate.memory(7.5e9, 64)
    assert [found[name][0] for name in ("ddp", "zero1", "zero2", "zero3")] == pytest.approx(
        [120, 31.4, 16.6, 1.9], 0.02
    )


def test_what_is_offloaded_is_on_the_host():
    found = estimate.memory(1e9, 2)
    assert found["zero2_offload"] == (2, 7)
    assert found["zero3_offload"] == (0, 8)


def test_the_readme_s_table_is_the_command_s():
    text = (ROOT / "ds_configs/README.md").read_text(encoding="utf-8")
    assert estimate.memory_table([125e6, 1e9, 7e9, 70e9], 8) in text


def test_every_launcher_has_its_memory():
    assert len(LAUNCHERS) > 5
    assert estimate.memory(1e9, 2).keys() == LAUNCHERS.keys()
