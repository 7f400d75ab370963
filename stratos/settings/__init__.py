"""Settings: the environment, read once at start, checked as a whole, and handed on as frozen values.

`docs/SETTINGS.md` is written from the models here. No other module reads the environment.
"""

from stratos.settings.appview import AppviewSettings
from stratos.settings.environment import read_environment
from stratos.settings.indexer import IndexerSettings
from stratos.settings.loading import InvalidSettings, Problem, System, load, load_system
from stratos.settings.service import ServiceSettings
from stratos.settings.values import AppviewGrant, LogLevel, PostgresSslMode

__all__ = [
    "AppviewGrant",
    "AppviewSettings",
    "IndexerSettings",
    "InvalidSettings",
    "LogLevel",
    "PostgresSslMode",
    "Problem",
    "ServiceSettings",
    "System",
    "load",
    "load_system",
    "read_environment",
]
