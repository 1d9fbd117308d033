"""Learn, check and re-run one paper: Suresh & Ong, "Not All Negatives are Equal" (EMNLP 2021).

Import the room you need, as in ``from lclkit import data``. The package alone loads no torch.
"""

__version__ = "0.1.0"
