"""What features fire on: streaming statistics, example contexts and controls."""

from tasks.mining.config import MiningConfig
from tasks.mining.logits import Unembedding
from tasks.mining.miner import Mined, mine
from tasks.mining.split import example_split

__all__ = ["Mined", "MiningConfig", "Unembedding", "example_split", "mine"]
