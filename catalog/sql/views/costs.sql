-- Cost of language-model calls per day, run, purpose, endpoint and model. Cached answers cost nothing.
select
    cast(created_at as date) as day,
    run_id,
    purpose,
    endpoint,
    model,
    count(*) as n_calls,
    count_if(cached) as n_cached,
    count_if(outcome <> 'ok') as n_not_ok,
    sum(prompt_tokens) as prompt_tokens,
    sum(completion_tokens) as completion_tokens,
    sum(cost_usd) as cost_usd,
    avg(latency_ms) filter (where not cached) as mean_latency_ms
from llm_calls
group by all
