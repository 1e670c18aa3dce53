-- The committed stage attempts that produced some rows, by fingerprint.
select s.fingerprint, s.stage, s.stage_version, s.attempt, s.run_id, s.finished_at, s.seconds, s.rows, s.code_version, s.config, s.parents
from stage_runs as s
where s.state = 'committed' and list_contains($fingerprints, s.fingerprint)
qualify row_number() over (partition by s.fingerprint order by s.attempt desc) = 1
order by s.finished_at
