"""What the manual's chapter on NATS shows, with nats-py. Arguments: the address, and a token if there is one."""

import asyncio
import sys

import nats
from nats.errors import NoRespondersError


async def settle(client):
    """Waits until the server has what was sent before: a flush of nats-py may overtake a subscription made just now."""
    await client.flush()
    await client.flush()


async def main(address, token=None):
    errors = []

    async def note(error):
        errors.append(str(error))

    options = {"servers": f"nats://{address}", "error_cb": note, "token": token}
    nc, other = await nats.connect(**options), await nats.connect(**options)

    reply = await nc.request("agent.greeter", b"world", timeout=10)
    assert reply.data == b"Hello, world!", reply

    async def answer(question):
        await question.respond(b"all about " + question.data)

    await nc.subscribe("agent.librarian", cb=answer)
    await settle(nc)
    for headers in (None, {"Content-Type": "application/json", "Caxton-Conversation-Id": "c1", "Shop": "5"}):
        reply = await other.request("agent.librarian", b"ants", timeout=10, headers=headers)
        assert reply.data == b"all about ants", reply

    try:
        await other.request("agent.nobody", b"", timeout=10)
        raise AssertionError("nobody replies")
    except NoRespondersError:
        pass

    workers = [await nats.connect(**options) for _ in range(3)]
    seen = asyncio.Queue()

    async def work(message):
        await seen.put(int(message.data))

    for worker in workers:
        await worker.subscribe("agent.worker", queue="pool", cb=work)
        await settle(worker)
    for number in range(60):
        await other.publish("agent.worker", str(number).encode())
    assert sorted([await asyncio.wait_for(seen.get(), 10) for _ in range(60)]) == list(range(60))

    kept = asyncio.get_running_loop().create_future()

    async def keep(message):
        kept.set_result(message.data)

    await nc.subscribe("agent.clerk", cb=keep)
    await settle(nc)
    ack = await other.jetstream().publish("agent.clerk", b"kept", headers={"Caxton-Reliability": "durable"}, timeout=10)
    assert (ack.stream, ack.seq, await kept) == ("caxton", 1, b"kept"), ack

    assert not errors, errors
    await other.publish("foo.bar", b"")
    await other.flush()
    await asyncio.sleep(0.1)
    assert len(errors) == 1 and "permissions violation" in errors[0].lower(), errors
    for client in [nc, other, *workers]:
        await client.drain()


asyncio.run(main(*sys.argv[1:]))
