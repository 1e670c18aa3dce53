-- Runs, newest first by their commit, with the stages that they recomputed and their cost.
with came as (
    select slice, place, min(place) over (partition by subject) as began from commit_order where table_name = 'runs'
),
latest as (
    select r.*, c.began
    from runs as r
    left join came as c using (slice)
    qualify row_number() over (partition by run_id order by c.place desc nulls last, finished_at desc nulls last) = 1
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
order by r.began desc nulls last, r.started_at desc
limit $limit
