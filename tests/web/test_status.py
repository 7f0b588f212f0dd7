"""What the status page tells, for every way an invitation may stand, and the way on."""

from datetime import timedelta

import pytest

from tests.web.conftest import Invitation, Site


async def status_page(invitation: Invitation) -> str:
    async with invitation.site.browser() as browser:
        page = await browser.get(f"{invitation.path}/status")
    assert page.status_code == 200
    return page.text


def follows(page: str) -> bool:
    return 'http-equiv="refresh"' in page


class TestTheStatusPage:
    @pytest.mark.parametrize("status", ["received", "exchanging", "exchanged"])
    async def test_follows_by_itself_while_the_consent_is_on_its_way(self, site: Site, status: str) -> None:
        invitation = await site.invite()
        await invitation.set(status=status)

        page = await status_page(invitation)

        assert follows(page)
        assert "Try again" not in page

    async def test_of_a_fresh_invitation_shows_the_way_to_it(self, site: Site) -> None:
        invitation = await site.invite()

        page = await status_page(invitation)

        assert "still needed" in page
        assert f'href="{invitation.path}"' in page
        assert not follows(page)

    async def test_of_a_completed_one_says_connected_and_asks_for_nothing(self, site: Site) -> None:
        invitation = await site.invite()
        await invitation.end("completed", "connected")

        page = await status_page(invitation)

        assert "Simulator is connected" in page
        assert "Try again" not in page
        assert not follows(page)

    @pytest.mark.parametrize("status", ["refused", "replaced"])
    async def test_of_one_that_led_nowhere_says_why_and_leads_to_its_successor(self, site: Site, status: str) -> None:
        invitation = await site.invite()
        successor = await invitation.replaced_by_a_newer_one(status, "the consent was given by b••@other.example")

        page = await status_page(invitation)

        assert "he consent was given by b••@other.example" in page
        assert f'href="{successor.path}"' in page
        assert not follows(page)

    async def test_of_an_ended_one_says_why_and_whom_to_ask(self, site: Site) -> None:
        invitation = await site.invite()
        await invitation.end("expired", "nobody consented within 14 days")

        page = await status_page(invitation)

        assert "obody consented within 14 days" in page
        assert "ask whoever invited you" in page
        assert 'href="/reconsent' not in page

    async def test_of_one_past_its_time_does_not_send_people_in_a_circle(self, site: Site) -> None:
        """Its lifecycle may not have ended it yet: a worker can be down."""
        invitation = await site.invite(until=timedelta(seconds=-1))

        page = await status_page(invitation)

        assert f'href="{invitation.path}"' not in page

    async def test_never_leads_to_another_lifecycles_invitation(self, site: Site) -> None:
        invitation = await site.invite()
        await invitation.end("expired", "nobody consented")
        later = await site.invite(invitation.connection_id)

        assert later.path not in await status_page(invitation)

    async def test_shows_hostile_text_as_text(self, site: Site) -> None:
        invitation = await site.invite()
        await invitation.end("refused", "<script>alert(1)</script>")

        assert "<script" not in await status_page(invitation)
