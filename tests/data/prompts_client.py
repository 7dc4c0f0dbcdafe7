"""Finds agents by the SDK of the Synadia Agent Protocol, and prompts them. Argument: the address."""

import asyncio
import sys

import nats
from synadia_ai.agents import Agents, Query, ResponseChunk, StatusChunk


async def main(address):
    nc = await nats.connect(f"nats://{address}")
    agents = Agents(nc=nc)
    found = {agent.session_name: agent for agent in await agents.discover()}
    assert sorted(found) == ["careful", "oracle"], found
    assert await agents.ping(found["oracle"].instance_id)
    assert not await agents.ping("nobody")

    chunks = [chunk async for chunk in found["oracle"].prompt("why?")]
    texts = [chunk.text for chunk in chunks if isinstance(chunk, ResponseChunk)]
    assert texts == ["because", "why?"], chunks
    assert any(isinstance(chunk, StatusChunk) and chunk.status == "ack" for chunk in chunks), chunks

    texts = []
    async for chunk in found["careful"].prompt("do it"):
        if isinstance(chunk, Query):
            assert chunk.prompt == "really?", chunk
            await chunk.reply("yes")
        elif isinstance(chunk, ResponseChunk):
            texts.append(chunk.text)
    assert texts == ["done: yes"], texts

    status = await found["oracle"].status()
    assert (status.instance_id, status.session) == (found["oracle"].instance_id, "oracle"), status
    while agents.liveness(status.instance_id) is None:
        await asyncio.sleep(0.01)
    assert agents.liveness(status.instance_id).is_online
    await agents.close()
    await nc.close()


asyncio.run(main(*sys.argv[1:]))
