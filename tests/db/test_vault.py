import os
from uuid import uuid4

import pytest

from integrations.db.vault import Vault, credential_place, digest, session_place
from integrations.domain.errors import NotReadyError

HERE = credential_place(uuid4(), 1)


class TestASealedValue:
    @pytest.mark.parametrize("secret", [b"", b"a token", os.urandom(4096)])
    def test_opens_where_it_belongs(self, vault: Vault, secret: bytes) -> None:
        assert vault.open(vault.seal(secret, HERE), "k1", HERE) == secret

    def test_shows_nothing_of_the_secret_and_looks_different_each_time(self, vault: Vault) -> None:
        first, second = vault.seal(b"a token", HERE), vault.seal(b"a token", HERE)

        assert b"token" not in first
        assert first[:12] != second[:12]
        assert first[12:] != second[12:]

    def test_does_not_open_at_another_version_row_or_column(self, vault: Vault) -> None:
        row = uuid4()
        sealed = vault.seal(b"a token", credential_place(row, 1))
        code = vault.seal(b"a code", session_place(row, "code"))

        for place in (credential_place(row, 2), credential_place(uuid4(), 1), session_place(row, "code")):
            with pytest.raises(NotReadyError, match="does not open"):
                vault.open(sealed, "k1", place)
        with pytest.raises(NotReadyError, match="does not open"):
            vault.open(code, "k1", session_place(row, "verifier"))

    @pytest.mark.parametrize("at", [0, 12, -1])
    def test_does_not_open_when_a_bit_was_changed(self, vault: Vault, at: int) -> None:
        altered = bytearray(vault.seal(b"a token", HERE))
        altered[at] ^= 1

        with pytest.raises(NotReadyError, match="altered data"):
            vault.open(bytes(altered), "k1", HERE)

    def test_names_the_key_that_it_needs(self, vault: Vault) -> None:
        with pytest.raises(NotReadyError, match=r"sealed with key 'k0'.*has only 'k1'"):
            vault.open(vault.seal(b"a token", HERE), "k0", HERE)

    def test_does_not_open_with_another_key_of_the_same_name(self, vault: Vault) -> None:
        stranger = Vault(os.urandom(32), "k1")

        with pytest.raises(NotReadyError, match="a wrong RUNBOOK_KEY"):
            stranger.open(vault.seal(b"a token", HERE), "k1", HERE)


class TestALinksToken:
    def test_is_the_same_each_time_and_in_each_process(self, raw_key: bytes, vault: Vault) -> None:
        session_id = uuid4()

        assert vault.link_token(session_id) == Vault(raw_key, "k2").link_token(session_id)

    def test_has_256_bits_and_goes_into_an_address(self, vault: Vault) -> None:
        token = vault.link_token(uuid4())

        assert len(token) == 43
        assert token.replace("-", "").replace("_", "").isalnum()

    def test_differs_by_session_and_by_key(self, vault: Vault) -> None:
        session_id = uuid4()

        tokens = {vault.link_token(session_id), vault.link_token(uuid4())}
        tokens.add(Vault(os.urandom(32), "k1").link_token(session_id))

        assert len(tokens) == 3

    def test_is_not_what_the_row_keeps(self, vault: Vault) -> None:
        token = vault.link_token(uuid4())

        kept = digest(token)

        assert len(kept) == 32
        assert token.encode() not in kept
        assert kept.hex() not in token
