"""The socket that requests come in on."""

import asyncio
import contextlib
import socket

from holdfast.server.start import _listen


def test_answers_do_not_wait_for_the_client_to_acknowledge_their_head() -> None:
    """With Nagle's algorithm on, the second of two small writes waits for the delayed acknowledgement of the first."""

    async def option_of_an_accepted_connection() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            await writer.wait_closed()

        with contextlib.closing(_listen("127.0.0.1", 0)) as listener:
            async with await asyncio.start_server(look, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                option = await accepted
                writer.close()
                await writer.wait_closed()
                return option

    assert asyncio.run(option_of_an_accepted_connection()) != 0
