import pytest

from tests.starters import running


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin(running.__name__):
        config.pluginmanager.register(running, running.__name__)
