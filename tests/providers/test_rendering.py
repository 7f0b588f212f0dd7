from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from integrations.domain.notification import LINK, Definition, News, Rendered
from integrations.providers.rendering import LIMIT, Renderer, TemplateError

SESSION = {"session_id": str(UUID(int=7))}


def definition(text: str = "x", *, subject: str = "s", html: str = "") -> Definition:
    return Definition(
        id="paid",
        events=("billing.paid",),
        audience="owner",
        channels=("email",),
        relevant_for=timedelta(days=1),
        subject=subject,
        text=text,
        html=html,
    )


def news(payload: Mapping[str, Any] | None = None, **changes: Any) -> News:
    told: dict[str, Any] = {
        "event_id": uuid4(),
        "name": "billing.paid",
        "occurred_at": datetime(2026, 11, 25, 19, 5, tzinfo=UTC),
        "provider_id": "simulator",
        "scope_type": "org",
        "scope_id": "acme",
        "connection_id": UUID(int=2),
        "payload": payload or {},
    }
    return News(**(told | changes))


def rendered(given: Definition, about: News | None = None, name: str = "Ada", zone: str = "Europe/Berlin") -> Rendered:
    return Renderer([given]).render(given, about or news(), name, zone, "Simulator")


def text_of(template: str, payload: Mapping[str, Any] | None = None) -> str:
    return rendered(definition(template), news(payload)).text.removesuffix("\n")


def refusal(given: Definition, about: News | None = None) -> str:
    with pytest.raises(TemplateError) as refused:
        rendered(given, about)
    return str(refused.value)


class TestATemplate:
    def test_is_shown_the_event_and_whom_it_is_for(self) -> None:
        template = "{{ event.name }} {{ payload.n }} {{ provider }} {{ owner }} {{ connection }} {{ recipient }}"

        assert text_of(template, {"n": 5}) == f"billing.paid 5 Simulator org:acme {UUID(int=2)} Ada"

    def test_writes_moments_by_the_recipients_clock(self) -> None:
        at = {"at": "2026-07-01T23:30:00+00:00"}

        assert text_of("{{ payload.at | date }}", at) == "2 July 2026, 01:30 (Europe/Berlin)"
        assert text_of("{{ event.occurred_at | date }}") == "25 November 2026, 20:05 (Europe/Berlin)"

    def test_writes_moments_in_utc_where_the_zone_is_unknown(self) -> None:
        given = definition("{{ event.occurred_at | date }}")

        assert rendered(given, zone="Mars/Base").text == "25 November 2026, 19:05 (UTC)\n"

    def test_has_the_link_of_an_invitation(self) -> None:
        found = rendered(definition("{{ link }}", html="<a href='{{ link }}'>x</a>"), news(SESSION))

        assert found.with_link("https://acme.example/t") == Rendered(
            "s", "https://acme.example/t\n", "<a href='https://acme.example/t'>x</a>"
        )

    def test_keeps_no_link(self) -> None:
        found = rendered(definition("{{ link }}", html="{{ link }}", subject="{{ link }}"), news(SESSION))

        assert LINK in found.text
        assert not any(LINK in part for part in found.kept().values())

    def test_of_html_is_left_alone_where_nobody_sees_it(self) -> None:
        given = definition("hello", html="{{ payload.missing }}")

        assert Renderer([given]).render(given, news(), "", "UTC", "Simulator", html=False).html == ""

    def test_of_html_sees_the_parts_that_are_made(self) -> None:
        assert rendered(definition("<1>", subject="a", html="{{ subject }}: {{ text }}")).html == "a: &lt;1&gt;\n"

    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ("{{ payload.foo }}", "paid.text: there is no `payload.foo`; there are account, why"),
            ("{{ payload['foo'] }}", "paid.text: there is no `payload.foo`; there are account, why"),
            ("{{ payload.account.name }}", "paid.text: there is no `payload.account.name`; there are id"),
            ("{{ payload.why.name }}", "paid.text: 'str object' has no attribute 'name'"),
            ("{{ payload.items }}", "paid.text: there is no `payload.items`; there are account, why"),
            ("{{ event.foo }}", "paid.text: there is no `event.foo`; there are id, name, occurred_at, provider_id"),
            ("{{ link }}", "paid.text: there is no `link`: only events of an invitation have one"),
            ("{{ payload.why | date }}", "paid.text: 'because' is no moment: one looks like"),
        ],
    )
    def test_that_names_what_is_not_there_says_what_is(self, template: str, said: str) -> None:
        assert refusal(definition(template), news({"why": "because", "account": {"id": 1}})).startswith(said)

    def test_of_an_event_without_a_connection_cannot_name_one(self) -> None:
        assert "there is no `connection`" in refusal(definition("{{ connection }}"), news(connection_id=None))

    def test_names_a_moment_without_an_offset(self) -> None:
        assert "has no offset" in refusal(definition("{{ payload.at | date }}"), news({"at": "2026-11-25T20:05:00"}))


