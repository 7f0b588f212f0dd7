import pytest

from integrations.domain.audience import read_audience, read_name, recipient_of, way_to_reach
from integrations.domain.errors import WrongUsageError


class TestAnAudience:
    @pytest.mark.parametrize(
        "word", ["org:acme", "user:7", "org:a:c", "operators.primary", "operators.secondary", "list.on-call_2"]
    )
    def test_is_taken_as_it_is_written(self, word: str) -> None:
        assert read_audience(word) == word

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            ("operator.primary", "'operator.primary' is no audience; did you mean 'operators.primary'?"),
            ("acme", "'acme' is no audience; known are list.NAME, operators.primary, operators.secondary, org:ID"),
            ("", "'' is no audience; known are "),
            ("org:", "'org:' is not an owner: write user:ID or org:ID"),
            ("org:ac me", "'org:ac me' is not an owner"),
            ("org:acme\n", r"'org:acme\\n' is not an owner"),
            (f"user:{'7' * 201}", "an ID has at most 200"),
            ("list.", "'list.' is no list: write list.NAME"),
            ("list.the team", "at most 60 letters, digits, '-' and '_'"),
            ("list.team\n", "is no list"),
            (f"list.{'a' * 61}", "is no list"),
        ],
    )
    def test_of_another_form_is_wrong_usage(self, word: str, said: str) -> None:
        with pytest.raises(WrongUsageError, match=said.replace("?", r"\?")):
            read_audience(word)

    def test_tells_the_command_that_reaches_it_whatever_its_id_is(self) -> None:
        assert way_to_reach("org:acme") == "runbook contacts add org:acme email ADDRESS"
        assert way_to_reach("org:$(reboot)") == "runbook contacts add 'org:$(reboot)' email ADDRESS"


class TestAName:
    @pytest.mark.parametrize(
        ("written", "name"), [("", ""), (" ada ", "ada"), ("Ada Lovelace", "Ada Lovelace"), ("李", "李")]
    )
    def test_is_taken_without_the_spaces_around_it(self, written: str, name: str) -> None:
        assert read_name(written) == name

    @pytest.mark.parametrize(
        "written",
        [
            "ada\r\nBcc: eve@evil.example",
            "ada\nX-Spam: no",
            "a\tda",
            "ada\x00",
            "ada\u202egnp",
            "a\u2028da",
            "\udce4",
            "a" * 81,
        ],
    )
    def test_that_could_be_more_than_a_name_is_wrong_usage(self, written: str) -> None:
        with pytest.raises(WrongUsageError, match="name") as raised:
            read_name(written)
        assert str(raised.value).isprintable()

    @pytest.mark.parametrize("written", ["ada@acme.example", "slack://token"])
    def test_is_no_address_and_such_a_one_is_not_repeated(self, written: str) -> None:
        with pytest.raises(WrongUsageError, match="the name is an address") as raised:
            read_name(written)
        assert written not in str(raised.value)

    def test_tells_people_of_an_audience_apart(self) -> None:
        assert (recipient_of("org:acme", "ada"), recipient_of("org:acme", "")) == ("org:acme/ada", "org:acme")
