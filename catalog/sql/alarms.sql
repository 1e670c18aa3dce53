-- Metrics that left the range of their past nights: in the newest run of each pipeline that computed something, or in one
-- run.
with newest as (
    select run_id from runs
    where pipeline is not null and flow = 'nightly' and state <> 'running'
        and run_id in (select run_id from stage_runs where state = 'committed')
    qualify row_number() over (partition by pipeline order by started_at desc) = 1
)
select a.run_id, a.about, a.metric, a.value, a.expected, a.tolerance, a.n_before, a.raised_at, r.pipeline
from alarms as a
left join runs as r using (run_id)
where ($run_id::varchar is null and a.run_id in (select run_id from newest)) or a.run_id = $run_id::varchar
order by abs(a.value - a.expected) / a.tolerance desc, a.about, a.metric
limit 100