class TestAValue:
    @pytest.mark.parametrize("value", ["{{ 7 * 7 }}", "{% for x in payload %}!{% endfor %}", "{# gone #}"])
    def test_is_never_a_template(self, value: str) -> None:
        assert text_of("{{ payload.v }}", {"v": value}) == value
        assert rendered(definition(subject="{{ recipient }}"), name=value).subject == value

    def test_is_never_html(self) -> None:
        value = "<script>alert(1)</script><a href=\"x\" title='y'>"

        html = rendered(definition(html="{{ payload.v }}{{ recipient }}"), news({"v": value}), name=value).html

        assert "<" not in html
        assert '"' not in html
        assert "'" not in html

    @pytest.mark.parametrize("breaks", ["\n", "\r\n", "\r", "\u2028", "\x00", "\x85", "\x0b", "\ud800"])
    def test_begins_no_line_and_no_header(self, breaks: str) -> None:
        value = f"Ada{breaks}Bcc: eve@evil.example"
        given = definition("{{ payload.v }}", subject="{{ recipient }}: {{ payload.v }}")

        found = rendered(given, news({"v": value}), name=value)

        assert found.subject == "Ada Bcc: eve@evil.example: Ada Bcc: eve@evil.example"
        assert found.text == "Ada Bcc: eve@evil.example\n"

    @pytest.mark.parametrize("payload", [{"v": LINK}, {"v": [LINK]}, {"v": {"w": LINK}}, {LINK: 1}])
    def test_is_never_a_link(self, payload: dict[str, Any]) -> None:
        told = "{% for name, value in payload | items %}{{ name }} {{ value }}{% endfor %}"

        assert "https://secret" not in rendered(definition(told), news(payload)).with_link("https://secret").text

    def test_of_a_name_is_never_a_link(self) -> None:
        assert LINK not in rendered(definition("{{ recipient }}"), news(SESSION), name=LINK).text

    def test_that_is_nested_beyond_reason_is_refused(self) -> None:
        payload: dict[str, Any] = {}
        for _ in range(5_000):
            payload = {"v": payload}

        assert "cannot be shown to a template" in refusal(definition(), news(payload))


class TestASubject:
    def test_is_one_line(self) -> None:
        assert rendered(definition(subject="  a\n\n  b\t\x07c \n")).subject == "a b c"

    def test_of_nothing_is_refused(self) -> None:
        assert "paid.subject: nothing is left" in refusal(definition(subject="{{ payload.v }}"), news({"v": " \n"}))


class TestTooMuch:
    def test_of_a_body_is_refused_with_its_size_and_the_limit(self) -> None:
        message = refusal(definition("{{ payload.v }}"), news({"v": "x" * 5_000_000}))

        assert message.startswith(f"paid.text: the message has 5,000,001 bytes or more, and may have {LIMIT:,}")

    def test_is_counted_in_bytes_and_over_all_parts(self) -> None:
        half = {"v": "ä" * (LIMIT // 4)}

        assert rendered(definition("{{ payload.v }}", subject="s"), news({"v": "ä" * (LIMIT // 2 - 1)}))
        assert "paid.html" in refusal(definition("{{ payload.v }}", html="{{ payload.v }}"), news(half))

    def test_is_left_off_in_time(self) -> None:
        many = {"v": ["x" * 1000] * 2000}
        product = "{% for a in payload.v %}{% for b in payload.v %}{% for c in payload.v %}{{ c }}"

        assert "may have" in refusal(definition(product + "{% endfor %}" * 3), news(many))

    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ('{{ "x" * 1000000000 }}', "`*` is for two numbers"),
            ('{{ "%1000000000d" % 1 }}', "`%` is for two numbers"),
            ("{{ 9 ** 9 ** 9 }}", "`**` is not for messages"),
            ('{{ "x".center(1000000000) }}', "can only be called"),
            ('{{ "{:>1000000000}".format(1) }}', "can only be called"),
            ('{{ "x"["center"](1000000000) }}', "can only be called"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "goes round without an end"),
            ("{{ 1 / 0 }}", "division by zero"),
            ('{{ 1 + "x" }}', "unsupported operand"),
        ],
    )
    def test_is_not_made_of_little(self, template: str, said: str) -> None:
        assert said in refusal(definition(template))

    @pytest.mark.parametrize(
        "template",
        ['{{ "x" | center(1000000000) }}', '{{ "%1000000000d" | format(1) }}', '{{ "x" | indent(1000000000) }}'],
    )
    def test_has_no_filter(self, template: str) -> None:
        assert "No filter named" in refusal(definition(template))


class TestTheSandbox:
    @pytest.mark.parametrize(
        "template",
        [
            "{{ ''.__class__ }}",
            "{{ payload.__class__ }}",
            "{{ ('' | attr('__class__')) }}",
            "{{ payload.update({'a': 1}) }}",
            "{{ payload.v.append(1) }}",
            "{{ range(9) }}",
            "{{ payload.v['append'] }}",
            "{{ cycler(1) }}",
            "{{ self.x() }}",
            "{% include 'mail.html' %}",
            "{% extends '/etc/passwd' %}",
            "{% import 'os' as os %}",
            "{{ payload.v | safe }}",
            "{{ payload.v | map('upper') | list }}",
            "{{ payload._zone }}",
        ],
    )
    def test_opens_no_door(self, template: str) -> None:
        assert refusal(definition(template), news({"v": ["x"]})).startswith("paid.text: ")

    def test_lets_a_template_count_and_choose(self) -> None:
        macro = "{% macro m(x) %}<{{ x }}>{% endmacro %}"
        loop = "{% for v in payload.v %}{{ m(v * 2 % 7) }}{{ loop.last }}{% endfor %}"

        assert text_of(macro + loop, {"v": [3, 4]}) == "<6>False<1>True"
