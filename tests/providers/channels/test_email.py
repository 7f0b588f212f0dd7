import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from integrations.domain.mail import MailServer, Sender
from integrations.domain.notification import Answer
from integrations.domain.verdict import Meaning
from integrations.providers.channels import email
from integrations.providers.channels.email import EmailChannel
from tests.providers.channels.messages import KEY, LINK, outgoing
from tests.providers.channels.smtp import PASSWORD, USER, Mailbox, knows, mail_server
from tests.providers.serving import self_signed

ADA = "ada@acme.example"
SENDER = Sender.read("Runbook <runbook@platform.example>")


def channel(port: int, *, scheme: str = "smtp", login: str = "", query: str = "") -> EmailChannel:
    return EmailChannel(MailServer.read(f"{scheme}://{login}127.0.0.1:{port}{query}"), SENDER)


async def sent(mailbox: Mailbox, address: str = ADA, **changes: str) -> Answer:
    return await channel(mailbox.port).send(outgoing(address, channel="email", **changes))


def said(answer: Answer) -> tuple[Meaning, str]:
    return answer.meaning, answer.kind


class TestALetter:
    async def test_is_text_and_html_for_one_reader(self) -> None:
        async with mail_server() as mailbox:
            answer = await sent(mailbox, text=f"Grüße, {LINK}\n", html=f'<p>Grüße, <a href="{LINK}">here</a></p>\n')

        assert answer == Answer(meaning=Meaning.OK)
        (letter,), (envelope,) = mailbox.letters, mailbox.envelopes
        assert (envelope.mail_from, envelope.rcpt_tos) == ("runbook@platform.example", [ADA])
        assert (letter["From"], letter["To"]) == ("Runbook <runbook@platform.example>", f"Ada <{ADA}>")
        assert letter["Subject"] == "Connect the simulator again"
        assert letter["Auto-Submitted"] == "auto-generated"
        assert letter["Date"].datetime.utcoffset() == timedelta(0)
        assert letter.get_content_type() == "multipart/alternative"
        plain, html = letter.iter_parts()
        assert (plain.get_content_type(), plain.get_content()) == ("text/plain", f"Grüße, {LINK}\n")
        assert (html.get_content_type(), html.get_content()) == (
            "text/html",
            f'<p>Grüße, <a href="{LINK}">here</a></p>\n',
        )

    async def test_without_html_is_text_alone(self) -> None:
        async with mail_server() as mailbox:
            await sent(mailbox)

        assert mailbox.letters[0].get_content_type() == "text/plain"

    async def test_has_the_same_id_each_time(self) -> None:
        async with mail_server() as mailbox:
            for _ in range(2):
                await sent(mailbox)

        assert [letter["Message-ID"] for letter in mailbox.letters] == [f"<{KEY}@platform.example>"] * 2

    async def test_keeps_lines_that_are_longer_than_mail_has_them(self) -> None:
        text = f"{'ä' * 2000}\n.\n{LINK}\n"

        async with mail_server() as mailbox:
            await sent(mailbox, text=text)

        assert mailbox.letters[0].get_content().replace("\r\n", "\n") == text

    @pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x00", "\x0b", "\x85", "\u2028"])
    async def test_has_no_header_that_a_name_or_subject_brings_along(self, end: str) -> None:
        evil = f"Ada{end}Bcc: eve@evil.example{end}{end}<script>"

        async with mail_server() as mailbox:
            answer = await sent(mailbox, name=evil, subject=evil)

        assert answer.sent
        (letter,) = mailbox.letters
        assert letter["Bcc"] is None
        assert letter["Subject"] == "Ada Bcc: eve@evil.example <script>"
        (to,) = letter["To"].addresses
        assert (to.addr_spec, to.display_name) == (ADA, "Ada Bcc: eve@evil.example <script>")
        assert mailbox.envelopes[0].rcpt_tos == [ADA]
        assert "script" not in letter.get_content()

    @pytest.mark.parametrize("name", ['Ada "the first" Lovelace', "Lovelace, Ada", "Ådä 🙂", "a@b <c@d>", "x" * 300])
    async def test_is_to_whatever_somebody_is_called(self, name: str) -> None:
        async with mail_server() as mailbox:
            await sent(mailbox, name=name)

        (to,) = mailbox.letters[0]["To"].addresses
        assert (to.display_name, to.addr_spec) == (name, ADA)

    @pytest.mark.parametrize("address", ["ada@acme.example\r\nRCPT TO:<eve@evil.example>", "ada", "", "a@b, c@d"])
    async def test_to_an_address_that_is_none_is_refused(self, address: str) -> None:
        async with mail_server() as mailbox:
            answer = await sent(mailbox, address)

        assert (said(answer), mailbox.letters) == ((Meaning.OWNER_MUST_ACT, "Letter"), [])


