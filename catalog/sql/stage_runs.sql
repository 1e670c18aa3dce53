-- Stage attempts of one run, in the order of their starts; an attempt whose rows were damaged later is lost.
with lost as (
    select fingerprint, max(attempt) as attempt, max_by(error, attempt) as error
    from stage_runs where state = 'lost' group by fingerprint
)
select
    r.stage, r.label, if(l.fingerprint is null, r.state, 'lost') as state, r.attempt, r.seconds, r.rows, r.bytes, r.started_at,
    r.finished_at, r.fingerprint, coalesce(l.error, r.error) as error
from stage_runs as r
left join lost as l on l.fingerprint = r.fingerprint and l.attempt > r.attempt and r.state = 'committed'
where r.run_id = $run_id
order by r.started_at, r.stage
limit 500
