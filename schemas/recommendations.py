"""One customer and rank of the next-purchase list."""

from __future__ import annotations

from schemas.contract import Column, Contract, Relation, Rule

CONTRACT = Contract(
    table="recommendations",
    grain="One customer and rank of the next-purchase list.",
    key=("user_id", "rank"),
    columns=(
        Column("user_id", "string", doc="customer"),
        Column("rank", "int", doc="1 is the best; no gaps"),
        Column("item_id", "string", doc="product; in the catalogue and available on run_date"),
        Column("title", "string", doc="its title on run_date"),
        Column(
            "score",
            "double",
            doc="natural logarithm of the probability that it is bought next; plus the weights of rules that weight it",
        ),
        Column("prompt_hash", "string", doc="prompt that was scored, as in prompts of scored_on"),
        Column("model_version", "string", doc="fingerprint of the model that scored it"),
        Column("catalogue_version", "string", doc="version of the catalogue that it was scored with"),
        Column(
            "scored_on", "date", doc="run_date on which the model ran; equal to run_date if it was scored that night"
        ),
        Column(
            "why_scored", "string", doc="why the model ran: new, catalogue or age; carried: the list of an earlier date"
        ),
        Column("category", "string", nullable=True, doc="its category on run_date"),
        Column("price", "decimal(12,2)", nullable=True, doc="its price on run_date, in the shop's currency"),
        Column(
            "rule",
            "string",
            nullable=True,
            doc="names of the rules that weighted it, moved it, or left out a better product, same_title among them; "
            "null where none did",
        ),
        Column(
            "previous_rank",
            "int",
            nullable=True,
            doc="its rank in the customer's list of the newest earlier date; null if it was not in that list",
        ),
        Column(
            "changed",
            "string",
            nullable=True,
            doc="entered, moved or kept since that list; null if the customer had no earlier list",
        ),
        Column(
            "parts",
            "struct<gpt2:double,bought_together:double,bought_again:double,popular:double,like_its_title:double,"
            "rule:double>",
            nullable=True,
            doc="the parts of the score, which sum to it: GPT-2, bought together, bought again, popular, like its "
            "title, rules; null with recommend.reasons: none",
        ),
        Column(
            "reasons",
            "array<struct<kind:string,text:string,at:timestamp,weight:double>>",
            nullable=True,
            doc="the events that raise the score most, heaviest first: kind, text as in the prompt, time, and by how "
            "much the score falls without the event; null for products that recommend.reasons leaves out",
        ),
        Column(
            "because",
            "string",
            nullable=True,
            doc="one sentence over the heaviest events of reasons; null where none can be named",
        ),
    ),
    rules=(
        Rule("rank_from_one", "rank >= 1", "rank is below 1"),
        Rule(
            "changed_known",
            "changed IS NULL OR changed IN ('entered', 'moved', 'kept')",
            "changed is none of the three",
        ),
        Rule(
            "score_is_log_probability",
            "(score <= 0 OR rule IS NOT NULL) AND NOT isnan(score)",
            "score is above 0 without a rule, or not a number",
        ),
    ),
    relations=(Relation("item_id", "items", "item_id"),),
    partition_by=("run_date",),
)
