"""Model cards: description and measured performance of a model, from its files and validation reports."""

from caloforge.cards.collect import collect_card
from caloforge.cards.markdown import card_markdown
from caloforge.cards.summary import describe_model

__all__ = ["card_markdown", "collect_card", "describe_model"]
