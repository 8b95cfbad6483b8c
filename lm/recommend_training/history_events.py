"""Chooses how many of a customer's newest events a prompt has, by what buy again finds with them.

The count of a customer's own purchases is what lists lose with old events: where customers buy again what they bought
half a year ago, 50 events may hold a few baskets only. More events make nights slower, so the fewest are chosen that
lose no more than one standard error (the one-standard-error rule: Breiman et al., "Classification and Regression
Trees", 1984, section 3.4.3).
"""

from __future__ import annotations

from lm.checkpoint.manifest import HISTORY_EVENTS
from lm.metrics import baselines, metrics
from lm.recommend.co_purchase import purchases_in_prompt
from lm.recommend_training.held_out import Split
from lm.recommend_training.settings import RecommendTrainSettings
from lm.recommend_training.training_examples import BOUGHT, newest_events
from lm.text.prompt import PromptEncoder

#: The numbers of events to choose from. A training has no more events of a customer in memory.
CHOICES = (HISTORY_EVENTS, 100, 200)
K = 10


def chosen_history_events(encoder: PromptEncoder, split: Split, settings: RecommendTrainSettings) -> int:
    """The fewest events whose prompts let buy again find as much of the validation purchases as the most do.

    The difference in NDCG@10 is taken customer by customer; up to one standard error of its mean is no difference.
    Lists without repeats never need more events than HISTORY_EVENTS, and neither do shops without longer histories.
    """
    held = split.validation
    if settings.exclude_purchased or len(held) < 2 or all(len(one.events) <= CHOICES[0] for one in held):
        return CHOICES[0]
    item_ids, first = encoder.manifest.item_ids, encoder.manifest.first_item_token
    bought = [[str(event.item_id) for event in one.events if event.kind == BOUGHT] for one in split.training]
    popular = baselines.popularity(bought, encoder.item_tokens)
    found = []
    for most in CHOICES:
        prompts = encoder.render_many([newest_events(one.events, most) for one in held], settings.max_tokens)
        tokens = encoder.encode_many([rendered.prompt for rendered in prompts])
        own = [[item_ids[code] for code in purchases_in_prompt(ids, first)] for ids in tokens]
        found.append(metrics.ndcg_at_k(baselines.recommend_again(own, popular, K), [one.items for one in held], K))
    for most, ndcg in zip(CHOICES, found, strict=True):
        lost = found[-1] - ndcg
        # Both are equal, but for rounding, where one customer alone loses.
        if lost.mean() <= metrics.standard_error(lost) * (1 + 1e-9):
            return most
    return CHOICES[-1]
