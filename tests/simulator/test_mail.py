"""Mail to the simulator, sent with a client's own library over a real socket."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiosmtplib
import httpx
import pytest

from simulator.mail_server import BIGGEST
from simulator.mailbox import KEPT, Mailbox
from tests.simulator.conftest import Simulator, until, visiting
from tests.simulator.test_process import ENV, answering, process

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def message(subject: str = "Please reconnect", html: str = "<p>Hello</p>") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "The Runbook <runbook@acme.example>"
    mail["To"] = "Ada <ada@acme.example>"
    mail["Subject"] = subject
    mail["Message-ID"] = "<key-1@acme.example>"
    mail.set_content("Hello at http://127.0.0.1:8000/reconsent/x")
    mail.add_alternative(html, subtype="html")
    return mail


async def port(simulator: Simulator) -> int:
    found = urlsplit((await simulator.http.get("/admin/mail")).json()["address"]).port
    assert found
    return found


@asynccontextmanager
async def connected(simulator: Simulator, seconds: float = 3) -> AsyncIterator[aiosmtplib.SMTP]:
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=await port(simulator), timeout=seconds, start_tls=False)
    async with client:
        yield client


async def send(simulator: Simulator, mail: EmailMessage | bytes, *recipients: str, seconds: float = 3) -> int | None:
    """The code of the answer; None when there is none."""
    content = mail if isinstance(mail, bytes) else mail.as_bytes()
    try:
        async with connected(simulator, seconds) as client:
            await client.sendmail("runbook@acme.example", recipients or ("ada@acme.example",), content)
    except aiosmtplib.SMTPRecipientsRefused as refused:
        return refused.recipients[0].code
    except aiosmtplib.SMTPResponseException as refused:
        return None if refused.code < 0 else refused.code
    except (aiosmtplib.SMTPException, OSError):
        return None
    return 250


async def greeting(simulator: Simulator) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", await port(simulator))
    with closing(writer):
        return await reader.readuntil()


async def mails(simulator: Simulator, **query: str) -> list[dict[str, Any]]:
    return (await simulator.http.get("/admin/mail", params=query)).json()["mails"]


async def read(simulator: Simulator, headers: dict[str, str] | None = None, part: str = "") -> httpx.Response:
    """The newest mail."""
    newest = (await mails(simulator))[0]["number"]
    return await simulator.http.get(f"/admin/mail/{newest}{part}", headers=headers)


async def order(simulator: Simulator, **told: object) -> httpx.Response:
    return await simulator.http.post("/admin/mail/faults", json=told)


def holding(simulator: Simulator, number: int = 1) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return [fault["holding"] for fault in await simulator.faults()] == [number]

    return holds


class TestCaught:
    async def test_is_read_as_its_recipient_would(self, simulator: Simulator) -> None:
        mail = message("Grüße — reconnect")

        assert await send(simulator, mail, "ada@acme.example", "hidden@acme.example") == 250

        caught = (await read(simulator)).json()
        assert (caught["from"], caught["to"]) == ("The Runbook <runbook@acme.example>", "Ada <ada@acme.example>")
        assert caught["recipients"] == ["ada@acme.example", "hidden@acme.example"]
        assert (caught["subject"], caught["message_id"]) == ("Grüße — reconnect", "<key-1@acme.example>")
        assert caught["text"].strip() == "Hello at http://127.0.0.1:8000/reconsent/x"
        assert caught["html"].strip() == "<p>Hello</p>"
        assert ["MIME-Version", "1.0"] in caught["headers"]
        assert caught["size"] > 500

    async def test_is_listed_newest_first_and_by_recipient(self, simulator: Simulator) -> None:
        for subject, recipient in (
            ("one", "ada@acme.example"),
            ("two", "bob@acme.example"),
            ("three", "ada@acme.example"),
        ):
            await send(simulator, message(subject), recipient)

        assert [mail["subject"] for mail in await mails(simulator)] == ["three", "two", "one"]
        assert [mail["subject"] for mail in await mails(simulator, to="ada@acme.example")] == ["three", "one"]
        assert [mail["subject"] for mail in await mails(simulator, limit="1")] == ["three"]

    @pytest.mark.parametrize(
        ("sent", "text"),
        [
            (
                b"Subject: x\r\nContent-Type: text/plain; charset=martian\r\n\r\nh\xc3\xa9",
                "h\N{LATIN SMALL LETTER E WITH ACUTE}",
            ),
            (b"Subject: x\r\nContent-Type: text/plain; charset=ascii\r\n\r\n\xff", "\N{REPLACEMENT CHARACTER}"),
            (b"Subject: x\r\nContent-Type: image/png\r\n\r\nx", None),
            (b"\r\n", ""),
        ],
        ids=["unknown charset", "not in its charset", "no text", "nothing at all"],
    )
    async def test_may_be_anything(self, simulator: Simulator, sent: bytes, text: str | None) -> None:
        assert await send(simulator, sent) == 250

        caught = (await read(simulator)).json()

        assert (caught["text"] and caught["text"].strip(), caught["html"]) == (text, None)
        assert (await read(simulator, BROWSER)).status_code == 200
        assert (await simulator.http.get("/admin/mail", headers=BROWSER)).status_code == 200

    async def test_of_too_many_bytes_is_refused(self, simulator: Simulator) -> None:
        assert await send(simulator, b"Subject: x\r\n\r\n" + b"a line\r\n" * (BIGGEST // 8)) == 552
        assert await mails(simulator) == []

    def test_is_kept_in_bounds_and_counted_without(self) -> None:
        mailbox = Mailbox()
        for number in range(KEPT + 3):
            mailbox.catch([], f"Subject: {number}\r\n\r\n".encode())

        assert (mailbox.caught, len(mailbox.newest(None, KEPT * 2))) == (KEPT + 3, KEPT)
        assert mailbox.get(3) is None
        assert mailbox.get(4)

    async def test_that_is_gone_is_said_to_be(self, simulator: Simulator) -> None:
        await send(simulator, message())
        number = (await mails(simulator))[0]["number"]

        emptied = await simulator.http.delete("/admin/mail")
        gone = await simulator.http.get(f"/admin/mail/{number}")

        assert emptied.json() == {"forgotten": 1}
        assert (gone.status_code, gone.json()) == (404, {"error": f"mail {number} is not among the newest 500"})
        for part in ("", "/html"):
            page = await simulator.http.get(f"/admin/mail/{number}{part}", headers=BROWSER)
            assert (page.status_code, "No" in page.text) == (404, True)


class TestPages:
    async def test_lead_from_the_break_it_page_to_the_link_in_the_mail(self, simulator: Simulator) -> None:
        await send(simulator, message("<b>Hello</b>"))

        listed = await simulator.http.get("/admin/mail", headers=BROWSER)
        shown = await read(simulator, BROWSER)

        assert 'href="/admin/mail"' in (await simulator.http.get("/")).text
        assert "&lt;b&gt;Hello&lt;/b&gt;</a>" in listed.text
        assert f'href="/admin/mail/{(await mails(simulator))[0]["number"]}"' in listed.text
        assert 'href="http://127.0.0.1:8000/reconsent/x"' in shown.text
        assert "<b>" not in listed.text + shown.text

    async def test_give_the_mail_none_of_their_own_rights(self, simulator: Simulator) -> None:
        await send(simulator, message(html="<p>Hi</p><script>1</script>"))

        shown, alone = await read(simulator, BROWSER), await read(simulator, part="/html")

        assert "<iframe sandbox src=" in shown.text
        assert "<script>" not in shown.text
        policy = [part.strip() for part in alone.headers["content-security-policy"].split(";")]
        assert "<p>Hi</p>" in alone.text
        assert {"default-src 'none'", "sandbox allow-popups allow-popups-to-escape-sandbox"} <= set(policy)


class TestFaults:
    @pytest.mark.parametrize("status", [450, 451, 550])
    async def test_refuse_one_recipient_a_number_of_times(self, simulator: Simulator, status: int) -> None:
        await order(simulator, kind="status", status=status, to="ada@acme.example", count=1)

        assert await send(simulator, message(), "bob@acme.example") == 250
        assert await send(simulator, message()) == status
        assert await send(simulator, message()) == 250
        assert len(await mails(simulator)) == 2

    async def test_refuse_the_whole_message(self, simulator: Simulator) -> None:
        await order(simulator, kind="status", status=554, at="data", to=["ada@acme.example", "x@acme.example"])

        assert await send(simulator, message(), "bob@acme.example", "ada@acme.example") == 554
        assert await send(simulator, message(), "bob@acme.example") == 250
        assert [mail["recipients"] for mail in await mails(simulator)] == [["bob@acme.example"]]

    async def test_hang_until_they_are_lifted(self, simulator: Simulator) -> None:
        await order(simulator, kind="hang")

        sending = asyncio.create_task(send(simulator, message(), seconds=30))
        await until(holding(simulator))
        await simulator.http.delete("/admin/faults")

        assert await asyncio.wait_for(sending, 3) is None
        assert await mails(simulator) == []

    async def test_hang_until_their_time_is_up_or_the_caller_leaves(self, simulator: Simulator) -> None:
        await order(simulator, kind="hang", seconds_hold=0.05, count=1)
        assert await asyncio.wait_for(send(simulator, message(), seconds=30), 3) is None

        await order(simulator, kind="hang")
        assert await send(simulator, message(), seconds=0.1) is None
        await until(holding(simulator, 0))

    async def test_keep_the_mail_and_lose_the_answer(self, simulator: Simulator) -> None:
        await order(simulator, kind="drop", count=1)

        assert [await send(simulator, message()), await send(simulator, message())] == [None, 250]
        assert [mail["message_id"] for mail in await mails(simulator)] == ["<key-1@acme.example>"] * 2

    async def test_tear_down_who_calls_and_who_is_there(self, simulator: Simulator) -> None:
        async with connected(simulator) as client:
            await client.sendmail("runbook@acme.example", ["ada@acme.example"], message().as_bytes())
            await order(simulator, kind="reset", to="nobody@acme.example")
            with pytest.raises(aiosmtplib.SMTPServerDisconnected):
                await client.sendmail("runbook@acme.example", ["ada@acme.example"], message().as_bytes())
        assert await send(simulator, message()) is None
        with pytest.raises(ConnectionResetError):
            await greeting(simulator)

        await simulator.http.delete("/admin/faults")

        assert await send(simulator, message()) == 250
        assert len(await mails(simulator)) == 2

    async def test_end_by_themselves_and_spare_some(self, simulator: Simulator) -> None:
        await order(simulator, kind="status", share=0.5, seconds=30)

        answers = {await send(simulator, message()) for _ in range(40)}
        await simulator.http.delete("/admin/faults")
        await order(simulator, kind="status", seconds=0.05)
        await asyncio.sleep(0.06)

        assert answers == {250, 451}
        assert await send(simulator, message()) == 250

    async def test_are_shown_and_lifted_with_all_others(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status", path="/api")
        added = await order(simulator, kind="status", status=550, to="ada@acme.example")

        page = (await simulator.http.get("/")).text

        assert added.status_code == 201
        assert "on mail to ada@acme.example" in page
        await simulator.http.post("/break/lift", data={"fault_id": added.json()["id"]})
        assert [fault["kind"] for fault in await simulator.faults()] == ["status"]
        assert await send(simulator, message()) == 250

    async def test_of_the_api_are_none_of_mail(self, simulator: Simulator) -> None:
        await simulator.fault(kind="status")
        assert await send(simulator, message()) == 250

        await simulator.http.delete("/admin/faults")
        await order(simulator, kind="status")

        assert (await simulator.http.get("/api/me")).status_code == 401

    @pytest.mark.parametrize(
        "bad", [{"kind": "explode"}, {"status": 250}, {"at": "helo"}, {"to": []}, {"colour": "red"}, {"share": 2}]
    )
    async def test_that_make_no_sense_are_refused(self, simulator: Simulator, bad: dict[str, object]) -> None:
        answer = await order(simulator, **{"kind": "status", **bad})

        assert answer.status_code == 422
        assert answer.json()["error"].startswith(f"{next(iter(bad))}")
        assert await simulator.faults() == []


WITHOUT = "import sys; sys.modules['aiosmtpd'] = None; from simulator.cli import main; sys.exit(main(sys.argv[1:]))"
"""A process that has everything but the mail server's library."""


