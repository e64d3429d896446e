"""What an answer begins with: its question, and whether that has come for the first time."""

from typing import Any

import msgspec
from sqlalchemy import Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from moonpool.services.chat.leases import expire
from moonpool.services.chat.queries import latest, message_row
from moonpool.services.chat.schema import Conversation, Message, Status
from moonpool.services.chat.tables import messages, to_message


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A question that was stored, and the answer that is about to run. `history` is what came before.

    `first` is False when the same request has come before, and its answer is under way or over. `metered_as`
    is the id of this run's usage: the answer's own or, when it is run once more, one that begins with it.
    What a model has worked for before is billed under another, and would take this run's place in the books.
    """

    conversation: Conversation
    history: list[Message]
    question: Message
    answer: Message
    metered_as: str
    first: bool = True


class Again:
    """A message that was sent before: its question stays, and its answer is run once more when nobody has got
    a whole one (its process was killed, its model failed) and the conversation has not gone on since."""

    def __init__(self, connection: AsyncConnection, *, unused: str, instance: str, now: float) -> None:
        """`unused` is an id that nothing has."""
        self._connection = connection
        self._unused = unused
        self._instance = instance
        self._now = now

    async def begin(self, conversation: Conversation, ids: str) -> Begun:
        """`ids` are the question's and the answer's. Raises NotFound when they are gone."""
        id = conversation.id
        await expire(self._connection, self._now, conversation=id)
        question_id, _, answer_id = ids.partition(" ")
        question = await message_row(self._connection, id, question_id)
        answer = await message_row(self._connection, id, answer_id)
        history = await latest(self._connection, id, before=question.position)
        first = answer.status in (Status.FAILED, Status.INTERRUPTED) and await self._restart(answer)
        return Begun(
            conversation=conversation,
            history=[to_message(row) for row in reversed(history)],
            question=to_message(question),
            answer=to_message(answer),
            metered_as=f"{answer_id}.{self._unused.partition('_')[2]}",
            first=first,
        )

    async def _restart(self, answer: Row[Any]) -> bool:
        """Whether it could be."""
        later = select(messages.c.id).where(
            messages.c.conversation == answer.conversation, messages.c.position > answer.position
        )
        if (await self._connection.execute(later.limit(1))).first() is not None:
            return False
        empty = dict.fromkeys(("reasoning", "finish_reason", "error", "usage"))
        change = update(messages).where(messages.c.id == answer.id)
        await self._connection.execute(
            change.values(
                **empty,
                content="",
                status=Status.STREAMING.value,
                instance=self._instance,
                lease=self._now,
                cancel=False,
                updated_at=self._now,
            )
        )
        return True
