"""Learn, check and re-run one paper: Suresh & Ong, "Not All Negatives are Equal" (EMNLP 2021).

Import the room you need: ``from lclkit import data, losses, training``. Importing the package alone
loads neither torch nor transformers.
"""

__version__ = "0.1.0"
