from datetime import timedelta

import pytest

from integrations.domain.durations import duration


class TestADuration:
    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("14d", timedelta(days=14)),
            ("12h", timedelta(hours=12)),
            (" 30m ", timedelta(minutes=30)),
            ("90s", timedelta(seconds=90)),
            ("200ms", timedelta(seconds=0.2)),
            ("0d", timedelta()),
        ],
    )
    def test_is_read_as_people_write_it(self, text: str, meant: timedelta) -> None:
        assert duration(text) == meant

    @pytest.mark.parametrize("text", ["", "14", "d", "-1d", "1.5h", "1w", "1d2h", "1234567d", "٣d"])
    def test_of_another_form_is_refused_with_examples(self, text: str) -> None:
        with pytest.raises(ValueError, match="14d, 12h, 30m or 90s"):
            duration(text)

    def test_beyond_all_dates_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'999999d' is longer than a hundred years"):
            duration("999999d")
