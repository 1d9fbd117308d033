"""Learn, check and re-run one paper: Suresh & Ong, "Not All Negatives are Equal" (EMNLP 2021)."""

__version__ = "0.2.0.dev0"
