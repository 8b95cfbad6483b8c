"""The `prompts` table by DuckDB: the same rows as ours, or the plain text alone without a token counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from lm.text.prompt import PromptEncoder
from lm.text.template import Event

FIELDS = ", ".join(Event._fields)
LINES_AT_ONCE = 16_384
EVENTS = """
    select user_id, purchased_at as "at", 'bought' as kind, item_id, null::varchar as text, null::int as rating, title
        from '{folder}/purchases.parquet' join '{folder}/items.parquet' using (item_id)
    union all select user_id, searched_at, 'searched', null, query, null, null from '{folder}/searches.parquet'
    union all select user_id, reviewed_at, 'reviewed', item_id, text, rating, title
        from '{folder}/reviews.parquet' join '{folder}/items.parquet' using (item_id)"""


def exact(connection: Any, folder: Path, encoder: PromptEncoder, budget: int, events: int, target: Path) -> None:
    """The whole table: each different event becomes a line and its tokens once, in Python; DuckDB does the rest."""
    connection.execute(f"""create or replace temp table newest as
        select *, row_number() over (partition by user_id order by {_falling()}) as place
        from ({EVENTS.format(folder=folder)}) qualify place <= {events}""")
    connection.execute(f"""create or replace temp table bought as
        select user_id, list_sort(list(distinct item_id)) as excluded from '{folder}/purchases.parquet' group by 1""")
    connection.execute(f"""create or replace temp table totals as
        select user_id, count(*)::int as total, max("at") as last_event_at
        from ({EVENTS.format(folder=folder)}) group by 1""")
    different = connection.execute(f"select distinct {FIELDS} from newest").to_arrow_table()
    lines, tokens = lines_of(different, encoder)
    connection.register("spelled", different.append_column("line", lines).append_column("tokens", tokens))
    room = budget - encoder.smallest_budget
    connection.execute(f"""copy (
        with measured as (
            select user_id, place, line, tokens,
                   sum(tokens) over (partition by user_id order by place rows unbounded preceding) as spent
            from newest join spelled on {_same()}),
        packed as (
            select user_id, string_agg(line, '' order by place desc) as lines, sum(tokens) as used, count(*) as events
            from measured where spent <= {room} group by 1)
        select user_id, $header || lines || $cue as prompt, sha256(prompt)[:32] as prompt_hash,
               ({encoder.smallest_budget} + used)::int as tokens, events as events_used,
               total - events as events_dropped, last_event_at, coalesce(excluded, []) as excluded,
               sha256(coalesce(array_to_string(excluded, chr(0)), ''))[:32] as excluded_hash
        from packed join totals using (user_id) left join bought using (user_id)) to '{target}'""",
        {"header": encoder.header, "cue": encoder.cue})  # fmt: skip


def plain(connection: Any, folder: Path, lines: int, target: Path) -> None:
    """Each customer's newest lines as text, whatever their length in tokens: what SQL alone can do."""
    connection.execute(f"""copy (
        with spelled as (
            select user_id, "at", case kind when 'bought' then 'Bought: ' || title
                when 'searched' then 'Searched: ' || text
                else 'Reviewed ' || rating || '/5: ' || title || ': ' || text end as line
            from ({EVENTS.format(folder=folder)})),
        newest as (
            select *, row_number() over (partition by user_id order by "at" desc, line) as place
            from spelled qualify place <= {lines})
        select user_id, string_agg(line, chr(10) order by "at", line) as prompt, count(*) as lines
        from newest group by 1) to '{target}'""")


def lines_of(different: pa.Table, encoder: PromptEncoder) -> tuple[pa.Array, pa.Array]:
    """The line of each event as our renderer spells it, and its tokens."""
    lines, tokens = [], []
    cue = len(encoder.cue)
    for batch in different.to_batches(max_chunksize=LINES_AT_ONCE):
        events = list(map(Event, *(batch.column(name).to_pylist() for name in Event._fields)))
        for one in encoder.render_many([[event] for event in events], encoder.max_prompt_tokens):
            lines.append(one.prompt[len(encoder.header) : len(one.prompt) - cue])
            tokens.append(one.tokens - encoder.smallest_budget)
    return pa.array(lines, pa.string()), pa.array(tokens, pa.int32())


def _falling() -> str:
    """Our total order of a customer's events, the newest first; Spark puts nulls first, so here they come last."""
    fields = ('"at"', "kind", "item_id", "text", "rating", "title")
    return ", ".join(f"{name} desc nulls last" for name in fields)


def _same() -> str:
    return " and ".join(f"newest.{name} is not distinct from spelled.{name}" for name in Event._fields)
