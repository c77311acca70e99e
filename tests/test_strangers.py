"""Variables that look like settings and are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from handrail.settings import table
from handrail.strangers import find_strangers

HOOK = "webhook: mail\nurl: ${HANDRAIL_EMAIL_URL}\nheaders: {X-Key: 'key ${HANDRAIL_EMAIL_KEY}'}\n"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("HANDRAIL_REDIS_URI", "HANDRAIL_REDIS_URI is no setting; did you mean 'HANDRAIL_REDIS_URL'?"),
        ("HANDRAIL_ORIGIN", "HANDRAIL_ORIGIN is no setting; did you mean 'HANDRAIL_ORIGINS'?"),
        ("HANDRAIL_WEBHOOKS_ALLOW_PRIVATE", "did you mean 'HANDRAIL_WEBHOOK_ALLOW_PRIVATE'?"),
        ("HANDRAIL_FAVOURITE_COLOUR", "HANDRAIL_FAVOURITE_COLOUR is no setting"),
    ],
)
def test_a_misspelt_setting_is_told_with_the_nearest(tmp_path: Path, name: str, line: str) -> None:
    (found,) = find_strangers({name: "x", "HOME": "/"}, [tmp_path])
    assert found.endswith(line)


def test_settings_and_what_webhooks_read_are_none(tmp_path: Path) -> None:
    (tmp_path / "hooks.yaml").write_text(HOOK)
    environ = dict.fromkeys([name for name, _, _ in table()] + ["HANDRAIL_EMAIL_URL", "HANDRAIL_EMAIL_KEY"], "x")
    assert find_strangers(environ, [tmp_path]) == []
    assert len(find_strangers(environ, [])) == 2
