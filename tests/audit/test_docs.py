"""Each code has its page, whose example gives exactly this finding and whose fix does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from semalign.audit.liveness import audit
from semalign.audit.rules import RULES, SEVERITIES
from semalign.wording import say, sentences

DOCS = Path(__file__).parents[2] / "docs" / "audit"

if not DOCS.is_dir():
    pytest.skip("docs/audit is not beside the tests", allow_module_level=True)


def examples(code: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (DOCS / f"{code}.md").read_text(encoding="utf-8"), re.DOTALL)


def found(source: str, path: Path) -> set[tuple[str, str]]:
    """Return codes and severities that the audit finds in the module that ``source`` makes."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, str(path), "exec"), names)
    torch.manual_seed(0)
    return {(item.code, item.severity) for item in audit(*names["make"]()).findings}


TEXTS = ("title", "consequence", "fix")


def test_rules_pages_and_texts_agree() -> None:
    """Rules, pages and texts of the catalogue are the same; the index names each rule with its severity."""
    assert {path.stem for path in DOCS.glob("*.md")} - {"README"} == set(RULES)
    titled = {key.removesuffix(".title") for key in sentences("en", "audit") if key.endswith(".title")}
    assert titled == set(RULES)
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for code, rule in RULES.items():
        title = say(f"audit.{code}.title")
        assert f"| [{code}]({code}.md) | {rule.severity} | {title} |" in index
        assert f"**{rule.severity}**: {title}." in (DOCS / f"{code}.md").read_text(encoding="utf-8")
        assert rule.find.__name__ == code.replace("-", "_")


def test_the_table_is_in_order_of_severity() -> None:
    """Errors come first, then warnings, then notes; each text is a clause without a full stop."""
    ranks = [SEVERITIES.index(rule.severity) for rule in RULES.values()]
    assert ranks == sorted(ranks)
    for code in RULES:
        for part in TEXTS:
            assert not str(say(f"audit.{code}.{part}")).endswith(".")


@pytest.mark.parametrize("code", RULES)
def test_a_page_shows_its_fault_and_its_fix(code: str) -> None:
    """The first example gives the code, and no other error; the second does not give it, and no error."""
    faulty, fixed = examples(code)
    path = DOCS / f"{code}.md"

    seen = found(faulty, path)
    assert (code, RULES[code].severity) in seen
    # A knob that only decays is dead as well.
    allowed = {code, "init-outside-bound"} if code == "decay-only" else {code}
    assert {name for name, severity in seen if severity == "error"} <= allowed
    after = found(fixed, path)
    assert code not in {name for name, _ in after}
    assert "error" not in {severity for _, severity in after}
