-- Typical duration of a stage: the median over its committed attempts.
select stage, median(seconds) as seconds, count(*) as n
from stage_runs
where state = 'committed'
group by stage
order by stage
limit 1000
