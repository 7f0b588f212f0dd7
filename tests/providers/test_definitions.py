import re
from datetime import timedelta
from pathlib import Path

import pytest

from integrations.domain.notification import Mode
from integrations.providers import definitions
from integrations.providers.definitions import Definitions, DefinitionsError

ROOT = Path(__file__).parents[2]
PAID = """
[notifications.paid]
events = ["billing.paid"]
audience = "owner"
channels = ["email", "webhook"]
relevant_for = "1d"
superseded_by = ["billing.refunded"]
subject = "{{ owner }} paid"
text = "{{ payload.amount }} at {{ event.occurred_at | date }}."

[samples."billing.paid"]
amount = "12 EUR"

[samples."billing.refunded"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "notifications.toml"


def loaded(file: Path, content: str) -> Definitions:
    file.write_text(content)
    return definitions.load(file)


def refusal(file: Path, content: str) -> str:
    file.write_text(content)
    with pytest.raises(DefinitionsError) as refused:
        definitions.load(file)
    return str(refused.value)


class TestTheBuiltInDefinitions:
    def test_tell_of_everything_that_the_runbook_wants_told(self) -> None:
        assert {each.id: (each.audience, each.events) for each in definitions.load()} == {
            "invitation": ("owner", ("reauth.invited",)),
            "reminder": ("owner", ("reauth.reminder",)),
            "repaired": ("owner", ("connection.repaired",)),
            "other_account": ("owner", ("reauth.other_account",)),
            "expired": ("owner", ("connection.disconnected",)),
            "escalation": ("operators.secondary", ("reauth.escalated",)),
            "declined": ("operators.primary", ("reauth.declined",)),
            "refresh_surge": ("operators.primary", ("refresh.surge",)),
            "outage_opened": ("operators.primary", ("provider.outage_opened",)),
            "outage_unattended": ("operators.primary", ("provider.outage_unattended",)),
            "outage_closed": ("operators.primary", ("provider.outage_closed",)),
            "recovered": ("owner", ("provider.recovered",)),
            "dead_letters": ("operators.primary", ("notification.dead_letters",)),
            "dead_webhooks": ("operators.primary", ("webhook.dead_letters",)),
            "incident_assigned": ("operators.primary", ("incident.assigned",)),
        }

    def test_tell_of_dead_letters_by_every_channel(self) -> None:
        found = definitions.load().get("dead_letters")

        assert (found.mode, set(found.channels)) == (Mode.ALL, {"email", "webhook", "apprise"})

    @pytest.mark.parametrize("event", ["connection.repaired", "connection.disconnected", "reauth.invited"])
    def test_of_an_invitation_are_old_once_it_leads_nowhere(self, event: str) -> None:
        assert all(event in definitions.load().get(each).superseded_by for each in ("invitation", "reminder"))


class TestAnotherFile:
    def test_adds_definitions_of_its_own(self, file: Path) -> None:
        found = loaded(file, PAID)

        paid = found.get("paid")
        assert {each.id for each in found} == {"paid", *(each.id for each in definitions.load())}
        assert (paid.channels, paid.mode, paid.relevant_for) == (("email", "webhook"), Mode.FAILOVER, timedelta(days=1))
        assert "billing.paid" in found.patterns

    def test_replaces_what_has_the_same_id(self, file: Path) -> None:
        found = loaded(file, PAID.replace("notifications.paid", "notifications.invitation"))

        assert found.about("reauth.invited") == ()
        assert [each.id for each in found.about("billing.paid")] == ["invitation"]

    def test_may_name_a_list(self, file: Path) -> None:
        assert loaded(file, PAID.replace('"owner"', '"list.finance"')).get("paid").audience == "list.finance"

    def test_may_keep_its_words_in_files_beside_it(self, file: Path) -> None:
        file.with_name("paid.txt").write_text("{{ payload.amount }}!")
        file.with_name("paid.html").write_text("<b>{{ payload.amount }}</b>")
        content = re.sub("text = .*", 'text_file = "paid.txt"\nhtml_file = "paid.html"', PAID)

        paid = loaded(file, content).get("paid")

        assert (paid.text, paid.html) == ("{{ payload.amount }}!", "<b>{{ payload.amount }}</b>")

    def test_may_do_without_html(self, file: Path) -> None:
        assert loaded(file, PAID.replace("text =", 'html = ""\ntext =')).get("paid").html == ""

    def test_is_tried_with_the_built_in_events_too(self, file: Path) -> None:
        content = PAID.replace('"billing.paid"]\na', '"reauth.*"]\na').replace("{{ payload.amount }} at", "At")

        assert [each.id for each in loaded(file, content).about("reauth.snoozed")] == ["paid"]

    def test_may_ask_whether_a_field_is_there(self, file: Path) -> None:
        content = PAID.replace("{{ payload.amount }}", "{% if payload.tax is defined %}{{ payload.tax }}{% endif %}")

        assert loaded(file, content).get("paid")

    def test_that_is_not_there_is_named(self, file: Path) -> None:
        with pytest.raises(DefinitionsError, match=r"notifications\.toml"):
            definitions.load(file)

    def test_is_as_the_documentation_shows_it(self, file: Path) -> None:
        shown = re.search(r"```toml\n(.+?)```", (ROOT / "docs/notifications.md").read_text(), re.DOTALL)
        assert shown is not None

        assert [each.id for each in loaded(file, shown[1]).about("billing.payment_failed")] == ["payment_failed"]


class TestWhatAnEventIsToldBy:
    def test_stands_for_anything_where_a_star_is(self, file: Path) -> None:
        found = loaded(file, PAID.replace('events = ["billing.paid"]', 'events = ["billing.p*"]'))

        assert [each.id for each in found.about("billing.paid")] == ["paid"]
        assert [each.id for each in found.about("billing.posted")] == ["paid"]
        assert found.about("billing.refunded") == ()
        assert found.about("no.billing.paid") == ()

    def test_is_nothing_for_most_events(self) -> None:
        assert definitions.load().about("connection.grants_expanded") == ()

    def test_that_is_not_there_names_the_nearest(self) -> None:
        with pytest.raises(DefinitionsError, match="no definition 'invitaton'; did you mean 'invitation'"):
            definitions.load().get("invitaton")


class TestAMistake:
    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("relevant_for", "relevant_four", r"paid\.relevant_four: unknown key; did you mean 'relevant_for'"),
            ('subject = "{{ owner }} paid"', "", r"paid\.subject: is missing; it looks like subject = "),
            ('"{{ owner }} paid"', '" "', r"paid\.subject: is empty"),
            ('audience = "owner"', 'audience = "ownr"', r"paid\.audience: 'ownr' is no audience; did you mean 'owner'"),
            (
                'audience = "owner"',
                'audience = "list."',
                r"paid\.audience: 'list\.' is no audience; did you mean 'list\.N",
            ),
            ('["email", "webhook"]', "[]", r"paid\.channels: there is no channel: name one of webhook, email, apprise"),
            ('["email", "webhook"]', '["emial"]', r"paid\.channels: 'emial' is no channel; did you mean 'email'"),
            ('["email", "webhook"]', '["email", "email"]', r"paid\.channels: the same channel stands there twice"),
            ('events = ["billing.paid"]', "events = []", r"paid\.events: there is no event"),
            ('events = ["billing.paid"]', 'events = ["x y"]', r"paid\.events\.0: 'x y' is no event's name"),
            (
                'events = ["billing.paid"]',
                'events = ["reauth.invted"]',
                r"paid\.events: no event is known as 'reauth\.invted'; did you mean 'reauth\.invited'",
            ),
            ('["billing.refunded"]', '["billing.r"]', r"paid\.superseded_by: no event is known as 'billing\.r'"),
            ('"1d"', '"soon"', r"paid\.relevant_for: must be a duration like"),
            ('"1d"', '"0s"', r"paid\.relevant_for: must be longer than nothing"),
            (
                'audience = "owner"',
                'audience = "owner"\nmode = "al"',
                r"paid\.mode: 'al' is not known; did you mean 'all'",
            ),
            ("text =", 'text_file = "x"\ntext =', r"paid: needs its words once"),
            ("text =", 'html = "x"\nhtml_file = "x"\ntext =', r"paid: has `html` and `html_file`"),
            ("text =", 'html_file = "no.html"\ntext =', r"paid: html_file: .*/no\.html: .*No such file"),
            ("notifications.paid", 'notifications."p:d"', r"p:d: 'p:d' cannot be an id"),
            ("{{ owner }}", "{{ ownr }}", r"paid\.subject: there is no `ownr`; did you mean 'owner'"),
            ("{{ owner }}", "{{ owner }", r"paid\.subject: line 1: unexpected '}'"),
            ("{{ owner }}", "{{ owner | shout }}", r"paid\.subject: line 1: No filter named 'shout'"),
            (
                "{{ payload.amount }}",
                "{{ payload.amnt }}",
                r"paid\.text: there is no `payload\.amnt`; there are amount",
            ),
            ("{{ payload.amount }}", "{{ link }}", r"paid\.text: there is no `link`: .*\(with billing\.paid\)"),
            ("{{ payload.amount }}", "{{ payload.amount | date }}", r"paid\.text: '12 EUR' is no moment"),
            ("{{ payload.amount }}", "{% include 'x' %}", r"paid\.text: a template stands alone"),
            (
                "text =",
                'html = "{% autoescape false %}{{ owner }}{% endautoescape %}"\ntext =',
                r"paid\.html: what is escaped is decided by the part",
            ),
            ("[notifications.paid]", "[notification.paid]", r"unknown key 'notification'; an entry starts with"),
            ("[notifications.paid]", "[notifications.paid", r"Expected '\]'"),
            ('[samples."billing.refunded"]', "[samples]\nx = 5", r"samples must hold tables"),
            ('"12 EUR"', "2026-11-25", r"samples\.'billing\.paid': .*a moment is a text"),
        ],
    )
    def test_is_named_by_file_and_key(self, file: Path, old: str, new: str, said: str) -> None:
        assert old in PAID

        message = refusal(file, PAID.replace(old, new, 1))

        assert message.startswith(str(file))
        assert re.search(said, message)

    def test_stands_beside_all_others(self, file: Path) -> None:
        second = PAID.partition("[samples")[0].replace("notifications.paid", "notifications.second")
        content = PAID.replace("{{ payload.amount }}", "{{ payload.x }}") + second.replace('"owner"', '"nobody"')

        lines = refusal(file, content).splitlines()

        assert ["paid.text" in lines[1], "second.audience" in lines[0]] == [True, True]
        assert len(lines) == 2

    def test_is_told_once_for_all_forms_of_an_event(self, file: Path) -> None:
        content = PAID.replace('events = ["billing.paid"]', 'events = ["connection.repaired"]')

        [line] = refusal(file, content).splitlines()[:1]

        assert "there is no `payload.amount`; there are account" in line

    def test_in_a_form_that_only_some_events_have_is_found(self, file: Path) -> None:
        content = PAID.replace('events = ["billing.paid"]', 'events = ["connection.repaired"]')

        assert "there is no `payload.account`" in refusal(file, content.replace("payload.amount", "payload.account"))
