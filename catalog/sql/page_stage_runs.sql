-- Stage attempts of one run, in the order they began.
select stage, label, state, attempt, seconds, rows, bytes, started_at, finished_at, fingerprint, error
from stage_runs
where run_id = $run_id
order by started_at, stage
limit 500