class TestAMailboxBeyondAscii:
    async def test_is_reached_by_a_server_that_takes_it(self) -> None:
        async with mail_server(enable_SMTPUTF8=True) as mailbox:
            answer = await sent(mailbox, "jörg@acme.example")

        assert answer.sent
        assert mailbox.envelopes[0].rcpt_tos == ["jörg@acme.example"]
        assert "To: Ada <jörg@acme.example>".encode() in (mailbox.envelopes[0].content or b"")

    async def test_is_refused_where_no_server_takes_it(self) -> None:
        async with mail_server() as mailbox:
            answer = await sent(mailbox, "jörg@acme.example")

        assert (said(answer), mailbox.letters) == ((Meaning.OWNER_MUST_ACT, "SMTPUTF8"), [])

    async def test_needs_nothing_of_a_server_when_only_its_domain_is(self) -> None:
        async with mail_server() as mailbox:
            answer = await sent(mailbox, channel(mailbox.port).check("ada@straße.example"))

        assert answer.sent
        assert mailbox.envelopes[0].rcpt_tos == ["ada@xn--strae-oqa.example"]


class TestAnAnswer:
    @pytest.mark.parametrize(
        ("answers", "meaning", "kind"),
        [
            ({"RCPT": "421 busy"}, Meaning.RETRY, "SMTP 421"),
            ({"RCPT": "450 mailbox busy"}, Meaning.RETRY, "SMTP 450"),
            ({"RCPT": "451 greylisted"}, Meaning.RETRY, "SMTP 451"),
            ({"DATA": "452 no room"}, Meaning.RETRY, "SMTP 452"),
            ({"MAIL": "451 later"}, Meaning.RETRY, "SMTP 451"),
            ({"RCPT": "550 no such user"}, Meaning.OWNER_MUST_ACT, "SMTP 550"),
            ({"RCPT": "551 not local"}, Meaning.OWNER_MUST_ACT, "SMTP 551"),
            ({"RCPT": "553 name not allowed"}, Meaning.OWNER_MUST_ACT, "SMTP 553"),
            ({"RCPT": "501 syntax"}, Meaning.OWNER_MUST_ACT, "SMTP 501"),
            ({"DATA": "552 too large"}, Meaning.OWNER_MUST_ACT, "SMTP 552"),
            ({"DATA": "554 spam"}, Meaning.OWNER_MUST_ACT, "SMTP 554"),
            ({"MAIL": "530 authentication required"}, Meaning.OPERATOR_MUST_ACT, "SMTP 530"),
            ({"RCPT": "530 authentication required"}, Meaning.OPERATOR_MUST_ACT, "SMTP 530"),
            ({"MAIL": "550 sender rejected"}, Meaning.OPERATOR_MUST_ACT, "SMTP 550"),
        ],
    )
    async def test_is_judged_by_its_code_and_what_it_answers(
        self, answers: Mapping[str, str], meaning: Meaning, kind: str
    ) -> None:
        async with mail_server(answers=answers) as mailbox:
            answer = await sent(mailbox)

        assert said(answer) == (meaning, kind)
        assert mailbox.letters == []

    @pytest.mark.parametrize(
        ("greeting", "meaning"), [("421 too many", Meaning.RETRY), ("554 go away", Meaning.OPERATOR_MUST_ACT)]
    )
    async def test_to_our_greeting_is_one_too(self, greeting: str, meaning: Meaning) -> None:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{greeting}\r\n".encode())
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            answer = await channel(server.sockets[0].getsockname()[1]).send(outgoing(ADA))

        assert said(answer) == (meaning, f"SMTP {greeting[:3]}")

    async def test_that_took_the_letter_stands_though_the_goodbye_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(email, "TIMEOUT", timedelta(seconds=1))

        async with mail_server(answers={"QUIT": "30"}) as mailbox:
            answer = await asyncio.wait_for(sent(mailbox), 10)

        assert (answer.sent, len(mailbox.letters)) == (True, 1)


