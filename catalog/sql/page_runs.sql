-- Runs, newest first, with what their stages recomputed and what they spent.
with latest as (
    select * from runs qualify row_number() over (partition by run_id order by finished_at desc nulls last) = 1
),
stages as (
    select run_id, count_if(state = 'committed')::bigint as n_stages, count_if(state = 'failed')::bigint as n_failed,
        sum(rows)::bigint as rows, sum(bytes)::bigint as bytes, sum(seconds) as stage_seconds
    from stage_runs where run_id is not null group by run_id
),
spend as (
    select run_id, sum(cost_usd) as cost_usd, count(*) as n_calls from llm_calls where not cached group by run_id
)
select
    r.run_id, r.pipeline, r.flow, r.deployment, r.prefect_flow_run_id, r.state, r.started_at, r.finished_at, r.code_version, r.error,
    r.summary,
    coalesce(s.n_stages, 0) as n_stages, coalesce(s.n_failed, 0) as n_failed, coalesce(s.rows, 0) as rows,
    coalesce(s.bytes, 0) as bytes, s.stage_seconds, coalesce(c.cost_usd, 0) as cost_usd, coalesce(c.n_calls, 0) as n_calls
from latest as r
left join stages as s using (run_id)
left join spend as c using (run_id)
order by r.started_at desc
limit $limit
