"""What can be allowed, and how the consent page says it."""

SCOPES = {
    "profile": "See your name and e-mail address",
    "notes.read": "Read your notes",
    "notes.write": "Write notes in your name",
}

DEFAULT_SCOPE = "profile"
"""Used when a client asks for none (RFC 6749 section 3.3 wants a default, or a refusal)."""
