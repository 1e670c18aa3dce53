-- The configuration with which a corpus was read last.
select config
from stage_runs
where stage = 'load_corpus' and state = 'committed' and facts::json->>'corpus_id' = $corpus_id
order by finished_at desc
limit 1
