from datetime import timedelta

import pytest

from integrations.domain.outage import comes_back


class TestACallThatACircuitDidNotAdmit:
    @pytest.mark.parametrize(("rate", "soonest"), [(0, 10), (0.02, 10), (0.5, 10), (2, 2.5), (5, 1), (100, 1)])
    def test_comes_back_sooner_where_more_are_let_through(self, rate: float, soonest: float) -> None:
        assert comes_back(rate) == (timedelta(seconds=soonest), timedelta(seconds=3 * soonest))
