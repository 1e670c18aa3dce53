-- Stage attempts of one run, or of all, newest first.
select run_id, stage, label, attempt, state, rows, bytes, seconds, started_at, finished_at, error, fingerprint
from stage_runs
where $run_id::varchar is null or run_id = $run_id::varchar
order by finished_at desc
limit $limit
