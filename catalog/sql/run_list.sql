-- Runs, newest first.
select run_id, pipeline, flow, deployment, state, started_at, finished_at, code_version, config_digest, error, summary
from runs
order by started_at desc
limit $limit
