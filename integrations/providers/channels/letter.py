"""What a message looks like as a mail."""

import re
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from integrations.domain.mail import Sender, is_mailbox
from integrations.domain.notification import Outgoing

_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
"""What could end a header and begin another one."""


def written(outgoing: Outgoing, sender: Sender, *, now: datetime) -> EmailMessage:
    """As text, and as HTML beside it where there is some. Raises ValueError when its address is no mailbox."""
    if not is_mailbox(outgoing.to.address):
        raise ValueError("no mailbox")
    local, _, domain = outgoing.to.address.rpartition("@")
    letter = EmailMessage(policy=SMTP)
    letter["From"] = Address(sender.name, addr_spec=sender.mailbox)
    letter["To"] = Address(_one_line(outgoing.to.name), local, domain)
    letter["Subject"] = _one_line(outgoing.rendered.subject)
    letter["Date"] = format_datetime(now)
    # The same for each attempt: a mailbox that was given it twice may show it once.
    letter["Message-ID"] = f"<{outgoing.key}@{sender.domain}>"
    # RFC 3834 section 5: nobody's out-of-office note shall answer it.
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(outgoing.rendered.text)
    if outgoing.rendered.html:
        letter.add_alternative(outgoing.rendered.html, subtype="html")
    return letter


def _one_line(text: str) -> str:
    """Nothing in it ends a header: not as it is, and not decoded (RFC 2047 section 2), which writing a letter does."""
    return _BREAKS.sub(" ", text).replace("=?", "= ?").strip()
