-- What each run added, changed and superseded: one row per committed slice. In replaceable tables a later slice of
-- the same subject supersedes a slice.
with written as (
    select
        s.*,
        lead(s.committed_at) over same_subject as next_at,
        lag(s.committed_at) over same_subject as previous_at
    from slices as s
    join (select table_name, slice, place from commit_order) as o using (table_name, slice)
    window same_subject as (partition by s.table_name, s.subject order by o.place)
),
committed as (
    select
        fingerprint,
        arg_max(run_id, attempt) as run_id,
        arg_max(stage, attempt) as stage,
        arg_max(label, attempt) as label
    from stage_runs
    where state = 'committed'
    group by fingerprint
),
last as (
    select arg_max(run_id, {'place': coalesce(o.place, -2_000_000_000), 'at': started_at}) as run_id
    from runs
    left join (select slice, place from commit_order where table_name = 'runs') as o using (slice)
    where state <> 'running'
)
select
    c.run_id,
    coalesce(c.run_id = last.run_id, false) as in_last_run,
    c.stage,
    c.label,
    w.table_name,
    case
        when w.table_name in ('explanations', 'scores', 'judgements', 'llm_calls', 'annotations', 'aliases') then 'added'
        when w.next_at is not null then 'superseded'
        when w.previous_at is not null then 'changed'
        else 'added'
    end as change,
    w.rows,
    w.bytes,
    w.committed_at,
    w.next_at as superseded_at,
    w.fingerprint,
    w.slice
from written as w
join committed as c using (fingerprint)
cross join last
