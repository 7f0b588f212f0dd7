import time
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest

from tests.simulator.conftest import Simulator, asked

HOUR = 3600


class TestClockSkew:
    @pytest.mark.parametrize("skew", [0, 90, -90])
    async def test_moves_the_date_of_every_answer(self, simulator: Simulator, skew: float) -> None:
        await simulator.settings(clock_skew_s=skew)
        await simulator.fault(kind="html", path="/api/notes")

        for path in ("/api/me", "/api/notes", "/oauth/authorize"):
            answer = await simulator.http.get(path)
            assert answer.headers.get_list("date") == [answer.headers["date"]]
            assert abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time() - skew) < 2

    async def test_moves_a_retry_after_that_is_a_date(self, simulator: Simulator) -> None:
        await simulator.settings(clock_skew_s=HOUR)
        await simulator.fault(kind="throttle", retry_after=10, retry_after_as="date")

        told = parsedate_to_datetime((await simulator.http.get("/api/me")).headers["retry-after"]).timestamp()

        assert abs(told - time.time() - HOUR - 10) < 2

    async def test_ends_an_access_token_early(self, simulator: Simulator) -> None:
        token = (await simulator.connect())["access_token"]

        await simulator.settings(clock_skew_s=HOUR - 60)
        before = await simulator.me(token)
        await simulator.settings(clock_skew_s=HOUR)
        after = await simulator.me(token)

        assert (before.status_code, after.status_code) == (200, 401)

    async def test_ends_it_late_when_it_falls_behind(self, simulator: Simulator) -> None:
        await simulator.settings(clock_skew_s=HOUR)
        token = (await simulator.connect())["access_token"]

        # One second before its end, were the clock still as it was.
        await simulator.settings(clock_skew_s=2 * HOUR - 1)
        before = await simulator.me(token)
        await simulator.settings(clock_skew_s=2 * HOUR)
        after = await simulator.me(token)

        assert (before.status_code, after.status_code) == (200, 401)

    async def test_ends_a_code_and_a_refresh_token_early(self, simulator: Simulator) -> None:
        await simulator.settings(refresh_token_ttl=HOUR)
        token, request = await simulator.connect(), asked()
        redirect = await simulator.consent(request)

        await simulator.settings(clock_skew_s=HOUR)
        answers = [await simulator.exchange(request, redirect), await simulator.refresh(token["refresh_token"])]
        code, refresh = (await simulator.log(path="/oauth/token"))[-2:]

        assert [answer.json()["error"] for answer in answers] == ["invalid_grant", "invalid_grant"]
        assert (code["detail"]["code"], refresh["detail"]["refresh"]) == ("expired", "expired")

    async def test_leaves_the_log_and_the_grants_at_the_right_time(self, simulator: Simulator) -> None:
        await simulator.settings(clock_skew_s=HOUR)

        await simulator.connect()

        for told in ((await simulator.last("/oauth/token"))["at"], (await simulator.grants())[-1]["created_at"]):
            assert abs(datetime.fromisoformat(str(told)).timestamp() - time.time()) < 5
