"""Where models of a configuration are looked for."""

from ..models.source import Sources
from .config import Configuration, Models

FOLDER = "models"
"""Below the data: for weights that are made here, and for digests."""


def sources_of(configuration: Configuration) -> Sources:
    models = configuration.models or Models()
    return Sources(configuration.folder, configuration.data / FOLDER, models.downloads)
