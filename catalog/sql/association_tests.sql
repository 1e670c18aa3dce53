-- What was tested on one activation set of a dictionary: the number of tests, those found, the documents that a feature
-- must fire in, and the labels left out with the reason. One row; n_tests is null if labels were not related to features.
select
    (last.facts ->> '$.n_tests')::bigint as n_tests,
    (last.facts ->> '$.n_found')::bigint as n_found,
    (last.config ->> '$.min_documents')::bigint as min_documents,
    (last.facts ->> '$.skipped[*]') as skipped
from (
    select max_by({'facts': facts, 'config': config}, finished_at) as last
    from stage_runs
    where stage = 'associate_labels' and state = 'committed'
        and facts ->> '$.dictionary_id' = $dictionary_id and facts ->> '$.activation_set_id' = $activation_set_id
)