class TestNoAnswer:
    async def test_where_nobody_listens(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and never listening: refuses
            answer = await channel(taken.getsockname()[1]).send(outgoing(ADA))

        assert said(answer) == (Meaning.OUTAGE, "SMTPConnectError")

    async def test_of_one_that_hangs_ends_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(email, "TIMEOUT", timedelta(seconds=0.3))

        async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.test\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silence, "127.0.0.1", 0)
        async with server:
            sending = channel(server.sockets[0].getsockname()[1]).send(outgoing(ADA))
            answer = await asyncio.wait_for(sending, 5)

        assert said(answer) == (Meaning.OUTAGE, "Timeout")

    async def test_of_one_that_hangs_up(self) -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.test\r\n")
            await reader.readline()
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            answer = await channel(server.sockets[0].getsockname()[1]).send(outgoing(ADA))

        assert said(answer) == (Meaning.OUTAGE, "SMTPServerDisconnected")

    async def test_in_smtp(self) -> None:
        async def gibberish(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(gibberish, "127.0.0.1", 0)
        async with server:
            answer = await channel(server.sockets[0].getsockname()[1]).send(outgoing(ADA))

        assert not answer.sent
        assert not answer.refused


def trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's certificate that this process trusts from now on."""
    file = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return context


def untrusted(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(folder))
    return context


class TestEncryption:
    @pytest.mark.parametrize("smtps", [True, False])
    async def test_is_as_the_address_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smtps: bool) -> None:
        context = trusted(tmp_path, monkeypatch)
        by = {"scheme": "smtps"} if smtps else {"query": "?tls=starttls"}

        async with mail_server(tls=context, smtps=smtps, require_starttls=not smtps) as mailbox:
            answer = await channel(mailbox.port, **by).send(outgoing(ADA))

        assert (answer.sent, len(mailbox.letters)) == (True, 1)

    @pytest.mark.parametrize("smtps", [True, False])
    async def test_with_a_stranger_is_ours_to_fix(self, tmp_path: Path, smtps: bool) -> None:
        by = {"scheme": "smtps"} if smtps else {"query": "?tls=starttls"}

        async with mail_server(tls=untrusted(tmp_path), smtps=smtps) as mailbox:
            answer = await channel(mailbox.port, **by).send(outgoing(ADA))

        assert (said(answer), mailbox.letters) == ((Meaning.OPERATOR_MUST_ACT, "TlsFailure"), [])

    async def test_that_is_not_offered_is_not_done_without(self) -> None:
        async with mail_server() as mailbox:
            answer = await channel(mailbox.port, query="?tls=starttls").send(outgoing(ADA))

        assert (said(answer), mailbox.letters) == ((Meaning.OPERATOR_MUST_ACT, "SmtpFeature"), [])


# The test's server takes passwords in the clear, which aiosmtpd warns of: it is this machine.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
class TestCredentials:
    async def test_open_the_server(self) -> None:
        login = f"{USER}:{quote(PASSWORD, safe='')}@"

        async with mail_server(authenticator=knows, auth_required=True, auth_require_tls=False) as mailbox:
            answer = await channel(mailbox.port, login=login).send(outgoing(ADA))

        assert (answer.sent, len(mailbox.letters)) == (True, 1)

    async def test_that_are_wrong_are_ours_to_fix_and_not_shown(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG, "aiosmtplib"):
            async with mail_server(authenticator=knows, auth_required=True, auth_require_tls=False) as mailbox:
                sender = channel(mailbox.port, login="runbook:wrong-password@")
                answer = await sender.send(outgoing(ADA))

        assert said(answer) == (Meaning.OPERATOR_MUST_ACT, "SMTP 535")
        assert "RUNBOOK_SMTP_URL" in answer.why
        ours = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("mail."))
        assert "wrong-password" not in f"{answer!r} {sender!r} {vars(sender)!r} {ours}"

    async def test_on_a_server_without_logins_are_ours_to_fix(self) -> None:
        async with mail_server() as mailbox:
            answer = await channel(mailbox.port, login="runbook:hunter2@").send(outgoing(ADA))

        assert said(answer) == (Meaning.OPERATOR_MUST_ACT, "SmtpFeature")


