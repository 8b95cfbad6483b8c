"""One review with its sentiment."""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="sentiments",
    grain="One review with its sentiment.",
    key=("review_id",),
    columns=(
        Column("review_id", "string", doc="review"),
        Column("user_id", "string", doc="customer who wrote it"),
        Column("item_id", "string", doc="product"),
        Column(
            "label",
            "string",
            nullable=True,
            doc="negative, neutral or positive: the most probable one, by sentiment.label after the model's "
            "label_weights; null below sentiment.min_confidence",
        ),
        Column("p_negative", "double", doc="calibrated probability"),
        Column("p_neutral", "double", doc="calibrated probability"),
        Column("p_positive", "double", doc="calibrated probability"),
        Column("rating", "int", nullable=True, doc="the customer's stars; null if not rated"),
        Column(
            "disagrees",
            "boolean",
            doc="whether text and stars contradict each other: the probability of the opposite label reaches "
            "sentiment.disagree_confidence; false if not rated",
        ),
        Column("shortened", "boolean", doc="whether the text was too long, so GPT-2 read only its head and tail"),
        Column("model_version", "string", doc="fingerprint of the model that scored it"),
        Column("scored_on", "date", doc="run_date on which the model ran"),
    ),
    rules=(
        Rule(
            "label_known",
            "label IS NULL OR label IN ('negative', 'neutral', 'positive')",
            "label is none of the three",
        ),
        Rule(
            "p_sum_to_one",
            "least(p_negative, p_neutral, p_positive) >= 0 AND abs(p_negative + p_neutral + p_positive - 1) < 1e-6",
            "the probabilities do not sum to 1",
        ),
        Rule("rating_in_range", "rating IS NULL OR rating BETWEEN 1 AND 5", "rating is not 1 to 5"),
    ),
    relations=(Relation("review_id", "reviews", "review_id"),),
    partition_by=("run_date",),
)
