import re

import pytest

from integrations.domain.mail import MailServer, Security, Sender, is_mailbox


class TestAMailServer:
    @pytest.mark.parametrize(
        ("url", "server"),
        [
            ("smtp://mail.acme.example", MailServer("mail.acme.example", 587, Security.STARTTLS)),
            ("smtp://mail.acme.example:25?tls=none", MailServer("mail.acme.example", 25, Security.NONE)),
            ("smtps://mail.acme.example/", MailServer("mail.acme.example", 465, Security.TLS)),
            ("smtp://127.0.0.1:1025", MailServer("127.0.0.1", 1025, Security.NONE)),
            ("smtp://localhost:1025?tls=starttls", MailServer("localhost", 1025, Security.STARTTLS)),
            (
                "smtp://a%40b:p%2F%40%23%3A@mail.acme.example:2525",
                MailServer("mail.acme.example", 2525, Security.STARTTLS, "a@b", "p/@#:"),
            ),
            ("smtp://a:b@localhost:25", MailServer("localhost", 25, Security.NONE, "a", "b")),
        ],
    )
    def test_is_read_from_its_address(self, url: str, server: MailServer) -> None:
        assert MailServer.read(url) == server

    @pytest.mark.parametrize(
        ("url", "wrong"),
        [
            ("", "must be smtp://"),
            ("mail.acme.example", "must be smtp://"),
            ("http://mail.acme.example", "must be smtp://"),
            ("smtp://", "must be smtp://"),
            ("smtp://u:hunter2@", "must be smtp://"),
            ("smtp://mail.acme.example/inbox", "must be smtp://"),
            ("smtp://u:hunter2/x@mail.acme.example", "/ is %2F"),
            ("smtp://u:hunter2#x@mail.acme.example", "/ is %2F"),
            ("smtp://u:pw@mail.acme.example:hunter2", "/ is %2F"),
            ("smtp://u:pw@[hunter2/", "/ is %2F"),
            ("smtp://u@mail.acme.example", "a user without a password"),
            ("smtp://:hunter2@mail.acme.example", "a user without a password"),
            ("smtp://u:hunter2@mail.acme.example?tls=none", "readable for anybody"),
            ("smtp://mail.acme.example?tls=maybe", "takes one option"),
            ("smtp://mail.acme.example?tls=tls", "takes one option"),
            ("smtps://mail.acme.example?tls=none", "takes one option"),
            ("smtp://mail.acme.example?timeout=3", "takes one option"),
        ],
    )
    def test_that_is_none_is_refused_and_not_shown(self, url: str, wrong: str) -> None:
        with pytest.raises(ValueError, match=re.escape(wrong)) as refused:
            MailServer.read(url)

        assert refused.value.__suppress_context__ or refused.value.__context__ is None
        assert "hunter2" not in str(refused.value)

    def test_shows_no_password(self) -> None:
        assert "hunter2" not in repr(MailServer.read("smtps://u:hunter2@mail.acme.example"))


class TestASender:
    @pytest.mark.parametrize(
        ("text", "sender"),
        [
            ("runbook@acme.example", Sender("", "runbook@acme.example")),
            ("Runbook <runbook@acme.example>", Sender("Runbook", "runbook@acme.example")),
            ('"The runbook" <runbook@acme.example>', Sender("The runbook", "runbook@acme.example")),
            (" Ünsere Läufe <r@x.example> ", Sender("Ünsere Läufe", "r@x.example")),
            ("<r@x.example>", Sender("", "r@x.example")),
        ],
    )
    def test_is_read_with_its_name(self, text: str, sender: Sender) -> None:
        assert Sender.read(text) == sender

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Runbook",
            "Runbook <>",
            "Runbook <runbook>",
            "a@b.example, c@d.example",
            "A <a@b.example> B",
            "A\r\nBcc: x <a@b.example>",
            "A <a@b.example>\r\nBcc: eve@evil.example",
            "Jörg <jörg@acme.example>",
            "r@straße.example",
        ],
    )
    def test_that_is_none_is_refused_with_how_it_is_written(self, text: str) -> None:
        with pytest.raises(ValueError, match="must be a mailbox in ASCII"):
            Sender.read(text)

    def test_has_a_domain(self) -> None:
        assert Sender.read("Runbook <runbook@acme.example>").domain == "acme.example"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("ada@acme.example", True),
        ("a" * 242 + "@acme.example", False),
        ("ada@acme.example ", False),
        ("ä@ö.example", True),
    ],
)
def test_a_mailbox_is_told_from_other_words(text: str, is_one: bool) -> None:
    assert is_mailbox(text) is is_one