class TestSecrets:
    @pytest.mark.parametrize(
        "answers",
        [
            {},
            {"RCPT": f"550 {LINK} {ADA}"},
            {"DATA": f"451 {LINK} {ADA}"},
            {"MAIL": f"550 {LINK} {ADA}"},
        ],
    )
    async def test_are_in_no_answer_and_no_log(
        self, answers: Mapping[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        async with mail_server(answers=answers) as mailbox:
            answer = await sent(mailbox)

        # The server's own log is of the test.
        ours = [record.getMessage() for record in caplog.records if not record.name.startswith("mail.")]
        shown = f"{answer!r} {ours}"
        assert [secret for secret in (LINK, "a-very-secret-token", ADA) if secret in shown] == []

    def test_are_not_in_the_address_for_people(self) -> None:
        assert channel(25).masked(ADA) == "a••@acme.example"


class TestTheChannel:
    def test_fails_as_a_whole_with_its_server(self) -> None:
        assert channel(2525).origin(ADA) == channel(2525).origin("bob@other.example") == "email"

    def test_says_what_it_wants_before_it_can_send(self) -> None:
        server = MailServer.read("smtp://127.0.0.1:25")

        assert EmailChannel(None, SENDER).ready().startswith("RUNBOOK_SMTP_URL is not set")
        assert EmailChannel(server, None).ready().startswith("RUNBOOK_MAIL_FROM is not set")
        assert EmailChannel(server, SENDER).ready() == ""

    async def test_that_is_not_ready_waits_for_an_operator(self) -> None:
        answer = await EmailChannel(None, SENDER).send(outgoing(ADA))

        assert said(answer) == (Meaning.OPERATOR_MUST_ACT, "NotReady")

    @pytest.mark.parametrize(
        ("written", "kept"),
        [
            (" ada@acme.example ", "ada@acme.example"),
            ("Ada.Lovelace+x@ACME.example", "Ada.Lovelace+x@acme.example"),
            ("root@localhost", "root@localhost"),
            ("jörg@acme.example", "jörg@acme.example"),
        ],
    )
    def test_keeps_a_mailbox_in_one_form(self, written: str, kept: str) -> None:
        assert channel(25).check(written) == kept

    @pytest.mark.parametrize(
        "written",
        [
            "",
            "ada",
            "@acme.example",
            "ada@",
            "ada@@acme.example",
            "ada@acme..example",
            ".ada@acme.example",
            "ada@-acme.example",
            "ada lovelace@acme.example",
            "Ada <ada@acme.example>",
            "ada@acme.example, bob@acme.example",
            "ada@acme.example\r\nBcc: eve@evil.example",
            "ada@[10.0.0.1]",
            f"{'a' * 250}@acme.example",
        ],
    )
    def test_refuses_what_is_no_mailbox(self, written: str) -> None:
        with pytest.raises(ValueError, match="a mailbox is written"):
            channel(25).check(written)


class TestAnEncodedWord:
    """RFC 2047: what looks like one is decoded when a header is written, line breaks in it too."""

    EVIL = "=?utf-8?q?a=0aX-Evil:_y=0a=0aand_a_body?="

    @pytest.mark.parametrize("where", ["name", "subject"])
    async def test_in_what_others_wrote_begins_no_header_and_no_body(self, where: str) -> None:
        async with mail_server() as mailbox:
            answer = await sent(mailbox, **{where: self.EVIL})

        (letter,) = mailbox.letters
        assert answer.sent
        assert "X-Evil" not in letter
        assert "and_a_body" in str(letter["To" if where == "name" else "Subject"])
