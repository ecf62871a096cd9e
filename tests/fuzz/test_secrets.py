"""No key, token or ticket is ever in a log, in Redis or in an answer, whatever was done with it."""

from __future__ import annotations

import time

import httpx
import jwt
import redis

from tests.fuzz.rig import ALICE, ASKED, BOB, CANARY, CHAT, DONE, JWT_SECRET, STRANGER, UPSTREAM_KEY, Rig


def _dump(url: str) -> bytes:
    """Return all that Redis holds, as it would be on a disk, but not compressed."""
    with redis.Redis.from_url(url) as client:
        client.config_set("rdbcompression", "no")
        try:
            values = [bytes(key) + (client.dump(key) or b"") for key in client.scan_iter(count=1000)]
        finally:
            client.config_set("rdbcompression", "yes")
    return b"".join(values)


def _use_them(rig: Rig, token: str) -> list[str]:
    """Do with every credential what can be done; return what was answered."""
    said = []
    with httpx.Client(base_url=rig.gateway.url, timeout=20) as client:
        for credential in (ALICE, BOB, STRANGER, token):
            client.headers["authorization"] = f"Bearer {credential}"
            ask = {"messages": [{"role": "user", "content": "[[rate=0 tokens=5]]"}]}
            refused = {"messages": [{"role": "user", "content": "[[status=400]]"}]}
            said += [
                client.post("/chats/s/messages", json=ask, headers={"idempotency-key": f"k-{time.time()}"}).text,
                client.post("/v1/chat/completions", json=ask).text,
                client.post("/v1/chat/completions", json=refused).text,
                client.post("/v1/responses", json={"input": "x", "stream": True}).text,
                client.get(f"/chats/{CHAT}/messages/nobody/stream", params={"ticket": "x.y"}).text,
                client.get("/metrics").text,
                client.post("/chats/s/messages", content=b"{").text,
            ]
        del client.headers["authorization"]
        with client.stream("GET", "/feed", params={"ticket": rig.ids["feed"]}) as feed:
            assert feed.status_code == 200
        said.append(client.get("/feed", params={"ticket": rig.ids["feed"] + "x"}).text)
        said.append(client.get(f"/{ALICE}", headers={"authorization": f"Bearer {ALICE}x"}).text)
    return said


def test_no_secret_is_kept_or_told(rig: Rig) -> None:
    token = jwt.encode({"sub": "carol", "tenant": "acme", "exp": time.time() + 60}, JWT_SECRET, "HS256")
    said = "".join(_use_them(rig, token))
    held = _dump(rig.redis.url).decode("latin-1")
    logs = rig.gateway.output.read_text() + rig.worker.output.read_text()
    assert CANARY in held, "the dump does not show what is in it"
    assert DONE in held
    secrets = (ALICE, BOB, STRANGER, UPSTREAM_KEY, JWT_SECRET, token, rig.ids["feed"], rig.ids["socket"])
    for where, text in (("an answer", said), ("Redis", held), ("a log", logs)):
        for secret in secrets:
            assert secret not in text, f"{secret} in {where}"
        for ticket in (rig.ids["feed"], rig.ids["socket"]):
            assert ticket.partition(".")[2] not in text, f"a ticket's signature in {where}"
    for text in (logs, said):
        assert ASKED not in text
