"""Score adapters: the score prior on restorers that were trained without one, which stay as they are.

a = new_adapter(r)      # or load_adapter(path, r)
q = a.attach(r)         # a Restorer that takes quality; q.detach() gives r back
"""

from .adapted import AdaptedNetwork, AdaptedRestorer
from .card import AdapterCard
from .score_adapter import ScoreAdapter, load_adapter, new_adapter

__all__ = ["AdaptedNetwork", "AdaptedRestorer", "AdapterCard", "ScoreAdapter", "load_adapter", "new_adapter"]
