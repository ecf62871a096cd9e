"""What the runbook tells people to type: the keys are those that the services use."""

from __future__ import annotations

from gateway.access.principal import Principal
from shared.log.keys import last_key, log_keys
from tests.docs.readme import ROOT

RUNBOOK = (ROOT / "deploy" / "README.md").read_text()


def test_the_keys_of_the_example_are_those_of_that_message() -> None:
    who = Principal("acme", "alice")
    keys = log_keys(who.ref("demo", "msg_7147e8caef2283342e5e362f"))
    assert f"XRANGE '{keys.stream}' - +" in RUNBOOK
    assert f"HGETALL '{keys.meta}'" in RUNBOOK
    assert f"GET '{last_key(who.scope, 'demo')}'" in RUNBOOK
