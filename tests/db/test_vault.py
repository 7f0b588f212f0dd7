import base64
import hmac
import os
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from integrations.db.vault import Vault, credential_place, digest, session_place
from integrations.domain.errors import NotReadyError
from integrations.domain.keyring import Ring
from integrations.keyring import GivenKeys

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
        stranger = Vault(GivenKeys(Ring.of_one("k1", os.urandom(32))))

        with pytest.raises(NotReadyError, match="a wrong RUNBOOK_KEY"):
            stranger.open(vault.seal(b"a token", HERE), "k1", HERE)


class TestARotatedRing:
    def test_seals_with_the_new_key_and_opens_what_the_old_one_sealed(self, raw_key: bytes, vault: Vault) -> None:
        old = vault.seal(b"a token", HERE)

        rotated = Vault(GivenKeys(Ring("k2", {"k1": raw_key, "k2": os.urandom(32)}, os.urandom(32))))
        new = rotated.seal(b"another token", HERE)

        assert rotated.key_id == "k2"
        assert rotated.open(old, "k1", HERE) == b"a token"
        assert rotated.open(new, "k2", HERE) == b"another token"
        with pytest.raises(NotReadyError, match="sealed with key 'k2'"):
            vault.open(new, "k2", HERE)

    def test_takes_no_key_for_another_one(self, vault: Vault) -> None:
        ring = Ring("k1", {"k1": os.urandom(32), "k2": os.urandom(32)}, os.urandom(32))
        both = Vault(GivenKeys(ring))

        with pytest.raises(NotReadyError, match="does not open with key 'k2'"):
            both.open(both.seal(b"a token", HERE), "k2", HERE)


class TestALinksToken:
    def test_is_the_same_each_time_and_in_each_process(self, raw_key: bytes, vault: Vault) -> None:
        session_id = uuid4()

        assert vault.link_token(session_id) == Vault(GivenKeys(Ring.of_one("k2", raw_key))).link_token(session_id)

    def test_is_the_one_that_was_mailed_before_there_was_a_ring(self, raw_key: bytes, vault: Vault) -> None:
        """As the first release derived it, from the only key that there was."""
        session_id = uuid4()
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"runbook invitation link").derive(raw_key)
        mailed = base64.urlsafe_b64encode(hmac.digest(key, session_id.bytes, "sha256")).rstrip(b"=").decode()

        assert vault.link_token(session_id) == mailed

    def test_outlives_every_key_of_the_ring(self, raw_key: bytes, vault: Vault) -> None:
        session_id, ring = uuid4(), Ring.of_one("k1", raw_key)
        rotated = ring.with_key("k2", os.urandom(32)).activated("k2").without("k1")

        assert Vault(GivenKeys(rotated)).link_token(session_id) == vault.link_token(session_id)

    def test_has_256_bits_and_goes_into_an_address(self, vault: Vault) -> None:
        token = vault.link_token(uuid4())

        assert len(token) == 43
        assert token.replace("-", "").replace("_", "").isalnum()

    def test_differs_by_session_and_by_key(self, vault: Vault) -> None:
        session_id = uuid4()

        tokens = {vault.link_token(session_id), vault.link_token(uuid4())}
        tokens.add(Vault(GivenKeys(Ring.of_one("k1", os.urandom(32)))).link_token(session_id))

        assert len(tokens) == 3

    def test_says_nothing_of_what_is_derived_for_another_purpose(self, vault: Vault) -> None:
        derived = {vault.derived("runbook invitation link"), vault.derived("another purpose"), vault.ring.root}

        assert len(derived) == 3

    def test_is_not_what_the_row_keeps(self, vault: Vault) -> None:
        token = vault.link_token(uuid4())

        kept = digest(token)

        assert len(kept) == 32
        assert token.encode() not in kept
        assert kept.hex() not in token
