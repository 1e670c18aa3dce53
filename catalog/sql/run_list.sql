-- Runs, newest first by their commit, independent of clocks.
with began as (
    select subject, min(place) as place from commit_order where table_name = 'runs' group by subject
)
select
    r.run_id, r.pipeline, r.flow, r.deployment, r.state, r.started_at, r.finished_at, r.code_version, r.config_digest,
    r.error, r.summary
from runs as r
left join began as b using (subject)
order by b.place desc nulls last, r.started_at desc
limit $limit
