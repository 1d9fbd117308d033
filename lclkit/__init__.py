"""Learn, check and re-run one paper: Suresh & Ong, "Not All Negatives are Equal" (EMNLP 2021).

Import the room you need: ``from lclkit import data, losses``. The package alone loads no torch.
"""

__version__ = "0.2.0.dev0"
