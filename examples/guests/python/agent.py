"""Answers every request with an inform of the same content. The names are those of agent.wit, in Python's spelling."""

import time

import wit_world
from wit_world.imports import router
from wit_world.imports.types import Message, Performative_Inform, Performative_Request


class WitWorld(wit_world.WitWorld):
    def start(self) -> None:
        # A line in the agent's log; router.log has levels and fields.
        print("started at", time.strftime("%H:%M:%S", time.gmtime()))

    def handle(self, message: Message) -> None:
        # What it raises as componentize_py_types.Err is a failed attempt: the router tries the message again or gives it up.
        if isinstance(message.performative, Performative_Request) and not message.from_router:
            router.reply(Performative_Inform(), message.content)

    def stop(self) -> None:
        pass