class TestProcess:
    async def test_says_where_and_ends_in_the_middle_of_a_mail(self, tmp_path: Path) -> None:
        with process(tmp_path, "--mail-port", "0") as (running, address):
            async with visiting(address) as simulator:
                await until(answering(simulator), seconds=10)
                listening = (await simulator.http.get("/admin/mail")).json()["address"]
                await order(simulator, kind="hang")
                async with connected(simulator):
                    sending = asyncio.create_task(send(simulator, message(), seconds=30))
                    await until(holding(simulator))
                    running.send_signal(signal.SIGTERM)
                    output, _ = await asyncio.to_thread(running.communicate, timeout=5)
                    assert await sending is None

        assert running.returncode == 0
        assert f"Mail server running on {listening}".encode() in output
        assert b"Traceback" not in output

    async def test_takes_no_mail_unless_told_to(self, tmp_path: Path) -> None:
        with process(tmp_path) as (_, address):
            async with visiting(address) as simulator:
                await until(answering(simulator), seconds=10)

                assert (await simulator.http.get("/admin/mail")).json() == {"address": None, "caught": 0, "mails": []}
                assert "--mail-port" in (await simulator.http.get("/admin/mail", headers=BROWSER)).text

    def test_of_a_port_that_is_taken_ends_and_names_it(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            with process(tmp_path, "--mail-port", str(number)) as (running, _):
                output, _ = running.communicate(timeout=10)

        assert running.returncode == 1
        assert f"mail server cannot listen on port {number}: ".encode() in output
        assert b"Traceback" not in output

    async def test_does_without_the_library_and_says_so(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            number = free.getsockname()[1]
        command = [sys.executable, "-c", WITHOUT, "--port", str(number), "--mail-port", "0"]
        with subprocess.Popen(  # noqa: ASYNC220 at once
            command, env=os.environ | ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as running:
            async with visiting(f"http://127.0.0.1:{number}") as simulator:
                await until(answering(simulator), seconds=10)
                assert (await simulator.http.get("/admin/mail")).json()["address"] is None
            running.terminate()
            _, said = running.communicate(timeout=5)

        assert b"No mail server: aiosmtpd" in said
