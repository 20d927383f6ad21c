"""Every block of code in the guide is a test that passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_code_of_the_guide_runs(pytester: pytest.Pytester) -> None:
    assert len(BLOCKS) > 5
    pytester.makepyfile(**{f"test_block_{n}": block for n, block in enumerate(BLOCKS)})
    alone = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"]
    outcomes = pytester.runpytest_subprocess(*alone).parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] >= len(BLOCKS)
